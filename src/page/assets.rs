//! The page itself: a few small files, held in the program.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::App;

struct Asset {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! asset {
    ($path:literal, $file:literal, $kind:literal) => {
        Asset { path: $path, kind: $kind, text: include_str!(concat!("assets/", $file)) }
    };
}

static ASSETS: [Asset; 8] = [
    asset!("/", "index.html", "text/html; charset=utf-8"),
    asset!("/assets/page.css", "page.css", "text/css; charset=utf-8"),
    asset!("/assets/page.js", "page.js", "text/javascript; charset=utf-8"),
    asset!("/assets/dom.js", "dom.js", "text/javascript; charset=utf-8"),
    asset!("/assets/results.js", "results.js", "text/javascript; charset=utf-8"),
    asset!("/assets/timeline.js", "timeline.js", "text/javascript; charset=utf-8"),
    asset!("/assets/map.js", "map.js", "text/javascript; charset=utf-8"),
    asset!("/assets/icon.svg", "icon.svg", "image/svg+xml"),
];

/// A browser keeps the files but asks each time; it gets them again only from another version of the program.
static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let mut hasher = blake3::Hasher::new();
    ASSETS.iter().for_each(|asset| {
        hasher.update(asset.text.as_bytes());
    });
    let tag = format!("\"{}\"", &hasher.finalize().to_hex()[..16]);
    HeaderValue::from_str(&tag).expect("hexadecimal digits in quotes make a header")
});

pub(super) fn routes() -> Router<Arc<App>> {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        router.route(asset.path, get(async move |headers: HeaderMap| send(asset, &headers)))
    })
}

fn send(asset: &'static Asset, asked: &HeaderMap) -> Response {
    let known = asked.get(header::IF_NONE_MATCH) == Some(&*TAG);
    let caching = [(header::ETAG, TAG.clone()), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    if known {
        (StatusCode::NOT_MODIFIED, caching).into_response()
    } else {
        (caching, [(header::CONTENT_TYPE, asset.kind)], asset.text).into_response()
    }
}
