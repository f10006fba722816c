//! The results as CSV files, byte for byte what `scrutin results --format csv` prints.
//!
//! A file is built in memory, up to a limit: many downloads cost one query, and a slow one does not hold a PostgreSQL
//! session.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use scrutin_files::csv_text::CsvText;
use scrutin_store::results::By;

use super::asked::{About, Asked, text};
use super::{App, FOR_A_SECOND, queries};
use crate::cache::{Question, SECOND};
use crate::error::ApiError;

/// Half a million rows or more, and well within the memory that responses may take.
const FILE_BYTES_MAX: usize = 32 << 20;

const CSV: &str = "text/csv; charset=utf-8; header=present";

pub async fn by_choice(app: State<Arc<App>>, headers: HeaderMap, asked: Asked<About>) -> Result<Response, ApiError> {
    file(app, headers, asked?.0, By::Choice, "results").await
}

pub async fn by_region(app: State<Arc<App>>, headers: HeaderMap, asked: Asked<About>) -> Result<Response, ApiError> {
    file(app, headers, asked?.0, By::Region, "results-by-region").await
}

async fn file(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    About { counter, election }: About,
    by: By,
    name: &str,
) -> Result<Response, ApiError> {
    let (counter, election) = (app.counter(&counter), text(&election));
    let ask = async {
        let reader = app.files.reader().await?;
        let found = reader.json(&queries::regions::ELECTION_ID, &[&counter, &election]).await?;
        let Some(election) = found else { return Ok(None) };
        let name = file_name(&election, name, Timestamp::now());
        let read = reader.rows(by.sql(), &[&counter, &election], || Rows::new(by), Rows::add).await?;
        let body = app.cache.hold(read.text()?, CSV)?;
        Ok(Some(Arc::new(body.named(&name))))
    };
    let found = app.cache.get(Question::new(by.sql(), [Some(counter), election]), SECOND, ask).await?;
    Ok(found.ok_or_else(ApiError::no_election)?.answer(&headers, FOR_A_SECOND).await)
}

/// Collects rows into a file.
struct Rows {
    by: By,
    text: Result<CsvText, csv::Error>,
    is_too_long: bool,
}

impl Rows {
    fn new(by: By) -> Rows {
        Rows { by, text: CsvText::new(by.columns()), is_too_long: false }
    }

    /// Adds a row; false once no more are wanted.
    fn add(&mut self, row: &tokio_postgres::Row) -> Result<bool, tokio_postgres::Error> {
        let values = self.by.values(row)?;
        let Ok(text) = &mut self.text else { return Ok(false) };
        if let Err(error) = text.push(&values) {
            self.text = Err(error);
            return Ok(false);
        }
        self.is_too_long = text.byte_count() > FILE_BYTES_MAX;
        Ok(!self.is_too_long)
    }

    fn text(self) -> Result<String, ApiError> {
        if self.is_too_long {
            let what = format!(
                "the file is over {} MiB; use `scrutin results`, or GET /api/v1/results/regions page by page",
                FILE_BYTES_MAX >> 20
            );
            return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, what));
        }
        self.text.and_then(CsvText::finish).map_err(|error| {
            tracing::error!(%error, "cannot write a CSV file");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the file: {error}"))
        })
    }
}

/// For example `pres-2027-results-20270411T083112Z.csv`. Other than ASCII letters, digits and `-_.` become `-`.
fn file_name(election: &str, what: &str, at: Timestamp) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let election: String = election.chars().map(plain).collect();
    format!("{election}-{what}-{}.csv", at.strftime("%Y%m%dT%H%M%SZ"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_election_and_time() {
        let at = Timestamp::from_second(1_807_432_272).unwrap();
        assert_eq!(file_name("pres-2027", "results", at), "pres-2027-results-20270411T083112Z.csv");
        assert_eq!(file_name("\"é/..\\x\n", "results", at), "---..-x--results-20270411T083112Z.csv");
    }
}
