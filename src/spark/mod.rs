//! The count on Apache Spark: [`connect`] drives it.

pub mod connect;
