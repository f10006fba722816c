//! The automated accessibility check finds nothing serious by the rules of WCAG 2.2 A and AA: axe-core, in
//! `axe.min.js`.

use serde_json::Value;

use super::driver::{Browser, DESK, Look, PHONE};
use super::{VIEWS, address, counted};

const AXE: &str = include_str!("axe/axe.min.js");

/// Serious and critical violations, as text.
async fn violations(browser: &Browser) -> Vec<String> {
    // The page's content policy allows only its own scripts, but the driver may inject one.
    browser.get(&format!("(() => {{ {AXE}\n; return true; }})()")).await;
    let found = browser
        .run(
            "const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
             axe.run(document, { runOnly: tags }).then(({ violations, passes }) => done([passes.length, violations]),
                                                       (error) => done(String(error)));",
        )
        .await;
    assert!(found[0].as_u64() > Some(10), "axe has checked too little: {found}");
    let serious = |violation: &&Value| matches!(violation["impact"].as_str(), Some("serious" | "critical"));
    let words = |violation: &Value| {
        let nodes = violation["nodes"].as_array().unwrap().iter().take(3);
        let nodes: Vec<String> = nodes.map(|node| format!("{}: {}", node["html"], node["failureSummary"])).collect();
        format!("{}: {}", violation["id"], nodes.join("\n"))
    };
    found[1].as_array().unwrap().iter().filter(serious).map(words).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_automated_check_finds_nothing_serious() {
    let (_kit, _place, served) = counted().await;
    let page = served.page();
    for look in [DESK, PHONE] {
        let browser = Browser::start(&look).await;
        for theme in ["light", "dark"] {
            for view in VIEWS {
                browser.go(&address(page, &format!("?view={view}&theme={theme}"))).await;
                browser.until("document.querySelectorAll('main h2').length > 1").await;
                assert_eq!(violations(&browser).await, [""; 0], "{view}, {theme}, {} wide", look.width);
            }
        }
        browser.close().await;
    }
    let browser = Browser::start(&Look { language: "fr-FR", ..DESK }).await;
    for path in [
        "?region=75",
        "?mode=projector",
        "embed/bars",
        "embed/map",
        "?map=turnout&chart=lead",
        "?map=coming&chart=share",
    ] {
        browser.go(&address(page, path)).await;
        browser.until("document.querySelector('#bars > li, #map .tile')").await;
        assert_eq!(violations(&browser).await, [""; 0], "{path}");
    }
    browser.close().await;
}
