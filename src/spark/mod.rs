//! The count on Apache Spark: [`job`] is the count itself, in SQL; [`connect`] drives Spark.

pub mod connect;
pub mod job;
