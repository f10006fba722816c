//! The API's error responses: `{"error": …}`.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::reader::ReadError;

#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    /// What is wrong, in English, for humans.
    pub what: String,
    retry_after_seconds: Option<u32>,
}

impl ApiError {
    pub fn new(status: StatusCode, what: impl Into<String>) -> ApiError {
        // A request that cannot be served now may be retried soon.
        let retry_after_seconds = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        ApiError { status, what: what.into(), retry_after_seconds }
    }

    pub fn retry_after(self, seconds: u32) -> ApiError {
        ApiError { retry_after_seconds: Some(seconds), ..self }
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn no_election() -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "no such election is loaded; `scrutin setup` loads one")
    }

    pub fn no_region() -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "the election has no such region; see GET /api/v1/election")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.what }))).into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> ApiError {
        let status = match &error {
            ReadError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            ReadError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        ApiError::new(status, error.to_string())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}
