//! Compares the speed of Spark and the native engine on the same topic, with the broker, PostgreSQL and Spark on this
//! machine.
//!
//! `cargo bench --bench spark` measures and writes the raw figures to `benches/results/`; `cargo test` runs a small
//! version. No figure is reported until the tables of both counters match the generator's truth, and each other in
//! every row. Both count exactly once. PostgreSQL syncs every commit to disk; Spark syncs its checkpoint as it does by
//! default. The two count one after the other, never at the same time.

mod kit;

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use scrutin_pipeline::{CountProgress, Stop};
use scrutin_producer::simulate::{FaultRates, Plan, Speed};
use serde_json::{Value, json};

use kit::broker::{Broker, KAFKA};
use kit::cost::{Cost, peak_memory_mb, reset_peak_memory};
use kit::seen::{Latency, Watch};
use kit::spark_server::SparkServer;
use kit::spark_stage::{BATCH_VOTES, SparkStage};
use kit::{check, is_bench, is_wanted, median, plan, send, steady_plan, tutorial};

struct Scale {
    voters: u64,
    runs: usize,
    /// Voters of each scaling run.
    scaling_voters: u64,
    scaling: &'static [(&'static str, &'static [&'static str])],
    steady_votes_per_second: u64,
    /// How long votes come at a steady pace, and the parts of that time, in seconds, of which the latency is reported. A
    /// query needs some seconds for its first batches, and its JVM goes on compiling for minutes.
    steady: Duration,
    steady_windows: [Range<u64>; 2],
}

const FULL: Scale = Scale {
    voters: 6_800_000,
    runs: 3,
    scaling_voters: 2_700_000,
    scaling: &[
        ("one core", &["--cores", "1", "--memory", "4g"]),
        ("two cores", &["--cores", "2", "--memory", "4g"]),
        ("a cluster, one worker of one core", &["--workers", "1", "--cores", "1", "--memory", "3g"]),
        ("a cluster, two workers of one core", &["--workers", "2", "--cores", "1", "--memory", "3g"]),
    ],
    steady_votes_per_second: 10_000,
    steady: Duration::from_secs(180),
    steady_windows: [30..90, 120..180],
};
const SMALL: Scale = Scale {
    voters: 20_000,
    runs: 1,
    scaling_voters: 20_000,
    scaling: &[],
    steady_votes_per_second: 500,
    steady: Duration::from_secs(5),
    steady_windows: [0..3, 3..5],
};

fn main() {
    let mut scale = if is_bench() { FULL } else { SMALL };
    scale.voters = kit::voters(scale.voters);
    let facts = json!({
        "kafka": KAFKA,
        "spark": "4.2.0, local[2], heap of 4 GB, on the same machine, where nothing else is said",
        "delivery": "exactly once; PostgreSQL with fsync",
        "voters": scale.voters,
    });
    kit::run("spark", facts, measure(&scale));
}

async fn measure(scale: &Scale) -> Vec<Value> {
    let broker = Broker::start();
    let mut figures = Vec::new();
    if ["backlog", "tutorial", "steady"].into_iter().any(is_wanted) {
        let server = SparkServer::start(&["--cores", "2", "--memory", "4g"]);
        // Warm up the JVMs: they compile hot code.
        if is_bench() {
            backlog(&broker, &server, scale.scaling_voters, 99).await;
        }
        if is_wanted("backlog") {
            let mut runs = Vec::new();
            for run in 0..scale.runs {
                runs.push(backlog(&broker, &server, scale.voters, run as u64 + 1).await);
            }
            figures.push(
                json!({ "what": "backlog, a day of 5 minutes, compression lz4", "median": median(&runs), "runs": runs }),
            );
        }
        if is_wanted("tutorial") {
            figures.push(as_in_tutorials(&broker, &server, scale.scaling_voters).await);
        }
        if is_wanted("steady") {
            figures.push(steady(&broker, &server, scale).await);
        }
    }
    if is_wanted("scaling") {
        for (name, options) in scale.scaling {
            let server = SparkServer::start(options);
            let stage = SparkStage::up(&broker, &plan(scale.scaling_voters / 4, 300_000, 98)).await;
            stage.whole_on_spark(&server).await;
            let stage = SparkStage::up(&broker, &plan(scale.scaling_voters, 300_000, 7)).await;
            let rate = stage.whole_on_spark(&server).await;
            figures.push(json!({
                "what": format!("backlog on Spark, {name}"), "options": options.join(" "), "votes_per_second": rate,
            }));
        }
    }
    figures
}

/// A backlog, counted by the native engine and then by Spark.
async fn backlog(broker: &Broker, server: &SparkServer, voters: u64, seed: u64) -> Value {
    let set = SparkStage::up(broker, &plan(voters, 300_000, seed)).await;
    let truth = set.truth.as_ref().expect("the votes are in the log");
    let own = std::process::id();

    reset_peak_memory(own);
    let native = Cost::begin(&[]);
    set.stage.count(true, Arc::default(), Arc::default()).await;
    let native = native.end(truth.records);
    let native_peak_memory_mb = peak_memory_mb(own);

    let pids = [server.pid()];
    reset_peak_memory(own);
    reset_peak_memory(server.pid());
    let on_spark = Cost::begin(&pids);
    set.drain_on_spark(server).await;
    let on_spark = on_spark.end(truth.records);
    let (driver_peak_memory_mb, spark_peak_memory_mb) = (peak_memory_mb(own), peak_memory_mb(server.pid()));

    set.check_both(truth).await;
    let records = truth.records;
    set.stage.strike().await;
    json!({
        "records": records,
        "native_votes_per_second": native.rate,
        "native_cpu_seconds_per_million_votes": native.own,
        "native_peak_memory_mb": native_peak_memory_mb,
        "spark_votes_per_second": on_spark.rate,
        "spark_cpu_seconds_per_million_votes": on_spark.others,
        "spark_driver_cpu_seconds_per_million_votes": on_spark.own,
        "spark_peak_memory_mb": spark_peak_memory_mb,
        "spark_driver_peak_memory_mb": driver_peak_memory_mb,
        "native_to_spark": native.rate / on_spark.rate,
    })
}

/// A backlog, counted on Spark by Scrutin's query and then as tutorials do it, with what the latter gets wrong.
async fn as_in_tutorials(broker: &Broker, server: &SparkServer, voters: u64) -> Value {
    let set = SparkStage::up(broker, &plan(voters, 300_000, 97)).await;
    let log = set.log.clone();
    // The topic has to exist before Spark writes to it.
    let counts = tutorial::counts(&log).await;
    let pids = [server.pid()];
    let truth = set.truth.clone().expect("the votes are in the log");
    let own = Cost::begin(&pids);
    set.drain_on_spark(server).await;
    let own = own.end(truth.records);
    check(&set.stage.database(), "spark", &truth).await;
    let other = Cost::begin(&pids);
    tutorial::count(server, &log, BATCH_VOTES).await;
    let other = other.end(truth.records);
    let counted = tokio::task::block_in_place(|| tutorial::counted(&counts));
    assert!((truth.counted..=truth.records).contains(&counted), "{counted} of {} votes", truth.records);
    set.stage.strike().await;
    json!({
        "what": "backlog on Spark, beside dropDuplicates and groupBy().count() as in tutorials",
        "records": truth.records,
        "votes_that_count": truth.counted,
        "tutorial_votes_counted": counted,
        "votes_per_second": own.rate,
        "cpu_seconds_per_million_votes": own.others,
        "tutorial_votes_per_second": other.rate,
        "tutorial_cpu_seconds_per_million_votes": other.others,
    })
}

/// Votes at the pace of their day, counted as they arrive, by the native engine and then by Spark.
async fn steady(broker: &Broker, server: &SparkServer, scale: &Scale) -> Value {
    let plan = steady_plan(scale.steady_votes_per_second, scale.steady);
    let windows = scale.steady_windows.clone().map(|it| Duration::from_secs(it.start)..Duration::from_secs(it.end));
    let set = SparkStage::empty(broker, plan.election()).await;
    let (stop, progress) = (Arc::new(Stop::default()), Arc::new(CountProgress::default()));
    let count = set.stage.count(false, Arc::clone(&stop), Arc::clone(&progress));
    let (native, records) = follow(&set, "native", &plan, &windows, count, &stop, &progress).await;
    set.stage.strike().await;

    let set = SparkStage::empty(broker, plan.election()).await;
    let (stop, progress) = (Arc::new(Stop::default()), Arc::new(CountProgress::default()));
    let count = set.count_on_spark(server, false, Arc::clone(&stop), Arc::clone(&progress));
    let (on_spark, _) = follow(&set, "spark", &plan, &windows, count, &stop, &progress).await;
    set.stage.strike().await;
    let windows: Vec<Value> = windows
        .iter()
        .zip(native.iter().zip(&on_spark))
        .map(|(window, (native, spark))| {
            json!({
                "from_second": window.start.as_secs(),
                "to_second": window.end.as_secs(),
                "votes": native.votes,
                "native_latency_ms": { "p50": native.p50, "p99": native.p99, "max": native.max },
                "spark_latency_ms": { "p50": spark.p50, "p99": spark.p99, "max": spark.max },
            })
        })
        .collect();
    json!({
        "what": "steady pace, append to visible",
        "note": "of every vote of a window, as somebody sees it who looks at the tables every 4 ms",
        "votes_per_second": records as f64 / scale.steady.as_secs_f64(),
        "windows": windows,
    })
}

/// Sends the votes of the day while a counter counts, and stops it once it has counted them all. Returns the latency in
/// each window, and the number of records.
async fn follow(
    set: &SparkStage,
    counter: &'static str,
    plan: &Plan,
    windows: &[Range<Duration>; 2],
    count: impl Future<Output = ()>,
    stop: &Stop,
    progress: &CountProgress,
) -> ([Latency; 2], u64) {
    let watch = Watch::begin(set.stage.database(), counter);
    let (log, plan) = (set.log.clone(), plan.clone());
    let sent = async {
        let send = move || send(&plan, &FaultRates::demo(), &log, Speed::Times(1.0));
        let truth = tokio::task::spawn_blocking(send).await.expect("the generator does not panic");
        while progress.received() < truth.records {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.ask();
        truth
    };
    let (truth, ()) = tokio::join!(sent, count);
    check(&set.stage.database(), counter, &truth).await;
    (watch.end(&set.log, windows).await, truth.records)
}
