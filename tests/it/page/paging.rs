//! Figures of many regions, one page at a time.

use scrutin_store::elections;
use serde_json::Value;

use super::{Page, election};
use crate::kit::Kit;

/// Codes whose order differs from the ballot's, and that need escaping in a URL.
const CODES: [&str; 7] = ["Z", "a&b=c", "É 1", "A", "100%", "?#/", "m+n"];

/// Seven regions with one vote each, for A.
async fn kit_with_regions() -> Kit {
    let kit = Kit::new().await;
    let mut owner = kit.owner_of_votes().await;
    let mut many = election();
    let region = many.regions.remove(0);
    many.regions = CODES
        .iter()
        .map(|code| scrutin_contract::election::Region { code: (*code).to_owned(), tile: None, ..region.clone() })
        .collect();
    many.choices.truncate(2);
    elections::save(&mut owner, &many).await.unwrap();
    owner.batch_execute("INSERT INTO counter VALUES ('native', '{mayor}', 'a log', 1)").await.unwrap();
    for code in CODES {
        let vote = "INSERT INTO votes_by_channel VALUES ('native', 'mayor', $1, 'A', 'booth', 1)";
        owner.execute(vote, &[&code]).await.unwrap();
    }
    kit
}

/// All pages starting at `path`, following each page's `next` address.
async fn pages(page: &Page, path: &str) -> Vec<Value> {
    let mut pages = Vec::new();
    let (place, _) = path.split_once('?').unwrap_or((path, ""));
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let found = page.ok(&path).await;
        next = found["next"].as_str().map(|query| format!("{place}{query}"));
        assert!(next.as_ref() != Some(&path) && pages.len() < 20, "paging does not end: {found}");
        pages.push(found);
    }
    pages
}

fn regions(pages: &[Value], list: &str) -> Vec<String> {
    let rows = pages.iter().flat_map(|page| page[list].as_array().unwrap());
    let mut found: Vec<String> = rows.map(|row| row["region"].as_str().unwrap().to_owned()).collect();
    found.dedup();
    found
}

#[tokio::test]
async fn pages_follow_each_other_in_the_order_of_the_ballot() {
    let kit = kit_with_regions().await;
    let page = Page::start(kit.db()).await;
    for (path, list) in [("results/regions", "results"), ("leaders", "leaders"), ("turnout", "regions")] {
        let path = format!("/api/v1/{path}");
        let whole = pages(&page, &path).await;
        assert_eq!((whole.len(), &whole[0]["next"]), (1, &Value::Null));
        assert_eq!(regions(&whole, list), CODES);
        for (limit, count) in [(1, 7), (2, 4), (3, 3), (7, 1), (10_000, 1)] {
            let parts = pages(&page, &format!("{path}?limit={limit}")).await;
            assert_eq!(parts.len(), count, "{path} by {limit}");
            assert_eq!(regions(&parts, list), CODES, "{path} by {limit}");
            let rows: Vec<&Value> = parts.iter().flat_map(|part| part[list].as_array().unwrap()).collect();
            assert_eq!(rows, whole[0][list].as_array().unwrap().iter().collect::<Vec<_>>(), "{path} by {limit}");
        }
    }
    // Every page has the total of all regions.
    let last = page.ok("/api/v1/turnout?after=%3F%23%2F").await;
    assert_eq!((&last["total"]["votes"], last["regions"].as_array().unwrap().len()), (&7.into(), 1));
    assert_eq!(page.ok("/api/v1/leaders?after=m%2Bn").await["leaders"], Value::Array(Vec::new()));
    page.stop().await;
}

#[tokio::test]
async fn invalid_paging_parameters_are_rejected() {
    let kit = kit_with_regions().await;
    let page = Page::start(kit.db()).await;
    for path in ["results/regions", "leaders", "turnout"] {
        for (query, status, words) in [
            ("limit=0", 400, "expected 1 to 10000 regions"),
            ("limit=10001", 400, "expected 1 to 10000 regions"),
            ("limit=-1", 400, "expected 1 to 10000 regions"),
            ("limit=99999999999", 400, "limit"),
            ("after=none", 404, "no such region"),
            ("election=none", 404, "no such election"),
        ] {
            let (found, body) = page.json(&format!("/api/v1/{path}?{query}")).await;
            assert_eq!(found, status, "{path}?{query}: {body}");
            assert!(body["error"].as_str().unwrap().contains(words), "{path}?{query}: {body}");
        }
    }
    let one = page.ok("/api/v1/results/regions?region=A").await;
    assert_eq!((regions(std::slice::from_ref(&one), "results"), &one["next"]), (vec!["A".to_owned()], &Value::Null));
    assert_eq!(page.json("/api/v1/results/regions?region=none").await.0, 404);
    page.stop().await;
}
