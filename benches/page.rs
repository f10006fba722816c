//! Measures what the live page costs, and how soon its viewers see what was counted.
//!
//! `cargo bench --bench page` measures and writes the raw figures to `benches/results/`; `cargo test` runs a small
//! version. The page is a separate `scrutin serve` process; the viewers, the generator and the count are in this
//! process, on the same cores. No figure is reported until every viewer has seen the exact number of votes and the
//! tables match the truth.

mod kit;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use scrutin_contract::truth::Truth;
use scrutin_log::{EmbeddedLog, VoteLog};
use scrutin_pipeline::CountProgress;
use scrutin_producer::simulate::{FaultRates, Speed};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

use kit::browser;
use kit::commits;
use kit::cost::{Cost, peak_memory_mb, reset_peak_memory};
use kit::{PARTITIONS, Stage, check, is_bench, is_wanted, median, plan, send, steady_plan};

struct Scale {
    voters: u64,
    runs: usize,
    /// Numbers of concurrent viewers.
    viewers: &'static [usize],
    /// Concurrent viewers while the backlog is counted.
    backlog_viewers: usize,
    votes_per_second: u64,
    day: Duration,
}

const FULL: Scale = Scale {
    voters: 13_600_000,
    runs: 5,
    viewers: &[0, 1_000, 4_000, 8_000],
    backlog_viewers: 1_000,
    votes_per_second: 100_000,
    day: Duration::from_secs(30),
};
const SMALL: Scale = Scale {
    voters: 20_000,
    runs: 1,
    viewers: &[0, 20],
    backlog_viewers: 20,
    votes_per_second: 2_000,
    day: Duration::from_secs(2),
};

fn main() {
    let mut scale = if is_bench() { FULL } else { SMALL };
    scale.voters = kit::voters(scale.voters);
    let facts = json!({ "delivery": "exactly once; log and PostgreSQL with fsync", "voters": scale.voters });
    allow_many_connections();
    kit::run("page", facts, measure(&scale));
}

/// Each viewer is a connection, and uses a file descriptor at both ends.
fn allow_many_connections() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("get the limit of open files");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("raise the limit of open files");
}

async fn measure(scale: &Scale) -> Vec<Value> {
    let mut figures = Vec::new();
    if is_wanted("load") {
        figures.push(load(scale).await);
    }
    if is_wanted("steady") {
        for &viewers in scale.viewers {
            figures.push(steady(scale, viewers).await);
        }
    }
    if is_wanted("backlog") {
        let mut runs = [Vec::new(), Vec::new()];
        for run in 0..scale.runs {
            for (viewers, runs) in [0, scale.backlog_viewers].into_iter().zip(&mut runs) {
                runs.push(backlog(scale, viewers, run as u64 + 1).await);
            }
        }
        for (viewers, runs) in [0, scale.backlog_viewers].into_iter().zip(runs) {
            let what = format!("a backlog counted, {viewers} viewers");
            figures.push(json!({ "what": what, "median": median(&runs), "runs": runs }));
        }
    }
    figures
}

async fn embedded(folder: &std::path::Path) -> Arc<dyn VoteLog> {
    Arc::new(EmbeddedLog::open(&folder.join("log"), PARTITIONS).expect("make a log"))
}

/// A `scrutin serve` process, killed on drop.
struct Served {
    child: Child,
    address: String,
}

impl Served {
    async fn start(stage: &Stage) -> Served {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scrutin"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--requests-per-second", "0"]);
        command.current_dir(stage.folder.path()).env("DATABASE_URL", stage.database_url());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("start the page");
        let out = child.stdout.take().expect("stdout is piped");
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("read the output");
            line
        });
        let line = line.await.expect("reading does not panic");
        let port = line.trim().rsplit(':').next().expect("the output ends in the port");
        Served { address: format!("127.0.0.1:{port}"), child }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a viewer received.
struct Seen {
    /// The time of each update, and its number of received votes.
    updates: Vec<(Instant, u64)>,
    bytes: u64,
}

/// Follows the page's events until they show all votes.
async fn view(address: String, mut all: watch::Receiver<Option<u64>>) -> Seen {
    let mut stream = TcpStream::connect(&address).await.expect("connect to the page");
    let request = "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("ask for the events");
    let mut lines = BufReader::new(stream).split(b'\n');
    let mut seen = Seen { updates: Vec::new(), bytes: 0 };
    loop {
        let line = tokio::select! {
            line = lines.next_segment() => line.expect("read the events").expect("the stream of events is open"),
            changed = all.changed() => {
                changed.expect("the bench is running");
                if is_done(&seen, &all) { return seen }
                continue;
            }
        };
        seen.bytes += line.len() as u64 + 1;
        // An event is one line. The total is the only `received` inside `accounting`.
        let Some(data) = line.strip_prefix(b"data: ") else { continue };
        let data = std::str::from_utf8(data).expect("an event is text");
        let books = data.split_once("\"accounting\":{").and_then(|(_, rest)| rest.split_once('}'));
        let received = books.and_then(|(books, _)| books.split_once("\"received\":")).map(|(_, rest)| {
            rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|text| text.parse().ok()).expect("a number")
        });
        if let Some(received) = received {
            seen.updates.push((Instant::now(), received));
            if is_done(&seen, &all) {
                return seen;
            }
        }
    }
}

fn is_done(seen: &Seen, all: &watch::Receiver<Option<u64>>) -> bool {
    let all = *all.borrow();
    all.is_some() && seen.updates.last().map(|update| update.1) == all
}

/// Records the time of each commit and the number of votes received by then, until `stop`.
fn watch_commits(progress: Arc<CountProgress>, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<(Instant, u64)>> {
    std::thread::spawn(move || {
        let mut commits = vec![(Instant::now(), 0)];
        while !stop.load(Ordering::Relaxed) {
            let received = progress.received();
            if commits.last().is_some_and(|last| last.1 != received) {
                commits.push((Instant::now(), received));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        commits
    })
}

/// The delay from each commit to each viewer's update that shows it, in milliseconds, sorted.
fn delays(commits: &[(Instant, u64)], viewers: &[Seen]) -> Vec<f64> {
    let mut delays = Vec::new();
    for seen in viewers {
        let mut commits = commits.iter().skip(1).peekable();
        for (at, received) in &seen.updates {
            while let Some((committed, _)) = commits.next_if(|commit| commit.1 <= *received) {
                delays.push(at.saturating_duration_since(*committed).as_secs_f64() * 1000.0);
            }
        }
    }
    delays.sort_by(f64::total_cmp);
    delays
}

async fn connect_all(
    served: &Served,
    viewers: usize,
    all: &watch::Receiver<Option<u64>>,
) -> Vec<tokio::task::JoinHandle<Seen>> {
    let mut tasks = Vec::new();
    for n in 0..viewers {
        tasks.push(tokio::spawn(view(served.address.clone(), all.clone())));
        // Pause before the listener's queue overflows.
        if n % 100 == 99 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    tasks
}

/// Votes at a steady pace, counted as they arrive, with `viewers` viewers.
async fn steady(scale: &Scale, viewers: usize) -> Value {
    let plan = steady_plan(scale.votes_per_second, scale.day);
    let stage = Stage::set(plan.election(), embedded).await;
    let served = Served::start(&stage).await;
    let (all, total) = watch::channel(None);
    let tasks = connect_all(&served, viewers, &total).await;
    let progress = Arc::new(CountProgress::default());
    let stop = Arc::new(AtomicBool::new(false));
    let commits = watch_commits(Arc::clone(&progress), Arc::clone(&stop));
    let pids = [served.pid()];
    reset_peak_memory(served.pid());
    let cost = Cost::begin(&pids);
    let start = Instant::now();
    let truth = kit::count_at_pace(plan, &stage, &progress).await;
    let seconds = start.elapsed().as_secs_f64();
    let spent = cost.end(truth.records);
    stop.store(true, Ordering::Relaxed);
    let commits = commits.join().expect("the watch does not panic");
    let seen = finish(&all, &truth, tasks).await;
    let database = stage.database();
    check(&database, "native", &truth).await;
    let delays = delays(&commits, &seen);
    let at = |share: f64| (!delays.is_empty()).then(|| delays[((delays.len() - 1) as f64 * share) as usize]);
    let updates: usize = seen.iter().map(|seen| seen.updates.len()).sum();
    let bytes: u64 = seen.iter().map(|seen| seen.bytes).sum();
    let latency = commits::latency(&commits::commits(&database, "native").await);
    let figure = json!({
        "what": format!("votes at a steady pace, {viewers} viewers"),
        "viewers": viewers,
        "votes_per_second": truth.records as f64 / scale.day.as_secs_f64(),
        "commit_to_viewer_ms_p50": at(0.5),
        "commit_to_viewer_ms_p99": at(0.99),
        "commit_to_viewer_ms_max": at(1.0),
        "updates_per_viewer_and_second": (viewers > 0).then(|| updates as f64 / viewers as f64 / seconds),
        "bytes_per_viewer_and_second": (viewers > 0).then(|| bytes as f64 / viewers as f64 / seconds),
        "server_cpu_share_of_a_core": spent.others * truth.records as f64 / 1e6 / seconds,
        "server_peak_memory_mb": peak_memory_mb(served.pid()),
        "append_to_visible_ms_p50": latency.0,
        "append_to_visible_ms_p99": latency.1,
    });
    drop(served);
    stage.strike().await;
    figure
}

/// Waits until every viewer has seen the exact number of votes.
async fn finish(
    all: &watch::Sender<Option<u64>>,
    truth: &Truth,
    tasks: Vec<tokio::task::JoinHandle<Seen>>,
) -> Vec<Seen> {
    all.send_replace(Some(truth.records));
    let mut seen = Vec::new();
    for task in tasks {
        let ended = tokio::time::timeout(Duration::from_secs(60), task).await;
        seen.push(ended.expect("every viewer sees all votes").expect("a viewer does not panic"));
    }
    seen
}

/// A backlog counted as fast as possible, with `viewers` viewers.
async fn backlog(scale: &Scale, viewers: usize, seed: u64) -> Value {
    let plan = plan(scale.voters, 300_000, seed);
    let stage = Stage::set(plan.election(), embedded).await;
    let log = Arc::clone(&stage.log);
    let sent = tokio::task::spawn_blocking(move || send(&plan, &FaultRates::demo(), &*log, Speed::Max));
    let truth = sent.await.expect("the generator does not panic");
    let served = Served::start(&stage).await;
    let (all, total) = watch::channel(None);
    let tasks = connect_all(&served, viewers, &total).await;
    let progress = Arc::new(CountProgress::default());
    let pids = [served.pid()];
    let cost = Cost::begin(&pids);
    stage.count(true, Arc::default(), Arc::clone(&progress)).await;
    let spent = cost.end(truth.records);
    finish(&all, &truth, tasks).await;
    check(&stage.database(), "native", &truth).await;
    drop(served);
    stage.strike().await;
    json!({
        "records": truth.records,
        "count_votes_per_second": spent.rate,
        "server_cpu_seconds_per_million_votes": spent.others,
    })
}

/// The time and the bytes it takes to load the page in a browser with an empty cache.
async fn load(scale: &Scale) -> Value {
    let plan = plan(scale.voters.min(1_000_000), 300_000, 1);
    let stage = Stage::set(plan.election(), embedded).await;
    let log = Arc::clone(&stage.log);
    let sent = tokio::task::spawn_blocking(move || send(&plan, &FaultRates::demo(), &*log, Speed::Max));
    let truth = sent.await.expect("the generator does not panic");
    stage.count(true, Arc::default(), Arc::default()).await;
    check(&stage.database(), "native", &truth).await;
    let served = Served::start(&stage).await;
    let mut runs = Vec::new();
    for _ in 0..scale.runs {
        runs.push(browser::load(&format!("http://{}/", served.address), truth.counted).await);
    }
    drop(served);
    stage.strike().await;
    json!({ "what": "the page in a browser that has never seen it", "median": median(&runs), "runs": runs })
}
