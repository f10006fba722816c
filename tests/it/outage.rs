//! PostgreSQL goes away, or cuts connections, in the middle of a run: the count waits, reports it, resumes, and stays
//! exact.

use std::process::Command;
use std::time::{Duration, Instant};

use scrutin_log::{EmbeddedLog, VoteLog};
use scrutin_postgres::Cluster;

use crate::kit::{self, Kit};
use crate::run::{Page, Place, Running};
use crate::standby::Pair;

/// How long PostgreSQL is away.
const AWAY: Duration = Duration::from_secs(6);

/// Starts the program in a folder, on a database.
fn start_on(place: &Place, url: &str, line: &str) -> Running {
    let mut command = place.command(line);
    command.env("DATABASE_URL", url);
    Running::start(command)
}

fn demo(place: &Place, url: &str, options: &str) -> Running {
    start_on(place, url, &format!("demo --exit --data-dir data --faults demo {options}"))
}

fn counted(page: Page) -> u64 {
    let (status, body) = page.ask("/api/v1/accounting");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    if status == 200 { answer["total"]["counted"].as_u64().unwrap_or(0) } else { 0 }
}

/// Sets up an election and starts voting and counting; returns once some votes are counted.
fn count_and_vote(place: &Place, url: &str) -> (Running, Running) {
    start_on(place, url, "setup --voters 100000").end().ok();
    let count = start_on(place, url, "count --serve");
    let simulate = start_on(place, url, "simulate --speed 4000 --faults demo");
    let page = count.page();
    page.until("/api/v1/accounting", |_, _| counted(page) > 5_000);
    (count, simulate)
}

/// Votes stored safely in the log.
fn stored(place: &Place) -> u64 {
    let log = EmbeddedLog::open_existing(&place.path("data/log")).unwrap();
    (0..log.partitions()).map(|partition| log.offsets(partition).unwrap().end).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_stopped_for_a_while() {
    let (folder, _guard) = kit::guarded_folder();
    let cluster = Cluster::start(&folder).await.unwrap();
    let (place, url) = (Place::bare(), cluster.url());
    let running = demo(&place, &url, "--voters 400000 --day 45s");
    let page = running.page();
    page.until("/readyz", |status, _| status == 200);
    page.until("/api/v1/accounting", |_, _| counted(page) > 5_000);

    cluster.stop().await.unwrap();
    let says_why = |body: &str| body.contains("postgresql") && body.contains("cannot reach PostgreSQL\"");
    page.until("/readyz", |status, body| status == 503 && says_why(body));
    let status = place.command("status --data-dir data").env("DATABASE_URL", &url).output().unwrap();
    assert_eq!(status.status.code(), Some(4));
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains("cannot reach PostgreSQL") && said.contains("the votes are safe in the log"), "{said}");

    let (before, stopped) = (stored(&place), Instant::now());
    while stopped.elapsed() < AWAY {
        assert_eq!(page.ask("/healthz").0, 200, "not alive");
        let (status, body) = page.ask("/readyz");
        assert!(status == 503 && says_why(&body), "{status} {body}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(stored(&place) > before, "no votes are accepted during the outage");

    let cluster = Cluster::start(&folder).await.unwrap();
    assert_eq!(cluster.url(), url, "it came back at another address");
    page.until("/readyz", |status, _| status == 200);
    let said = running.end().ok();
    assert!(said.contains("every total matches the ground truth"), "{said}");
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_again_and_again() {
    let kit = Kit::new().await;
    let place = Place::bare();
    let running = demo(&place, kit.url(), "--voters 300000 --day 40s");
    let page = running.page();
    let admin = kit.owner().await;
    let mut seen = 0;
    for _ in 0..12 {
        // Something was committed since the last cut, so each cut hits a working session.
        page.until("/api/v1/accounting", |_, _| counted(page) > seen);
        seen = counted(page).max(seen);
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let cut: i64 = admin.query_one(cut, &[]).await.unwrap().get(0);
        assert!(cut > 0, "there was no session to cut");
    }
    let said = running.end().ok();
    assert!(said.contains("every total matches the ground truth"), "{said}");
}

/// As after a failover to a standby that lacks the last commits. No new votes arrive that would reveal the loss.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_without_its_last_commits_gets_them_again() {
    let (folder, _guard) = kit::guarded_folder();
    let cluster = Cluster::start(&folder).await.unwrap();
    let (place, url) = (Place::bare(), cluster.url());
    let (count, simulate) = count_and_vote(&place, &url);
    let page = count.page();
    cluster.stop().await.unwrap();
    let copy = |from: &str, to: &str| {
        let copied = Command::new("cp").arg("-a").args([folder.join(from), folder.join(to)]).status().unwrap();
        assert!(copied.success());
    };
    copy("postgres", "earlier");
    let cluster = Cluster::start(&folder).await.unwrap();
    simulate.end().ok();
    let truth = place.json("scrutin-data/truth.json")["counted"].as_u64().unwrap();
    page.until("/api/v1/accounting", |_, _| counted(page) == truth);

    cluster.stop().await.unwrap();
    std::fs::remove_dir_all(folder.join("postgres")).unwrap();
    copy("earlier", "postgres");
    let _cluster = Cluster::start(&folder).await.unwrap();
    count.says("the database has lost commits");
    page.until("/api/v1/accounting", |_, _| counted(page) == truth);
    let said = count.interrupted().ok().replace('\u{202f}', "");
    assert!(said.contains(&format!("now {truth} counted")), "{said}");
    start_on(&place, &url, "audit --truth scrutin-data/truth.json").end().ok();
}

/// A real streaming standby, listed in the address beside its primary. It accepts no commits until promoted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_in_the_middle_of_a_count() {
    let mut servers = Pair::start().await;
    let url = servers.url();
    let place = Place::bare();
    let (count, simulate) = count_and_vote(&place, &url);
    let page = count.page();
    servers.kill_primary();
    page.until("/readyz", |status, body| status == 503 && body.contains("postgresql"));
    simulate.end().ok();
    let (status, body) = page.ask("/readyz");
    assert_eq!(status, 503, "a standby accepts no commits: {body}");

    servers.promote().await;
    let truth = place.json("scrutin-data/truth.json")["counted"].as_u64().unwrap();
    page.until("/api/v1/accounting", |_, _| counted(page) == truth);
    page.until("/readyz", |status, _| status == 200);
    count.interrupted().ok();
    start_on(&place, &url, "audit --truth scrutin-data/truth.json").end().ok();
}
