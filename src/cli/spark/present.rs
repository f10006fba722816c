//! Starts a count on Spark from the command line.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;
use scrutin_log::KafkaLog;
use scrutin_pipeline::{CountProgress, Stop};
use scrutin_spark::SparkCountError;
use scrutin_spark::count::{self, SparkCountOptions, SparkProgress};
use scrutin_spark_connect::SparkAddress;
use scrutin_store::Database;
use scrutin_telemetry::Telemetry;

use super::SparkArgs;
use crate::cli::UsageError;
use crate::cli::progress::EngineProgress;
use crate::cli::table::grouped;
use crate::config::{LogSettings, Settings};

pub(in crate::cli) struct Count {
    log: KafkaLog,
    options: SparkCountOptions,
    progress: Arc<SparkProgress>,
}

impl Count {
    pub async fn new(args: &SparkArgs, settings: &Settings, drain: bool) -> Result<Count> {
        let missing = |what: &str| UsageError(format!("--engine spark needs {what}"));
        let LogSettings::Kafka { address, client, .. } = &settings.log else {
            return Err(missing("a log on Kafka, which Spark can read: --log kafka://host:port/topic").into());
        };
        let server =
            args.spark.as_ref().ok_or_else(|| missing("--spark sc://host:port, where Spark Connect listens"))?;
        let server: SparkAddress = server.parse().map_err(|what| UsageError(format!("--spark: {what}")))?;
        let checkpoint =
            args.checkpoint.clone().ok_or_else(|| missing("--checkpoint PATH, a folder that Spark can reach"))?;
        count::check_settings(&args.spark_conf).map_err(|what| UsageError(format!("--spark-conf: {what}")))?;
        let options = SparkCountOptions {
            counter: if settings.is_counter_given { settings.counter.clone() } else { "spark".to_owned() },
            address: server.with_token(args.spark_token.clone()).map_err(UsageError)?,
            checkpoint,
            tallies: args.tallies.clone(),
            batch_votes: args.batch_votes,
            kafka: client.for_java()?,
            settings: args.spark_conf.clone(),
            drain,
        };
        let log = KafkaLog::open_existing(address, client).await?;
        Ok(Count { log, options, progress: Arc::default() })
    }

    /// The duration of a batch, and the size of Spark's state.
    pub fn progress(&self) -> EngineProgress {
        let progress = Arc::clone(&self.progress);
        Arc::new(move || {
            let batch = format!("batch {:.1} s", progress.batch_ms.load(Ordering::Relaxed) as f64 / 1000.0);
            let state = format!(
                "state {} rows, {} MB",
                grouped(progress.state_rows.load(Ordering::Relaxed) as i64),
                grouped(progress.state_bytes.load(Ordering::Relaxed) as i64 / 1_000_000)
            );
            vec![batch, state]
        })
    }

    pub async fn run(
        self,
        database: Database,
        telemetry: Arc<Telemetry>,
        progress: Arc<CountProgress>,
        stop: Arc<Stop>,
    ) -> Result<()> {
        let counted = count::count(self.log, database, self.options, telemetry, (progress, self.progress), stop).await;
        counted.map_err(|error| match error {
            // The exit code is chosen by its type.
            SparkCountError::Count(error) => error.into(),
            SparkCountError::Spark(error) => anyhow::anyhow!("{error}"),
        })
    }
}
