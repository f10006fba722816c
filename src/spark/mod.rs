//! The count on Apache Spark: [`job`] is the count itself, in SQL; [`connect`] drives Spark; [`count`] has it count a log,
//! and brings the running [`totals`] that come of it into PostgreSQL.

pub mod connect;
pub mod count;
pub mod job;
mod tallies;
pub mod totals;
