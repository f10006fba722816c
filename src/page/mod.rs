//! The election-night page, the JSON API under `/api/v1`, `/metrics`, `/healthz` and `/readyz`.
//!
//! Reads the views of PostgreSQL as the reader; writes nothing and counts nothing.

mod api;
mod assets;
mod live;
mod moments;
mod poll;
mod queries;
mod reader;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::store::Database;
use crate::telemetry::Telemetry;
use live::Live;
use poll::Poller;
use reader::Reader;

/// What the page is called among the parts whose readiness is told.
const PART: &str = "page";

/// How long answers in progress may take once the page is to stop.
const STOP_WAIT: Duration = Duration::from_secs(3);

/// What the page needs.
pub struct PageState {
    pub database: Database,
    pub telemetry: Arc<Telemetry>,
    /// Whose count is shown.
    pub counter: String,
}

/// What the handlers share.
struct App {
    telemetry: Arc<Telemetry>,
    counter: String,
    /// For the API; the live page has sessions of its own.
    reader: Reader,
    live: Arc<Live>,
    stop: watch::Receiver<bool>,
}

/// Serves until `shutdown` is done; live streams are then ended, and answers in progress given.
pub async fn serve(
    listener: TcpListener,
    state: PageState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let PageState { database, telemetry, counter } = state;
    let (stop_sender, stop) = watch::channel(false);
    let live = Arc::new(Live::new(telemetry.clone())?);
    let app = Arc::new(App {
        reader: Reader::new(database.clone(), telemetry.clone()),
        telemetry: telemetry.clone(),
        counter: counter.clone(),
        live: live.clone(),
        stop: stop.clone(),
    });

    let poller = tokio::spawn({
        let mut stop = stop.clone();
        async move {
            let [quick, slow] = [(); 2].map(|()| Reader::new(database.clone(), telemetry.clone()));
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
    // Events are small and must not wait for more.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot send small packets at once");
        }
    });
    let server = axum::serve(listener, router(app)).with_graceful_shutdown(asked_to_stop).into_future();
    let late = async {
        let mut stop = stop.clone();
        let _ = stop.wait_for(|stop| *stop).await;
        tokio::time::sleep(STOP_WAIT).await;
    };
    tokio::select! {
        served = server => served.context("serve the page")?,
        // A viewer who reads nothing cannot hold the program up.
        () = late => tracing::info!("left some viewers in the middle of an answer"),
    }
    poller.await.context("poll for the page")
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .merge(api::routes())
        .merge(assets::routes())
        .with_state(app)
        .layer(axum::middleware::map_response(secure))
}

/// Nothing from elsewhere runs or is loaded, and nobody frames the page.
async fn secure(mut response: Response) -> Response {
    const POLICY: &str =
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// An answer of the API that is not the one asked for: `{"error": …}`.
struct ApiError {
    status: StatusCode,
    what: String,
}

impl ApiError {
    fn new(status: StatusCode, what: impl Into<String>) -> ApiError {
        ApiError { status, what: what.into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, axum::Json(serde_json::json!({ "error": self.what }))).into_response()
    }
}

impl From<reader::ReadError> for ApiError {
    fn from(error: reader::ReadError) -> ApiError {
        let status = match &error {
            reader::ReadError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            reader::ReadError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(%error, "an answer of the API failed");
        }
        ApiError::new(status, error.to_string())
    }
}
