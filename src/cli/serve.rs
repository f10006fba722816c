//! `scrutin serve`, and the page beside other commands.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::open::{Store, open_existing_log, stop_at_signal};
use super::table::print;
use crate::config::{LogSettings, Settings};
use crate::page::{self, PageState};
use crate::pipeline::{Ends, LOG};
use crate::store::{Database, migrate};
use crate::telemetry::Telemetry;

/// More than the page lets connect.
const OPEN_FILES: u64 = 1 << 15;

pub(super) async fn run(settings: Settings) -> Result<ExitCode> {
    let stop = stop_at_signal()?;
    let store = Store::open_existing(&settings).await?;
    match migrate::verify(&store.database).await {
        // While PostgreSQL is away the page says so.
        Err(error) if error.is_transient() => {}
        verified => verified?,
    }
    let telemetry = Telemetry::new();
    // A log of brokers may be away; whoever serves a page beside it is not ready then.
    let _watched = match settings.log {
        LogSettings::Kafka { .. } => {
            let log = open_existing_log(&settings).await?;
            telemetry.set_ready(LOG);
            let ends = (0..log.partitions()).map(|partition| (partition, 0)).collect();
            // Whatever becomes of the log, the page goes on and says so.
            Some(Ends::watch(log, ends, Arc::clone(&telemetry), Arc::default()))
        }
        LogSettings::Embedded(_) => None,
    };
    let page = start(&settings, &store.database, &telemetry).await?;
    print(&format!("The page is at {}\n", page.address))?;
    stop.asked().await;
    page.stop().await?;
    store.close().await?;
    Ok(ExitCode::SUCCESS)
}

/// A page that is being served.
pub(super) struct Page {
    pub address: String,
    end: oneshot::Sender<()>,
    task: JoinHandle<Result<()>>,
}

/// Serves the page at the settings' address until it is stopped.
pub(super) async fn start(settings: &Settings, database: &Database, telemetry: &Arc<Telemetry>) -> Result<Page> {
    let listener = TcpListener::bind(settings.listen).await.map_err(|error| {
        anyhow!(
            "cannot serve the page at {} ({}); choose another address with --listen",
            settings.listen,
            io_reason(&error)
        )
    })?;
    let bound = listener.local_addr().context("read the page's address")?;
    let host = if bound.ip().is_loopback() { "localhost".into() } else { bound.ip().to_string() };
    let (end, ended) = oneshot::channel::<()>();
    allow_open_files();
    let state = PageState {
        database: database.clone(),
        telemetry: Arc::clone(telemetry),
        counter: settings.counter.clone(),
        options: settings.page.clone(),
    };
    let task = tokio::spawn(page::serve(listener, state, async move {
        let _ = ended.await;
    }));
    let place = match settings.page.path_prefix.as_str() {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    Ok(Page { address: format!("http://{host}:{}{place}", bound.port()), end, task })
}

impl Page {
    pub async fn stop(self) -> Result<()> {
        let _ = self.end.send(());
        self.task.await.context("serve the page")?.context("serve the page")
    }
}

/// Each viewer is an open file, and many systems let a program have a thousand unless it asks for more.
fn allow_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = hard.min(OPEN_FILES);
        if soft < wanted { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot open more files; viewers beyond the limit will have to wait");
    }
}

/// What the system says, without its number.
fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
