//! The native count at work: workers read the log and run the engine, one committer writes to PostgreSQL.
//!
//! ```text
//! log ─▶ worker ─▶ pending changes ─▶ committer ─▶ PostgreSQL
//!        (a thread per share of        (merged; one transaction holds tallies,
//!         the partitions)               refusals, roll and positions)
//! ```
//!
//! Several processes may share the partitions out. A process counts in rounds: takes its partitions in PostgreSQL, which
//! shuts out whoever counted them before, and counts until the share is to change; then it commits what is in hand
//! before it gives a partition up.
//!
//! While a commit is under way the workers count on. What waits for the next commit is bounded; a worker at the
//! bound waits, so a slow PostgreSQL slows the reading and nothing grows. While PostgreSQL is away the changes
//! in hand wait; when it is back the stored positions tell whether the last commit was done.

mod committer;
mod ends;
mod retry;
mod round;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub use ends::Ends;

use crate::engine::{Engine, Partition, Rules};
use crate::log::{LogError, Membership, VoteLog};
use crate::store::commit::CommitError;
use crate::store::resume::{self, Entry, Position};
use crate::store::{Database, Role, StoreError, elections};
use crate::telemetry::Telemetry;
use retry::Retry;
use round::Shared;

/// Parts of the program as [`Telemetry`] knows them.
pub const LOG: &str = "log";
pub const POSTGRESQL: &str = "postgresql";

/// How soon a stop, or the group's wish, is heard.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// How often the group is told how far its partitions are counted.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// A process that was taken for dead finds its partitions taken over, and hears of it from the group within this time. If
/// it hears nothing, they are its own: whoever took them had been taken for dead, and it takes them back.
const TAKEN_OVER_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum CountError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error("stopped while waiting ({0}); what was not committed is counted at the next start")]
    GaveUp(String),
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
    /// Stop once all that is in the log at the start, of the partitions that fall to this process, is counted.
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

/// Counts until asked to stop, or until the log is drained. What was read is committed before it returns.
pub async fn count(
    log: Arc<dyn VoteLog>,
    database: Database,
    options: &CountOptions,
    telemetry: Arc<Telemetry>,
    progress: Arc<CountProgress>,
    stop: Arc<Stop>,
) -> Result<(), CountError> {
    let mut client = database.connect(Role::Counter).await?;
    let elections = elections::load_all(&client).await?;
    if elections.is_empty() {
        let advice = "there is no election in the database; `scrutin setup --election DIR` loads one";
        return Err(CountError::Unusable(advice.into()));
    }
    let rules = Arc::new(Rules::new(&elections, log.partitions()).map_err(CountError::Unusable)?);
    let asked = Arc::clone(&log);
    let offsets = blocking(move || {
        (0..asked.partitions()).map(|partition| asked.offsets(partition)).collect::<Result<Vec<_>, _>>()
    });
    let offsets = offsets.await?;
    let entry = Entry {
        counter: &options.counter,
        log: log.as_ref(),
        rules: &rules,
        fingerprints: elections.iter().map(|election| (election.id.clone(), election.fingerprint())).collect(),
        starts: offsets.iter().map(|offsets| offsets.start).collect(),
    };
    for (partition, start) in resume::enter_counter(&mut client, &entry).await? {
        tracing::warn!(
            "partition {partition} of the log at {} starts at offset {start}: the votes before it are gone and are not in this count",
            log.name()
        );
    }
    let (counted, rejected) = resume::totals(&client, &options.counter).await?;
    progress.counted.store(counted, Ordering::Relaxed);
    progress.rejected.store(rejected, Ordering::Relaxed);
    progress.received_before.store(counted + rejected, Ordering::Relaxed);
    drop(client);
    telemetry.set_ready(LOG);
    telemetry.set_ready(POSTGRESQL);

    let (joined, group) = (Arc::clone(&log), format!("scrutin-{}", options.counter));
    let membership = blocking(move || joined.join(&group)).await?;
    let until = options.drain.then(|| (0..).zip(offsets.iter().map(|offsets| offsets.end)).collect());
    let counting = Counting {
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
        kept: BTreeMap::new(),
    };
    counting.run(membership).await
}

/// A count under way, over all its rounds.
struct Counting {
    counter: String,
    workers: usize,
    log: Arc<dyn VoteLog>,
    database: Database,
    rules: Arc<Rules>,
    telemetry: Arc<Telemetry>,
    progress: Arc<CountProgress>,
    stop: Arc<Stop>,
    /// Where to stop, by partition.
    until: Option<BTreeMap<u32, u64>>,
    seed: [u64; 2],
    /// What the engine held at the end of the last round: as good as new while nobody has counted on.
    kept: BTreeMap<u32, Partition>,
}

/// Why a round has ended.
enum Ended {
    /// All that was wanted is done.
    Done,
    /// The group wants the share changed.
    ShareChanges,
}

/// Where each partition stands in the tables.
type Positions = Arc<Mutex<BTreeMap<u32, u64>>>;

impl Counting {
    async fn run(mut self, mut membership: Box<dyn Membership>) -> Result<(), CountError> {
        loop {
            // The share may be none at all; it is known once the group has decided.
            while membership.partitions().is_none() {
                if self.stop.is_asked() {
                    return Ok(());
                }
                membership = changed(membership, WATCH_INTERVAL).await?.0;
            }
            let (back, ended) = self.round(membership).await;
            membership = back;
            match ended {
                Ok(Ended::Done) => return Ok(()),
                Ok(Ended::ShareChanges) => {}
                Err(CountError::Commit(error @ CommitError::Superseded { .. })) => {
                    if !membership.is_shared() {
                        return Err(error.into());
                    }
                    tracing::warn!("{error}");
                    self.kept.clear();
                    let deadline = Instant::now() + TAKEN_OVER_WAIT;
                    let mut is_changed = false;
                    while !is_changed && !self.stop.is_asked() && Instant::now() < deadline {
                        (membership, is_changed) = changed(membership, WATCH_INTERVAL).await?;
                    }
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.telemetry.metrics.rebalances.inc();
            membership = changed(membership, Duration::ZERO).await?.0;
        }
    }

    /// Counts the partitions that are the process's own, until a stop, or the share is to change.
    async fn round(&mut self, membership: Box<dyn Membership>) -> (Box<dyn Membership>, Result<Ended, CountError>) {
        let partitions = membership.partitions().cloned().unwrap_or_default();
        let stop = Arc::new(Stop::default());
        let positions = Positions::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let watch = self.watch(membership, Arc::clone(&stop), Arc::clone(&positions), Arc::clone(&is_over));
        let result = self.count_share(&partitions, &stop, &positions).await;
        is_over.store(true, Ordering::SeqCst);
        let (membership, is_change_due) = joined(watch.await);
        if result.is_err() {
            self.kept.clear();
        }
        let ended = match (result, is_change_due) {
            (_, Err(error)) => Err(error.into()),
            // Nothing is lost: whoever takes the partitions over counts what was not committed.
            (Ok(()) | Err(CountError::GaveUp(_)), Ok(true)) if !self.stop.is_asked() => Ok(Ended::ShareChanges),
            (result, _) => result.map(|()| Ended::Done),
        };
        (membership, ended)
    }

    /// Ends the round when the program is to stop or the group wants a change, and says which.
    fn watch(
        &self,
        mut membership: Box<dyn Membership>,
        round: Arc<Stop>,
        positions: Positions,
        is_over: Arc<AtomicBool>,
    ) -> JoinHandle<(Box<dyn Membership>, Result<bool, LogError>)> {
        let stop = Arc::clone(&self.stop);
        tokio::task::spawn_blocking(move || {
            let mut published = Instant::now();
            let mut publish = |membership: &mut Box<dyn Membership>, is_last: bool| {
                if is_last || published.elapsed() >= PUBLISH_INTERVAL {
                    published = Instant::now();
                    membership.publish(&positions.lock().unwrap_or_else(PoisonError::into_inner));
                }
            };
            let mut is_change_due = Ok(false);
            while !is_over.load(Ordering::SeqCst) {
                if stop.is_asked() {
                    round.ask();
                }
                match is_change_due {
                    Ok(false) => is_change_due = membership.is_change_due(WATCH_INTERVAL),
                    // What is in hand is being committed.
                    _ => std::thread::sleep(WATCH_INTERVAL / 10),
                }
                if !matches!(is_change_due, Ok(false)) {
                    round.ask();
                }
                publish(&mut membership, false);
            }
            publish(&mut membership, true);
            (membership, is_change_due)
        })
    }

    async fn count_share(
        &mut self,
        partitions: &BTreeSet<u32>,
        stop: &Arc<Stop>,
        standing: &Positions,
    ) -> Result<(), CountError> {
        if let Some(strange) = partitions.last().filter(|partition| **partition >= self.rules.partitions) {
            return Err(CountError::Unusable(format!(
                "the log at {} has got a partition {strange}, and had {}: a voter's votes may lie in two partitions now, and \
                 no count of it can be trusted; move the votes to a new log",
                self.log.name(),
                self.rules.partitions
            )));
        }
        // What others count now is theirs to tell.
        self.telemetry.metrics.lag_votes.clear();
        if partitions.is_empty() {
            if self.until.is_none() {
                stop.asked().await;
            }
            return Ok(());
        }
        let positions = self.take(partitions, stop).await?;
        let ends = self.check_positions(&positions, stop).await?;
        let shares = share_out(&positions, self.workers.clamp(1, partitions.len()));
        let engines = self.resume_engines(&shares, stop).await?;
        self.telemetry.metrics.roll_voters.set(engines.iter().map(Engine::voters).sum::<u64>() as i64);
        self.telemetry.set_ready(LOG);
        self.telemetry.set_ready(POSTGRESQL);

        let shared = Arc::new(Shared::new(&self.rules, shares.len(), Arc::clone(stop)));
        let mut workers = Vec::new();
        for (slot, (engine, share)) in engines.into_iter().zip(shares).enumerate() {
            let (log, until, shared) = (Arc::clone(&self.log), self.until.clone(), Arc::clone(&shared));
            workers.push(tokio::task::spawn_blocking(move || worker::run(engine, &*log, share, until, slot, &shared)));
        }
        let ends = Ends::watch(Arc::clone(&self.log), ends, Arc::clone(&self.telemetry), Arc::clone(stop));
        let mut committer = committer::Committer::new(self, positions, Arc::clone(&ends), Arc::clone(standing));
        let mut result = committer.run(&shared).await;
        shared.close();
        for worker in workers {
            let (engine, ended) = joined(worker.await);
            self.kept.extend(engine.into_partitions().into_iter().map(|partition| (partition.partition, partition)));
            result = result.and(ended.map_err(CountError::from));
        }
        result.and(ends.check().map_err(CountError::from))
    }

    /// Takes the partitions: from here on nobody else who has counted them can commit.
    async fn take(&self, partitions: &BTreeSet<u32>, stop: &Stop) -> Result<BTreeMap<u32, Position>, CountError> {
        let mut retry = Retry::new(&self.telemetry, stop);
        loop {
            let taken = async {
                let mut client = self.database.connect(Role::Counter).await?;
                resume::take(&mut client, &self.counter, partitions).await
            };
            match taken.await {
                Err(error) if error.is_transient() => retry.wait(POSTGRESQL, &error).await?,
                taken => return Ok(taken?),
            }
        }
    }

    /// Makes sure that the log still holds what comes next, and gives its ends.
    async fn check_positions(
        &self,
        positions: &BTreeMap<u32, Position>,
        stop: &Stop,
    ) -> Result<BTreeMap<u32, u64>, CountError> {
        let mut retry = Retry::new(&self.telemetry, stop);
        let found: BTreeMap<u32, Range<u64>> = loop {
            let (log, partitions) = (Arc::clone(&self.log), positions.keys().copied().collect::<Vec<_>>());
            let ask = move || {
                log.check()?;
                partitions.iter().map(|partition| Ok((*partition, log.offsets(*partition)?))).collect::<Result<_, _>>()
            };
            match blocking(ask).await {
                Err(error) if LogError::is_transient(&error) => retry.wait(LOG, &error).await?,
                found => break found?,
            }
        };
        for (partition, offsets) in &found {
            check_position(&*self.log, *partition, positions[partition].next_offset, offsets.start, offsets.end)?;
        }
        Ok(found.into_iter().map(|(partition, offsets)| (partition, offsets.end)).collect())
    }

    async fn resume_engines(&mut self, shares: &[Vec<(u32, u64)>], stop: &Stop) -> Result<Vec<Engine>, CountError> {
        let mut retry = Retry::new(&self.telemetry, stop);
        let mut kept = std::mem::take(&mut self.kept);
        let mut engines = Vec::with_capacity(shares.len());
        // All are read at once; those of a try that fails are read again.
        'again: loop {
            let mut tasks = Vec::new();
            for share in shares.iter().skip(engines.len()) {
                let share: Vec<(u32, u64, Option<Partition>)> = share
                    .iter()
                    .map(|&(partition, next)| {
                        let as_left = kept.remove(&partition).filter(|kept| kept.next_offset == next);
                        (partition, next, as_left)
                    })
                    .collect();
                let (database, counter, rules, seed) =
                    (self.database.clone(), self.counter.clone(), Arc::clone(&self.rules), self.seed);
                tasks.push(tokio::spawn(async move {
                    let client = database.connect(Role::Counter).await?;
                    let mut partitions = Vec::with_capacity(share.len());
                    for (partition, next, as_left) in share {
                        partitions.push(match as_left {
                            Some(as_left) => as_left,
                            None => resume::partition(&client, &counter, &rules, partition, next, seed).await?,
                        });
                    }
                    Ok::<_, StoreError>(Engine::new(rules, partitions))
                }));
            }
            for task in tasks {
                match joined(task.await) {
                    Ok(engine) => engines.push(engine),
                    Err(error) if error.is_transient() => {
                        retry.wait(POSTGRESQL, &error).await?;
                        continue 'again;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            return Ok(engines);
        }
    }
}

/// Waits for what the group wants, and does it.
async fn changed(mut membership: Box<dyn Membership>, wait: Duration) -> Result<(Box<dyn Membership>, bool), LogError> {
    blocking(move || {
        let is_due = membership.is_change_due(wait)?;
        if is_due {
            membership.accept()?;
        }
        Ok((membership, is_due))
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work).await)
}

/// A task of ours is never cancelled, and its panic is ours.
fn joined<T>(result: Result<T, tokio::task::JoinError>) -> T {
    match result {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Deals the partitions out to the workers, each with its next offset.
fn share_out(positions: &BTreeMap<u32, Position>, workers: usize) -> Vec<Vec<(u32, u64)>> {
    let mut shares = vec![Vec::new(); workers];
    for (place, (&partition, position)) in positions.iter().enumerate() {
        shares[place % workers].push((partition, position.next_offset));
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

fn random() -> Result<u64, CountError> {
    getrandom::u64().map_err(|error| CountError::Unusable(format!("the system gives no random numbers: {error}")))
}
