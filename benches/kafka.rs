//! How fast votes go into Kafka, come out of it, and are counted from it, with the broker and PostgreSQL on this machine.
//!
//! `cargo bench --bench kafka` measures and writes the raw figures to `benches/results/`; `cargo test` runs the same
//! small. Every figure is given only after the tables were found equal to the generator's truth. Producers are idempotent
//! and wait for all replicas in sync (one here, which leaves the sync to the disk to the system, as is Kafka's default);
//! PostgreSQL syncs every commit to disk; the count is exactly once.

mod kit;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kit::{
    PARTITIONS, Stage, WORKERS, check, folder_bytes, is_bench, is_wanted, median, one, peak_memory_mb, plan,
    reset_peak_memory, send, steady, steady_plan,
};
use nix::sys::resource::{UsageWho, getrusage};
use scrutin::log::kafka::{KafkaAddress, KafkaSettings, NewTopic};
use scrutin::log::{KafkaLog, VoteLog};
use scrutin::pipeline::CountProgress;
use scrutin::simulate::{FaultRates, Plan, Speed, Truth};
use serde_json::{Value, json};

struct Scale {
    voters: u64,
    runs: usize,
    /// Voters of the job with a large timeline.
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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("make a runtime");
    let figures = runtime.block_on(measure(&scale));
    kit::report(
        "kafka",
        &json!({
            "command": if is_bench() { "cargo bench --bench kafka" } else { "cargo test --benches" },
            "machine": kit::machine(),
            "kafka": "4.4.0, one broker, -Xmx1g, on the same machine",
            "delivery": "exactly once; idempotent producer, acks=all; PostgreSQL with fsync",
            "voters": scale.voters, "partitions": PARTITIONS, "workers": WORKERS,
            "figures": figures,
        }),
    );
}

async fn measure(scale: &Scale) -> Vec<Value> {
    let broker = Broker::start();
    let mut figures = Vec::new();
    // The JVM compiles what it runs often; nobody measures it before it has.
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
            let stage = Stage::set(plan.election(), async |folder| broker.log(folder, "lz4").await).await;
            figures.push(steady(plan, stage).await);
        }
    }
    figures
}

/// A backlog made, then only read, then counted.
async fn backlog(broker: &Broker, codec: &str, voters: u64, minutes: i64, seed: u64) -> Value {
    let plan = plan(voters, minutes * 60_000, seed);
    let stage = Stage::set(plan.election(), async |folder| broker.log(folder, codec).await).await;
    let bytes_before = broker.bytes();

    let made = Cost::begin(broker);
    let truth = produce(plan, Arc::clone(&stage.log)).await;
    let made = made.end(broker, truth.records);
    let held: u64 = (0..PARTITIONS).map(|p| stage.log.offsets(p).expect("offsets").end).sum();
    assert_eq!(held, truth.records, "every record is in the log");
    let log_bytes = broker.bytes() - bytes_before;

    let read = Cost::begin(broker);
    let log = Arc::clone(&stage.log);
    let records = tokio::task::spawn_blocking(move || consume(&*log)).await.expect("the reader does not panic");
    assert_eq!(records, truth.records, "every record comes out again");
    let read = read.end(broker, records);

    let progress = Arc::new(CountProgress::default());
    reset_peak_memory();
    let counted = Cost::begin(broker);
    stage.count(true, Arc::default(), Arc::clone(&progress)).await;
    let counted = counted.end(broker, truth.records);
    let count_peak_memory_mb = peak_memory_mb();
    let database = stage.database();
    check(&database, &truth).await;
    let cells: i64 = one(&database, "SELECT count(*) FROM timeline").await;
    stage.strike().await;
    json!({
        "records": truth.records,
        "timeline_cells": cells,
        "log_bytes_per_million_votes": log_bytes as f64 / truth.records as f64 * 1e6,
        "produce_votes_per_second": made.rate,
        "produce_cpu_seconds_per_million_votes": made.own,
        "produce_broker_cpu_seconds_per_million_votes": made.broker,
        "consume_only_votes_per_second": read.rate,
        "consume_only_cpu_seconds_per_million_votes": read.own,
        "consume_only_broker_cpu_seconds_per_million_votes": read.broker,
        "count_votes_per_second": counted.rate,
        "count_cpu_seconds_per_million_votes": counted.own,
        "count_broker_cpu_seconds_per_million_votes": counted.broker,
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

/// Reads all that is in the log on as many threads as count, and does nothing with it.
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

/// Time and processor time of a part of a run.
struct Cost {
    start: Instant,
    own: f64,
    broker: f64,
}

/// Votes a second; processor seconds a million votes.
struct Rates {
    rate: f64,
    own: f64,
    broker: f64,
}

impl Cost {
    fn begin(broker: &Broker) -> Cost {
        Cost { start: Instant::now(), own: own_cpu_seconds(), broker: broker.cpu_seconds() }
    }

    fn end(self, broker: &Broker, votes: u64) -> Rates {
        let millions = votes as f64 / 1e6;
        Rates {
            rate: votes as f64 / self.start.elapsed().as_secs_f64(),
            own: (own_cpu_seconds() - self.own) / millions,
            broker: (broker.cpu_seconds() - self.broker) / millions,
        }
    }
}

fn own_cpu_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("ask for the time used");
    [usage.user_time(), usage.system_time()].iter().map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).sum()
}

/// A broker of the bench's own, by `tools/kafka`.
struct Broker {
    folder: tempfile::TempDir,
    address: String,
}

impl Broker {
    fn start() -> Broker {
        let folder = tempfile::Builder::new().prefix("scrutin-bench-kafka-").tempdir().expect("make a folder");
        let mut command = tool("up", folder.path());
        if is_bench() {
            command.env("KAFKA_JVM_OPTS", "-Xmx1g");
        }
        let done = command.output().expect("run tools/kafka");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let address = String::from_utf8(done.stdout).expect("an address is text").trim().to_owned();
        Broker { folder, address }
    }

    /// A new topic, whose producers compress like that.
    async fn log(&self, folder: &Path, codec: &str) -> Arc<dyn VoteLog> {
        let topic = folder.file_name().expect("a folder has a name").to_string_lossy();
        let address: KafkaAddress = format!("{}/{topic}", self.address).parse().expect("it is an address");
        let file = folder.join("kafka.properties");
        std::fs::write(&file, format!("compression.type={codec}\n")).expect("write the settings");
        let settings = KafkaSettings::read(&file).expect("read the settings");
        let new = NewTopic { partitions: Some(PARTITIONS), ..NewTopic::default() };
        Arc::new(KafkaLog::open(&address, &settings, &new).await.expect("make the topic"))
    }

    fn bytes(&self) -> u64 {
        folder_bytes(&self.folder.path().join("node-1/data"))
    }

    fn cpu_seconds(&self) -> f64 {
        let pid = std::fs::read_to_string(self.folder.path().join("node-1/pid")).expect("the broker has a pid");
        let stat = std::fs::read_to_string(PathBuf::from("/proc").join(pid.trim()).join("stat")).unwrap_or_default();
        // The 14th and 15th of proc(5), in ticks of a hundredth; the name before may have spaces in it.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        rest.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = tool("down", self.folder.path()).arg("--delete").status();
    }
}

fn tool(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/kafka"));
    command.arg(name).arg("--dir").arg(folder);
    command
}
