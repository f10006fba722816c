//! Measures how fast votes are generated, counted and made visible, and what a restart and the poll book cost.
//!
//! `cargo bench` measures and writes the raw figures to `benches/results/`; `cargo test` runs a small version, so that
//! the bench cannot rot. No figure is reported until the tables match the generator's truth. Delivery is exactly once;
//! the log and PostgreSQL sync every append and commit to disk (fsync on).

mod kit;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use scrutin_contract::truth::Truth;
use scrutin_engine::{Changes, Engine, Partition, PollBook, Rules};
use scrutin_log::VoteLog;
use scrutin_pipeline::CountProgress;
use scrutin_producer::simulate::{FaultRates, Speed};
use serde_json::{Value, json};

use kit::cost::{peak_memory_mb, reset_peak_memory};
use kit::{
    PARTITIONS, Stage, WORKERS, check, embedded, folder_bytes, is_bench, is_wanted, median, one, plan, send, steady,
    steady_plan,
};

struct Scale {
    voters: u64,
    runs: usize,
    /// Registered voters of the single run at the scale of a country.
    country: u64,
    steady_votes_per_second: u64,
    steady: Duration,
}

const FULL: Scale = Scale {
    voters: 13_600_000,
    runs: 3,
    country: 48_750_000,
    steady_votes_per_second: 100_000,
    steady: Duration::from_secs(60),
};
const SMALL: Scale =
    Scale { voters: 20_000, runs: 1, country: 30_000, steady_votes_per_second: 2_000, steady: Duration::from_secs(2) };

fn main() {
    let mut scale = if is_bench() { FULL } else { SMALL };
    scale.voters = kit::voters(scale.voters);
    let facts = json!({
        "delivery": "exactly once; log and PostgreSQL with fsync",
        "voters": scale.voters,
    });
    kit::run("throughput", facts, measure(&scale));
}

async fn measure(scale: &Scale) -> Vec<Value> {
    let mut figures = Vec::new();
    // This runs first, before other runs inflate this process's memory.
    if is_wanted("country") {
        let run = backlog(scale.country, 5, 1).await;
        figures.push(json!({ "what": "backlog, a country and a day of 5 minutes", "runs": [run] }));
    }
    for (name, minutes) in [("a day of 5 minutes", 5), ("a day of 12 hours", 720)] {
        if !is_wanted("backlog") {
            break;
        }
        let mut runs = Vec::new();
        for run in 0..scale.runs {
            runs.push(backlog(scale.voters, minutes, run as u64 + 1).await);
        }
        figures.push(json!({ "what": format!("backlog, {name}"), "median": median(&runs), "runs": runs }));
    }
    if is_wanted("steady") {
        let plan = steady_plan(scale.steady_votes_per_second, scale.steady);
        let stage = Stage::set(plan.election(), embedded).await;
        figures.push(steady(plan, stage).await);
    }
    figures
}

/// Generates a backlog, counts it, then restarts the counter on the full poll book.
async fn backlog(voters: u64, minutes: i64, seed: u64) -> Value {
    let plan = plan(voters, minutes * 60_000, seed);
    let stage = Stage::set(plan.election(), embedded).await;
    let log = Arc::clone(&stage.log);
    let (truth, made, rules) = tokio::task::spawn_blocking(move || {
        let start = Instant::now();
        let truth = send(&plan, &FaultRates::demo(), &*log, Speed::Max);
        (truth, start.elapsed(), Rules::new(std::slice::from_ref(plan.election()), PARTITIONS).expect("rules"))
    })
    .await
    .expect("the generator does not panic");
    let held: u64 = (0..PARTITIONS).map(|p| stage.log.offsets(p).expect("offsets").end).sum();
    assert_eq!(held, truth.records, "every record is in the log");
    let log_bytes = folder_bytes(&stage.folder.path().join("log"));

    let log = Arc::clone(&stage.log);
    let (engine_took, truth) = tokio::task::spawn_blocking(move || engine_alone(&*log, &Arc::new(rules), truth))
        .await
        .expect("the engine does not panic");

    let progress = Arc::new(CountProgress::default());
    reset_peak_memory(std::process::id());
    let start = Instant::now();
    stage.count(true, Arc::default(), Arc::clone(&progress)).await;
    let counted = start.elapsed();
    let peak_memory_mb = peak_memory_mb(std::process::id());
    let database = stage.database();
    check(&database, "native", &truth).await;

    let start = Instant::now();
    stage.count(true, Arc::default(), Arc::default()).await;
    let restarted = start.elapsed();
    let cells: i64 = one(&database, "SELECT count(*) FROM votes_by_bucket").await;
    stage.strike().await;
    let rate = |took: Duration| truth.records as f64 / took.as_secs_f64();
    json!({
        "records": truth.records,
        "timeline_cells": cells,
        "log_bytes_per_record": log_bytes as f64 / truth.records as f64,
        "generate_to_log_votes_per_second": rate(made),
        "engine_alone_votes_per_second": rate(engine_took),
        "log_to_postgresql_votes_per_second": rate(counted),
        "commits": progress.commits.load(Ordering::Relaxed),
        "count_peak_memory_mb": peak_memory_mb,
        "restart_seconds": restarted.as_secs_f64(),
        "voters_on_the_roll": truth.counted,
    })
}

/// Reads and counts the log on as many threads as the pipeline, without committing.
fn engine_alone(log: &dyn VoteLog, rules: &Arc<Rules>, truth: Truth) -> (Duration, Truth) {
    let start = Instant::now();
    let counted: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WORKERS as u32)
            .map(|worker| {
                let own: Vec<u32> = (0..PARTITIONS).filter(|p| p % WORKERS as u32 == worker).collect();
                let rules = Arc::clone(rules);
                scope.spawn(move || {
                    let state = |&partition: &u32| Partition {
                        partition,
                        next_offset: 0,
                        rejected_records: [0; 9],
                        poll_books: vec![PollBook::new([11, 13])],
                    };
                    let mut engine = Engine::new(Arc::clone(&rules), own.iter().map(state).collect());
                    let mut changes = Changes::new(&rules);
                    let from: Vec<(u32, u64)> = own.iter().map(|&partition| (partition, 0)).collect();
                    let mut reader = log.reader(&from).expect("read the log");
                    while let Some(batch) = reader.fetch(Duration::ZERO).expect("read the log") {
                        engine.apply(&batch, &mut changes);
                        reader.recycle(batch);
                        if changes.received() > 1_000_000 {
                            changes.clear();
                        }
                    }
                    engine.voters()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("the engine does not panic")).sum()
    });
    let took = start.elapsed();
    assert_eq!(counted, truth.counted, "the engine counts what the generator meant to be counted");
    (took, truth)
}
