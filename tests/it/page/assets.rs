//! The page's own files.

use super::Page;
use crate::kit::Kit;

#[tokio::test]
async fn the_page_is_whole_and_loads_nothing_from_elsewhere() {
    let kit = Kit::new().await;
    let page = Page::start(kit.db()).await;
    let (status, head, body) = page.ask("/").await;
    let html = String::from_utf8(body).unwrap();
    assert_eq!(status, 200);
    assert!(
        head.contains("content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';"),
        "{head}"
    );
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    assert!(
        !html.contains("<style") && !html.contains("style=") && !html.contains("http"),
        "the content policy would block it"
    );
    // Everything that the pages and their scripts reference exists.
    let mut named = ["/", "/embed/bars", "/embed/map", "/assets/vendor/licences.html"].map(str::to_owned).to_vec();
    let mut next = 0;
    while next < named.len() {
        let (status, head, body) = page.ask(&named[next]).await;
        assert_eq!(status, 200, "{}", named[next]);
        assert!(head.contains("etag: "), "{head}");
        let text = String::from_utf8(body).unwrap();
        let is_script = named[next].ends_with(".js");
        let folder = named[next].rsplit_once('/').unwrap().0.to_owned();
        for mark in if is_script { &["from \"", "from\""][..] } else { &["href=\"", "src=\""][..] } {
            let paths = text.split(mark).skip(1).filter_map(|rest| rest.split('"').next());
            let paths = paths.filter(|path| path.starts_with('.') && !path.ends_with('/') && !path.contains("/api/"));
            for path in paths.map(|path| joined(&folder, path)) {
                if !named.contains(&path) {
                    named.push(path);
                }
            }
        }
        next += 1;
    }
    assert!(named.len() >= 50, "{named:?}");
    page.stop().await;
}

/// Resolves a relative address in a file of `folder`, as a browser does.
fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}
