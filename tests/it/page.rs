//! The page's server on a real PostgreSQL: exact figures, pushed when they change; its behaviour while PostgreSQL is
//! away; the limits it sets to clients; and its shutdown.

mod api; // the figures of the API
mod assets; // the page's own files
mod caching; // revalidation and compression
mod conformance; // a third-party tool checks the server against its own API description
mod crowd; // what a greedy client costs the others
mod document; // the API description against the answers
mod files; // results as CSV
mod live; // the live stream
mod paging; // regions, page by page
mod prefix; // everything below a path prefix
mod security; // browser security policy and rate limits

use std::net::SocketAddr;
use std::time::Duration;

use scrutin_contract::election::{Choice, Election, Region};
use scrutin_page::{self as page, PageOptions, PageState};
use scrutin_store::{Database, elections};
use scrutin_telemetry::Telemetry;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::kit::Kit;

/// Far longer than anything here takes; a test that exceeds it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A page being served.
struct Page {
    address: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    served: JoinHandle<anyhow::Result<()>>,
}

impl Page {
    async fn start(database: &Database) -> Page {
        Page::start_with(database, PageOptions::default()).await
    }

    async fn start_with(database: &Database, options: PageOptions) -> Page {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counter = "native".into();
        let state = PageState { database: database.clone(), telemetry: Telemetry::new(), counter, options };
        let (shutdown, asked) = oneshot::channel();
        let served = tokio::spawn(page::serve(listener, state, async {
            let _ = asked.await;
        }));
        Page { address, shutdown: Some(shutdown), served }
    }

    async fn ask(&self, path: &str) -> (u16, String, Vec<u8>) {
        let answer = self.request("GET", path, &[]).await;
        (answer.status, answer.head, answer.body)
    }

    /// With these headers in addition to the mandatory ones.
    async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
        stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer in time").unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
        Answer { status, head, body: answer[end + 4..].to_vec() }
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

    /// The path of the stylesheet that the page loads.
    async fn stylesheet(&self) -> String {
        let (_, _, html) = self.ask("/").await;
        let html = String::from_utf8(html).unwrap();
        let path = html.split("href=\"").find_map(|rest| rest.split('"').next().filter(|path| path.ends_with(".css")));
        format!("/{}", path.expect("a stylesheet").trim_start_matches("./").trim_start_matches('/'))
    }

    async fn stop(mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.served).await.expect("the server stops").unwrap().unwrap();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// The value of a header that occurs at most once.
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut values = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let value = values.next();
        assert_eq!(values.next(), None, "{name} occurs twice: {}", self.head);
        value
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }
}

fn election() -> Election {
    let region = |code: &str, registered, tile| Region {
        code: code.into(),
        name: format!("{code} land"),
        registered: Some(registered),
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

/// Ten votes counted, three rejected; two more are waiting.
const COUNTED: &str = "
    INSERT INTO counter VALUES ('native', '{mayor}', 'a log', 2);
    INSERT INTO votes_by_channel VALUES ('native', 'mayor', 'N', 'A', 'booth', 3), ('native', 'mayor', 'N', 'A', 'post', 1),
        ('native', 'mayor', 'N', 'B', 'booth', 2), ('native', 'mayor', 'S', 'C', 'booth', 3),
        ('native', 'mayor', 'S', 'BLANK', 'post', 1);
    INSERT INTO votes_by_bucket VALUES ('native', 'mayor', to_timestamp(1800000000), 'N', 'A', 3),
        ('native', 'mayor', to_timestamp(1800000000), 'N', 'B', 2), ('native', 'mayor', to_timestamp(1800000120), 'N', 'A', 1),
        ('native', 'mayor', to_timestamp(1800000120), 'S', 'C', 3), ('native', 'mayor', to_timestamp(1800000120), 'S', 'BLANK', 1);
    INSERT INTO rejection VALUES ('native', 'malformed', to_timestamp(1800000000), 1),
        ('native', 'already_voted', to_timestamp(1800000000), 1), ('native', 'already_voted', to_timestamp(1800000060), 1);
    INSERT INTO position VALUES ('native', 0, 0, 9, 1, 7, 1, 10), ('native', 1, 0, 5, 0, 3, 2, 6);
    INSERT INTO batch VALUES ('native', now(), 13, 10, 3, 2, 12.5, 40);
    INSERT INTO audit VALUES ('native', to_timestamp(1800000600), 13, 0, 'no difference');";

async fn kit_with_votes() -> Kit {
    let kit = Kit::new().await;
    let mut owner = kit.owner_of_votes().await;
    elections::save(&mut owner, &election()).await.unwrap();
    owner.batch_execute(COUNTED).await.unwrap();
    kit
}
