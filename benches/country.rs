//! Rehearses the count of a large country, natively and from the log on disk: whether speed and latency hold, what memory
//! and tables grow to, and how long a restart takes.
//!
//! `cargo bench --bench country` counts 150 million voters' ballots as a backlog, and then a hundred million at a steady
//! pace, which takes half an hour and 30 GB of disk. It writes the raw figures to `benches/results/`; `cargo test` runs a
//! small version. No figure is reported until the tables match the generator's truth.

mod kit;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use scrutin_pipeline::CountProgress;
use scrutin_producer::simulate::{FaultRates, Speed};
use scrutin_store::{Database, Role};
use serde_json::{Map, Value, json};

use kit::commits::{commits, latency, rate, received, tenths};
use kit::cost::{memory_mb, peak_memory_mb, reset_peak_memory};
use kit::{Stage, check, count_at_pace, embedded, folder_bytes, is_bench, is_wanted, plan, send, steady_plan};

struct Scale {
    voters: u64,
    steady_votes_per_second: u64,
    steady: Duration,
}

const FULL: Scale = Scale { voters: 150_000_000, steady_votes_per_second: 150_000, steady: Duration::from_secs(675) };
const SMALL: Scale = Scale { voters: 30_000, steady_votes_per_second: 2_000, steady: Duration::from_secs(3) };

/// The day's length in milliseconds.
const DAY_MS: i64 = 12 * 3_600_000;

/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(250);

fn main() {
    let mut scale = if is_bench() { FULL } else { SMALL };
    scale.voters = kit::voters(scale.voters);
    let facts = json!({
        "delivery": "exactly once; log and PostgreSQL with fsync",
        "voters": scale.voters,
    });
    kit::run("country", facts, async {
        let mut figures = Vec::new();
        if is_wanted("backlog") {
            figures.push(backlog(scale.voters).await);
        }
        if is_wanted("steady") {
            figures.push(steady(&scale).await);
        }
        figures
    });
}

/// Counts a backlog, and restarts the counter with all voters in the poll book.
async fn backlog(voters: u64) -> Value {
    let plan = plan(voters, DAY_MS, 41);
    let stage = Stage::set(plan.election(), embedded).await;
    let log = Arc::clone(&stage.log);
    let (truth, made) = tokio::task::spawn_blocking(move || {
        let start = Instant::now();
        (send(&plan, &FaultRates::demo(), &*log, Speed::Max), start.elapsed())
    })
    .await
    .expect("the generator does not panic");
    let rate = |took: Duration| truth.records as f64 / took.as_secs_f64();

    let progress = Arc::new(CountProgress::default());
    reset_peak_memory(std::process::id());
    let (start, started_at) = (Instant::now(), SystemTime::now());
    let memory = watched(&progress, truth.records, stage.count(true, Arc::default(), Arc::clone(&progress))).await;
    let counted = start.elapsed();
    let peak_memory_mb = peak_memory_mb(std::process::id());
    let database = stage.database();
    check(&database, "native", &truth).await;
    let mut by_tenth = by_tenth(&database, started_at, &memory).await;
    for figures in by_tenth.iter_mut().filter_map(Value::as_object_mut) {
        // They say how long ago the votes were made.
        figures.retain(|name, _| !name.starts_with("latency"));
    }
    let tables = table_bytes(&database).await;

    let start = Instant::now();
    stage.count(true, Arc::default(), Arc::default()).await;
    let restarted = start.elapsed();
    let log_bytes = folder_bytes(&stage.folder.path().join("log"));
    stage.strike().await;
    json!({
        "what": "backlog, a day of 12 hours",
        "records": truth.records,
        "voters_who_voted": truth.counted,
        "generate_to_log_votes_per_second": rate(made),
        "votes_per_second": rate(counted),
        "by_tenth": by_tenth,
        "peak_memory_mb": peak_memory_mb,
        "restart_seconds": restarted.as_secs_f64(),
        "log_bytes": log_bytes,
        "table_bytes": tables,
    })
}

/// Counts votes as they arrive, over a day short enough that they come at many a second.
async fn steady(scale: &Scale) -> Value {
    let plan = steady_plan(scale.steady_votes_per_second, scale.steady);
    let stage = Stage::set(plan.election(), embedded).await;
    let progress = Arc::new(CountProgress::default());
    let started_at = SystemTime::now();
    let expected = scale.steady_votes_per_second * scale.steady.as_secs();
    let mut truth = None;
    let memory =
        watched(&progress, expected, async { truth = Some(count_at_pace(plan, &stage, &progress).await) }).await;
    let truth = truth.expect("the count has ended");
    let database = stage.database();
    check(&database, "native", &truth).await;
    let by_tenth = by_tenth(&database, started_at, &memory).await;
    let tables = table_bytes(&database).await;
    stage.strike().await;
    json!({
        "what": "at the pace of a day, append to visible",
        "note": "each vote is taken to have waited as long as its commit's own 50th or 99th percentile",
        "records": truth.records,
        "day_seconds": scale.steady.as_secs(),
        "by_tenth": by_tenth,
        "table_bytes": tables,
    })
}

/// Runs `count`, and returns the memory of this process in MB after each tenth of the records.
async fn watched(progress: &CountProgress, records: u64, count: impl Future<Output = ()>) -> Vec<Option<u64>> {
    let mut memory = Vec::new();
    let watch = async {
        while memory.len() < 10 {
            if progress.received() * 10 >= records * (memory.len() as u64 + 1) {
                memory.push(memory_mb(std::process::id()));
            } else {
                tokio::time::sleep(LOOK).await;
            }
        }
    };
    tokio::select! {
        () = count => {}
        () = async { watch.await; std::future::pending().await } => {}
    }
    memory
}

/// The speed and latency of each tenth of the records, and the memory after it.
async fn by_tenth(database: &Database, started_at: SystemTime, memory: &[Option<u64>]) -> Vec<Value> {
    let (commits, mut before, mut reached) = (commits(database, "native").await, started_at, 0);
    let mut figures = Vec::new();
    for (place, tenth) in tenths(&commits).into_iter().enumerate() {
        reached += received(tenth);
        let (p50, p99) = latency(tenth);
        figures.push(json!({
            "records": reached,
            "votes_per_second": rate(tenth, before),
            "latency_ms_p50": p50,
            "latency_ms_p99": p99,
            "commits": tenth.len(),
            "memory_mb": memory.get(place),
        }));
        before = tenth.last().expect("a tenth has commits").at;
    }
    figures
}

/// The size of each table with its indexes, from one megabyte up.
async fn table_bytes(database: &Database) -> Value {
    let client = database.connect(Role::Owner).await.expect("a session");
    let sql = "SELECT relname::text, pg_total_relation_size(oid) FROM pg_class
                WHERE relnamespace = 'scrutin'::regnamespace AND relkind = 'r' AND pg_total_relation_size(oid) >= 1 << 20";
    let rows = client.query(sql, &[]).await.expect("the sizes of the tables");
    rows.iter().map(|row| (row.get::<_, String>(0), json!(row.get::<_, i64>(1)))).collect::<Map<_, _>>().into()
}
