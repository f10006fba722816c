//! The count on Spark in a program built without it: an error.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::Result;
use scrutin_pipeline::{CountProgress, Stop};
use scrutin_store::Database;
use scrutin_telemetry::Telemetry;

use super::SparkArgs;
use crate::cli::UsageError;
use crate::cli::progress::EngineProgress;
use crate::config::Settings;

/// Cannot be constructed: [`Count::new`] always fails.
pub(in crate::cli) struct Count(Infallible);

impl Count {
    pub async fn new(_: &SparkArgs, _: &Settings, _: bool) -> Result<Count> {
        let what = "this program was built without Spark; build it with `cargo build --release --features spark`";
        Err(UsageError(what.to_owned()).into())
    }

    pub fn progress(&self) -> EngineProgress {
        match self.0 {}
    }

    pub async fn run(self, _: Database, _: Arc<Telemetry>, _: Arc<CountProgress>, _: Arc<Stop>) -> Result<()> {
        match self.0 {}
    }
}
