//! `scrutin count`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use scrutin_log::VoteLog;
use scrutin_pipeline::{self as pipeline, CountOptions, CountProgress, Stop};
use scrutin_store::Database;
use scrutin_telemetry::Telemetry;

use super::open::{Store, open_log_to_count, stop_at_signal};
use super::progress::{EngineProgress, Line, View, summary};
use super::serve;
use super::spark::{self, SparkArgs};
use super::table::print;
use crate::config::Settings;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The engine that counts
    #[arg(long, value_enum, default_value = "native")]
    engine: Engine,
    /// Stop once everything now in the log is counted
    #[arg(long)]
    drain: bool,
    /// Also serve the page, the API and this process's metrics
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

pub(super) async fn run(args: Args, settings: Settings) -> Result<ExitCode> {
    let count = match args.engine {
        Engine::Native => Count::Native(open_log_to_count(&settings).await?),
        Engine::Spark => Count::Spark(Box::new(spark::Count::new(&args.spark, &settings, args.drain).await?)),
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
    let line = Line::start(View {
        count: Some(Arc::clone(&progress)),
        of_engine: count.progress(),
        telemetry: Some(Arc::clone(&telemetry)),
        ..View::default()
    });
    let start = Instant::now();
    let options = CountOptions { counter: settings.counter.clone(), workers: settings.workers, drain: args.drain };
    let counted = count.run(store.database.clone(), &options, telemetry, Arc::clone(&progress), stop).await;
    line.end().await;
    if let Some(page) = page {
        page.stop().await?;
    }
    counted?;
    print(&format!("{}\n", summary(&progress, start.elapsed())))?;
    store.close().await?;
    Ok(ExitCode::SUCCESS)
}

/// An engine, and the log it counts.
enum Count {
    Native(Arc<dyn VoteLog>),
    Spark(Box<spark::Count>),
}

impl Count {
    /// The engine's own figures, besides the count's.
    fn progress(&self) -> Option<EngineProgress> {
        match self {
            Count::Native(_) => None,
            Count::Spark(count) => Some(count.progress()),
        }
    }

    async fn run(
        self,
        database: Database,
        options: &CountOptions,
        telemetry: Arc<Telemetry>,
        progress: Arc<CountProgress>,
        stop: Arc<Stop>,
    ) -> Result<()> {
        match self {
            Count::Native(log) => Ok(pipeline::count(log, database, options, telemetry, progress, stop).await?),
            Count::Spark(count) => count.run(database, telemetry, progress, stop).await,
        }
    }
}
