//! The count on Apache Spark: [`job`] is the count itself, in SQL; [`count`] has Spark count a log, and brings the running
//! totals that come of it into PostgreSQL.

pub mod count;
mod error;
pub mod job;
mod tallies;
mod totals;

pub use error::SparkCountError;
