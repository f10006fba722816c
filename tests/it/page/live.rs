//! The live stream: figures are pushed when they change, as patches that add up to the full state, for viewers who
//! join, leave and return.

use scrutin_contract::election::Choice;
use scrutin_postgres::Cluster;
use scrutin_store::{Role, elections, migrate};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::document::Document;
use super::{COUNTED, PATIENCE, Page, election, kit_with_votes};
use crate::kit::{Kit, WRITE_VOTES, guarded_folder};

/// A viewer, with the state that the events add up to.
struct Viewer {
    reader: BufReader<TcpStream>,
    text: String,
    state: Value,
    last_id: String,
}

#[derive(Debug, PartialEq)]
enum Event {
    State,
    Change(Value),
}

impl Viewer {
    async fn start(page: &Page) -> Viewer {
        Viewer::resume(page, None).await
    }

    async fn resume(page: &Page, last_id: Option<&str>) -> Viewer {
        let mut stream = TcpStream::connect(page.address).await.unwrap();
        let last = last_id.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).await.unwrap(), 0, "the head is incomplete: {head}");
        }
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        Viewer { reader, text: String::new(), state: Value::Null, last_id: String::new() }
    }

    /// The next event, applied to the state; none at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let Some(name) = field("event: ") else { continue };
                self.last_id = field("id: ").expect("an event has an id");
                let data: Value = serde_json::from_str(&field("data: ").expect("an event has data")).unwrap();
                let found = match name.as_str() {
                    "state" => {
                        self.state = data;
                        Event::State
                    }
                    "change" => {
                        merge(&mut self.state, data.clone());
                        Event::Change(data)
                    }
                    _ => panic!("unknown event {name}"),
                };
                return Some(found);
            }
            if !self.read_chunk().await {
                return None;
            }
        }
    }

    async fn read_chunk(&mut self) -> bool {
        let mut size = String::new();
        let read = tokio::time::timeout(PATIENCE, self.reader.read_line(&mut size)).await.expect("an event in time");
        let size = match read.map(|_| usize::from_str_radix(size.trim(), 16)) {
            Ok(Ok(size)) if size > 0 => size,
            _ => return false,
        };
        let mut chunk = vec![0; size + 2];
        self.reader.read_exact(&mut chunk).await.unwrap();
        self.text.push_str(std::str::from_utf8(&chunk[..size]).unwrap());
        true
    }

    /// The state, once it satisfies the condition.
    async fn until(&mut self, holds: impl Fn(&Value) -> bool) -> &Value {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !holds(&self.state) {
                self.next().await.expect("the stream is open");
            }
        });
        if waited.await.is_err() {
            panic!("the state never satisfies the condition: {}", self.state);
        }
        &self.state
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let target = target.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[tokio::test]
async fn a_database_without_an_election_is_waited_for() {
    let kit = Kit::new().await;
    let page = Page::start(kit.db()).await;
    assert_eq!(page.json("/api/v1/results").await.0, 404);
    assert_eq!(page.json("/readyz").await.0, 200);
    let mut viewer = Viewer::start(&page).await;
    let waiting = viewer.until(|state| !state["problem"].is_null()).await;
    assert_eq!((&waiting["connected"], &waiting["election"]), (&json!(true), &Value::Null));
    assert!(waiting["problem"].as_str().unwrap().contains("scrutin setup"), "{waiting}");

    let mut owner = kit.owner_of_votes().await;
    elections::save(&mut owner, &election()).await.unwrap();
    // Before the count starts there is a ballot but no votes.
    let empty = viewer.until(|state| state["election"] == "mayor").await;
    assert_eq!((&empty["turnout"], &empty["problem"]), (&Value::Null, &Value::Null));
    owner.batch_execute(COUNTED).await.unwrap();
    viewer.until(|state| state["turnout"]["votes"] == 10).await;
    page.stop().await;
}

#[tokio::test]
async fn the_state_has_all_that_the_page_shows() {
    let kit = kit_with_votes().await;
    let owner = kit.owner().await;
    let evidence = r#"INSERT INTO rejected_vote VALUES ('native', 0, 3, 'already_voted', to_timestamp(1800000000), NULL,
            '{"election":"mayor","region":"N"}', 33);
        INSERT INTO poll_book VALUES ('native', 'mayor', 0, 0, decode(repeat('00', 160), 'hex'));
        UPDATE region SET expected_turnout = 0.5 WHERE region = 'S'"#;
    owner.batch_execute(evidence).await.unwrap();
    let page = Page::start(kit.db()).await;
    let mut viewer = Viewer::start(&page).await;
    let whole =
        |state: &Value| ["results", "regions", "timeline", "health"].iter().all(|field| !state[field].is_null());
    let state = viewer.until(whole).await;
    let shown = json!([
        {"place": 0, "votes": 4, "share": 4.0 / 9.0},
        {"place": 2, "votes": 3, "share": 3.0 / 9.0},
        {"place": 1, "votes": 2, "share": 2.0 / 9.0},
    ]);
    assert_eq!(state["results"], shown);
    assert_eq!(state["others"], json!({"choices": 0, "votes": 0}));
    assert_eq!(state["turnout"]["registered"], 1500);
    assert_eq!(state["regions"], json!({"N": [6, 6, 0, 4, 1, 2], "S": [4, 3, 2, 3, null, null]}));
    assert_eq!(state["regions_total"], 2);
    assert_eq!(state["rejections"], json!({"already_voted": 2, "malformed": 1}));
    let books = json!({"received": 13, "counted": 10, "rejected": 3, "gaps": 1, "tallied": 10, "rejected_by_reason": 3, "holds": true});
    assert_eq!(state["accounting"], books);
    assert_eq!((&state["lag"]["votes"], &state["lag"]["partitions"]["1"]["next_offset"]), (&json!(2), &json!(5)));
    let timeline = json!({
        "first": "2027-01-15T08:00:00.000Z", "step_seconds": 60, "points": 10, "places": [0, 1, 2],
        "votes": {"0": [[3, 2, 0], 0, 0, 0], "2": [[1, 0, 3], 0, 1, 0]},
    });
    assert_eq!(state["timeline"], timeline);
    let (_, second) = state["throughput"].as_object().unwrap().iter().next().expect("a second");
    assert_eq!((&second["received"], &second["latency_ms_p99"]), (&json!(13), &json!(40)));
    assert_eq!(state["last_audit"]["differences"], 0);
    assert_eq!(state["health"]["native"]["waiting"], 2);
    assert_eq!(state["poll_book"], json!({"voters": 10, "bytes": 160, "chunks": 1}));
    assert_eq!(state["double_votes"], json!({"N": 1}));
    assert_eq!(state["parts"]["page"]["ready"], true);
    Document::read().check("/components/schemas/State", state);
    page.stop().await;
}

#[tokio::test]
async fn only_changes_are_pushed() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;
    let mut viewer = Viewer::start(&page).await;
    viewer.until(|state| state["turnout"]["votes"] == 10 && !state["regions"].is_null()).await;

    let change = "UPDATE votes_by_channel SET votes = 6 WHERE region = 'N' AND choice = 'A' AND channel = 'booth';
        UPDATE votes_by_bucket SET votes = 6 WHERE choice = 'A' AND votes = 3;
        UPDATE position SET counted = counted + 3, next_offset = next_offset + 3 WHERE partition = 0;";
    kit.owner().await.batch_execute(change).await.unwrap();
    let patch = loop {
        match viewer.next().await.expect("the stream is open") {
            Event::Change(patch) if !patch["results"].is_null() => break patch,
            Event::Change(_) => {}
            Event::State => panic!("a viewer who has the state gets changes"),
        }
    };
    // One snapshot per statement: all figures are from the same commit.
    assert_eq!(patch["results"][0]["votes"], 7);
    assert_eq!(patch["turnout"], json!({"votes": 13, "valid": 12}));
    let books = json!({"received": 16, "counted": 13, "rejected": 3, "gaps": 1, "tallied": 13, "rejected_by_reason": 3, "holds": true});
    assert_eq!(viewer.state["accounting"], books);
    assert_eq!(patch["rejections"], Value::Null, "no refusal came");
    let state = viewer.until(|state| state["regions"]["N"][0] == 9).await;
    assert_eq!(state["regions"]["S"][0], 4);
    viewer.until(|state| state["timeline"]["votes"]["0"] == json!([[6, 2, 0], 0, 0, 0])).await;

    let (_, _, metrics) = page.ask("/metrics").await;
    assert!(String::from_utf8(metrics).unwrap().contains("\nscrutin_page_clients 1\n"));

    // A viewer does not block shutdown.
    page.stop().await;
    while viewer.next().await.is_some() {}
}

#[tokio::test]
async fn a_returning_viewer_gets_what_it_missed() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;
    let mut stays = Viewer::start(&page).await;
    let mut sleeps = Viewer::start(&page).await;
    let settled = |state: &Value| state["turnout"]["votes"] == 10 && !state["health"].is_null();
    stays.until(settled).await;
    sleeps.until(settled).await;
    let (slept_at, held) = (sleeps.last_id.clone(), sleeps.state.clone());
    drop(sleeps);
    let change =
        "UPDATE votes_by_channel SET votes = votes + 5 WHERE choice = 'C'; UPDATE election SET fingerprint = 'another'";
    kit.owner().await.batch_execute(change).await.unwrap();
    stays.until(|state| state["turnout"]["votes"] == 15).await;

    let mut back = Viewer::resume(&page, Some(&slept_at)).await;
    back.state = held;
    assert!(matches!(back.next().await, Some(Event::Change(_))), "what changed, and not the whole");
    let state = back.until(|state| state["turnout"]["votes"] == 15).await;
    assert_eq!((&state["fingerprint"], &state["results"][0]["place"]), (&json!("another"), &json!(2)));
    // An id from another server run, or an invented one, gets the full state.
    for id in ["0000000000000000-3", "nonsense", &format!("{}9999999", stays.last_id)] {
        let mut stranger = Viewer::resume(&page, Some(id)).await;
        assert_eq!(stranger.next().await, Some(Event::State), "{id}");
    }
    page.stop().await;
}

#[tokio::test]
async fn moments_are_reported_as_they_happen() {
    let kit = kit_with_votes().await;
    let owner = kit.owner().await;
    let page = Page::start(kit.db()).await;
    let mut viewer = Viewer::start(&page).await;
    let state = viewer.until(|state| !state["regions"].is_null()).await;
    assert_eq!(state["moments"], Value::Null, "what is so already is no moment");
    let turn = "UPDATE votes_by_channel SET votes = 400 WHERE region = 'N' AND choice = 'B';
        UPDATE votes_by_channel SET votes = 200 WHERE region = 'N' AND choice = 'A' AND channel = 'booth'";
    owner.batch_execute(turn).await.unwrap();
    viewer.until(|state| state["regions"]["N"][0] == 601).await;
    let again = "UPDATE votes_by_channel SET votes = 600 WHERE region = 'N' AND choice = 'A' AND channel = 'booth'";
    owner.batch_execute(again).await.unwrap();
    let state = viewer.until(|state| state["moments"].as_object().is_some_and(|moments| moments.len() >= 4)).await;
    let of_kind = |kind: &str| {
        let moments = state["moments"].as_object().unwrap().values();
        moments.filter(|moment| moment["kind"] == kind).cloned().collect::<Vec<_>>()
    };
    let with = |kind: &str, fields: Value| {
        let found = of_kind(kind);
        assert!(
            found.iter().any(|moment| fields.as_object().unwrap().iter().all(|(name, value)| moment[name] == *value)),
            "{kind} {fields} is not among {found:?}"
        );
    };
    with("leader", json!({"place": 0, "before": 1}));
    with("region_leader", json!({"region": "N", "place": 0, "before": 1}));
    with("turnout", json!({"region": "N", "share": 0.5, "of": "registered"}));
    Document::read().check("/components/schemas/State", state);
    page.stop().await;
}

#[tokio::test]
async fn only_the_first_choices_are_shown_one_by_one() {
    let kit = Kit::new().await;
    let mut owner = kit.owner_of_votes().await;
    let mut many = election();
    let choice = |n: u32| Choice {
        code: format!("K{n:02}"),
        name: format!("Candidate {n}"),
        color: "#123456".into(),
        region: None,
    };
    many.choices = (0..37).map(choice).collect();
    elections::save(&mut owner, &many).await.unwrap();
    let fill = "INSERT INTO counter VALUES ('native', '{mayor}', 'a log', 1);
        INSERT INTO votes_by_channel SELECT 'native', 'mayor', 'N', 'K' || lpad(n::text, 2, '0'), 'booth', n FROM generate_series(0, 36) n;
        INSERT INTO votes_by_bucket SELECT 'native', 'mayor', to_timestamp(1800000000), 'N', 'K' || lpad(n::text, 2, '0'), n
          FROM generate_series(0, 36) n;";
    owner.batch_execute(fill).await.unwrap();
    let page = Page::start(kit.db()).await;
    let mut viewer = Viewer::start(&page).await;
    let state = viewer.until(|state| !state["results"].is_null() && !state["timeline"].is_null()).await;
    let shown = state["results"].as_array().unwrap();
    assert_eq!(shown.len(), 12);
    assert_eq!((&shown[0]["place"], &shown[11]["place"]), (&json!(36), &json!(25)));
    let others = (0..25).sum::<u32>();
    assert_eq!(state["others"], json!({"choices": 25, "votes": others}));
    let places: Vec<u32> = (25..37).collect();
    assert_eq!(state["timeline"]["places"], json!(places));
    assert_eq!(state["timeline"]["votes"], json!({"0": [places, others, 0, 0]}));
    page.stop().await;
}

/// Where each district numbers its candidates from 1, the same code means different people.
#[tokio::test]
async fn the_same_code_in_two_regions_is_two_candidates() {
    let kit = Kit::new().await;
    let mut owner = kit.owner_of_votes().await;
    let mut local = election();
    let choice = |name: &str, region: &str| Choice {
        code: "1".into(),
        name: name.into(),
        color: "#123456".into(),
        region: Some(region.into()),
    };
    local.choices = vec![choice("Northerner", "N"), choice("Southerner", "S")];
    elections::save(&mut owner, &local).await.unwrap();
    let fill = "INSERT INTO counter VALUES ('native', '{mayor}', 'a log', 1);
        INSERT INTO votes_by_channel VALUES ('native', 'mayor', 'N', '1', 'booth', 2), ('native', 'mayor', 'S', '1', 'booth', 3);
        INSERT INTO votes_by_bucket VALUES ('native', 'mayor', to_timestamp(1800000000), 'N', '1', 2),
            ('native', 'mayor', to_timestamp(1800000000), 'S', '1', 3);";
    owner.batch_execute(fill).await.unwrap();
    let page = Page::start(kit.db()).await;
    let mut viewer = Viewer::start(&page).await;
    let state = viewer.until(|state| !state["timeline"].is_null() && !state["regions"].is_null()).await;
    assert_eq!(state["regions"], json!({"N": [2, 2, 0, 2, null, null], "S": [3, 3, 1, 3, null, null]}));
    assert_eq!(state["timeline"]["votes"], json!({"0": [[2, 3], 0, 0, 0]}));
    let series = json!([
        {"choice": "1", "name": "Northerner", "votes": [2]},
        {"choice": "1", "name": "Southerner", "votes": [3]},
    ]);
    assert_eq!(page.ok("/api/v1/timeline").await["series"], series);
    page.stop().await;
}

#[tokio::test]
async fn a_stopped_database_is_reported_and_awaited() {
    let (folder, _guard) = guarded_folder();
    let cluster = Cluster::start(&folder).await.unwrap_or_else(|error| panic!("{error}"));
    let database = cluster.database();
    migrate::setup(&database).await.unwrap();
    let mut owner = database.connect(Role::Owner).await.unwrap();
    elections::save(&mut owner, &election()).await.unwrap();
    owner.batch_execute(WRITE_VOTES).await.unwrap();
    owner.batch_execute(COUNTED).await.unwrap();
    drop(owner);

    let page = Page::start(&database).await;
    let mut viewer = Viewer::start(&page).await;
    viewer.until(|state| state["turnout"]["votes"] == 10).await;
    assert_eq!(page.json("/readyz").await.0, 200);

    cluster.stop().await.unwrap();
    let away = viewer.until(|state| state["connected"] == false).await;
    assert!(away["problem"].as_str().unwrap().contains("cannot reach PostgreSQL"), "{away}");
    assert_eq!(away["turnout"]["votes"], 10, "the last state is kept");
    assert_eq!(page.json("/healthz").await.0, 200);
    let (status, ready) = page.json("/readyz").await;
    assert_eq!((status, &ready["ready"]), (503, &json!(false)));
    assert!(ready["parts"][0]["problem"].as_str().unwrap().contains("cannot reach PostgreSQL"), "{ready}");
    let (status, body) = page.json("/api/v1/results").await;
    assert_eq!(status, 503);
    assert!(body["error"].as_str().unwrap().contains("cannot reach PostgreSQL"), "{body}");
    let (status, body) = page.json("/api/v1/status").await;
    assert_eq!((status, &body["ready"]), (503, &json!(false)));

    let cluster = Cluster::start(&folder).await.unwrap_or_else(|error| panic!("{error}"));
    viewer.until(|state| state["connected"] == true).await;
    assert_eq!(page.json("/readyz").await.0, 200);
    assert_eq!(page.ok("/api/v1/turnout").await["total"]["votes"], 10);
    page.stop().await;
    cluster.stop().await.unwrap();
}
