//! The JSON API described by `schema/api.v1.openapi.json`, plus metrics and probes.
//!
//! PostgreSQL builds the JSON: numbers are numbers, times are RFC 3339 in UTC with milliseconds.

mod asked;
mod files;
mod probes;
mod regions;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;

use self::asked::{About, AboutSome, Asked, Nothing, limit, text};
use super::answer::Body;
use super::cache::{Outcome, Question, SECOND};
use super::error::ApiError;
use super::reader::Params;
use super::{App, limit::per_client, queries, security};

const JSON: &str = "application/json";

/// For the browser's cache and shared caches: the count keeps changing.
const FOR_A_SECOND: &str = "public, max-age=1";

/// Points of a timeline.
const POINTS_DEFAULT: i32 = 1440;
const POINTS_MAX: i32 = 10_000;

/// Audits, the newest first.
const AUDITS_DEFAULT: i32 = 20;
const AUDITS_MAX: i32 = 1000;

static DOCUMENT: LazyLock<Body> =
    LazyLock::new(|| Body::fixed(include_str!("../../../schema/api.v1.openapi.json"), JSON));

pub(super) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let asks_the_database = Router::new()
        .route("/election", get(|app, headers, asked| about(app, headers, asked, &queries::ELECTION)))
        .route("/results", get(|app, headers, asked| about(app, headers, asked, &queries::RESULTS)))
        .route("/results.csv", get(files::by_choice))
        .route("/results/regions", get(regions::results))
        .route("/results/regions.csv", get(files::by_region))
        .route("/leaders", get(regions::leaders))
        .route("/turnout", get(regions::turnout))
        .route("/regions/{region}", get(regions::region))
        .route("/timeline", get(timeline))
        .route("/rejections", get(|app, headers, asked| about(app, headers, asked, &queries::REJECTIONS)))
        .route("/accounting", get(|app, headers, asked| about(app, headers, asked, &queries::ACCOUNTING)))
        .route("/lag", get(|app, headers, asked| about(app, headers, asked, &queries::LAG)))
        .route("/throughput", get(|app, headers, asked| about(app, headers, asked, &queries::THROUGHPUT)))
        .route("/agreement", get(|app, headers, asked| about(app, headers, asked, &queries::trust::AGREEMENT)))
        .route("/audits", get(audits))
        .route("/health", get(health))
        .route("/status", get(probes::status))
        .route("/events", get(events))
        .layer(from_fn_with_state(Arc::clone(&app.limiter), per_client));
    let v1 = asks_the_database
        .route("/openapi.json", get(async |headers: HeaderMap| DOCUMENT.answer(&headers, "no-cache").await))
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "no such resource; see GET /api/v1/openapi.json"))
        .method_not_allowed_fallback(async || {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed")
        })
        .layer(from_fn(security::open_to_all));
    Router::new()
        .nest("/api/v1", v1)
        .route("/metrics", get(probes::metrics))
        .route("/healthz", get(probes::healthz))
        .route("/readyz", get(probes::readyz))
}

impl App {
    fn counter<'a>(&'a self, asked: &'a Option<asked::Code>) -> &'a str {
        text(asked).unwrap_or(&self.counter)
    }

    /// A query's result as a JSON body.
    async fn ask(&self, sql: &'static str, params: Params<'_>) -> Outcome {
        match self.answers.reader().await?.json(sql, params).await? {
            Some(text) => Ok(Some(Arc::new(self.cache.hold(text, JSON)?))),
            None => Ok(None),
        }
    }

    /// The same, from the cache if possible; `named` are the parameters as texts.
    async fn ask_once<const N: usize>(
        &self,
        sql: &'static str,
        params: Params<'_>,
        named: [Option<&str>; N],
        keep: Duration,
    ) -> Outcome {
        self.cache.get(Question::new(sql, named), keep, self.ask(sql, params)).await
    }
}

/// A query about one count, cached for a second.
async fn about(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    asked: Asked<About>,
    sql: &'static str,
) -> Result<Response, ApiError> {
    let About { counter, election } = asked?.0;
    let (counter, election) = (app.counter(&counter), text(&election));
    let found = app.ask_once(sql, &[&counter, &election], [Some(counter), election], SECOND).await?;
    Ok(found.ok_or_else(ApiError::no_election)?.answer(&headers, FOR_A_SECOND).await)
}

async fn timeline(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    asked: Asked<AboutSome>,
) -> Result<Response, ApiError> {
    let asked = asked?.0;
    let limit = limit(asked.limit, POINTS_DEFAULT, POINTS_MAX, "points")?;
    let (counter, election) = (app.counter(&asked.counter), text(&asked.election));
    let (sql, named) = (&queries::timeline::BUCKETS, [Some(counter), election]);
    let buckets = app.ask_once(sql, &[&counter, &election], named, SECOND).await?.ok_or_else(ApiError::no_election)?;
    let buckets = serde_json::from_slice(buckets.bytes()).map_err(|error| regions::broken(&error))?;
    some(&app, &headers, &asked, points(limit, buckets), &queries::timeline::BY_CHOICE).await
}

/// How many points a timeline of `buckets` gets, in steps of whole buckets. Limits with the same result share one cache
/// entry, and so one query.
fn points(limit: i32, buckets: i32) -> i32 {
    let div_ceil = |n: i32, by: i32| (n + by - 1) / by;
    div_ceil(buckets, div_ceil(buckets, limit))
}

async fn audits(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    asked: Asked<AboutSome>,
) -> Result<Response, ApiError> {
    let asked = asked?.0;
    let limit = limit(asked.limit, AUDITS_DEFAULT, AUDITS_MAX, "audits")?;
    some(&app, &headers, &asked, limit, &queries::trust::AUDITS).await
}

/// Like [`about`], with a limit as the query's third parameter.
async fn some(
    app: &App,
    headers: &HeaderMap,
    asked: &AboutSome,
    limit: i32,
    sql: &'static str,
) -> Result<Response, ApiError> {
    let (counter, election) = (app.counter(&asked.counter), text(&asked.election));
    let limit_text = limit.to_string();
    let named = [Some(counter), election, Some(limit_text.as_str())];
    let found = app.ask_once(sql, &[&counter, &election, &limit], named, SECOND).await?;
    Ok(found.ok_or_else(ApiError::no_election)?.answer(headers, FOR_A_SECOND).await)
}

/// Health of all counters, with or without an election.
async fn health(State(app): State<Arc<App>>, headers: HeaderMap, asked: Asked<Nothing>) -> Result<Response, ApiError> {
    asked?;
    let found = app.ask_once(&queries::trust::HEALTH, &[], [], SECOND).await?;
    Ok(found.ok_or_else(ApiError::no_election)?.answer(&headers, FOR_A_SECOND).await)
}

async fn events(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, ApiError> {
    let last = headers.get("last-event-id").and_then(|last| last.to_str().ok());
    match app.live.events(last, app.stop.clone()) {
        Some(events) => Ok(events),
        None => Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too many viewers; try again later")),
    }
}

#[cfg(test)]
mod tests {
    use super::points;

    #[test]
    fn equivalent_limits_share_one_query() {
        for buckets in [1, 2, 10, 719, 720, 10_000] {
            for limit in 1..=super::POINTS_MAX {
                let steps = |limit: i32| (buckets + limit - 1) / limit;
                let points = points(limit, buckets);
                assert!(points <= limit && steps(points) == steps(limit), "{points} of {buckets} for {limit}");
            }
            let different: std::collections::BTreeSet<i32> = (1..=10_000).map(|limit| points(limit, buckets)).collect();
            assert!(different.len() <= 200, "{} for {buckets}", different.len());
        }
    }
}
