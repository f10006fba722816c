//! Figures by region, a page at a time, and the details of one region.
//!
//! A page is a number of regions, not of rows, in ballot order. It links to the next one, which starts after its last
//! region; so no region is skipped or repeated, whatever is counted meanwhile.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;

use super::asked::{About, AboutPage, AboutRegions, Asked, Code, limit, text};
use super::{App, FOR_A_SECOND, JSON, queries};
use crate::cache::{Question, SECOND};
use crate::error::ApiError;

const REGIONS_DEFAULT: i32 = 1000;
const REGIONS_MAX: i32 = 10_000;

pub async fn results(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    asked: Asked<AboutRegions>,
) -> Result<Response, ApiError> {
    page(&app, &headers, &asked?.0, &queries::regions::RESULTS).await
}

pub async fn leaders(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    asked: Asked<AboutPage>,
) -> Result<Response, ApiError> {
    page(&app, &headers, &asked?.0.into(), &queries::regions::LEADERS).await
}

pub async fn turnout(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    asked: Asked<AboutPage>,
) -> Result<Response, ApiError> {
    page(&app, &headers, &asked?.0.into(), &queries::regions::TURNOUT).await
}

pub async fn region(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    region: Result<Path<Code>, PathRejection>,
    asked: Asked<About>,
) -> Result<Response, ApiError> {
    let Path(Code(region)) = region?;
    let About { counter, election } = asked?.0;
    let (counter, election) = (app.counter(&counter), text(&election));
    let named = [Some(counter), election, Some(region.as_str())];
    let found = app.ask_once(&queries::regions::REGION, &[&counter, &election, &region], named, SECOND).await?;
    Ok(found.ok_or_else(ApiError::no_region)?.answer(&headers, FOR_A_SECOND).await)
}

impl From<AboutPage> for AboutRegions {
    fn from(AboutPage { counter, election, limit, after }: AboutPage) -> AboutRegions {
        AboutRegions { counter, election, region: None, limit, after }
    }
}

/// The result of `queries::regions::PAGE`.
#[derive(Deserialize)]
struct Page {
    election: String,
    regions: Vec<String>,
    is_last: bool,
    known: bool,
}

async fn page(app: &App, headers: &HeaderMap, asked: &AboutRegions, sql: &'static str) -> Result<Response, ApiError> {
    let (counter, election) = (app.counter(&asked.counter), text(&asked.election));
    let (region, after) = (text(&asked.region), text(&asked.after));
    let limit = limit(asked.limit, REGIONS_DEFAULT, REGIONS_MAX, "regions")?;
    let ask = async {
        let reader = app.answers.reader().await?;
        let found = reader.json(&queries::regions::PAGE, &[&counter, &election, &region, &after, &limit]).await?;
        let Some(found) = found else { return Ok(None) };
        let page: Page = serde_json::from_str(&found).map_err(|error| broken(&error))?;
        if !page.known {
            return Err(ApiError::no_region());
        }
        let found = reader.json(sql, &[&counter, &page.election, &page.regions]).await?;
        let Some(found) = found else { return Ok(None) };
        let next = page.regions.last().filter(|_| !page.is_last).map(|last| address(asked, &page.election, last));
        Ok(Some(Arc::new(app.cache.hold(with_next(&found, next.as_deref())?, JSON)?)))
    };
    let limit_text = limit.to_string();
    let question = Question::new(sql, [Some(counter), election, region, after, Some(limit_text.as_str())]);
    let found = app.cache.get(question, SECOND, ask).await?;
    Ok(found.ok_or_else(ApiError::no_election)?.answer(headers, FOR_A_SECOND).await)
}

/// The next page's URL, relative to this one's.
fn address(asked: &AboutRegions, election: &str, last: &str) -> String {
    let mut query = form_urlencoded::Serializer::for_suffix("?".to_owned(), 1);
    if let Some(counter) = text(&asked.counter) {
        query.append_pair("counter", counter);
    }
    // Always included, so that all pages are of the same election.
    query.append_pair("election", election);
    if let Some(limit) = asked.limit {
        query.append_pair("limit", &limit.to_string());
    }
    query.append_pair("after", last);
    query.finish()
}

/// Appends the field `next` to a JSON object without parsing it.
fn with_next(object: &str, next: Option<&str>) -> Result<String, ApiError> {
    let next = serde_json::to_string(&next).map_err(|error| broken(&error))?;
    let fields = object.strip_suffix('}').ok_or_else(|| broken(&"not an object"))?;
    Ok(format!("{fields}, \"next\" : {next}}}"))
}

/// PostgreSQL's result cannot be parsed.
pub fn broken(what: &dyn std::fmt::Display) -> ApiError {
    tracing::error!(%what, "PostgreSQL did not return the expected JSON");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot read the figures: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_keeps_counter_and_election() {
        let code = |text: &str| Some(Code(text.to_owned()));
        let asked = AboutRegions { counter: None, election: None, region: None, limit: None, after: None };
        assert_eq!(address(&asked, "pres", "75"), "?election=pres&after=75");
        let asked = AboutRegions { counter: code("a&b"), limit: Some(7), ..asked };
        assert_eq!(
            address(&asked, "élu 1", "2+A/é"),
            "?counter=a%26b&election=%C3%A9lu+1&limit=7&after=2%2BA%2F%C3%A9"
        );
        assert_eq!(with_next("{\"a\" : 1}", None).unwrap(), "{\"a\" : 1, \"next\" : null}");
        assert_eq!(with_next("{\"a\" : 1}", Some("?\"")).unwrap(), "{\"a\" : 1, \"next\" : \"?\\\"\"}");
        assert!(with_next("[]", None).is_err());
    }
}
