//! Serves the page below a path prefix, for proxies that forward paths unchanged: `/night/api/v1/results`.

use std::str::FromStr;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::uri::{PathAndQuery, Uri};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use super::security::secured;

/// Probes and metrics do not go through the proxy, so these are served without the prefix too.
const AT_BOTH_PLACES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The prefix of all paths: empty, or for example `/night`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathPrefix(String);

impl PathPrefix {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PathPrefix {
    type Err = String;

    /// Parses a prefix: `/` means none, and a trailing slash is ignored.
    fn from_str(text: &str) -> Result<PathPrefix, String> {
        let path = text.strip_suffix('/').unwrap_or(text);
        let is_name = |name: &str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
            !name.is_empty() && name != "." && name != ".." && name.chars().all(is_plain)
        };
        let fits = path.is_empty() || path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_name));
        match fits {
            true => Ok(PathPrefix(path.to_owned())),
            false => Err(format!(
                "found `{text}`, expected a path like /night, of letters, digits and any of - . _ ~ between slashes"
            )),
        }
    }
}

/// Serves all of `router` below the prefix.
pub fn below(prefix: PathPrefix, router: Router) -> Router {
    if prefix.0.is_empty() {
        return router;
    }
    // The layer wraps the whole router, so that routing sees the path without the prefix.
    Router::new().fallback_service(router).layer(from_fn_with_state(prefix, enter))
}

async fn enter(State(PathPrefix(prefix)): State<PathPrefix>, mut request: Request, next: Next) -> Response {
    let whole = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    match whole.strip_prefix(&prefix) {
        Some(rest) if rest.starts_with('/') => {
            let rest = rest.parse::<PathAndQuery>();
            let inner = rest.map_err(Into::into).and_then(|rest| Uri::builder().path_and_query(rest).build());
            let Ok(inner) = inner else { return StatusCode::BAD_REQUEST.into_response() };
            *request.uri_mut() = inner;
            next.run(request).await
        }
        Some("") => to(format!("{prefix}/")),
        Some(query) if query.starts_with('?') => to(format!("{prefix}/{query}")),
        _ if request.uri().path() == "/" => to(format!("{prefix}{whole}")),
        _ if AT_BOTH_PLACES.contains(&request.uri().path()) => next.run(request).await,
        _ => {
            let text = format!("not found; the page is at {prefix}/\n");
            secured((StatusCode::NOT_FOUND, text).into_response(), false)
        }
    }
}

fn to(place: String) -> Response {
    secured((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, place)]).into_response(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_plain_path() {
        for (text, prefix) in
            [("", ""), ("/", ""), ("/night", "/night"), ("/night/", "/night"), ("/a/b-c.d_e~1", "/a/b-c.d_e~1")]
        {
            assert_eq!(text.parse(), Ok(PathPrefix(prefix.to_owned())), "{text}");
        }
        for text in
            ["night", "//", "/a//b", "/a/../b", "/.", "/é", "/a b", "/a?b", "/a#b", "/%61", "/a\\b", "https://x/"]
        {
            assert!(text.parse::<PathPrefix>().is_err(), "{text}");
        }
    }
}
