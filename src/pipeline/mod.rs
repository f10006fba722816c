//! The native count at work: workers read the log and run the engine, one committer writes to PostgreSQL.
//!
//! ```text
//! log ─▶ worker ─▶ pending changes ─▶ committer ─▶ PostgreSQL
//!        (a thread per share of        (merged; one transaction holds tallies,
//!         the partitions)               refusals, roll and positions)
//! ```
//!
//! While a commit is under way the workers count on. What waits for the next commit is bounded; a worker at the
//! bound waits, so a slow PostgreSQL slows the reading and nothing grows. While PostgreSQL is away the changes
//! in hand wait; when it is back the stored positions tell whether the last commit was done.

mod committer;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::engine::{Changes, Engine, Rules};
use crate::log::{LogError, VoteLog};
use crate::store::commit::CommitError;
use crate::store::{Database, Role, StoreError, elections, resume};
use crate::telemetry::Telemetry;

/// Parts of the program as [`Telemetry`] knows them.
pub const LOG: &str = "log";
pub const POSTGRESQL: &str = "postgresql";

/// Votes that may wait for a commit, over all workers.
const PENDING_VOTES_MAX: u64 = 2_000_000;

/// Bytes of changes that may wait for a commit, over all workers.
const PENDING_BYTES_MAX: usize = 128 << 20;

#[derive(Debug, thiserror::Error)]
pub enum CountError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The count cannot go on as asked; the text says what to do.
    #[error("{0}")]
    Unusable(String),
}

/// What to count, and how.
#[derive(Clone, Debug)]
pub struct CountOptions {
    /// The name under which the count stands in the tables.
    pub counter: String,
    /// Threads that count. More than partitions make no sense.
    pub workers: usize,
    /// Stop once all that is in the log at the start is counted.
    pub drain: bool,
}

/// How the count is doing, for whoever shows it.
#[derive(Debug, Default)]
pub struct CountProgress {
    /// Votes counted, earlier runs included.
    pub counted: AtomicU64,
    /// Votes refused, earlier runs included.
    pub rejected: AtomicU64,
    /// What earlier runs have received.
    pub received_before: AtomicU64,
    /// Votes in the log that are not committed.
    pub lag: AtomicU64,
    pub commits: AtomicU64,
    /// Append to visible of the last commit, 99th percentile, in microseconds.
    pub latency_us_p99: AtomicU64,
}

impl CountProgress {
    /// Records counted or refused, earlier runs included.
    pub fn received(&self) -> u64 {
        self.counted.load(Ordering::Relaxed) + self.rejected.load(Ordering::Relaxed)
    }
}

/// A request to stop, to be heard by threads and tasks.
#[derive(Debug, Default)]
pub struct Stop {
    asked: AtomicBool,
    notify: Notify,
}

impl Stop {
    pub fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// For threads that look at a plain flag.
    pub fn flag(&self) -> &AtomicBool {
        &self.asked
    }

    /// Returns once a stop has been asked for.
    pub async fn asked(&self) {
        loop {
            let mut notified = std::pin::pin!(self.notify.notified());
            notified.as_mut().enable();
            if self.is_asked() {
                return;
            }
            notified.await;
        }
    }
}

/// What workers and committer share.
struct Shared {
    /// Changes that wait for a commit, one slot a worker.
    slots: Vec<Slot>,
    /// Tells the committer that there is something to commit, or that a worker has ended.
    wake: Notify,
    stop: Arc<Stop>,
    /// The committer has given up; nothing will be committed any more.
    closed: AtomicBool,
}

struct Slot {
    changes: Mutex<Changes>,
    /// Tells the worker that its changes were taken.
    room: Condvar,
    /// Votes and bytes waiting, for a look without the lock.
    votes: AtomicU64,
    bytes: AtomicUsize,
    ended: AtomicBool,
}

impl Shared {
    fn new(rules: &Rules, workers: usize, stop: Arc<Stop>) -> Shared {
        let slot = || Slot {
            changes: Mutex::new(Changes::new(rules)),
            room: Condvar::new(),
            votes: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        };
        Shared {
            slots: std::iter::repeat_with(slot).take(workers).collect(),
            wake: Notify::new(),
            stop,
            closed: AtomicBool::new(false),
        }
    }

    /// Whether a worker's changes are at its share of the bounds.
    fn is_full(&self, slot: &Slot) -> bool {
        let workers = self.slots.len();
        slot.votes.load(Ordering::Relaxed) >= PENDING_VOTES_MAX / workers as u64
            || slot.bytes.load(Ordering::Relaxed) >= PENDING_BYTES_MAX / workers
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how much is waiting; called with the lock held.
    fn measure(&self, changes: &Changes) {
        self.votes.store(changes.received(), Ordering::Relaxed);
        self.bytes.store(changes.size(), Ordering::Relaxed);
    }
}

/// Counts until asked to stop, or until the log is drained. What was read is committed before it returns.
pub async fn count(
    log: Arc<dyn VoteLog>,
    database: Database,
    options: &CountOptions,
    telemetry: Arc<Telemetry>,
    progress: Arc<CountProgress>,
    stop: Arc<Stop>,
) -> Result<(), CountError> {
    let partitions = log.partitions();
    let mut client = database.connect(Role::Counter).await?;
    let elections = elections::load_all(&client).await?;
    if elections.is_empty() {
        let advice = "there is no election in the database; `scrutin setup --election DIR` loads one";
        return Err(CountError::Unusable(advice.into()));
    }
    let rules = Arc::new(Rules::new(&elections, partitions).map_err(CountError::Unusable)?);

    let mut starts = BTreeMap::new();
    let mut ends = BTreeMap::new();
    for partition in 0..partitions {
        let offsets = log.offsets(partition)?;
        starts.insert(partition, offsets.start);
        ends.insert(partition, offsets.end);
    }
    let fingerprints = elections.iter().map(|election| (election.id.clone(), election.fingerprint())).collect();
    resume::enter_counter(&mut client, &options.counter, &rules, &fingerprints, &starts).await?;
    let positions = resume::positions(&client, &options.counter).await?;
    for (&partition, &next) in &positions {
        check_position(&*log, partition, next, starts[&partition], ends[&partition])?;
    }
    let (counted, rejected) = resume::totals(&client, &options.counter).await?;
    progress.counted.store(counted, Ordering::Relaxed);
    progress.rejected.store(rejected, Ordering::Relaxed);
    progress.received_before.store(counted + rejected, Ordering::Relaxed);
    drop(client);

    let shares = share_out(&positions, options.workers.clamp(1, partitions as usize));
    let engines = resume_engines(&database, &options.counter, &rules, &shares).await?;
    telemetry.metrics.roll_voters.set(engines.iter().map(Engine::voters).sum::<u64>() as i64);
    telemetry.set_ready(LOG);
    telemetry.set_ready(POSTGRESQL);

    let shared = Arc::new(Shared::new(&rules, shares.len(), stop));
    let mut workers = Vec::new();
    for (slot, (engine, share)) in engines.into_iter().zip(shares).enumerate() {
        let until = options.drain.then(|| ends.clone());
        let reader = log.reader(&share)?;
        let shared = Arc::clone(&shared);
        workers.push(tokio::task::spawn_blocking(move || worker::run(engine, reader, share, until, slot, &shared)));
    }
    let mut committer =
        committer::Committer::new(log, database, options.counter.clone(), rules, positions, telemetry, progress);
    let mut result = committer.run(&shared).await;
    shared.closed.store(true, Ordering::SeqCst);
    shared.slots.iter().for_each(|slot| slot.room.notify_all());
    for worker in workers {
        let ended = worker.await.expect("a worker does not panic");
        result = result.and(ended.map_err(CountError::from));
    }
    result
}

/// Deals the partitions out to the workers, each with its next offset.
fn share_out(positions: &BTreeMap<u32, u64>, workers: usize) -> Vec<Vec<(u32, u64)>> {
    let mut shares = vec![Vec::new(); workers];
    for (place, (&partition, &next)) in positions.iter().enumerate() {
        shares[place % workers].push((partition, next));
    }
    shares
}

fn check_position(log: &dyn VoteLog, partition: u32, next: u64, start: u64, end: u64) -> Result<(), CountError> {
    if next < start {
        return Err(LogError::Truncated { partition, wanted: next, start }.into());
    }
    if next > end {
        return Err(CountError::Unusable(format!(
            "partition {partition} of the log at {} ends at offset {end}, but {next} have been counted: \
             this is another log, or votes were lost from it; point the count at its own log, or use another counter name",
            log.name()
        )));
    }
    Ok(())
}

async fn resume_engines(
    database: &Database,
    counter: &str,
    rules: &Arc<Rules>,
    shares: &[Vec<(u32, u64)>],
) -> Result<Vec<Engine>, CountError> {
    let seed = [random()?, random()?];
    let mut tasks = Vec::new();
    for share in shares {
        let (database, counter, rules, share) =
            (database.clone(), counter.to_owned(), Arc::clone(rules), share.clone());
        tasks.push(tokio::spawn(async move {
            let client = database.connect(Role::Counter).await?;
            let mut partitions = Vec::with_capacity(share.len());
            for (partition, next) in share {
                partitions.push(resume::partition(&client, &counter, &rules, partition, next, seed).await?);
            }
            Ok::<_, StoreError>(Engine::new(rules, partitions))
        }));
    }
    let mut engines = Vec::with_capacity(tasks.len());
    for task in tasks {
        engines.push(task.await.expect("reading the roll does not panic")?);
    }
    Ok(engines)
}

fn random() -> Result<u64, CountError> {
    getrandom::u64().map_err(|error| CountError::Unusable(format!("the system gives no random numbers: {error}")))
}
