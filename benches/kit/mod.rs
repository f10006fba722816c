//! What the benches share: a stage to count on, votes, the check before every figure, and the report.

#![allow(clippy::mod_module_files, reason = "Cargo would take benches/kit.rs for a bench")]
#![allow(dead_code, reason = "each bench uses part of it")]

pub mod broker;
pub mod browser;
pub mod commits;
pub mod cost;
pub mod seen;
pub mod spark_server;
pub mod spark_stage;
mod tool;
pub mod tutorial;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use scrutin_contract::election::Election;
use scrutin_contract::record::Record;
use scrutin_contract::truth::Truth;
use scrutin_log::{EmbeddedLog, VoteLog};
use scrutin_pipeline::{self as pipeline, CountOptions, CountProgress, Stop};
use scrutin_postgres::Cluster;
use scrutin_producer::simulate::{self, Delivery, FaultRates, Plan, SendProgress, Speed};
use scrutin_store::{Database, Role, elections, migrate};
use scrutin_telemetry::Telemetry;
use serde_json::{Value, json};

use commits::{commits, latency};

pub const PARTITIONS: u32 = 4;
pub const WORKERS: usize = 2;

/// Whether this is a measurement, and not the small run of `cargo test`.
pub fn is_bench() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// The value of `SCRUTIN_BENCH_VOTERS`, or `usual`.
pub fn voters(usual: u64) -> u64 {
    std::env::var("SCRUTIN_BENCH_VOTERS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Whether to measure a figure. `SCRUTIN_BENCH_ONLY` names a single one, for use while working on it.
pub fn is_wanted(name: &str) -> bool {
    std::env::var("SCRUTIN_BENCH_ONLY").map_or(true, |only| only == name)
}

/// Measures and prints the report, and saves a complete report to `benches/results/`. `facts` are what the figures
/// depend on besides the machine.
pub fn run(name: &str, facts: Value, figures: impl Future<Output = Vec<Value>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("make a runtime");
    let figures = runtime.block_on(figures);
    let command = if is_bench() { format!("cargo bench --bench {name}") } else { "cargo test --benches".to_owned() };
    let mut report = facts;
    report["command"] = command.into();
    report["machine"] = machine();
    report["partitions"] = PARTITIONS.into();
    report["workers"] = WORKERS.into();
    report["figures"] = figures.into();
    println!("{report:#}");
    if is_bench() && std::env::var("SCRUTIN_BENCH_ONLY").is_err() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/results/{name}.json"));
        std::fs::create_dir_all(path.parent().expect("the path has a parent")).expect("make the folder of results");
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

/// The median of each figure over the runs.
pub fn median(runs: &[Value]) -> Value {
    let keys = runs[0].as_object().expect("a run has figures").keys();
    let middle = |key: &String| {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| run[key].as_f64()).collect();
        values.sort_by(f64::total_cmp);
        json!(values[values.len() / 2])
    };
    keys.map(|key| (key.clone(), middle(key))).collect::<serde_json::Map<_, _>>().into()
}

/// A private PostgreSQL, and a log to count into it.
pub struct Stage {
    pub folder: tempfile::TempDir,
    pub log: Arc<dyn VoteLog>,
    cluster: Cluster,
}

impl Stage {
    /// `log` makes the log; it may use the folder it is given.
    pub async fn set(election: &Election, log: impl AsyncFnOnce(&Path) -> Arc<dyn VoteLog>) -> Stage {
        let folder = tempfile::Builder::new().prefix("scrutin-bench-").tempdir().expect("make a folder");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755); // PostgreSQL's account must traverse it
        std::fs::set_permissions(folder.path(), mode).expect("open the folder");
        let log = log(folder.path()).await;
        let cluster = Cluster::start(folder.path()).await.unwrap_or_else(|error| panic!("{error}"));
        migrate::setup(&cluster.database()).await.expect("set up the database");
        let mut owner = cluster.database().connect(Role::Owner).await.expect("connect");
        elections::save(&mut owner, election).await.expect("save the election");
        Stage { folder, log, cluster }
    }

    pub fn database(&self) -> Database {
        self.cluster.database()
    }

    pub fn database_url(&self) -> String {
        self.cluster.url()
    }

    pub async fn count(&self, drain: bool, stop: Arc<Stop>, progress: Arc<CountProgress>) {
        let options = CountOptions { counter: "native".into(), workers: WORKERS, drain };
        let (log, database) = (Arc::clone(&self.log), self.cluster.database());
        pipeline::count(log, database, &options, Telemetry::new(), progress, stop).await.expect("count");
    }

    pub async fn strike(self) {
        self.cluster.stop().await.expect("stop PostgreSQL");
        drop(self.folder);
    }
}

/// The embedded log of a stage.
pub async fn embedded(folder: &Path) -> Arc<dyn VoteLog> {
    Arc::new(EmbeddedLog::open(&folder.join("log"), PARTITIONS).expect("make a log"))
}

pub fn plan(voters: u64, day_ms: i64, seed: u64) -> Plan {
    let mut election = simulate::scaled(&Election::built_in(), voters);
    // A fixed day, on whole minutes.
    election.opens_at_ms = 1_807_430_400_000;
    election.closes_at_ms = election.opens_at_ms + day_ms;
    Plan::draw(election, seed).expect("the built-in election can be drawn")
}

pub fn send(plan: &Plan, faults: &FaultRates, log: &dyn VoteLog, speed: Speed) -> Truth {
    let (progress, stop) = (SendProgress::default(), AtomicBool::new(false));
    let delivery = Delivery { log, speed, threads: 2, progress: &progress, stop: &stop };
    simulate::run(plan, faults, &delivery).expect("make the votes").expect("nothing stops it")
}

/// An election with a day of this length and about `votes_per_second` votes per second.
pub fn steady_plan(votes_per_second: u64, day: Duration) -> Plan {
    // Turnout is about 3 in 4. The pace varies over the day; its mean is `votes_per_second`.
    plan(votes_per_second * day.as_secs() * 4 / 3, day.as_millis() as i64, 9)
}

/// Votes at the pace of their day, counted as they arrive.
pub async fn steady(plan: Plan, stage: Stage) -> Value {
    let day = Duration::from_millis((plan.election().closes_at_ms - plan.election().opens_at_ms) as u64);
    let truth = count_at_pace(plan, &stage, &Arc::default()).await;
    let database = stage.database();
    check(&database, "native", &truth).await;
    let commits = commits(&database, "native").await;
    let (p50, p99) = latency(&commits);
    stage.strike().await;
    json!({
        "what": "steady pace, append to visible",
        "note": "each vote is taken to have waited as long as its commit's own 50th or 99th percentile",
        "records": truth.records,
        "votes_per_second": truth.records as f64 / day.as_secs_f64(),
        "latency_ms_p50": p50,
        "latency_ms_p99": p99,
        "commits": commits.len(),
    })
}

/// Sends votes at the pace of their day and counts them, until all are committed.
pub async fn count_at_pace(plan: Plan, stage: &Stage, progress: &Arc<CountProgress>) -> Truth {
    let stop = Arc::new(Stop::default());
    let log = Arc::clone(&stage.log);
    let sending = tokio::task::spawn_blocking(move || send(&plan, &FaultRates::demo(), &*log, Speed::Times(1.0)));
    let follow = async {
        let truth = sending.await.expect("the generator does not panic");
        while progress.received() < truth.records {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The last commits are recorded up to a second later.
        stop.ask();
        truth
    };
    let (truth, ()) = tokio::join!(follow, stage.count(false, Arc::clone(&stop), Arc::clone(progress)));
    truth
}

/// Checks that the counter's tables match the generator's truth.
pub async fn check(database: &Database, counter: &str, truth: &Truth) {
    let client = database.connect(Role::Reader).await.expect("connect");
    let rows = client
        .query(
            "SELECT region, choice, sum(votes)::bigint FROM results_by_region WHERE counter = $1
              GROUP BY 1, 2 HAVING sum(votes) > 0",
            &[&counter],
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
    assert!(holds, "received = counted + rejected");
}

pub async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(database: &Database, sql: &str) -> T {
    let client = database.connect(Role::Owner).await.expect("connect");
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

/// Passes all records now in a log, each with its partition, in the order of each partition. Blocks.
pub fn read(log: &dyn VoteLog, mut take: impl FnMut(u32, Record<'_>)) {
    for partition in 0..log.partitions() {
        let end = log.offsets(partition).expect("offsets").end;
        let mut reader = log.reader(&[(partition, 0)]).expect("read the log");
        let mut next = 0;
        while next < end {
            let Some(batch) = reader.fetch(Duration::from_secs(30)).expect("read the log") else { continue };
            batch.records().for_each(|record| take(partition, record));
            next = batch.next_offset;
            reader.recycle(batch);
        }
    }
}

pub fn folder_bytes(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).expect("read the folder") {
        let entry = entry.expect("read the folder");
        let meta = entry.metadata().expect("read the folder");
        bytes += if meta.is_dir() { folder_bytes(&entry.path()) } else { meta.len() };
    }
    bytes
}
