//! The election-night page, the JSON API under `/api/v1`, `/metrics`, `/healthz` and `/readyz`.
//!
//! Reads PostgreSQL's views as the reader role; writes nothing and counts nothing.

mod answer;
mod api;
mod assets;
mod cache;
mod error;
mod limit;
mod live;
mod moments;
mod poll;
mod pool;
mod prefix;
mod queries;
mod reader;
mod security;
mod server;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::middleware::from_fn;
use scrutin_store::Database;
use scrutin_telemetry::Telemetry;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use self::prefix::PathPrefix;

use self::cache::Cache;
use self::limit::Limiter;
use self::live::Live;
use self::poll::Poller;
use self::pool::Pool;
use self::reader::{Plans, Reader};

/// The page's name among the parts that report readiness.
const PART: &str = "page";

/// Concurrent API queries to PostgreSQL.
const ANSWERS_AT_ONCE: usize = 4;
/// How long PostgreSQL may take for one of them.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// The same for files and the poller's queries, which take longer.
const FILE_WAIT: Duration = Duration::from_secs(10);

/// What the page needs.
pub struct PageState {
    pub database: Database,
    pub telemetry: Arc<Telemetry>,
    /// The counter whose count is shown.
    pub counter: String,
    pub options: PageOptions,
}

/// How the page is served.
#[derive(Clone, Debug)]
pub struct PageOptions {
    /// API requests per second and client, with bursts of four times as many after a pause; 0: no limit.
    pub requests_per_second: u32,
    /// Whether to identify clients by the proxy's X-Forwarded-For. Without a proxy any client could forge it.
    pub behind_proxy: bool,
    pub path_prefix: PathPrefix,
}

impl Default for PageOptions {
    fn default() -> PageOptions {
        PageOptions { requests_per_second: 50, behind_proxy: false, path_prefix: PathPrefix::default() }
    }
}

/// State shared by the handlers.
struct App {
    telemetry: Arc<Telemetry>,
    counter: String,
    /// Sessions for the API; the live page has its own.
    answers: Pool,
    /// Sessions for files, which take longer.
    files: Pool,
    /// A session for health checks, so that load on the API cannot delay them.
    probe: Reader,
    cache: Cache,
    limiter: Arc<Limiter>,
    live: Arc<Live>,
    stop: watch::Receiver<bool>,
}

/// Serves until `shutdown` completes, then ends live streams and finishes responses in progress.
///
/// # Errors
///
/// If the system has no random numbers, or the poller panics.
pub async fn serve(
    listener: TcpListener,
    state: PageState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let PageState { database, telemetry, counter, options } = state;
    let (stop_sender, stop) = watch::channel(false);
    let live = Arc::new(Live::new(telemetry.clone())?);
    let reader = |plans, wait| Reader::new(database.clone(), telemetry.clone(), plans, wait);
    let app = Arc::new(App {
        answers: Pool::of((0..ANSWERS_AT_ONCE).map(|_| reader(Plans::Fresh, ANSWER_WAIT))),
        files: Pool::of([reader(Plans::Fresh, FILE_WAIT)]),
        probe: reader(Plans::Fresh, ANSWER_WAIT),
        cache: Cache::new(),
        limiter: Arc::new(Limiter::new(&options)),
        telemetry: telemetry.clone(),
        counter: counter.clone(),
        live: live.clone(),
        stop: stop.clone(),
    });

    let [quick, slow] = [(); 2].map(|()| reader(Plans::Kept, FILE_WAIT));
    let poller = tokio::spawn({
        let mut stop = stop.clone();
        async move {
            let poller = Poller { live: &live, telemetry: &telemetry, counter: &counter };
            tokio::select! {
                () = poller.run(&quick, &slow) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    });
    let asked_to_stop = async move {
        shutdown.await;
        stop_sender.send_replace(true);
    };
    tokio::join!(server::serve(listener, prefix::below(options.path_prefix, router(app)), stop), asked_to_stop);
    poller.await.context("poll for the page")
}

fn router(app: Arc<App>) -> Router {
    Router::new().merge(api::routes(&app)).merge(assets::routes()).with_state(app).layer(from_fn(security::headers))
}
