//! Browser security policy and rate limits.

use scrutin_page::PageOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, Page, kit_with_votes};
use crate::kit::Kit;

#[tokio::test]
async fn browsers_run_no_foreign_scripts_and_frame_only_the_widgets() {
    let kit = Kit::new().await;
    let page = Page::start(kit.db()).await;
    let file = page.stylesheet().await;
    for path in ["/", &file, "/api/v1/results", "/api/v1/openapi.json", "/healthz", "/none"] {
        let answer = page.request("GET", path, &[]).await;
        let policy = answer.header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self'",
            "font-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "object-src 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.split("; ").any(|found| found == part), "{path}: no {part} in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        let is_api = path.starts_with("/api/");
        let readers = if is_api { "cross-origin" } else { "same-origin" };
        assert_eq!(answer.header("cross-origin-resource-policy"), Some(readers), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), is_api.then_some("*"), "{path}");
        assert_eq!(answer.header("set-cookie"), None, "{path}");
    }
    let embed = page.request("GET", "/embed/bars", &[]).await;
    let policy = embed.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(policy.ends_with("; frame-ancestors *"), "{policy}");
    assert_eq!(embed.header("x-frame-options"), None);
    assert_eq!(embed.header("cross-origin-resource-policy"), Some("cross-origin"));
    page.stop().await;
}

#[tokio::test]
async fn scripts_of_other_sites_may_read_the_api_and_change_nothing() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;
    let asks = [("Origin", "https://example.org"), ("Access-Control-Request-Headers", "if-none-match")];
    for path in ["/api/v1/results", "/api/v1/events", "/api/v1/openapi.json"] {
        let preflight = page.request("OPTIONS", path, &asks).await;
        assert_eq!((preflight.status, preflight.body.len()), (204, 0), "{path}");
        assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
        assert_eq!(preflight.header("access-control-allow-methods"), Some("GET, HEAD"));
        assert!(preflight.header("access-control-allow-headers").unwrap().contains("If-None-Match"));
        assert_eq!(preflight.header("access-control-allow-credentials"), None);
        for method in ["POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"] {
            let answer = page.request(method, path, &[("Content-Length", "0")]).await;
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")), "{method} {path}");
        }
    }
    let answer = page.request("GET", "/api/v1/results", &asks).await;
    assert!(answer.header("access-control-expose-headers").unwrap().contains("ETag"));
    // The operations endpoints are not shared with other sites.
    assert_eq!(page.request("GET", "/metrics", &asks).await.header("access-control-allow-origin"), None);
    page.stop().await;
}

#[tokio::test]
async fn a_client_over_its_quota_is_told_to_wait() {
    let kit = kit_with_votes().await;
    let options = PageOptions { requests_per_second: 1, ..PageOptions::default() };
    let page = Page::start_with(kit.db(), options).await;
    // At most four at once and one per second; the test takes less time than that.
    let mut refused = None;
    for _ in 0..100 {
        let answer = page.request("GET", "/api/v1/results", &[("X-Forwarded-For", "192.0.2.1")]).await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the limit is reached");
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"), "a script cannot read the reason");
    assert!(refused.text().contains("\"error\""), "{}", refused.text());
    // Requests that cost PostgreSQL nothing are not limited, nor are health checks.
    for path in ["/", &page.stylesheet().await, "/healthz", "/readyz", "/metrics", "/api/v1/openapi.json"] {
        for _ in 0..10 {
            assert_eq!(page.request("GET", path, &[]).await.status, 200, "{path}");
        }
    }
    page.stop().await;
}

#[tokio::test]
async fn behind_a_proxy_clients_are_distinguished_by_its_header() {
    let kit = kit_with_votes().await;
    let options = PageOptions { requests_per_second: 1, behind_proxy: true, ..PageOptions::default() };
    let page = Page::start_with(kit.db(), options).await;
    let mut is_refused = false;
    for n in 0..100 {
        // The client's own claim precedes the proxy's.
        let address = format!("203.0.113.{n}, 192.0.2.1");
        is_refused |= page.request("GET", "/api/v1/results", &[("X-Forwarded-For", &address)]).await.status == 429;
    }
    assert!(is_refused);
    assert_eq!(page.request("GET", "/api/v1/results", &[("X-Forwarded-For", "192.0.2.2")]).await.status, 200);
    page.stop().await;
}

#[tokio::test]
async fn opening_the_stream_counts_as_a_request() {
    let kit = kit_with_votes().await;
    let options = PageOptions { requests_per_second: 1, ..PageOptions::default() };
    let page = Page::start_with(kit.db(), options).await;
    let mut streams = Vec::new();
    let head = loop {
        let mut stream = TcpStream::connect(page.address).await.unwrap();
        stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut head = [0; 16];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut head)).await.expect("an answer in time").unwrap();
        streams.push(stream);
        if !head.starts_with(b"HTTP/1.1 200") || streams.len() > 100 {
            break head;
        }
    };
    assert!(head.starts_with(b"HTTP/1.1 429"), "{}", String::from_utf8_lossy(&head));
    drop(streams);
    page.stop().await;
}

#[tokio::test]
async fn an_oversized_request_head_is_rejected() {
    let kit = Kit::new().await;
    let page = Page::start(kit.db()).await;
    let large = "x".repeat(15 << 10);
    assert_eq!(page.request("GET", "/healthz", &[("X-Large", &large)]).await.status, 200);
    let many: Vec<(String, String)> = (0..100).map(|n| (format!("X-{n}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(page.request("GET", "/healthz", &many).await.status, 431);
    // The server does not read the rest of an oversized head, so send only up to the limit.
    let mut stream = TcpStream::connect(page.address).await.unwrap();
    let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Large: {}", "x".repeat(16 << 10));
    stream.write_all(&head.as_bytes()[..16 << 10]).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer in time").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    page.stop().await;
}
