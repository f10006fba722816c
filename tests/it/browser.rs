//! The page in a real browser: what viewers see, hear and can do.

mod access;
mod driver;
mod unknown;

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::kit::Kit;
use crate::run::{Page, Place, Running};
use driver::{Browser, DESK, Look, PHONE};

const VIEWS: [&str; 3] = ["night", "trust", "pipeline"];

fn address(page: Page, path: &str) -> String {
    format!("http://{}/{path}", page.address())
}

/// A finished count of an election with every kind of fault.
async fn counted() -> (Kit, Place, Running) {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.ok("demo --voters 20000 --speed max --exit --data-dir data");
    let served = place.start("serve --data-dir data");
    (kit, place, served)
}

/// Asserts that the browser logged no errors and contacted only the page's own server.
async fn must_be_clean(browser: &Browser, page: Page) {
    let complaints: Vec<_> = browser.console().await.into_iter().filter(|(level, _)| level != "INFO").collect();
    assert_eq!(complaints, [], "the console is not empty");
    let own = format!("http://{}/", page.address());
    let strangers: Vec<String> =
        browser.requests().await.into_iter().filter(|asked| !asked.starts_with(&own)).collect();
    assert_eq!(strangers, [""; 0], "another server was contacted");
}

/// Opens the page in projector mode and asserts that it fits the screen without scrolling.
async fn fits_a_projector(browser: &Browser, page: Page) {
    browser.resize(1920, 1080).await;
    browser.go(&address(page, "?mode=projector")).await;
    browser
        .until("document.documentElement.dataset.mode === 'projector' && document.querySelector('#bars > li')")
        .await;
    let size = browser.get("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]").await;
    assert!(size[0].as_u64() <= Some(1920) && size[1].as_u64() <= Some(1080), "{size}");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_figures_reach_the_exact_truth() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    // A browser started after the day has begun could miss its start.
    let browser = Browser::start(&DESK).await;
    let demo = place.start("demo --voters 30000 --day 20s --data-dir data");
    let page = demo.page();
    browser.go(&address(page, "")).await;
    // Several intermediate figures appear, each larger than the one before.
    let seen = browser
        .run(
            "const seen = [];
             const look = () => {
               const value = Number(document.getElementById('counted')?.dataset.value ?? 0);
               if (value > (seen.at(-1) ?? 0)) seen.push(value);
               if (seen.length === 5) done(seen); else setTimeout(look, 20);
             };
             look();",
        )
        .await;
    assert!(seen.as_array().unwrap().is_sorted_by_key(|value| value.as_u64()), "{seen}");
    assert_eq!(browser.get("document.getElementById('live').dataset.state").await, "live");

    demo.says("audit of `native`: clean");
    let truth = place.json("data/truth.json");
    let counted = truth["counted"].as_u64().unwrap();
    browser.until(&format!("document.getElementById('counted').dataset.value === '{counted}'")).await;
    browser.until("document.getElementById('polls').dataset.state === 'closed'").await;
    // Every bar matches the generator's truth.
    let mut expected = std::collections::BTreeMap::<String, u64>::new();
    for (cell, votes) in truth["cells"].as_array().unwrap().iter().zip(truth["tally"].as_array().unwrap()) {
        let votes: u64 = votes.as_array().unwrap().iter().filter_map(Value::as_u64).sum();
        *expected.entry(cell[1].as_str().unwrap().to_owned()).or_default() += votes;
    }
    let choices = page.json("/api/v1/election")["choices"].clone();
    let bars = browser
        .get("[...document.querySelectorAll('#bars > li')].map((bar) => [Number(bar.dataset.place), Number(bar.dataset.votes)])")
        .await;
    let bars = bars.as_array().unwrap();
    assert_eq!(bars.len(), choices.as_array().unwrap().len());
    for bar in bars {
        let code = choices[bar[0].as_u64().unwrap() as usize]["choice"].as_str().unwrap();
        assert_eq!(bar[1].as_u64(), expected.get(code).copied(), "{code}");
    }
    assert!(bars.is_sorted_by_key(|bar| std::cmp::Reverse(bar[1].as_u64())), "not sorted by votes: {bars:?}");
    // The accounting, on the other view.
    browser.click("a[data-view=trust]").await;
    browser.until("document.getElementById('equation').dataset.holds === 'true'").await;
    for (reason, votes) in truth["rejected"].as_object().unwrap() {
        let line = format!("document.querySelector('#rejections [data-reason={reason}]').dataset.votes === '{votes}'");
        browser.until(&line).await;
    }
    browser.until("document.getElementById('audit').dataset.differences === '0'").await;
    must_be_clean(&browser, page).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_survives_a_server_restart() {
    let (_kit, place, served) = counted().await;
    let page = served.page();
    let listen = page.address();
    let browser = Browser::start(&DESK).await;
    browser.go(&address(page, "?view=night&region=75")).await;
    browser
        .until("document.getElementById('live').dataset.state === 'live' && document.getElementById('counted')")
        .await;
    let before = browser.get("document.getElementById('counted').dataset.value").await;

    served.killed();
    browser.until("document.getElementById('live').dataset.state === 'lost'").await;
    browser
        .until("!document.getElementById('banner').hidden && document.getElementById('banner').textContent.trim()")
        .await;
    assert_eq!(browser.get("document.getElementById('counted').dataset.value").await, before, "the last state is gone");

    let served = place.start(&format!("serve --data-dir data --listen {listen}"));
    served.page();
    browser.until("document.getElementById('live').dataset.state === 'live'").await;
    assert_eq!(browser.get("document.getElementById('counted').dataset.value").await, before);
    assert!(browser.address().await.contains("region=75"), "the selected region is lost");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_uses_the_viewers_language_and_can_switch() {
    let (_kit, _place, served) = counted().await;
    let page = served.page();
    let browser = Browser::start(&Look { language: "fr-FR", ..DESK }).await;
    browser.go(&address(page, "")).await;
    browser.until("document.documentElement.lang === 'fr' && document.getElementById('counted')").await;
    // Thousands are separated as in French.
    browser.until("/\\d\\u202f\\d{3}/.test(document.getElementById('counted').textContent)").await;
    let french = browser.get("document.querySelector('main').innerText").await;
    browser.click("a[data-lang=en]").await;
    browser.until("document.documentElement.lang === 'en'").await;
    browser.until("/\\d,\\d{3}/.test(document.getElementById('counted').textContent)").await;
    assert_ne!(browser.get("document.querySelector('main').innerText").await, french);
    assert!(browser.address().await.contains("lang=en"), "the language is not in the address");
    browser.reload().await;
    browser.until("document.documentElement.lang === 'en' && document.getElementById('counted')").await;
    // Every word of every view is translated: the two languages differ in every heading.
    for view in VIEWS {
        let mut headings = Vec::new();
        for language in ["en", "fr"] {
            browser.go(&address(page, &format!("?view={view}&lang={language}"))).await;
            browser.until("document.querySelectorAll('main h2').length > 1").await;
            headings
                .push(browser.get("[...document.querySelectorAll('main h2')].map((h) => h.textContent.trim())").await);
        }
        let (english, french) = (headings[0].as_array().unwrap(), headings[1].as_array().unwrap());
        assert_eq!(english.len(), french.len(), "{view}");
        for (english, french) in english.iter().zip(french) {
            assert_ne!(english, french, "{view}");
        }
    }
    must_be_clean(&browser, page).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_works_by_keyboard() {
    const TAB: char = '\u{e004}';
    const ENTER: char = '\u{e007}';
    const ESCAPE: char = '\u{e00c}';
    const RIGHT: char = '\u{e014}';
    let (_kit, _place, served) = counted().await;
    let page = served.page();
    let browser = Browser::start(&DESK).await;
    browser.go(&address(page, "")).await;
    browser.until("document.querySelector('#regions tbody tr')").await;
    // A description of the focused element that the selectors below can match.
    let at = async |selector: &str| {
        browser.get(&format!("document.activeElement.matches({})", json!(selector))).await == true
    };
    let tab_to = async |selector: &str| {
        for _ in 0..80 {
            if at(selector).await {
                // The focus is visible.
                let shown = "getComputedStyle(document.activeElement).outlineStyle !== 'none'";
                assert_eq!(browser.get(shown).await, true, "{selector} does not show its focus");
                return;
            }
            browser.press(TAB).await;
        }
        panic!("Tab never reaches {selector}");
    };
    tab_to("a[data-view=trust]").await;
    browser.press(ENTER).await;
    browser.until("document.getElementById('equation')").await;
    tab_to("a[data-view=night]").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('#map a.tile')").await;

    tab_to("#map a.tile").await;
    let first = browser.get("document.activeElement.dataset.region").await;
    browser.press(RIGHT).await;
    browser
        .until(&format!(
            "document.activeElement.matches('a.tile') && document.activeElement.dataset.region !== {first}"
        ))
        .await;
    let region = browser.get("document.activeElement.dataset.region").await;
    browser.until(&format!("document.getElementById('map-detail').dataset.region === {region}")).await;
    browser.press(ENTER).await;
    browser.until(&format!("document.querySelector('dialog#region[open]')?.dataset.region === {region}")).await;
    // The complete result of the region, as in the API.
    let code = region.as_str().unwrap();
    let results = page.json(&format!("/api/v1/results/regions?region={code}"))["results"].clone();
    for row in results.as_array().unwrap() {
        let selector = format!("dialog#region tr[data-choice={}]", row["choice"]);
        browser
            .until(&format!("document.querySelector({})?.dataset.votes === '{}'", json!(selector), row["votes"]))
            .await;
    }
    browser.press(ESCAPE).await;
    browser.until("!document.querySelector('dialog#region[open]')").await;
    browser.until("document.activeElement.matches('a.tile')").await;

    tab_to("#regions th button[data-sort]").await;
    browser.press(ENTER).await;
    browser
        .until("document.querySelector('#regions th[aria-sort=ascending], #regions th[aria-sort=descending]')")
        .await;
    must_be_clean(&browser, page).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_regions_is_searched_and_sorted() {
    let (_kit, _place, served) = counted().await;
    let page = served.page();
    let browser = Browser::start(&DESK).await;
    browser.go(&address(page, "")).await;
    browser.until("document.querySelectorAll('#regions tbody tr').length > 10").await;
    browser.fill("#find", "corse").await;
    browser.until("document.querySelectorAll('#regions tbody tr').length === 2").await;
    let address = browser.address().await;
    assert!(address.contains("find=corse"), "{address}");
    browser.go(&address).await;
    browser.until("document.querySelectorAll('#regions tbody tr').length === 2").await;
    let rows = "[...document.querySelectorAll('#regions tbody tr')].map((row) => [row.dataset.region, Number(row.dataset.votes)])";
    let turnout = page.json("/api/v1/turnout");
    let votes = |code: &str| {
        let regions = turnout["regions"].as_array().unwrap();
        regions.iter().find(|region| region["region"] == code).unwrap()["votes"].clone()
    };
    for row in browser.get(rows).await.as_array().unwrap() {
        assert_eq!(row[1], votes(row[0].as_str().unwrap()), "{row}");
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_fits_a_phone_and_one_projector_screen() {
    let (_kit, _place, served) = counted().await;
    let page = served.page();
    let browser = Browser::start(&PHONE).await;
    for view in VIEWS {
        for language in ["en", "fr"] {
            browser.go(&address(page, &format!("?view={view}&lang={language}"))).await;
            browser.until("document.querySelectorAll('main h2').length > 1").await;
            let width = browser.get("document.documentElement.scrollWidth").await;
            assert!(width.as_u64() <= Some(390), "{view} in {language} is {width} wide");
        }
    }
    fits_a_projector(&browser, page).await;
    // Names, votes and shares must be readable from afar; how they changed is for viewers who sit closer.
    let figures = "[...document.querySelectorAll('#bars .name, #bars .votes, #bars .share')]";
    let sizes = format!("{figures}.map((figure) => parseFloat(getComputedStyle(figure).fontSize))");
    let smallest = browser.get(&format!("Math.min(...{sizes})")).await;
    assert!(smallest.as_f64() >= Some(20.0), "{smallest} px cannot be read from across a room");
    must_be_clean(&browser, page).await;
    browser.close().await;
}

/// However long the names of the election, its candidates and its regions.
#[tokio::test(flavor = "multi_thread")]
async fn a_very_long_name_makes_nothing_wider() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    let long = "Wolfeschlegelsteinhausenbergerdorff".repeat(9);
    let toml = "id = \"mayor\"\nopens_at = 2027-04-11T08:00:00+02:00\ncloses_at = 2027-04-11T20:00:00+02:00\n\
                time_zone = \"Europe/Paris\"\nchannels = [\"booth\"]\n";
    place.write("mayor/election.toml", format!("title = \"{long}\"\n{toml}"));
    place.write(
        "mayor/regions.csv",
        format!("code,name,registered,grid_col,grid_row\nN,{long},1200,0,0\nS,South,800,1,0\n"),
    );
    place.write("mayor/choices.csv", format!("code,name\nA,{long}\nB,B{long}\nC,Cem\n"));
    place.ok("demo --election mayor --speed max --exit --data-dir data");
    let served = place.start("serve --data-dir data");
    let page = served.page();
    let browser = Browser::start(&PHONE).await;
    for (width, height) in [(390, 844), (1280, 900)] {
        browser.resize(width, height).await;
        for path in ["?view=night", "?view=night&region=N", "?view=trust", "?view=pipeline", "embed/bars", "embed/map"]
        {
            browser.go(&address(page, path)).await;
            let is_there = match path.contains("embed") {
                true => "document.querySelector('#bars > li, #map .tile')",
                false => "document.querySelectorAll('main h2').length > 1 && document.getElementById('title')",
            };
            browser.until(is_there).await;
            if path.contains("region=") {
                browser.until("document.querySelector('dialog[open] tbody tr')").await;
            }
            let found = browser.get("document.documentElement.scrollWidth").await;
            assert!(found.as_u64() <= Some(width.into()), "{path} is {found} wide on {width}");
        }
    }
    fits_a_projector(&browser, page).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_may_frame_the_widgets_but_not_the_page() {
    let (_kit, _place, served) = counted().await;
    let page = served.page();
    // Another origin, with a page that frames a given address.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap();
    let own = page.address();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = [0; 2048];
            let _ = std::io::Read::read(&mut stream, &mut head);
            let body = format!(
                "<!doctype html><title>news</title><iframe id=bars src='http://{own}/embed/bars?lang=en'></iframe>
                 <iframe id=map src='http://{own}/embed/map?lang=en'></iframe><iframe id=page src='http://{own}/'></iframe>"
            );
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n";
            let _ = std::io::Write::write_all(
                &mut stream,
                format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes(),
            );
        }
    });
    let browser = Browser::start(&DESK).await;
    browser.go(&format!("http://{host}/")).await;
    browser.enter_frame("#bars").await;
    let results = page.json("/api/v1/results")["results"].clone();
    let valid = results.as_array().unwrap().iter().filter(|row| row["valid"] == true);
    let valid: u64 = valid.map(|row| row["votes"].as_u64().unwrap()).sum();
    browser.until("document.querySelectorAll('#bars > li').length === 10").await;
    let votes = browser
        .get("[...document.querySelectorAll('#bars > li')].reduce((sum, bar) => sum + Number(bar.dataset.votes), 0)")
        .await;
    assert!(valid > 0 && votes.as_u64() == Some(valid), "{votes} of {valid}");
    browser.leave_frame().await;
    browser.enter_frame("#map").await;
    browser.until("document.querySelectorAll('#map .tile').length > 90").await;
    browser.leave_frame().await;
    browser.enter_frame("#page").await;
    // What the browser shows in place of a page that refuses to be framed.
    browser.until("location.protocol === 'chrome-error:'").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_works_below_a_proxy_path() {
    let (_kit, place, _served) = counted().await;
    let served = place.start("serve --data-dir data --path-prefix /results/tonight");
    let page = served.page();
    let browser = Browser::start(&DESK).await;
    browser.go(&address(page, "")).await;
    browser
        .until("document.getElementById('live')?.dataset.state === 'live' && document.querySelector('#bars > li')")
        .await;
    assert!(browser.address().await.contains("/results/tonight/"), "{}", browser.address().await);
    let under = format!("http://{}/results/tonight/", page.address());
    let outside: Vec<String> =
        browser.requests().await.into_iter().filter(|asked| !asked.starts_with(&under)).collect();
    assert_eq!(outside, [address(page, "")], "something outside the path was requested");
    browser.close().await;
}
