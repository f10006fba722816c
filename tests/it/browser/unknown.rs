//! Missing figures are shown as unknown, and more votes than registered voters as a warning.

use super::driver::{Browser, DESK};
use super::{address, must_be_clean};
use crate::kit::Kit;
use crate::run::Place;

#[tokio::test(flavor = "multi_thread")]
async fn unknown_registered_voters_and_too_many_votes_are_shown() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.write(
        "r.csv",
        "region_code,registered,candidate,votes\nN,1000,Eva,30\nN,1000,Finn,20\nS,,Eva,10\nS,,Finn,41\nW,5,Eva,6\nW,5,Finn,1\n",
    );
    place.ok("demo --results r.csv --over-registered allow --speed max --exit --data-dir data");
    let served = place.start("serve --data-dir data");
    let page = served.page();
    let turnout = page.json("/api/v1/turnout");
    assert!(turnout["total"]["registered"].is_null() && turnout["total"]["turnout"].is_null(), "{turnout}");
    let browser = Browser::start(&DESK).await;
    for (language, unknown) in [("en", "unknown"), ("fr", "inconnu")] {
        browser.go(&address(page, &format!("?view=night&lang={language}&region=S"))).await;
        browser
            .until("document.querySelector('#turnout-unknown') && document.querySelector('dialog[open] tbody tr')")
            .await;
        browser.until("document.querySelector('#over-registered')?.dataset.value === '1'").await;
        let told = browser.get("document.querySelector('#turnout-unknown').textContent").await;
        assert_eq!(told, unknown);
        let dialog = browser.get("document.querySelector('dialog[open]').textContent").await;
        assert!(dialog.as_str().unwrap().matches(unknown).count() >= 2, "{dialog}");
        let all = browser.get("document.body.textContent").await;
        let all = all.as_str().unwrap();
        assert!(!all.contains("NaN") && !all.contains("100.0") && !all.contains("100,0"), "{all}");
    }
    must_be_clean(&browser, page).await;
    browser.close().await;
}
