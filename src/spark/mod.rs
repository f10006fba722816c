//! The count on Apache Spark: [`job`] is the count itself, in SQL; [`connect`] drives Spark; [`totals`] come of it.

pub mod connect;
pub mod job;
pub mod totals;
