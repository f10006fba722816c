//! The JSON API and the answers for machines.
//!
//! The results are JSON as PostgreSQL builds it: numbers are numbers, times are RFC 3339 in UTC with milliseconds.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};

use super::poll::PartJson;
use super::reader::{Params, ReadError};
use super::{ApiError, App, queries};

/// Points of a timeline, unless asked for fewer or more.
const LIMIT_DEFAULT: i32 = 1440;
const LIMIT_MAX: i32 = 10_000;

pub(super) fn routes() -> Router<Arc<App>> {
    let v1 = Router::new()
        .route("/election", get(|app, asked| about(app, asked, &queries::ELECTION)))
        .route("/results", get(|app, asked| about(app, asked, &queries::RESULTS)))
        .route("/results/regions", get(results_by_region))
        .route("/leaders", get(|app, asked| about(app, asked, &queries::LEADERS)))
        .route("/turnout", get(|app, asked| about(app, asked, &queries::TURNOUT)))
        .route("/timeline", get(timeline))
        .route("/refusals", get(|app, asked| about(app, asked, &queries::REFUSALS)))
        .route("/accounting", get(|app, asked| about(app, asked, &queries::ACCOUNTING)))
        .route("/lag", get(|app, asked| about(app, asked, &queries::LAG)))
        .route("/throughput", get(|app, asked| about(app, asked, &queries::THROUGHPUT)))
        .route("/status", get(status))
        .route("/events", get(events))
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "no such resource; see GET /api/v1/status"))
        .method_not_allowed_fallback(async || ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered"));
    Router::new()
        .nest("/api/v1", v1)
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || Json(json!({ "alive": true }))))
        .route("/readyz", get(readyz))
}

/// Which count is asked about; by default the page's, of the election that it counts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    counter: Option<String>,
    election: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AboutRegion {
    counter: Option<String>,
    election: Option<String>,
    region: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AboutTime {
    counter: Option<String>,
    election: Option<String>,
    /// Points at most; buckets are put together until they fit.
    limit: Option<i32>,
}

type Asked<T> = Result<Query<T>, QueryRejection>;

fn understood<T>(asked: Asked<T>) -> Result<T, ApiError> {
    let rejected = |rejection: QueryRejection| ApiError::new(StatusCode::BAD_REQUEST, rejection.body_text());
    Ok(asked.map_err(rejected)?.0)
}

async fn about(State(app): State<Arc<App>>, asked: Asked<About>, sql: &'static str) -> Result<Response, ApiError> {
    let About { counter, election } = understood(asked)?;
    answer(&app, sql, &[&counter.as_ref().unwrap_or(&app.counter), &election]).await
}

async fn results_by_region(State(app): State<Arc<App>>, asked: Asked<AboutRegion>) -> Result<Response, ApiError> {
    let AboutRegion { counter, election, region } = understood(asked)?;
    answer(&app, &queries::RESULTS_BY_REGION, &[&counter.as_ref().unwrap_or(&app.counter), &election, &region]).await
}

async fn timeline(State(app): State<Arc<App>>, asked: Asked<AboutTime>) -> Result<Response, ApiError> {
    let AboutTime { counter, election, limit } = understood(asked)?;
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let what = format!("limit is {limit}; expected 1 to {LIMIT_MAX} points");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, what));
    }
    answer(&app, &queries::TIMELINE, &[&counter.as_ref().unwrap_or(&app.counter), &election, &limit]).await
}

async fn answer(app: &App, sql: &'static str, params: Params<'_>) -> Result<Response, ApiError> {
    match app.reader.json(sql, params).await? {
        Some(text) => Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response()),
        None => Err(no_election()),
    }
}

fn no_election() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "no such election is loaded; `scrutin setup` loads one")
}

/// All there is to say about how the program is doing, also while PostgreSQL is away.
async fn status(State(app): State<Arc<App>>, asked: Asked<About>) -> Result<Response, ApiError> {
    let About { counter, election } = understood(asked)?;
    let read = app.reader.json(&queries::STATUS, &[&counter.as_ref().unwrap_or(&app.counter), &election]).await;
    note(&app, &read);
    let mut body = readiness(&app);
    let (status, more) = match read {
        Ok(Some(text)) => {
            let value: Value = serde_json::from_str(&text)
                .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
            (StatusCode::OK, value)
        }
        Ok(None) => (StatusCode::NOT_FOUND, json!({ "error": no_election().what })),
        Err(error) => {
            let error = ApiError::from(error);
            (error.status, json!({ "error": error.what }))
        }
    };
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    Ok((status, Json(body)).into_response())
}

async fn events(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, ApiError> {
    let last = headers.get("last-event-id").and_then(|last| last.to_str().ok());
    match app.live.events(last, app.stop.clone()) {
        Some(events) => Ok(events),
        None => Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too many viewers; try again later")),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, OPEN_METRICS)], app.telemetry.metrics_text())
}

/// Whether every part can do its work now. The page's own part is tried, not remembered.
async fn readyz(State(app): State<Arc<App>>) -> Response {
    note(&app, &app.reader.json(queries::PROBE, &[]).await);
    let status = if app.telemetry.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness(&app))).into_response()
}

/// Takes the page's own readiness from what a query gave.
fn note(app: &App, read: &Result<Option<String>, ReadError>) {
    match read {
        Ok(_) => app.telemetry.set_ready(super::PART),
        Err(error) => app.telemetry.set_waiting(super::PART, error.to_string()),
    }
}

fn readiness(app: &App) -> Value {
    let parts: Vec<PartJson> = app.telemetry.parts().into_iter().map(PartJson::from).collect();
    json!({ "ready": app.telemetry.is_ready(), "parts": parts })
}
