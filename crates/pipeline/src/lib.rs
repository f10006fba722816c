//! Runs the native count: workers read the log and run the engine, and one committer writes to PostgreSQL.
//!
//! ```text
//! log ─▶ worker ─▶ pending changes ─▶ committer ─▶ PostgreSQL
//!        (a thread each, with         (merges them; one transaction holds tallies,
//!         its partitions)              rejections, poll book and positions)
//! ```
//!
//! Several processes may share the partitions. A process counts in rounds. It takes its partitions in PostgreSQL, which
//! shuts out the process that counted them before, and counts until the assignment is to change. Before it gives up a
//! partition, it commits the work in hand.
//!
//! The workers keep counting during a commit. The changes that wait for the next commit are bounded: a worker at the
//! bound waits, so a slow PostgreSQL slows down reading and no queue grows. While PostgreSQL is away the changes wait
//! in memory; when it is back, the stored positions show whether the last commit succeeded.

mod clock;
mod committer;
mod counting;
mod end_offsets;
mod error;
pub mod held_back;
mod job;
mod latencies;
mod resume;
mod retry;
mod round;
mod rows;
mod stop;
pub mod witness;
mod worker;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use scrutin_contract::election::Election;
use scrutin_engine::Rules;
use scrutin_log::{LogError, VoteLog};
use scrutin_store::counters::{self, CountedLog, CountingEngine, Entry};
use scrutin_store::{Database, Role, elections, positions};
use scrutin_telemetry::Telemetry;

pub use self::clock::Clock;
pub use self::end_offsets::EndOffsets;
pub use self::error::CountError;
pub use self::latencies::Latencies;
pub use self::stop::Stop;

use self::counting::Counting;
use self::job::Job;
use self::retry::Retry;

/// How soon a stop, or a change that the group wants, is noticed.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// Parts of the program as [`Telemetry`] knows them.
pub const LOG: &str = "log";
/// Shown only once something could not be read.
pub const READING: &str = "reading";
/// Shown only once a transaction has held votes back.
pub const TRANSACTION: &str = "transaction";
pub const POSTGRESQL: &str = "postgresql";

/// What to count, and how.
#[derive(Clone, Debug)]
pub struct CountOptions {
    /// The counter's name in the tables.
    pub counter: String,
    /// Worker threads. More than there are partitions are of no use.
    pub workers: usize,
    /// Stop once everything that is in the log at the start is counted, by this process or by others of the same
    /// counter.
    pub drain: bool,
}

/// The progress of the count, for display.
#[derive(Debug, Default)]
pub struct CountProgress {
    /// Votes counted, earlier runs included.
    pub counted: AtomicU64,
    /// Votes rejected, earlier runs included.
    pub rejected: AtomicU64,
    /// Records counted or rejected by earlier runs.
    pub received_before: AtomicU64,
    /// Votes in the log that are not committed yet.
    pub lag: AtomicU64,
    pub commits: AtomicU64,
}

impl CountProgress {
    /// Records counted or rejected, earlier runs included.
    pub fn received(&self) -> u64 {
        self.counted.load(Ordering::Relaxed) + self.rejected.load(Ordering::Relaxed)
    }
}

/// A counter that is ready to count.
pub struct Entered {
    pub elections: Vec<Election>,
    pub rules: Arc<Rules>,
    /// The log's offsets, by partition.
    pub offsets: Vec<Range<u64>>,
}

/// Registers a counter for a log, or finds it if it exists, and loads its progress.
///
/// # Errors
///
/// Fails if the log or PostgreSQL cannot be used, there is no election, or the counter has counted another log.
pub async fn enter(
    log: &Arc<dyn VoteLog>,
    database: &Database,
    counter: &str,
    engine: CountingEngine,
    progress: &CountProgress,
) -> Result<Entered, CountError> {
    let mut client = database.connect(Role::Counter).await?;
    let mut elections = elections::load_all(&client).await?;
    if let Some(begun_with) = counters::elections(&client, counter).await? {
        elections.retain(|election| {
            let is_counted = begun_with.contains(&election.id);
            if !is_counted {
                tracing::warn!(
                    "counter `{counter}` began without the election `{}` and rejects its votes; a new counter name counts both",
                    election.id
                );
            }
            is_counted
        });
    }
    if elections.is_empty() {
        let advice = "there is no election in the database; `scrutin setup --election DIR` loads one";
        return Err(CountError::Unusable(advice.into()));
    }
    let rules = Arc::new(Rules::new(&elections, log.partitions()).map_err(CountError::Unusable)?);
    let starts = offsets(log).await?.into_iter().map(|offsets| offsets.start).collect();
    let entry = Entry {
        counter,
        engine,
        log: &counted_log(log.as_ref()),
        elections: elections.iter().map(|election| (election.id.clone(), election.fingerprint())).collect(),
        starts,
    };
    for (partition, start) in counters::enter(&mut client, &entry).await? {
        tracing::warn!(
            "partition {partition} of the log at {} starts at offset {start}: the votes before it are gone and are not in this count",
            log.name()
        );
    }
    let (recovered, reached) = (Arc::clone(log), positions::next_offsets(&client, counter).await?);
    blocking(move || reached.into_iter().try_for_each(|(partition, next)| recovered.recover(partition, next))).await?;
    let offsets = offsets(log).await?;
    let (counted, rejected) = counters::totals(&client, counter).await?;
    progress.counted.store(counted, Ordering::Relaxed);
    progress.rejected.store(rejected, Ordering::Relaxed);
    progress.received_before.store(counted + rejected, Ordering::Relaxed);
    Ok(Entered { elections, rules, offsets })
}

/// How the tables identify a log.
pub fn counted_log(log: &dyn VoteLog) -> CountedLog {
    CountedLog { id: log.id(), name: log.name(), partitions: log.partitions() }
}

/// The offsets of all partitions.
async fn offsets(log: &Arc<dyn VoteLog>) -> Result<Vec<Range<u64>>, LogError> {
    let log = Arc::clone(log);
    blocking(move || (0..log.partitions()).map(|partition| log.offsets(partition)).collect()).await
}

/// Counts until a stop is requested or the log is drained. Everything that was counted is committed before it returns.
///
/// # Errors
///
/// Fails if the log or PostgreSQL fails permanently, or if a stop is requested while either is away.
pub async fn count(
    log: Arc<dyn VoteLog>,
    database: Database,
    options: &CountOptions,
    telemetry: Arc<Telemetry>,
    progress: Arc<CountProgress>,
    stop: Arc<Stop>,
) -> Result<(), CountError> {
    let mut retry = Retry::new(&telemetry, &stop);
    let Entered { rules, offsets, .. } = loop {
        match enter(&log, &database, &options.counter, CountingEngine::Native, &progress).await {
            Err(CountError::Log(error)) if error.is_transient() => retry.wait(LOG, &error).await?,
            Err(CountError::Store(error)) if error.is_transient() => retry.wait_for_postgresql(&error).await?,
            entered => break entered?,
        }
    };
    telemetry.set_ready(LOG);
    telemetry.set_ready(POSTGRESQL);

    let (joined, group) = (Arc::clone(&log), format!("scrutin-{}", options.counter));
    let membership = blocking(move || joined.join(&group)).await?;
    let until = options.drain.then(|| (0..).zip(offsets.iter().map(|offsets| offsets.end)).collect());
    let job = Job {
        counter: options.counter.clone(),
        workers: options.workers,
        log,
        database,
        rules,
        telemetry,
        progress,
        stop,
        until,
        seed: [random()?, random()?],
    };
    Counting::new(job).run(membership).await
}

/// Runs blocking work on the runtime's blocking pool.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work).await)
}

/// The result of one of our tasks, which are never cancelled; passes on its panic.
fn joined<T>(result: Result<T, tokio::task::JoinError>) -> T {
    match result {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn random() -> Result<u64, CountError> {
    getrandom::u64()
        .map_err(|error| CountError::Unusable(format!("cannot get random numbers from the system: {error}")))
}
