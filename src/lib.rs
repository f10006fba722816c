//! Scrutin counts votes as they are cast.

pub mod audit;
pub mod cli;
pub mod config;
pub mod csv_file;
pub mod election;
pub mod engine;
pub mod log;
pub mod page;
pub mod pipeline;
pub mod postgres;
pub mod replay;
pub mod simulate;
pub mod store;
pub mod telemetry;
pub mod vote;
