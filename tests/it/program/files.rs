//! Files of results and ballots as users supply them: what `inspect` reports, and how unknown figures are shown.

use serde_json::Value;

use crate::kit::Kit;
use crate::run::Place;

const RESULTS: &str = "region_code,registered,candidate,votes\nN,30000,Eva,15000\nN,30000,Finn,14999\n";

#[test]
fn a_file_is_inspected_before_it_is_counted() {
    let place = Place::bare();
    place.write("r.csv", RESULTS);
    let out = place.ok("inspect r.csv");
    assert!(out.starts_with("r.csv holds results and can be counted as it is: 2 candidates in 1 region,"), "{out}");
    assert!(out.contains("\n  scrutin demo --results r.csv --speed max\n"), "{out}");
    let report: Value = serde_json::from_str(&place.ok("inspect r.csv --format json")).unwrap();
    assert_eq!((&report["can_be_counted"], &report["sums"]["ballots"]), (&true.into(), &29_999.into()));
    assert_eq!(report["command"], "scrutin demo --results r.csv --speed max");
    assert_eq!(report["columns"][2]["taken_for"], "candidate");
    assert!(!place.path("scrutin-data").exists(), "nothing is created");

    place.write("t.csv", "region_code;candidate;votes\nN;Eva;1.200\n");
    let refused = place.run("inspect t.csv");
    assert_eq!(refused.code, Some(3));
    assert!(refused.out.contains("\n  scrutin inspect t.csv --thousands dot\n"), "{refused}");
    assert!(
        place.ok("inspect t.csv --thousands dot").contains("scrutin demo --results t.csv --thousands dot --speed max")
    );
    let refused = place.run("inspect t.csv --format json");
    assert_eq!(refused.code, Some(3));
    let report: Value = serde_json::from_str(&refused.out).unwrap();
    assert!(
        report["error"].as_str().unwrap().contains("line 2, column `votes`") && report["command"].is_null(),
        "{report}"
    );

    place.write("o.csv", "county,precinct,office,district,party,candidate,votes\nElm,Oak,Mayor,,X,Eva,5\n");
    let out = place.ok("inspect o.csv");
    assert!(out.contains("scrutin demo --results o.csv --layout openelections --speed max"), "{out}");
    let error = place.fails("demo --results o.csv", 3);
    assert!(error.contains("read it with --layout openelections"), "{error}");
    assert!(place.ok("layouts").lines().any(|line| line.starts_with("germany-kerg")));
    place.write(
        "cvr.csv",
        "Cast Vote Record,Precinct,Ballot Style,Mayor,Council\n1,Oak,S,Eva,Gus\n2,Oak,S,undervote,Gus\n",
    );
    let refused = place.run("inspect cvr.csv");
    assert_eq!(refused.code, Some(3));
    assert!(
        refused.out.contains("\n  scrutin inspect cvr.csv --layout ess-cvr --choice-column 'Mayor'\n"),
        "{refused}"
    );
    let out = place.ok("inspect cvr.csv --choice-column Mayor");
    assert!(out.contains("scrutin demo --ballots cvr.csv --layout ess-cvr --choice-column Mayor --speed max"), "{out}");
    place.write("own.toml", place.ok("layouts openelections"));
    assert!(place.ok("inspect o.csv --layout own.toml").contains("can be counted as it is"));
    assert!(place.fails("inspect o.csv --layout nowhere", 3).contains("openelections"));
    assert!(place.fails("inspect none.csv", 3).contains("cannot read none.csv"));
}

/// A figure that nobody has given is not shown as a number anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_figures_are_shown_as_unknown() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    place.write(
        "r.csv",
        "region_code,registered,candidate,votes\nN,1000,Eva,30\nN,1000,Finn,20\nS,,Eva,10\nS,,Finn,41\n",
    );
    let done = place.run("demo --results r.csv --speed max --exit --data-dir data");
    assert!(done.err.contains("r.csv: sha256 ") && done.err.contains("unknown in 1 of 2 regions"), "{done}");
    let out = done.ok();
    assert!(out.contains("2 regions, number of registered unknown"), "{out}");
    assert!(out.contains("101 have voted, of an unknown number of registered: 101 valid"), "{out}");
    let owner = kit.owner().await;
    let read = async |sql: &str| owner.query_one(sql, &[]).await.unwrap().get::<_, Option<f64>>(0);
    assert_eq!(read("SELECT turnout FROM turnout").await, None);
    assert_eq!(read("SELECT turnout FROM turnout_by_region WHERE region = 'N'").await, Some(0.05));
    assert_eq!(read("SELECT registered::double precision FROM elections").await, None);
    assert_eq!(read("SELECT turnout FROM map WHERE region = 'S'").await, None);

    // A file that changed since the run started is reported as changed.
    place.write(
        "r.csv",
        "region_code,registered,candidate,votes\nN,1000,Eva,31\nN,1000,Finn,20\nS,,Eva,10\nS,,Finn,41\n",
    );
    let error = place.fails("demo --exit --data-dir data", 3);
    assert!(error.contains("has changed since this run began") && error.contains("--fresh"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_near_tie_and_a_near_full_turnout_are_not_rounded_away() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    place.write("r.csv", RESULTS);
    let out = place.ok("demo --results r.csv --speed max --exit --data-dir data");
    assert!(out.contains("50.002 %") && out.contains("49.998 %") && out.contains("99.99 %"), "{out}");
    assert!(!out.contains("100.00 %"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_votes_than_registered_voters_is_a_warning() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    place.write("r.csv", "region_code,registered,candidate,votes\nN,10,Eva,15\nS,90,Eva,5\n");
    let error = place.fails("demo --results r.csv --speed max --exit --data-dir data", 3);
    assert!(error.contains("--over-registered allow"), "{error}");
    place.ok("demo --results r.csv --over-registered allow --speed max --exit --data-dir data");
    let status = place.ok("status --data-dir data");
    assert!(status.contains("WARNING     more votes than registered voters in 1 region\n"), "{status}");
    assert!(status.contains("N: 15 votes, 10 registered"), "{status}");
}
