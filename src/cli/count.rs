//! `scrutin count`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use super::UsageError;
use super::open::{Store, open_log_to_count, stop_at_signal};
use super::progress::{Line, View, summary};
use super::serve;
use super::table::print;
use crate::config::{LogSettings, Settings};
use crate::log::KafkaLog;
use crate::pipeline::{self, CountOptions, CountProgress, Stop};
use crate::spark::connect::SparkAddress;
use crate::spark::count::{self as spark, SparkCountOptions, SparkProgress};
use crate::store::Database;
use crate::telemetry::Telemetry;

#[derive(clap::Args)]
pub(super) struct Args {
    /// What counts
    #[arg(long, value_enum, default_value = "native")]
    engine: Engine,
    /// Stop once all that is in the log now is counted
    #[arg(long)]
    drain: bool,
    /// Serve the page, the API and this process's metrics meanwhile
    #[arg(long)]
    serve: bool,
    #[command(flatten)]
    spark: SparkArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Engine {
    /// This process
    Native,
    /// Apache Spark, which this process drives
    Spark,
}

/// Of `--engine spark`.
#[derive(clap::Args)]
#[command(next_help_heading = "Options of --engine spark")]
struct SparkArgs {
    /// Spark Connect server, as sc://host:port, and maybe /;use_ssl=true behind it
    #[arg(long, env = "SCRUTIN_SPARK", hide_env = true, value_name = "URL")]
    spark: Option<SparkAddress>,
    /// Token that the server wants; better in SCRUTIN_SPARK_TOKEN than on the command line
    #[arg(long, env = "SCRUTIN_SPARK_TOKEN", hide_env = true, hide_env_values = true, value_name = "TOKEN")]
    spark_token: Option<String>,
    /// Folder that Spark reaches, where it keeps how far it is and who has voted: a path, or a URL of any Hadoop file system
    #[arg(long, env = "SCRUTIN_CHECKPOINT", hide_env = true, value_name = "PATH")]
    checkpoint: Option<String>,
    /// Topic for the running totals, at the brokers of the log; made if it is not there
    #[arg(long, env = "SCRUTIN_TALLIES", hide_env = true, value_name = "TOPIC", default_value = "tallies")]
    tallies: String,
    /// Votes in a batch of Spark's, at most: of a backlog, more are counted faster, and fewer are seen sooner
    #[arg(
        long,
        env = "SCRUTIN_BATCH_VOTES", hide_env = true,
        value_name = "N",
        default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(1..),
    )]
    batch_votes: u64,
    /// A setting of Spark's for its session, as spark.sql.shuffle.partitions=8; can be given more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    spark_conf: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) async fn run(args: Args, settings: Settings) -> Result<ExitCode> {
    let count = match args.engine {
        Engine::Native => Count::Native(open_log_to_count(&settings).await?),
        Engine::Spark => Count::spark(&args, &settings).await?,
    };
    let stop = stop_at_signal()?;
    let store = Store::open_ready(&settings).await?;
    let telemetry = Telemetry::new();
    let page = match args.serve {
        true => Some(serve::start(&settings, &store.database, &telemetry).await?),
        false => None,
    };
    if let Some(page) = &page {
        print(&format!("The page is at {}\n", page.address))?;
    }
    let progress = Arc::new(CountProgress::default());
    let spark = Arc::new(SparkProgress::default());
    let line = Line::start(View {
        count: Some(Arc::clone(&progress)),
        spark: (args.engine == Engine::Spark).then(|| Arc::clone(&spark)),
        telemetry: Some(Arc::clone(&telemetry)),
        ..View::default()
    });
    let start = Instant::now();
    let options = CountOptions { counter: settings.counter.clone(), workers: settings.workers, drain: args.drain };
    let counted = count.run(store.database.clone(), &options, telemetry, (Arc::clone(&progress), spark), stop).await;
    line.end().await;
    if let Some(page) = page {
        page.stop().await?;
    }
    counted?;
    print(&format!("{}\n", summary(&progress, start.elapsed())))?;
    store.close().await?;
    Ok(ExitCode::SUCCESS)
}

/// What counts what.
enum Count {
    Native(Arc<dyn crate::log::VoteLog>),
    Spark(Box<(KafkaLog, SparkCountOptions)>),
}

impl Count {
    async fn spark(args: &Args, settings: &Settings) -> Result<Count> {
        let missing = |what: &str| UsageError(format!("--engine spark needs {what}"));
        let LogSettings::Kafka { address, client, .. } = &settings.log else {
            return Err(missing("a log on Kafka, which Spark can read: --log kafka://host:port/topic").into());
        };
        let spark = &args.spark;
        let server =
            spark.spark.clone().ok_or_else(|| missing("--spark sc://host:port, where Spark Connect listens"))?;
        let checkpoint =
            spark.checkpoint.clone().ok_or_else(|| missing("--checkpoint PATH, a folder that Spark reaches"))?;
        let options = SparkCountOptions {
            counter: if settings.is_counter_given { settings.counter.clone() } else { "spark".to_owned() },
            address: server.with_token(spark.spark_token.clone()).map_err(UsageError)?,
            checkpoint,
            tallies: spark.tallies.clone(),
            batch_votes: spark.batch_votes,
            kafka: client.for_java()?,
            settings: spark.spark_conf.clone(),
            drain: args.drain,
        };
        Ok(Count::Spark(Box::new((KafkaLog::open_existing(address, client).await?, options))))
    }

    async fn run(
        self,
        database: Database,
        options: &CountOptions,
        telemetry: Arc<Telemetry>,
        (progress, spark_progress): (Arc<CountProgress>, Arc<SparkProgress>),
        stop: Arc<Stop>,
    ) -> Result<(), pipeline::CountError> {
        match self {
            Count::Native(log) => pipeline::count(log, database, options, telemetry, progress, stop).await,
            Count::Spark(it) => {
                let (log, options) = *it;
                spark::count(log, database, options, telemetry, (progress, spark_progress), stop).await
            }
        }
    }
}
