//! The audit: recounts a counter's votes from the log and compares every row that the counter wrote.
//!
//! It shares no counting code with the engine: it has its own parser, rules, partitioner and poll book, all as plain as
//! can be, on the standard library's maps. It reads the log in a way of its own too (`read.rs`); what both share there are
//! the libraries that decompress, and librdkafka's client. Whatever both get wrong they get wrong independently.
//!
//! Of a count on Spark there is no poll book and no rejected_records in the tables to be compared.
//!
//! The tables are read in one snapshot, so a count that goes on meanwhile does not disturb. Memory is that of the
//! poll book and the rejected_records of the partitions in hand (two at a time), and of the totals.

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

/// Recounts all that a counter has counted and remembers the outcome in table `audit`.
///
/// Blocks until it is done; may be called from anywhere, but from asynchronous code better in `spawn_blocking`.
/// `progress` is called on this thread, a few times a second, with the records recounted and those there are.
///
/// With the generator's truth, and if all of its records have been counted, the tables are scored against that as well.
pub fn run(
    log: &dyn VoteLog,
    db: &Database,
    counter: &str,
    truth: Option<&Truth>,
    progress: &dyn Fn(u64, u64),
) -> Result<AuditReport> {
    let work = RecountProgress::default();
    // The auditor needs a thread of its own, since it waits for the database and this one may be a runtime's.
    thread::scope(|scope| {
        let (done, finished) = mpsc::sync_channel::<()>(1);
        let auditor = scope.spawn(|| {
            let _done = done; // Closes the channel, whichever way this ends.
            audit(log, db, counter, truth, &work)
        });
        while let Err(mpsc::RecvTimeoutError::Timeout) = finished.recv_timeout(PROGRESS_EVERY) {
            progress(work.done.load(Ordering::Relaxed), work.total.load(Ordering::Relaxed));
        }
        progress(work.done.load(Ordering::Relaxed), work.total.load(Ordering::Relaxed));
        auditor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Records recounted, and how many there are.
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
        has_roll: found.has_roll,
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
    // A standby cannot be written to, and its rows can be audited all the same.
    report.unrecorded = snapshot.finish(&report).err().map(|error| error.to_string());
    Ok(report)
}

struct Audit<'a> {
    log: &'a dyn VoteLog,
    rulebook: &'a Rulebook,
    has_roll: bool,
    work: &'a RecountProgress,
    /// Those that nobody has begun; the next is the last.
    positions: Mutex<Vec<Position>>,
    snapshot: Mutex<Snapshot>,
    sums: Mutex<Sums>,
    /// A worker has failed: the others need not go on.
    stopped: AtomicBool,
}

/// Over all partitions that are done.
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
        if self.has_roll {
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

/// A panic of another worker is passed on when it is joined.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
