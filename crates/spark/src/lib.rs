//! The count on Apache Spark: [`job`] is the count itself, in SQL; [`count`] runs it on Spark and writes the resulting
//! totals to PostgreSQL.

mod codes;
pub mod count;
mod error;
pub mod job;
mod tallies;
mod totals;

pub use error::SparkCountError;
