//! Security headers: what browsers may do with the responses.

use axum::extract::Request;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Pages that other sites may frame are below this path.
const EMBED: &str = "/embed/";

macro_rules! policy {
    ($ancestors:literal) => {
        concat!(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; ",
            "font-src 'self'; base-uri 'none'; form-action 'none'; object-src 'none'; frame-ancestors ",
            $ancestors
        )
    };
}

/// Blocks scripts and resources from other origins, and inline ones, which an attacker could inject. Only the pages
/// below `/embed/` may be framed; a hijacked click there can do no harm. Caches keep nothing unless a response says
/// so. No response sets a cookie.
pub async fn headers(request: Request, next: Next) -> Response {
    let is_embed = request.uri().path().starts_with(EMBED);
    secured(next.run(request).await, is_embed)
}

pub fn secured(mut response: Response, is_embed: bool) -> Response {
    let headers = response.headers_mut();
    let mut set = |name, value| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()");
    if is_embed {
        set(header::CONTENT_SECURITY_POLICY, policy!("*"));
        // Needed by cross-origin isolated sites, which load only what opts in.
        set(CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin");
    } else {
        set(header::CONTENT_SECURITY_POLICY, policy!("'none'"));
        set(header::X_FRAME_OPTIONS, "DENY");
        set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
        headers.entry(CROSS_ORIGIN_RESOURCE_POLICY).or_insert(HeaderValue::from_static("same-origin"));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Lets the scripts of any site read the API.
///
/// This is safe because a response is the same for everyone: there are no cookies, passwords or sessions for a
/// browser to send along, requests change nothing, and `*` (unlike a named origin) keeps browsers from sending
/// credentials. So a script reads nothing that its author could not request directly, with one exception: a browser
/// inside a network that the author cannot reach. Where unpublished figures are served in such a network, keep them
/// from browsers that visit other sites, or put the server behind a proxy with a login.
pub async fn open_to_all(request: Request, next: Next) -> Response {
    let mut response = match *request.method() {
        Method::OPTIONS => (StatusCode::NO_CONTENT, preflight()).into_response(),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Content-Disposition, ETag, Retry-After"),
    );
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    response
}

/// The answer to a browser's preflight, sent before a script may set its own headers.
fn preflight() -> HeaderMap {
    HeaderMap::from_iter([
        (header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS")),
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD")),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("Accept, Cache-Control, If-None-Match, Last-Event-ID"),
        ),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400")),
    ])
}
