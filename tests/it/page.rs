//! The page's server: exact figures, pushed when they change; what it says while PostgreSQL is away; that it stops.

mod live; // what is pushed

use std::net::SocketAddr;
use std::time::Duration;

use scrutin::election::{Choice, Election, Region};
use scrutin::page::{self, PageState};
use scrutin::store::{Database, elections};
use scrutin::telemetry::Telemetry;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::kit::Kit;

/// Far longer than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A page that is being served.
struct Page {
    address: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    served: JoinHandle<anyhow::Result<()>>,
}

impl Page {
    async fn start(database: &Database) -> Page {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = PageState { database: database.clone(), telemetry: Telemetry::new(), counter: "native".into() };
        let (shutdown, asked) = oneshot::channel();
        let served = tokio::spawn(page::serve(listener, state, async {
            let _ = asked.await;
        }));
        Page { address, shutdown: Some(shutdown), served }
    }

    async fn ask(&self, path: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer in time").unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
        (status, head, answer[end + 4..].to_vec())
    }

    async fn json(&self, path: &str) -> (u16, Value) {
        let (status, _, body) = self.ask(path).await;
        (status, serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{path} is not JSON: {error}")))
    }

    async fn ok(&self, path: &str) -> Value {
        let (status, value) = self.json(path).await;
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    async fn stop(mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.served).await.expect("it stops").unwrap().unwrap();
    }
}

fn election() -> Election {
    let region = |code: &str, registered, tile| Region {
        code: code.into(),
        name: format!("{code} land"),
        registered,
        expected_turnout: None,
        point: None,
        tile,
    };
    let choice = |code: &str, color: &str, region: Option<&str>| Choice {
        code: code.into(),
        name: format!("Candidate {code}"),
        color: color.into(),
        region: region.map(str::to_owned),
    };
    Election {
        id: "mayor".into(),
        title: "Mayor".into(),
        opens_at_ms: 1_800_000_000_000,
        closes_at_ms: 1_800_000_000_000 + 10 * 60_000,
        time_zone: "Europe/Paris".into(),
        channels: vec!["booth".into(), "post".into()],
        bucket_seconds: 60,
        expected_turnout: None,
        regions: vec![region("N", 1000, Some((0, 0))), region("S", 500, Some((0, 1)))],
        choices: vec![choice("A", "#112233", None), choice("B", "#445566", None), choice("C", "#778899", Some("S"))],
    }
}

/// Ten votes counted, three refused; two more wait.
const COUNTED: &str = "
    INSERT INTO counter VALUES ('native', '{mayor}', 'a log', 2);
    INSERT INTO tally VALUES ('native', 'mayor', 'N', 'A', 'booth', 3), ('native', 'mayor', 'N', 'A', 'post', 1),
        ('native', 'mayor', 'N', 'B', 'booth', 2), ('native', 'mayor', 'S', 'C', 'booth', 3),
        ('native', 'mayor', 'S', 'BLANK', 'post', 1);
    INSERT INTO timeline VALUES ('native', 'mayor', to_timestamp(1800000000), 'N', 'A', 3),
        ('native', 'mayor', to_timestamp(1800000000), 'N', 'B', 2), ('native', 'mayor', to_timestamp(1800000120), 'N', 'A', 1),
        ('native', 'mayor', to_timestamp(1800000120), 'S', 'C', 3), ('native', 'mayor', to_timestamp(1800000120), 'S', 'BLANK', 1);
    INSERT INTO rejection VALUES ('native', 'malformed', to_timestamp(1800000000), 1),
        ('native', 'already_voted', to_timestamp(1800000000), 1), ('native', 'already_voted', to_timestamp(1800000060), 1);
    INSERT INTO position VALUES ('native', 0, 0, 9, 1, 7, 1, 10), ('native', 1, 0, 5, 0, 3, 2, 6);
    INSERT INTO batch VALUES ('native', now(), 13, 10, 3, 2, 12.5, 40);
    INSERT INTO audit VALUES ('native', to_timestamp(1800000600), 13, 0, 'no difference');";

async fn kit_with_votes() -> Kit {
    let kit = Kit::new().await;
    let mut owner = kit.owner().await;
    elections::save(&mut owner, &election()).await.unwrap();
    owner.batch_execute(COUNTED).await.unwrap();
    kit
}

#[tokio::test]
async fn the_api_gives_exact_figures() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;

    let loaded = page.ok("/api/v1/election").await;
    assert_eq!(loaded["opens_at"], "2027-01-15T08:00:00.000Z");
    assert_eq!(loaded["registered"], 1500);
    assert_eq!(loaded["choices"][2], json!({"choice": "C", "name": "Candidate C", "color": "#778899", "region": "S"}));
    assert_eq!(loaded["regions"][1]["grid_row"], 1);

    let results = page.ok("/api/v1/results").await;
    let votes = |value: &Value| -> Vec<(String, i64)> {
        let rows = value["results"].as_array().unwrap().iter();
        rows.map(|row| (row["choice"].as_str().unwrap().to_owned(), row["votes"].as_i64().unwrap())).collect()
    };
    let expected = [("A", 4), ("C", 3), ("B", 2), ("BLANK", 1), ("NULL", 0)].map(|(code, n)| (code.to_owned(), n));
    assert_eq!(votes(&results), expected);
    assert_eq!(results["results"][0]["share"], 4.0 / 9.0);
    assert_eq!(results["results"][3]["share"], Value::Null);

    let south = page.ok("/api/v1/results/regions?region=S").await;
    let expected = [("C", 3), ("A", 0), ("B", 0), ("BLANK", 1), ("NULL", 0)].map(|(code, n)| (code.to_owned(), n));
    assert_eq!(votes(&south), expected);

    let leaders = page.ok("/api/v1/leaders").await;
    assert_eq!(leaders["leaders"][0]["choice"], "A");
    assert_eq!(leaders["leaders"][0]["runner_up"], "B");
    assert_eq!(leaders["leaders"][0]["margin"], 2);
    assert_eq!(leaders["leaders"][1]["margin_share"], 1.0);

    let turnout = page.ok("/api/v1/turnout").await;
    let expected =
        json!({"registered": 1500, "votes": 10, "valid": 9, "blank": 1, "null": 0, "turnout": 10.0 / 1500.0});
    assert_eq!(turnout["total"], expected);
    assert_eq!(turnout["regions"][1]["votes"], 4);

    let timeline = page.ok("/api/v1/timeline").await;
    assert_eq!(timeline["first"], "2027-01-15T08:00:00.000Z");
    assert_eq!((&timeline["step_seconds"], &timeline["points"]), (&json!(60), &json!(10)));
    assert_eq!(timeline["series"][0], json!({"choice": "A", "votes": [3, 0, 1]}));
    let coarse = page.ok("/api/v1/timeline?limit=4").await;
    assert_eq!((&coarse["step_seconds"], &coarse["points"]), (&json!(180), &json!(4)));
    assert_eq!(coarse["series"][0], json!({"choice": "A", "votes": [4]}));

    let refusals = page.ok("/api/v1/refusals").await;
    let expected = json!([{"reason": "already_voted", "votes": 2}, {"reason": "malformed", "votes": 1}]);
    assert_eq!(refusals["refusals"], expected);

    let accounting = page.ok("/api/v1/accounting").await;
    let expected =
        json!({"received": 13, "counted": 10, "rejected": 3, "gaps": 1, "tallied": 10, "refused": 3, "holds": true});
    assert_eq!(accounting["total"], expected);
    assert_eq!(accounting["partitions"][1]["next_offset"], 5);

    assert_eq!(page.ok("/api/v1/lag").await["total"]["votes"], 2);
    let throughput = page.ok("/api/v1/throughput").await;
    assert_eq!(throughput["seconds"][0]["received"], 13);
    assert_eq!(throughput["seconds"][0]["latency_ms_p99"], 40.0);

    let status = page.ok("/api/v1/status").await;
    assert_eq!(status["last_audit"]["audited_at"], "2027-01-15T08:10:00.000Z");
    assert_eq!(status["accounting"], expected);
    assert_eq!(status["agreement"], json!([]));
    page.stop().await;
}

#[tokio::test]
async fn counters_of_the_same_log_are_compared() {
    let kit = kit_with_votes().await;
    let owner = kit.owner().await;
    let copy = "
        INSERT INTO counter (counter, elections, log, partitions) SELECT 'twin', elections, log, partitions FROM counter;
        INSERT INTO counter (counter, elections, log, partitions)
             SELECT 'stranger', elections, 'another log', partitions FROM counter WHERE counter = 'native';
        INSERT INTO position (counter, partition, first_offset, next_offset, gaps, counted, rejected, end_offset)
             SELECT 'twin', partition, first_offset, next_offset, gaps, counted, rejected, end_offset FROM position;
        INSERT INTO tally SELECT 'twin', election, region, choice, channel, votes FROM tally;
        INSERT INTO rejection SELECT 'twin', reason, bucket, votes FROM rejection";
    owner.batch_execute(copy).await.unwrap();
    let page = Page::start(kit.db()).await;
    let found = async || page.ok("/api/v1/status").await["agreement"].clone();
    let twin = |agree: bool, partitions: u32, votes: u32, refusals: u32| {
        json!([{"counter": "native", "other": "twin", "partitions_apart": partitions, "votes_apart": votes,
                "refusals_apart": refusals, "agree": agree}])
    };
    assert_eq!(found().await, twin(true, 0, 0, 0));
    owner.execute("UPDATE rejection SET votes = 0 WHERE counter = 'twin' AND reason = 'malformed'", &[]).await.unwrap();
    assert_eq!(found().await, twin(false, 0, 0, 1));
    owner.execute("UPDATE tally SET votes = votes + 2 WHERE counter = 'twin' AND votes = 3", &[]).await.unwrap();
    let apart = found().await;
    assert!(apart[0]["agree"] == false && apart[0]["votes_apart"].as_u64() > Some(0), "{apart}");
    owner
        .execute(
            "UPDATE position SET next_offset = next_offset + 1, gaps = gaps + 1, end_offset = end_offset + 1
                    WHERE counter = 'twin' AND partition = 0",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(found().await[0]["partitions_apart"], 1);
    page.stop().await;
}

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;
    for (path, status, words) in [
        ("/api/v1/results?election=other", 404, "no such election"),
        ("/api/v1/results?counter=native&colour=red", 400, "unknown field `colour`"),
        ("/api/v1/timeline?limit=0", 400, "expected 1 to 10000"),
        ("/api/v1/timeline?limit=many", 400, "limit"),
        ("/api/v1/votes", 404, "no such resource"),
    ] {
        let (found, body) = page.json(path).await;
        assert_eq!(found, status, "{path}: {body}");
        assert!(body["error"].as_str().unwrap().contains(words), "{path}: {body}");
    }
    // Another counter has its own rows, and none yet.
    assert_eq!(page.ok("/api/v1/accounting?counter=spark").await["total"], Value::Null);
    page.stop().await;
}

#[tokio::test]
async fn the_page_is_whole_and_loads_nothing_from_elsewhere() {
    let kit = Kit::new().await;
    let page = Page::start(kit.db()).await;
    let (status, head, body) = page.ask("/").await;
    let html = String::from_utf8(body).unwrap();
    assert_eq!(status, 200);
    assert!(head.contains("content-security-policy: default-src 'self';"), "{head}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    assert!(
        !html.contains("<style") && !html.contains("style=") && !html.contains("http"),
        "the policy would refuse it"
    );
    // Whatever the pages and their scripts name is there.
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

/// A relative address, as a browser reads it in a file of `folder`.
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
