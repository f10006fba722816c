//! `scrutin serve`, and the page served by other commands.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use scrutin_log::LogError;
use scrutin_page::{self as page, PageState};
use scrutin_pipeline::{EndOffsets, LOG, witness};
use scrutin_store::{Database, Role, migrate};
use scrutin_telemetry::Telemetry;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::open::{Store, open_existing_log, stop_at_signal};
use super::render_error;
use super::table::print;
use crate::config::{LogSettings, Settings};

/// Open files to allow: more than the page's limit on connections.
const OPEN_FILES: u64 = 1 << 15;

/// How long to wait before asking unreachable brokers again.
const LOG_RETRY: Duration = Duration::from_secs(1);

pub(super) async fn run(settings: Settings) -> Result<ExitCode> {
    let stop = stop_at_signal()?;
    let store = Store::open_existing(&settings).await?;
    match migrate::verify(&store.database).await {
        // While PostgreSQL is away, the page reports it.
        Err(error) if error.is_transient() => {}
        verified => verified?,
    }
    let telemetry = Telemetry::new();
    let page = start(&settings, &store.database, &telemetry).await?;
    print(&format!("The page is at {}\n", page.address))?;
    let ended = tokio::select! {
        () = stop.asked() => Ok(ExitCode::SUCCESS),
        Err(error) = watch_log(&settings, &store.database, &telemetry) => Err(error),
    };
    page.stop().await?;
    store.close().await?;
    ended
}

/// Watches whether the brokers of the log answer, until dropped. The page works without them, but reports that it is not
/// ready while they are away. Fails if the log cannot be used with these settings.
async fn watch_log(settings: &Settings, database: &Database, telemetry: &Arc<Telemetry>) -> Result<()> {
    if let LogSettings::Embedded(_) = settings.log {
        return Ok(());
    }
    telemetry.set_waiting(LOG, "it has not answered yet");
    let log = loop {
        match open_existing_log(settings).await {
            Err(error) if error.downcast_ref::<LogError>().is_some_and(LogError::is_transient) => {
                telemetry.set_waiting(LOG, render_error(&error));
                tokio::time::sleep(LOG_RETRY).await;
            }
            opened => break opened?,
        }
    };
    telemetry.set_ready(LOG);
    let end_offsets = (0..log.partitions()).map(|partition| (partition, 0)).collect();
    // From here on the page keeps running and reports any trouble with the log.
    let watched = EndOffsets::watch(Arc::clone(&log), end_offsets, Arc::clone(telemetry), Arc::default());
    witness::note(&watched, log.id(), database.clone(), Role::Witness);
    std::future::pending().await
}

/// A running page server.
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

/// Raises the limit on open files: each viewer needs one, and many systems allow only a thousand by default.
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

/// The system's error message, without its number.
fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
