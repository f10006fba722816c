//! Everything works below a path prefix, behind a proxy that does not strip it.

use scrutin_page::PageOptions;
use serde_json::Value;

use super::{Page, kit_with_votes};

#[tokio::test]
async fn everything_is_below_the_prefix_and_the_root_redirects_there() {
    let kit = kit_with_votes().await;
    let options = PageOptions { path_prefix: "/night/one".parse().unwrap(), ..PageOptions::default() };
    let page = Page::start_with(kit.db(), options).await;
    for path in ["/", "/?view=trust", "/assets/icon.svg", "/api/v1/results", "/api/v1/results?counter=native"] {
        assert_eq!(page.request("GET", &format!("/night/one{path}"), &[]).await.status, 200, "{path}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(page.request("GET", path, &[]).await.status, 200, "{path}");
        assert_eq!(page.request("GET", &format!("/night/one{path}"), &[]).await.status, 200, "{path}");
    }
    for (path, place) in [
        ("/", "/night/one/"),
        ("/?view=trust&lang=fr", "/night/one/?view=trust&lang=fr"),
        ("/night/one", "/night/one/"),
        ("/night/one?view=trust", "/night/one/?view=trust"),
    ] {
        let answer = page.request("GET", path, &[]).await;
        assert_eq!((answer.status, answer.header("location")), (307, Some(place)), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    for path in
        ["/api/v1/results", "/assets/icon.svg", "/night", "/night/", "/night/onerous/", "/night/one/none", "//evil"]
    {
        let answer = page.request("GET", path, &[]).await;
        assert_eq!((answer.status, answer.header("location")), (404, None), "{path}");
        assert!(answer.header("content-security-policy").is_some(), "{path}");
    }
    // Addresses from the API are relative, so they are below the prefix too.
    let first = page.ok("/night/one/api/v1/turnout?limit=1").await;
    let next = first["next"].as_str().unwrap();
    let second = page.ok(&format!("/night/one/api/v1/turnout{next}")).await;
    assert_eq!((&second["regions"][0]["region"], &second["next"]), (&"S".into(), &Value::Null));
    let embed = page.request("GET", "/night/one/embed/bars", &[]).await;
    assert!(embed.header("content-security-policy").unwrap().ends_with("frame-ancestors *"));
    page.stop().await;
}
