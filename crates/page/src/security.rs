//! What browsers may do with what is served.

use axum::extract::Request;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Pages for the frames of other sites are below it.
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

/// Nothing from elsewhere runs or is loaded, nothing stands in the page itself that could be put there by others, and
/// nobody frames a page but those below `/embed/`, which have nothing in them that a click could do harm with.
/// Nothing is kept by caches unless an answer says so. No answer sets a cookie.
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
        // Also for sites that are isolated from others and take only what says that they may.
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
/// That is safe because an answer is the same for all who ask: there are no cookies, passwords or sessions that a browser
/// would send along, nothing can be changed by asking, and `*` (other than a site's own name) keeps a browser from sending
/// any. So a script reads nothing that its author could not get by asking. The one who can ask and the author cannot
/// is a browser inside a network that the author is outside of; there, figures of a count that are not yet public are
/// to be kept from browsers that visit other sites, or the server behind a proxy with a login.
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

/// What a browser asks before a script may send a header of its own choice.
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
