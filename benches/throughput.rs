//! How fast votes are made, counted and made visible, and what a restart and the roll cost.
//!
//! `cargo bench` measures and writes the raw figures to `benches/results/`; `cargo test` runs the same small,
//! so that it cannot rot. Every figure is given only after the tables were found equal to the generator's truth.
//! Delivery is exactly once; the log and PostgreSQL sync every append and commit to disk (fsync on).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use scrutin::election::Election;
use scrutin::engine::{Changes, Engine, Partition, Roll, Rules};
use scrutin::log::{EmbeddedLog, VoteLog};
use scrutin::pipeline::{self, CountOptions, CountProgress, Stop};
use scrutin::postgres::Cluster;
use scrutin::simulate::{self, Delivery, FaultRates, Plan, Progress, Speed, Truth};
use scrutin::store::{Database, Role, elections, migrate};
use scrutin::telemetry::Telemetry;
use serde_json::{Value, json};

const PARTITIONS: u32 = 4;
const WORKERS: usize = 2;

struct Scale {
    voters: u64,
    runs: usize,
    /// Registered voters of the one run that is as large as a country.
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
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let mut scale = if is_bench { FULL } else { SMALL };
    if let Some(voters) = std::env::var("SCRUTIN_BENCH_VOTERS").ok().and_then(|text| text.parse().ok()) {
        scale.voters = voters;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("make a runtime");
    let figures = runtime.block_on(measure(&scale));
    let report = json!({
        "command": if is_bench { "cargo bench --bench throughput" } else { "cargo test --benches" },
        "machine": machine(),
        "delivery": "exactly once; log and PostgreSQL with fsync",
        "voters": scale.voters, "partitions": PARTITIONS, "workers": WORKERS,
        "figures": figures,
    });
    println!("{report:#}");
    if is_bench && std::env::var("SCRUTIN_BENCH_ONLY").is_err() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results/throughput.json");
        std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("make the folder of results");
        std::fs::write(&path, format!("{report:#}\n")).expect("write the results");
    } else {
        println!("1 passed, 0 failed");
    }
}

fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| -> Option<String> {
        text.lines()
            .find(|line| line.starts_with(name))
            .and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
    };
    json!({
        "cpu": field(&read("/proc/cpuinfo"), "model name"),
        "cores": std::thread::available_parallelism().map(usize::from).ok(),
        "memory": field(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "scrutin": env!("CARGO_PKG_VERSION"),
    })
}

async fn measure(scale: &Scale) -> Vec<Value> {
    let mut figures = Vec::new();
    // For a look at one figure while working on it.
    if std::env::var("SCRUTIN_BENCH_ONLY").is_ok_and(|only| only == "steady") {
        return vec![steady(scale).await];
    }
    for (name, minutes) in [("a day of 5 minutes", 5), ("a day of 12 hours", 720)] {
        let mut runs = Vec::new();
        for run in 0..scale.runs {
            runs.push(backlog(scale.voters, minutes, run as u64 + 1).await);
        }
        figures.push(json!({ "what": format!("backlog, {name}"), "median": median(&runs), "runs": runs }));
    }
    figures.push(
        json!({ "what": "backlog, a country and a day of 5 minutes", "runs": [backlog(scale.country, 5, 1).await] }),
    );
    figures.push(steady(scale).await);
    figures
}

/// The median of each figure of the runs.
fn median(runs: &[Value]) -> Value {
    let keys = runs[0].as_object().expect("a run has figures").keys();
    let middle = |key: &String| {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| run[key].as_f64()).collect();
        values.sort_by(f64::total_cmp);
        json!(values[values.len() / 2])
    };
    keys.map(|key| (key.clone(), middle(key))).collect::<serde_json::Map<_, _>>().into()
}

struct Stage {
    folder: tempfile::TempDir,
    log: Arc<dyn VoteLog>,
    cluster: Cluster,
}

impl Stage {
    async fn set(election: &Election) -> Stage {
        let folder = tempfile::Builder::new().prefix("scrutin-bench-").tempdir().expect("make a folder");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755); // PostgreSQL's account has to pass
        std::fs::set_permissions(folder.path(), mode).expect("open the folder");
        let log = EmbeddedLog::open(&folder.path().join("log"), PARTITIONS).expect("make a log");
        let cluster = Cluster::start(folder.path()).await.unwrap_or_else(|error| panic!("{error}"));
        migrate::setup(&cluster.database()).await.expect("set up the database");
        let mut owner = cluster.database().connect(Role::Owner).await.expect("connect");
        elections::save(&mut owner, election).await.expect("save the election");
        Stage { folder, log: Arc::new(log), cluster }
    }

    async fn count(&self, drain: bool, stop: Arc<Stop>, progress: Arc<CountProgress>) {
        let options = CountOptions { counter: "native".into(), workers: WORKERS, drain };
        let (log, database) = (Arc::clone(&self.log), self.cluster.database());
        pipeline::count(log, database, &options, Telemetry::new(), progress, stop).await.expect("count");
    }

    async fn strike(self) {
        self.cluster.stop().await.expect("stop PostgreSQL");
        drop(self.folder);
    }
}

fn plan(voters: u64, day_ms: i64, seed: u64) -> Plan {
    let mut election = simulate::scaled(&Election::built_in(), voters);
    // A day that is over, on whole minutes.
    election.opens_at_ms = 1_807_430_400_000;
    election.closes_at_ms = election.opens_at_ms + day_ms;
    Plan::draw(election, seed).expect("the built-in election can be drawn")
}

fn send(plan: &Plan, faults: &FaultRates, log: &dyn VoteLog, speed: Speed) -> Truth {
    let (progress, stop) = (Progress::default(), AtomicBool::new(false));
    let delivery = Delivery { log, speed, threads: 2, progress: &progress, stop: &stop };
    simulate::run(plan, faults, &delivery).expect("make the votes").expect("nobody stops it")
}

/// A backlog made, then counted, then a restart on the full roll.
async fn backlog(voters: u64, minutes: i64, seed: u64) -> Value {
    let plan = plan(voters, minutes * 60_000, seed);
    let stage = Stage::set(plan.election()).await;
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
    reset_peak_memory();
    let start = Instant::now();
    stage.count(true, Arc::default(), Arc::clone(&progress)).await;
    let counted = start.elapsed();
    let peak_memory_mb = peak_memory_mb();
    let database = stage.cluster.database();
    check(&database, &truth).await;

    let start = Instant::now();
    stage.count(true, Arc::default(), Arc::default()).await;
    let restarted = start.elapsed();
    let cells: i64 = one(&database, "SELECT count(*) FROM timeline").await;
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

/// Reads and counts the log on as many threads as the pipeline, but commits nothing.
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
                        evidence: [0; 9],
                        rolls: vec![Roll::new([11, 13])],
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

/// Begins to measure the peak of this process's memory anew, where the system can.
fn reset_peak_memory() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Peak of resident memory since then, PostgreSQL not included; none where the system does not tell.
fn peak_memory_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

/// Votes at a steady pace, counted as they come.
async fn steady(scale: &Scale) -> Value {
    // Turnout is about 3 in 4, and the pace over the day is not even: the mean is what was asked for.
    let votes = scale.steady_votes_per_second * scale.steady.as_secs();
    let plan = plan(votes * 4 / 3, scale.steady.as_millis() as i64, 9);
    let stage = Stage::set(plan.election()).await;
    let (stop, progress) = (Arc::new(Stop::default()), Arc::new(CountProgress::default()));
    let log = Arc::clone(&stage.log);
    let sending = tokio::task::spawn_blocking(move || send(&plan, &FaultRates::demo(), &*log, Speed::Times(1.0)));
    let follow = async {
        let truth = sending.await.expect("the generator does not panic");
        while progress.received() < truth.records {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The last commits are remembered a second later.
        stop.ask();
        truth
    };
    let (truth, ()) = tokio::join!(follow, stage.count(false, Arc::clone(&stop), Arc::clone(&progress)));
    let database = stage.cluster.database();
    check(&database, &truth).await;
    let sql = "SELECT max(p) FROM (SELECT latency_ms_p99 AS p, sum(received) OVER (ORDER BY latency_ms_p99) AS upto,
                                          sum(received) OVER () AS total FROM batch) b WHERE upto <= total * 0.99";
    let p99: f64 = one::<Option<f64>>(&database, sql).await.unwrap_or_default();
    let p50: f64 =
        one::<Option<f64>>(&database, &sql.replace("p99", "p50").replace("0.99", "0.5")).await.unwrap_or_default();
    let commits: i64 = one(&database, "SELECT count(*) FROM batch").await;
    stage.strike().await;
    json!({
        "what": "steady pace, append to visible",
        "note": "each vote is taken to have waited as long as its commit's own 50th or 99th percentile",
        "records": truth.records,
        "votes_per_second": truth.records as f64 / scale.steady.as_secs_f64(),
        "latency_ms_p50": p50,
        "latency_ms_p99": p99,
        "commits": commits,
    })
}

/// The tables are what the generator meant.
async fn check(database: &Database, truth: &Truth) {
    let client = database.connect(Role::Reader).await.expect("connect");
    let rows = client
        .query(
            "SELECT region, choice, sum(votes)::bigint FROM results_by_region GROUP BY 1, 2 HAVING sum(votes) > 0",
            &[],
        )
        .await
        .expect("read the results");
    let mut expected = std::collections::BTreeMap::new();
    for (region, choice, _, votes) in truth.tally_rows().filter(|row| row.3 > 0) {
        *expected.entry((region.to_owned(), choice.to_owned())).or_insert(0) += votes as i64;
    }
    let found = rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
    assert_eq!(expected, found, "the tally is exact");
    let holds: bool = one(database, "SELECT bool_and(holds) FROM accounting").await;
    assert!(holds, "received = counted + refused");
}

async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(database: &Database, sql: &str) -> T {
    let client = database.connect(Role::Owner).await.expect("connect");
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

fn folder_bytes(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).expect("read the folder") {
        let entry = entry.expect("read the folder");
        let meta = entry.metadata().expect("read the folder");
        bytes += if meta.is_dir() { folder_bytes(&entry.path()) } else { meta.len() };
    }
    bytes
}
