//! `scrutin count`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use super::open::{Store, open_existing_log, stop_at_signal};
use super::progress::{Line, View, summary};
use super::serve;
use super::table::print;
use crate::config::Settings;
use crate::pipeline::{self, CountOptions, CountProgress};
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
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Engine {
    Native,
}

pub(super) async fn run(args: Args, settings: Settings) -> Result<ExitCode> {
    let Engine::Native = args.engine;
    let log = open_existing_log(&settings).await?;
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
    let options = CountOptions { counter: settings.counter.clone(), workers: settings.workers, drain: args.drain };
    let line = Line::start(View {
        count: Some(Arc::clone(&progress)),
        telemetry: Some(Arc::clone(&telemetry)),
        ..View::default()
    });
    let start = Instant::now();
    let counted = pipeline::count(log, store.database.clone(), &options, telemetry, Arc::clone(&progress), stop).await;
    line.end().await;
    if let Some(page) = page {
        page.stop().await?;
    }
    counted?;
    print(&format!("{}\n", summary(&progress, start.elapsed())))?;
    store.close().await?;
    Ok(ExitCode::SUCCESS)
}
