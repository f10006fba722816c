//! Status, probes and metrics, for operators.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use super::asked::{About, Asked, text};
use super::{App, JSON, queries};
use crate::cache::{Outcome, Question};
use crate::error::ApiError;
use crate::poll::PartJson;

/// The full status, available even while PostgreSQL is down. Never cached, but concurrent requests share one query.
pub async fn status(State(app): State<Arc<App>>, asked: Asked<About>) -> Result<Response, ApiError> {
    let About { counter, election } = asked?.0;
    let (counter, election) = (app.counter(&counter), text(&election));
    let named = [Some(counter), election];
    let read = app.ask_once(&queries::STATUS, &[&counter, &election], named, Duration::ZERO).await;
    note(&app, &read);
    let mut body = readiness(&app);
    let (status, more) = match read.and_then(|found| found.ok_or_else(ApiError::no_election)) {
        Ok(found) => match serde_json::from_slice(found.bytes()) {
            Ok(value) => (StatusCode::OK, value),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": error.to_string() })),
        },
        Err(error) => (error.status(), json!({ "error": error.what })),
    };
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    Ok((status, [(header::CACHE_CONTROL, "no-cache")], Json(body)).into_response())
}

/// Whether the process is alive.
pub async fn healthz() -> Json<Value> {
    Json(json!({ "alive": true }))
}

/// Whether every part is ready now. Probes the page's own part instead of trusting its last state.
pub async fn readyz(State(app): State<Arc<App>>) -> Response {
    let ask = async {
        let found = app.probe.json(queries::PROBE, &[]).await?;
        found.map(|text| app.cache.hold(text, JSON).map(Arc::new)).transpose()
    };
    note(&app, &app.cache.get(Question::new(queries::PROBE, []), Duration::ZERO, ask).await);
    let status = if app.telemetry.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness(&app))).into_response()
}

pub async fn metrics(State(app): State<Arc<App>>) -> (HeaderMap, String) {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let kind = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS))]);
    (kind, app.telemetry.metrics_text())
}

/// Updates the page's own readiness from a query's outcome.
fn note(app: &App, read: &Outcome) {
    match read {
        Ok(_) => app.telemetry.set_ready(crate::PART),
        Err(error) => app.telemetry.set_waiting(crate::PART, error.what.as_str()),
    }
}

fn readiness(app: &App) -> Value {
    #[derive(Serialize)]
    struct Named {
        name: &'static str,
        #[serde(flatten)]
        part: PartJson,
    }
    let parts = app.telemetry.parts().into_iter().map(|part| Named { name: part.name, part: part.into() });
    let parts: Vec<Named> = parts.collect();
    json!({ "ready": app.telemetry.is_ready(), "parts": parts })
}
