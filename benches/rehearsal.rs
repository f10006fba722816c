//! Rehearses a large count on Spark, in a cluster on this machine: whether the speed holds, and what memory and checkpoint
//! grow to.
//!
//! `cargo bench --bench rehearsal` counts a hundred million votes, which takes half an hour and 20 GB of disk, and writes the
//! raw figures to `benches/results/`; `cargo test` runs a small version. No figure is reported until the tables match the
//! generator's truth.

mod kit;

use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

use kit::broker::{Broker, KAFKA};
use kit::commits::{commits, rate, received, tenths};
use kit::cost::peak_memory_mb;
use kit::spark_server::SparkServer;
use kit::spark_stage::{BATCH_VOTES, SparkStage};
use kit::{check, folder_bytes, is_bench, plan};

struct Scale {
    voters: u64,
    server: &'static [&'static str],
}

const FULL: Scale = Scale { voters: 136_000_000, server: &["--workers", "2", "--cores", "1", "--memory", "3g"] };
const SMALL: Scale = Scale { voters: 20_000, server: &["--cores", "2"] };

/// The day's length in milliseconds.
const DAY_MS: i64 = 3_600_000;

fn main() {
    let mut scale = if is_bench() { FULL } else { SMALL };
    scale.voters = kit::voters(scale.voters);
    let facts = json!({
        "kafka": KAFKA,
        "spark": format!("4.2.0, started with {}, on the same machine", scale.server.join(" ")),
        "delivery": "exactly once; PostgreSQL with fsync",
        "voters": scale.voters,
        "batch_votes": BATCH_VOTES,
    });
    kit::run("rehearsal", facts, async { vec![rehearse(&scale).await] });
}

async fn rehearse(scale: &Scale) -> Value {
    let broker = Broker::start();
    let server = SparkServer::start(scale.server);
    let set = SparkStage::up(&broker, &plan(scale.voters, DAY_MS, 31)).await;
    let truth = set.truth.clone().expect("the votes are in the log");
    let (start, started_at) = (Instant::now(), SystemTime::now());
    set.drain_on_spark(&server).await;
    let took = start.elapsed();
    let database = set.stage.database();
    check(&database, "spark", &truth).await;

    let (commits, mut before, mut reached) = (commits(&database, "spark").await, started_at, 0);
    let tenths = tenths(&commits).into_iter().map(|tenth| {
        reached += received(tenth);
        let figures = json!({ "records": reached, "votes_per_second": rate(tenth, before) });
        before = tenth.last().expect("a tenth has commits").at;
        figures
    });
    let tenths: Vec<Value> = tenths.collect();
    let checkpoint_bytes = folder_bytes(&server.checkpoint(set.topic()));
    let executors: Vec<Option<u64>> = server.executors().into_iter().map(peak_memory_mb).collect();
    let report = json!({
        "what": "backlog on Spark, a day of an hour",
        "records": truth.records,
        "votes_per_second": truth.records as f64 / took.as_secs_f64(),
        "by_tenth": tenths,
        "checkpoint_bytes": checkpoint_bytes,
        "checkpoint_bytes_per_vote": checkpoint_bytes as f64 / truth.records as f64,
        "executors_peak_memory_mb": executors,
        "server_peak_memory_mb": peak_memory_mb(server.pid()),
        "driver_peak_memory_mb": peak_memory_mb(std::process::id()),
    });
    set.stage.strike().await;
    report
}
