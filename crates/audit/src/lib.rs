//! The audit: recounts a counter's votes from the log and compares every row that the counter wrote.
//!
//! It shares no counting code with the engine: it has its own parser, rules, partitioner and poll book, kept as simple
//! as possible with the standard library's maps. It also has its own log reader (`read.rs`), which shares only the
//! decompression libraries and librdkafka with the count's reader. If both are wrong, they are wrong
//! independently.
//!
//! A count on Spark keeps no poll book and no rejected records in the tables, so these are not compared.
//!
//! The tables are read in one snapshot, so a running count does not interfere. Memory holds the poll books and rejected
//! records of the partitions being recounted (two at a time), and the totals.

mod compare;
mod gaps;
mod judge;
mod read;
mod recount;
mod report;
mod snapshot;
mod truth;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use scrutin_contract::truth::Truth;
use scrutin_log::{LogError, VoteLog};
use scrutin_store::{Database, StoreError};

use judge::Rulebook;
use recount::RecountTotals;
use snapshot::{Position, Snapshot};

pub use gaps::{Gap, gaps};
pub use report::{AuditReport, Difference, Differences, KEPT_PER_TABLE, TruthScore};

/// Partitions recounted at the same time.
const WORKERS: usize = 2;

const PROGRESS_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit cannot be done as asked; the text says what to do.
    #[error("{0}")]
    Unusable(String),
}

type Result<T> = std::result::Result<T, AuditError>;

/// Recounts everything that a counter has counted and records the outcome in table `audit`.
///
/// Blocks until it is done. Can be called from any thread; asynchronous code should use `spawn_blocking`. `progress` is
/// called on this thread a few times a second, with the number of records recounted and the total.
///
/// If `truth` is given and all of its records have been counted, the tables are scored against it as well.
///
/// # Errors
///
/// If the log or the tables cannot be read, or if the counter does not count this log.
pub fn run(
    log: &dyn VoteLog,
    db: &Database,
    counter: &str,
    truth: Option<&Truth>,
    progress: &dyn Fn(u64, u64),
) -> Result<AuditReport> {
    let work = RecountProgress::default();
    // The auditor blocks on the database, which it must not do on this thread: it may belong to a Tokio runtime.
    thread::scope(|scope| {
        let (done, finished) = mpsc::sync_channel::<()>(1);
        let auditor = scope.spawn(|| {
            let _done = done; // Closes the channel, even on a panic.
            audit(log, db, counter, truth, &work)
        });
        while let Err(mpsc::RecvTimeoutError::Timeout) = finished.recv_timeout(PROGRESS_EVERY) {
            progress(work.done.load(Ordering::Relaxed), work.total.load(Ordering::Relaxed));
        }
        progress(work.done.load(Ordering::Relaxed), work.total.load(Ordering::Relaxed));
        auditor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The number of records recounted so far, and the total.
#[derive(Default)]
struct RecountProgress {
    done: AtomicU64,
    total: AtomicU64,
}

fn audit(
    log: &dyn VoteLog,
    db: &Database,
    counter: &str,
    truth: Option<&Truth>,
    work: &RecountProgress,
) -> Result<AuditReport> {
    let started = Instant::now();
    let snapshot = Snapshot::open(db, counter)?;
    let found = snapshot.counter()?;
    if found.log != log.id() {
        return Err(AuditError::Unusable(format!(
            "counter `{counter}` has counted another log than the one at {}; audit it against its own log",
            log.name()
        )));
    }
    if found.partitions != log.partitions() {
        let (log, had, found) = (log.name(), found.partitions, log.partitions());
        return Err(LogError::Repartitioned { log, had, found }.into());
    }
    let mut differences = Differences::default();
    let elections = snapshot.elections(&found.elections, &mut differences)?;
    let rulebook = Rulebook::new(&elections, found.partitions);
    let positions = snapshot.positions()?;
    let records = positions.iter().map(|position| position.next_offset.saturating_sub(position.first_offset));
    work.total.store(records.sum(), Ordering::Relaxed);

    let audit = Audit {
        log,
        rulebook: &rulebook,
        has_poll_book: found.has_poll_book,
        work,
        positions: Mutex::new(positions.iter().rev().cloned().collect()),
        snapshot: Mutex::new(snapshot),
        sums: Mutex::new(Sums { differences, ..Sums::default() }),
        stopped: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(|| audit.work())).collect();
        let results = workers.into_iter().map(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.collect::<Vec<_>>().into_iter().collect::<Result<()>>()
    })?;

    let snapshot = audit.snapshot.into_inner().unwrap_or_else(PoisonError::into_inner);
    let Sums { totals, counted, rejected, recounted, mut differences } =
        audit.sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    compare::tally(&snapshot, &rulebook, totals.tally, &mut differences)?;
    compare::timeline(&snapshot, &rulebook, totals.timeline, &mut differences)?;
    compare::rejections(&snapshot, totals.rejections, &mut differences)?;
    compare::kept_sums(&snapshot, &mut differences)?;
    compare::stray_partitions(&snapshot, found.partitions, &mut differences)?;
    let truth = truth.map(|truth| truth::score(&snapshot, truth, recounted)).transpose()?;
    let mut report = AuditReport {
        counter: counter.to_owned(),
        recounted,
        counted,
        rejected,
        seconds: started.elapsed().as_secs_f64(),
        differences,
        truth,
        unrecorded: None,
    };
    // A standby is read-only, but its rows can still be audited.
    report.unrecorded = snapshot.finish(&report).err().map(|error| error.to_string());
    Ok(report)
}

struct Audit<'a> {
    log: &'a dyn VoteLog,
    rulebook: &'a Rulebook,
    has_poll_book: bool,
    work: &'a RecountProgress,
    /// Partitions that no worker has started; taken from the end.
    positions: Mutex<Vec<Position>>,
    snapshot: Mutex<Snapshot>,
    sums: Mutex<Sums>,
    /// Set when a worker fails, so that the others stop.
    stopped: AtomicBool,
}

/// Sums over all finished partitions.
#[derive(Default)]
struct Sums {
    totals: RecountTotals,
    recounted: u64,
    counted: u64,
    rejected: BTreeMap<scrutin_contract::vote::Reason, u64>,
    differences: Differences,
}

impl Audit<'_> {
    fn work(&self) -> Result<()> {
        let next = || lock(&self.positions).pop();
        while let Some(position) = next() {
            let result = self.partition(&position);
            if result.is_err() {
                self.stopped.store(true, Ordering::Relaxed);
            }
            result?;
        }
        Ok(())
    }

    fn partition(&self, position: &Position) -> Result<()> {
        let count = |records| {
            self.work.done.fetch_add(records, Ordering::Relaxed);
            !self.stopped.load(Ordering::Relaxed)
        };
        let Some(recount) = recount::partition(self.log, self.rulebook, position, &count)? else { return Ok(()) };
        let mut differences = Differences::default();
        compare::position(position, &recount, &mut differences);
        let recount::Recount { totals, poll_books, rejected_records, records, counted, rejected, .. } = recount;
        if self.has_poll_book {
            let snapshot = lock(&self.snapshot);
            compare::poll_book(&snapshot, self.rulebook, position.partition, poll_books, &mut differences)?;
            compare::rejected_records(&snapshot, position.partition, rejected_records, &mut differences)?;
        }
        let mut sums = lock(&self.sums);
        sums.totals.add(totals);
        sums.recounted += records;
        sums.counted += counted;
        for (reason, votes) in rejected {
            *sums.rejected.entry(reason).or_default() += votes;
        }
        sums.differences.append(differences);
        Ok(())
    }
}

/// Ignores poisoning: another worker's panic is passed on when it is joined.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
