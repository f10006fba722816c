//! Revalidation, compression, and how long a response stays fresh.

use std::io::Read;

use flate2::read::GzDecoder;
use scrutin_page::PageOptions;

use super::{Page, kit_with_votes};

#[tokio::test]
async fn a_cached_response_is_not_sent_again() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;
    let file = page.stylesheet().await;
    for path in ["/", &file, "/api/v1/election", "/api/v1/results.csv", "/api/v1/openapi.json"] {
        let first = page.request("GET", path, &[]).await;
        let tag = first.header("etag").unwrap_or_else(|| panic!("{path} has no ETag")).to_owned();
        assert_eq!(first.status, 200, "{path}");
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let again = page.request("GET", path, &[("If-None-Match", &known)]).await;
            assert_eq!((again.status, again.body.len()), (304, 0), "{path} {known}");
            assert_eq!(again.header("etag"), Some(tag.as_str()), "{path} {known}");
            assert_eq!(again.header("cache-control"), first.header("cache-control"), "{path} {known}");
        }
        let other = page.request("GET", path, &[("If-None-Match", "\"other\"")]).await;
        assert_eq!((other.status, other.body), (200, first.body), "{path}");
    }
    page.stop().await;
}

#[tokio::test]
async fn a_changed_figure_changes_the_etag() {
    let kit = kit_with_votes().await;
    let page = Page::start_with(kit.db(), PageOptions { requests_per_second: 0, ..PageOptions::default() }).await;
    let before = page.request("GET", "/api/v1/rejections", &[]).await;
    kit.owner().await.execute("UPDATE rejection SET votes = votes + 1 WHERE reason = 'malformed'", &[]).await.unwrap();
    // The old response is served for up to a second.
    let tag = before.header("etag").unwrap();
    let after = loop {
        let after = page.request("GET", "/api/v1/rejections", &[("If-None-Match", tag)]).await;
        if after.status == 200 {
            break after;
        }
        assert_eq!(after.status, 304);
    };
    assert_ne!(after.header("etag"), Some(tag));
    page.stop().await;
}

#[tokio::test]
async fn a_compressed_response_has_its_own_etag() {
    let kit = kit_with_votes().await;
    kit.owner().await.execute("UPDATE choice SET name = repeat('long ', 200)", &[]).await.unwrap();
    let page = Page::start(kit.db()).await;
    for path in [&page.stylesheet().await, "/api/v1/results", "/api/v1/openapi.json"] {
        let plain = page.request("GET", path, &[]).await;
        let zipped = page.request("GET", path, &[("Accept-Encoding", "gzip, deflate, br")]).await;
        assert_eq!(
            (plain.header("content-encoding"), zipped.header("content-encoding")),
            (None, Some("gzip")),
            "{path}"
        );
        assert_eq!(zipped.header("content-length"), Some(zipped.body.len().to_string().as_str()), "{path}");
        for answer in [&plain, &zipped] {
            assert_eq!(answer.header("vary"), Some("Accept-Encoding"), "{path}");
        }
        let mut text = Vec::new();
        GzDecoder::new(&*zipped.body).read_to_end(&mut text).unwrap();
        assert!(text == plain.body && zipped.body.len() < text.len(), "{path}");
        let (tag, zipped_tag) = (plain.header("etag").unwrap(), zipped.header("etag").unwrap());
        assert_ne!(tag, zipped_tag, "{path}");
        let headers = [("If-None-Match", zipped_tag), ("Accept-Encoding", "gzip")];
        let again = page.request("GET", path, &headers).await;
        assert_eq!((again.status, again.header("etag")), (304, Some(zipped_tag)), "{path}");
    }
    // Short responses and streams are not compressed.
    let short = page.request("GET", "/api/v1/rejections", &[("Accept-Encoding", "gzip")]).await;
    assert_eq!((short.status, short.header("content-encoding"), short.header("vary")), (200, None, None));
    page.stop().await;
}

#[tokio::test]
async fn every_response_says_how_long_it_stays_fresh() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;
    for (path, status, caching) in [
        ("/api/v1/results", 200, "public, max-age=1"),
        ("/api/v1/results/regions.csv", 200, "public, max-age=1"),
        ("/api/v1/regions/N", 200, "public, max-age=1"),
        ("/api/v1/status", 200, "no-cache"),
        ("/api/v1/openapi.json", 200, "no-cache"),
        ("/", 200, "no-cache"),
        ("/healthz", 200, "no-store"),
        ("/readyz", 200, "no-store"),
        ("/metrics", 200, "no-store"),
        ("/api/v1/results?election=none", 404, "no-store"),
        ("/api/v1/votes", 404, "no-store"),
    ] {
        let answer = page.request("GET", path, &[]).await;
        assert_eq!((answer.status, answer.header("cache-control")), (status, Some(caching)), "{path}");
    }
    page.stop().await;
}

#[tokio::test]
async fn a_head_request_has_the_headers_of_the_response() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;
    for path in ["/", "/api/v1/election", "/api/v1/results.csv", "/api/v1/status", "/healthz", "/readyz"] {
        let get = page.request("GET", path, &[]).await;
        let head = page.request("HEAD", path, &[]).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        for name in ["content-type", "content-length", "etag", "cache-control"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
    }
    page.stop().await;
}
