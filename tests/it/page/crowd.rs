//! A greedy client must not make the others wait.

use std::time::Duration;

use scrutin_page::PageOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, Page, kit_with_votes};
use crate::kit::Kit;

const GREEDY: &str = "192.0.2.1";
const OTHER: &str = "198.51.100.7";

/// A page whose timeline queries all block while the returned session is open.
async fn stuck() -> (Kit, Page, tokio_postgres::Client) {
    let kit = kit_with_votes().await;
    let options = PageOptions { behind_proxy: true, requests_per_second: 1000, ..PageOptions::default() };
    let page = Page::start_with(kit.db(), options).await;
    let holder = kit.owner().await;
    holder.batch_execute("BEGIN; LOCK TABLE timeline_sum IN ACCESS EXCLUSIVE MODE").await.unwrap();
    (kit, page, holder)
}

async fn ask(page: &Page, client: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(page.address).await.unwrap();
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {client}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn status(mut stream: TcpStream) -> u16 {
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer in time").unwrap();
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status")
}

async fn waiting(owner: &tokio_postgres::Client) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    owner.query_one(sql, &[]).await.unwrap().get(0)
}

async fn until_waiting(owner: &tokio_postgres::Client, wanted: impl Fn(i64) -> bool) {
    let wait = async {
        while !wanted(waiting(owner).await) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the expected number of queries wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greedy_client_delays_only_itself() {
    let (kit, page, holder) = stuck().await;
    let owner = kit.owner().await;
    let mut greedy = Vec::new();
    for counter in 0..100 {
        greedy.push(ask(&page, GREEDY, &format!("/api/v1/timeline?counter=c{counter}")).await);
    }
    until_waiting(&owner, |waiting| waiting > 0).await;
    for path in ["/readyz", "/healthz", "/api/v1/results", "/api/v1/status", "/api/v1/results.csv"] {
        assert_eq!(status(ask(&page, OTHER, path).await).await, 200, "{path}");
    }
    assert!(waiting(&owner).await > 0, "queries still wait");
    // And its requests are rejected.
    let refused = status(greedy.pop().unwrap()).await;
    assert!([429, 503].contains(&refused), "{refused}");
    drop(holder);
    page.stop().await;
}

/// A client with many addresses can briefly take all sessions; others are then asked to retry.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_reports_its_health_while_many_clients_are_greedy() {
    let (kit, page, holder) = stuck().await;
    let owner = kit.owner().await;
    let mut greedy = Vec::new();
    for counter in 0..100 {
        greedy.push(ask(&page, &format!("192.0.2.{counter}"), &format!("/api/v1/timeline?counter=c{counter}")).await);
    }
    until_waiting(&owner, |waiting| waiting > 1).await;
    assert_eq!(status(ask(&page, OTHER, "/readyz").await).await, 200);
    let answered = status(ask(&page, OTHER, "/api/v1/results").await).await;
    assert!([200, 503].contains(&answered), "{answered}");
    drop(holder);
    page.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_disconnected_clients_are_cancelled() {
    let (kit, page, holder) = stuck().await;
    let owner = kit.owner().await;
    let mut gone = Vec::new();
    for counter in 0..20 {
        gone.push(ask(&page, GREEDY, &format!("/api/v1/timeline?counter=c{counter}")).await);
    }
    until_waiting(&owner, |waiting| waiting > 0).await;
    drop(gone);
    assert_eq!(status(ask(&page, GREEDY, "/api/v1/results").await).await, 200);
    drop(holder);
    page.stop().await;
}

/// The unit tests check that limits with the same points share one query.
#[tokio::test]
async fn a_timeline_has_a_point_for_every_whole_step() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;
    for (limit, points) in [(1, 1), (3, 3), (4, 4), (6, 5), (9, 5), (10, 10), (1440, 10)] {
        assert_eq!(page.ok(&format!("/api/v1/timeline?limit={limit}")).await["points"], points, "{limit}");
    }
    page.stop().await;
}

#[tokio::test]
async fn a_request_names_one_host() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;
    for (head, wanted) in [
        ("GET /healthz HTTP/1.1\r\nConnection: close", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\nConnection: close", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a b\r\nConnection: close", 400),
        ("GET /healthz HTTP/1.1\r\nHost: results.example.org:8080\r\nConnection: close", 200),
        ("GET /healthz HTTP/1.1\r\nHost: [::1]:8080\r\nConnection: close", 200),
        ("GET /healthz HTTP/1.1\r\nHost:\r\nConnection: close", 200),
        ("GET /healthz HTTP/1.0", 200),
    ] {
        let mut stream = TcpStream::connect(page.address).await.unwrap();
        stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
        assert_eq!(status(stream).await, wanted, "{head:?}");
    }
    page.stop().await;
}
