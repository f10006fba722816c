//! Measures how fast votes are written to Kafka, read back and counted, with the broker and PostgreSQL on one machine.
//!
//! `cargo bench --bench kafka` measures and writes the raw figures to `benches/results/`; `cargo test` runs a small
//! version. No figure is reported until the tables match the generator's truth. Producers are idempotent and wait for
//! all in-sync replicas (one here, which leaves flushing to disk to the system, as is Kafka's default). PostgreSQL
//! syncs every commit to disk. The count is exactly once.

mod kit;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use scrutin_contract::truth::Truth;
use scrutin_log::VoteLog;
use scrutin_pipeline::CountProgress;
use scrutin_producer::simulate::{FaultRates, Plan, Speed};
use serde_json::{Value, json};

use kit::broker::{Broker, KAFKA};
use kit::cost::{Cost, peak_memory_mb, reset_peak_memory};
use kit::{PARTITIONS, Stage, WORKERS, check, is_bench, is_wanted, median, one, plan, send, steady, steady_plan};

struct Scale {
    voters: u64,
    runs: usize,
    /// Voters of the run with a large timeline.
    timeline_voters: u64,
    steady_votes_per_second: &'static [u64],
    steady: Duration,
}

const FULL: Scale = Scale {
    voters: 13_600_000,
    runs: 3,
    timeline_voters: 6_800_000,
    steady_votes_per_second: &[10_000, 100_000],
    steady: Duration::from_secs(60),
};
const SMALL: Scale = Scale {
    voters: 20_000,
    runs: 1,
    timeline_voters: 20_000,
    steady_votes_per_second: &[2_000],
    steady: Duration::from_secs(2),
};

fn main() {
    let mut scale = if is_bench() { FULL } else { SMALL };
    scale.voters = kit::voters(scale.voters);
    let facts = json!({
        "kafka": KAFKA,
        "delivery": "exactly once; idempotent producer, acks=all; PostgreSQL with fsync",
        "voters": scale.voters,
    });
    kit::run("kafka", facts, measure(&scale));
}

async fn measure(scale: &Scale) -> Vec<Value> {
    let broker = Broker::start();
    let mut figures = Vec::new();
    // Warm up the JVM: it compiles hot code.
    for _ in 0..if is_bench() { 2 } else { 0 } {
        backlog(&broker, "lz4", scale.voters / 4, 5, 99).await;
    }
    if is_wanted("backlog") {
        let mut runs: Vec<(&str, Vec<Value>)> = vec![("lz4", Vec::new()), ("none", Vec::new())];
        for run in 0..scale.runs {
            for (codec, runs) in &mut runs {
                runs.push(backlog(&broker, codec, scale.voters, 5, run as u64 + 1).await);
            }
        }
        for (codec, runs) in runs {
            let what = format!("backlog, a day of 5 minutes, compression {codec}");
            figures.push(json!({ "what": what, "median": median(&runs), "runs": runs }));
        }
    }
    if is_wanted("timeline") {
        let mut runs = Vec::new();
        for run in 0..scale.runs {
            runs.push(backlog(&broker, "lz4", scale.timeline_voters, 720, run as u64 + 1).await);
        }
        figures.push(
            json!({ "what": "backlog, a day of 12 hours, compression lz4", "median": median(&runs), "runs": runs }),
        );
    }
    if is_wanted("steady") {
        for &votes_per_second in scale.steady_votes_per_second {
            let plan = steady_plan(votes_per_second, scale.steady);
            let stage = Stage::set(plan.election(), async |folder| {
                Arc::new(broker.log(folder, "lz4").await) as Arc<dyn VoteLog>
            })
            .await;
            figures.push(steady(plan, stage).await);
        }
    }
    figures
}

/// Produces a backlog, reads it without counting, then counts it.
async fn backlog(broker: &Broker, codec: &str, voters: u64, minutes: i64, seed: u64) -> Value {
    let plan = plan(voters, minutes * 60_000, seed);
    let stage =
        Stage::set(plan.election(), async |folder| Arc::new(broker.log(folder, codec).await) as Arc<dyn VoteLog>).await;
    let (bytes_before, pids) = (broker.bytes(), [broker.pid()]);

    let made = Cost::begin(&pids);
    let truth = produce(plan, Arc::clone(&stage.log)).await;
    let made = made.end(truth.records);
    let held: u64 = (0..PARTITIONS).map(|p| stage.log.offsets(p).expect("offsets").end).sum();
    assert_eq!(held, truth.records, "every record is in the log");
    let log_bytes = broker.bytes() - bytes_before;

    let read = Cost::begin(&pids);
    let log = Arc::clone(&stage.log);
    let records = tokio::task::spawn_blocking(move || consume(&*log)).await.expect("the reader does not panic");
    assert_eq!(records, truth.records, "every record is read back");
    let read = read.end(records);

    let progress = Arc::new(CountProgress::default());
    reset_peak_memory(std::process::id());
    let counted = Cost::begin(&pids);
    stage.count(true, Arc::default(), Arc::clone(&progress)).await;
    let counted = counted.end(truth.records);
    let count_peak_memory_mb = peak_memory_mb(std::process::id());
    let database = stage.database();
    check(&database, "native", &truth).await;
    let cells: i64 = one(&database, "SELECT count(*) FROM votes_by_bucket").await;
    stage.strike().await;
    json!({
        "records": truth.records,
        "timeline_cells": cells,
        "log_bytes_per_million_votes": log_bytes as f64 / truth.records as f64 * 1e6,
        "produce_votes_per_second": made.rate,
        "produce_cpu_seconds_per_million_votes": made.own,
        "produce_broker_cpu_seconds_per_million_votes": made.others,
        "consume_only_votes_per_second": read.rate,
        "consume_only_cpu_seconds_per_million_votes": read.own,
        "consume_only_broker_cpu_seconds_per_million_votes": read.others,
        "count_votes_per_second": counted.rate,
        "count_cpu_seconds_per_million_votes": counted.own,
        "count_broker_cpu_seconds_per_million_votes": counted.others,
        "count_to_consume_only": counted.rate / read.rate,
        "count_commits": progress.commits.load(Ordering::Relaxed),
        "count_peak_memory_mb": count_peak_memory_mb,
    })
}

async fn produce(plan: Plan, log: Arc<dyn VoteLog>) -> Truth {
    tokio::task::spawn_blocking(move || send(&plan, &FaultRates::demo(), &*log, Speed::Max))
        .await
        .expect("the generator does not panic")
}

/// Reads the whole log on as many threads as count it, and discards the records. Returns their number.
fn consume(log: &dyn VoteLog) -> u64 {
    let read = |worker: u32| {
        let own: Vec<(u32, u64)> =
            (0..PARTITIONS).filter(|p| p % WORKERS as u32 == worker).map(|partition| (partition, 0)).collect();
        let mut left: u64 = own.iter().map(|(partition, _)| log.offsets(*partition).expect("offsets").end).sum();
        let all = left;
        let mut reader = log.reader(&own).expect("read the log");
        while left > 0 {
            let Some(batch) = reader.fetch(Duration::from_secs(30)).expect("read the log") else { continue };
            left -= batch.len() as u64;
            reader.recycle(batch);
        }
        all
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS as u32).map(|worker| scope.spawn(move || read(worker))).collect();
        workers.into_iter().map(|worker| worker.join().expect("the reader does not panic")).sum()
    })
}
