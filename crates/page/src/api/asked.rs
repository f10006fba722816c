//! Query parameters. Unknown or invalid ones are refused, not ignored.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use serde::Deserialize;

use crate::error::ApiError;

const CODE_CHARS_MAX: usize = 64;

/// The code of a counter, an election or a region, which need not exist.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Code(pub String);

impl TryFrom<String> for Code {
    type Error = String;

    /// Refuses impossible codes, so that PostgreSQL is not asked about them.
    fn try_from(text: String) -> Result<Code, String> {
        match text.chars().count() {
            1..=CODE_CHARS_MAX if !text.chars().any(char::is_control) => Ok(Code(text)),
            1..=CODE_CHARS_MAX => Err("a code has no control characters".into()),
            n => Err(format!("a code has 1 to {CODE_CHARS_MAX} characters, not {n}")),
        }
    }
}

/// Which count to report; by default the page's counter and the election it counts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    pub counter: Option<Code>,
    pub election: Option<Code>,
}

/// A count, and one of its regions or a page of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AboutRegions {
    pub counter: Option<Code>,
    pub election: Option<Code>,
    pub region: Option<Code>,
    pub limit: Option<i32>,
    pub after: Option<Code>,
}

/// A count, and a page of its regions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AboutPage {
    pub counter: Option<Code>,
    pub election: Option<Code>,
    pub limit: Option<i32>,
    pub after: Option<Code>,
}

/// A count, and a limit on the rows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AboutSome {
    pub counter: Option<Code>,
    pub election: Option<Code>,
    pub limit: Option<i32>,
}

/// No parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

pub type Asked<T> = Result<Query<T>, QueryRejection>;

/// The limit on `what`: `limit` if given, which must be 1 to `most`.
pub fn limit(limit: Option<i32>, otherwise: i32, most: i32, what: &str) -> Result<i32, ApiError> {
    let limit = limit.unwrap_or(otherwise);
    match (1..=most).contains(&limit) {
        true => Ok(limit),
        false => {
            let what = format!("limit is {limit}; expected 1 to {most} {what}");
            Err(ApiError::new(StatusCode::BAD_REQUEST, what))
        }
    }
}

pub fn text(code: &Option<Code>) -> Option<&str> {
    code.as_ref().map(|Code(text)| text.as_str())
}
