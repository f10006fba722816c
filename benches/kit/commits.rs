//! What the commits of a count recorded in table `batch`.

use std::time::SystemTime;

use scrutin_store::{Database, Role};

/// A commit with votes.
pub struct Commit {
    pub at: SystemTime,
    pub received: u64,
    /// From append to visible; none if the clocks disagreed.
    latency_ms_p50: Option<f64>,
    latency_ms_p99: Option<f64>,
}

/// The commits of a counter, in order of time.
pub async fn commits(database: &Database, counter: &str) -> Vec<Commit> {
    let client = database.connect(Role::Owner).await.expect("connect");
    let sql = "SELECT committed_at, received, latency_ms_p50, latency_ms_p99 FROM batch
                WHERE counter = $1 AND received > 0 ORDER BY committed_at";
    let rows = client.query(sql, &[&counter]).await.expect("the commits are recorded");
    let commit = |row: &tokio_postgres::Row| Commit {
        at: row.get(0),
        received: row.get::<_, i64>(1) as u64,
        latency_ms_p50: row.get(2),
        latency_ms_p99: row.get(3),
    };
    rows.iter().map(commit).collect()
}

/// The commits by tenths of the records: each tenth ends with the commit that reaches it.
pub fn tenths(commits: &[Commit]) -> Vec<&[Commit]> {
    let all = received(commits);
    let (mut tenths, mut first, mut reached) = (Vec::new(), 0, 0);
    for (place, commit) in commits.iter().enumerate() {
        let before = reached * 10 / all;
        reached += commit.received;
        if reached * 10 / all > before {
            tenths.push(&commits[first..=place]);
            first = place + 1;
        }
    }
    tenths
}

pub fn received(commits: &[Commit]) -> u64 {
    commits.iter().map(|commit| commit.received).sum()
}

/// Votes a second, from the end of the commit before.
pub fn rate(commits: &[Commit], before: SystemTime) -> f64 {
    let last = commits.last().expect("there are commits").at;
    received(commits) as f64 / last.duration_since(before).expect("the clock does not go back").as_secs_f64()
}

/// Latency from append to visible, 50th and 99th percentile in milliseconds. Each vote is taken to have waited as long as
/// the same percentile of its own commit.
pub fn latency(commits: &[Commit]) -> (f64, f64) {
    let percentile = |ms: fn(&Commit) -> Option<f64>, share: f64| {
        let known = commits.iter().filter_map(|commit| Some((ms(commit)?, commit.received)));
        let mut waits: Vec<(f64, u64)> = known.collect();
        waits.sort_by(|a, b| a.0.total_cmp(&b.0));
        let all: u64 = waits.iter().map(|(_, received)| received).sum();
        let mut within = 0;
        let found = waits.into_iter().find(|(_, received)| {
            within += received;
            within as f64 >= all as f64 * share
        });
        found.expect("some latency is known").0
    };
    (percentile(|commit| commit.latency_ms_p50, 0.5), percentile(|commit| commit.latency_ms_p99, 0.99))
}
