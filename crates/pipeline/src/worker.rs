//! A worker reads the partitions assigned to it and counts them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use scrutin_contract::record::Batch;
use scrutin_engine::Engine;
use scrutin_log::{LogError, LogReader, VoteLog};
use scrutin_telemetry::Telemetry;
use tokio::sync::oneshot;

use super::READING;
use super::round::Shared;

/// How soon a stop is noticed while no votes arrive.
const WAIT: Duration = Duration::from_millis(50);

/// Time between two attempts to read after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// After this time without an error, reading counts as recovered, even if there was nothing to read.
const RECOVERED_AFTER: Duration = Duration::from_secs(5);

/// How long a log may answer without the records that must be there, before the worker gives up.
const UNREADABLE_MAX: Duration = Duration::from_secs(600);

/// What a worker needs to count.
pub(super) struct Work {
    pub engine: Engine,
    pub log: Arc<dyn VoteLog>,
    /// The partitions, each with its next offset.
    pub assignment: BTreeMap<u32, u64>,
    /// Where to stop, by partition.
    pub until: Option<BTreeMap<u32, u64>>,
    /// The index of its slot in `shared`.
    pub slot: usize,
    pub shared: Arc<Shared>,
    pub telemetry: Arc<Telemetry>,
}

/// The engine as the worker left it, and the error if it failed.
pub(super) type Ended = (Engine, Result<(), LogError>);

/// Starts a thread that runs until a stop, an error, or, if `until` is given, until each partition has reached its
/// offset there. The receiver gets the result once the thread has ended.
pub(super) fn start(work: Work) -> std::io::Result<oneshot::Receiver<Ended>> {
    let (ended, end) = oneshot::channel();
    let name = format!("worker-{}", work.slot);
    let run = move || {
        let Work { mut engine, log, assignment, until, slot, shared, telemetry } = work;
        let mut reading = Reading::new(&*log, assignment, &telemetry);
        let result = count(&mut engine, &mut reading, until, slot, &shared);
        if result.is_err() {
            shared.stop.ask();
        }
        shared.slots[slot].ended.store(true, Ordering::SeqCst);
        shared.wake.notify_one();
        // The round that waits for it may have been dropped.
        let _ = ended.send((engine, result));
    };
    thread::Builder::new().name(name).spawn(run)?;
    Ok(end)
}

fn count(
    engine: &mut Engine,
    reading: &mut Reading<'_>,
    until: Option<BTreeMap<u32, u64>>,
    slot: usize,
    shared: &Shared,
) -> Result<(), LogError> {
    let slot = &shared.slots[slot];
    loop {
        let drained =
            until.as_ref().is_some_and(|until| reading.next.iter().all(|(partition, next)| *next >= until[partition]));
        if drained || shared.stop.is_asked() || shared.closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let batch = match reading.fetch() {
            Ok(Some(batch)) => batch,
            Ok(None) => continue,
            Err(error) if error.is_transient() => {
                reading.fail(error)?;
                shared.stop.asked_within(RETRY);
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut changes = slot.lock();
        while shared.is_full(slot) {
            if shared.closed.load(Ordering::SeqCst) {
                return Ok(());
            }
            changes = slot.room.wait_timeout(changes, WAIT).expect("no worker has panicked").0;
        }
        engine.apply(&batch, &mut changes);
        slot.measure(&changes);
        drop(changes);
        shared.wake.notify_one();
        reading.recycle(batch);
    }
}

/// Resumes reading after transient errors, from the same position.
struct Reading<'a> {
    log: &'a dyn VoteLog,
    reader: Option<Box<dyn LogReader>>,
    next: BTreeMap<u32, u64>,
    telemetry: &'a Telemetry,
    trouble: Option<Trouble>,
    recovered_after: Duration,
    unreadable_max: Duration,
}

/// Errors of one partition, or of the log, since it was last readable.
#[derive(Clone, Copy)]
struct Trouble {
    partition: Option<u32>,
    first: Instant,
    last: Instant,
}

impl<'a> Reading<'a> {
    /// `next`: the first offset to read, by partition.
    fn new(log: &'a dyn VoteLog, next: BTreeMap<u32, u64>, telemetry: &'a Telemetry) -> Reading<'a> {
        let (recovered_after, unreadable_max) = (RECOVERED_AFTER, UNREADABLE_MAX);
        Reading { log, reader: None, next, telemetry, trouble: None, recovered_after, unreadable_max }
    }

    fn fetch(&mut self) -> Result<Option<Batch>, LogError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let assignment: Vec<(u32, u64)> =
                    self.next.iter().map(|(partition, next)| (*partition, *next)).collect();
                self.reader.insert(self.log.reader(&assignment)?)
            }
        };
        let batch = reader.fetch(WAIT)?;
        if let Some(batch) = &batch {
            self.next.insert(batch.partition, batch.next_offset);
        }
        if let Some(Trouble { partition, last, .. }) = self.trouble {
            let is_read_again = batch.as_ref().is_some_and(|batch| partition == Some(batch.partition));
            if is_read_again || last.elapsed() >= self.recovered_after {
                self.trouble = None;
                self.telemetry.set_ready(READING);
            }
        }
        Ok(batch)
    }

    /// Records a transient error; returns it once it has lasted too long.
    fn fail(&mut self, error: LogError) -> Result<(), LogError> {
        self.reader = None;
        tracing::warn!("{error}; the count waits");
        self.telemetry.set_waiting(READING, error.to_string());
        let partition = match &error {
            LogError::Unreadable { partition, .. } => Some(*partition),
            _ => None,
        };
        let last = Instant::now();
        let before = self.trouble.filter(|trouble| trouble.partition == partition);
        let first = before.map_or(last, |trouble| trouble.first);
        self.trouble = Some(Trouble { partition, first, last });
        match partition {
            Some(_) if before.is_some() && last - first >= self.unreadable_max => Err(error),
            _ => Ok(()),
        }
    }

    fn recycle(&mut self, batch: Batch) {
        if let Some(reader) = &mut self.reader {
            reader.recycle(batch);
        }
    }
}

/// This worker's trouble says nothing about the next reader of its partitions.
impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if self.trouble.is_some() {
            self.telemetry.set_ready(READING);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::ops::Range;
    use std::path::Path;
    use std::sync::Mutex;

    use scrutin_contract::record::Record;
    use scrutin_log::{Home, LogWriter, Result};

    use super::*;

    type Answer = Result<Option<Batch>>;

    type Answers = Arc<Mutex<VecDeque<Answer>>>;

    /// Its readers give the answers in order, no matter which of them is asked, and then nothing.
    struct Scripted {
        answers: Answers,
        /// The positions at which each reader was opened.
        opened: Mutex<Vec<Vec<(u32, u64)>>>,
    }

    struct ScriptedReader(Answers);

    impl VoteLog for Scripted {
        fn partitions(&self) -> u32 {
            2
        }

        fn offsets(&self, _partition: u32) -> Result<Range<u64>> {
            Ok(0..0)
        }

        fn home(&self) -> Home<'_> {
            Home::Folder(Path::new("nowhere"))
        }

        fn reader(&self, from: &[(u32, u64)]) -> Result<Box<dyn LogReader>> {
            self.opened.lock().unwrap().push(from.to_vec());
            Ok(Box::new(ScriptedReader(Arc::clone(&self.answers))))
        }

        fn writer(&self, _partitions: &[u32]) -> Result<Box<dyn LogWriter>> {
            unreachable!("nobody writes")
        }

        fn name(&self) -> String {
            "scripted".into()
        }

        fn id(&self) -> String {
            "scripted".into()
        }
    }

    impl LogReader for ScriptedReader {
        fn fetch(&mut self, _wait: Duration) -> Answer {
            self.0.lock().unwrap().pop_front().unwrap_or(Ok(None))
        }
    }

    fn batch(partition: u32, offset: u64) -> Answer {
        let mut batch = Batch::new(partition);
        batch.push(Record { offset, appended_at_ms: 0, key: None, value: None });
        Ok(Some(batch))
    }

    fn unreadable(partition: u32, offset: u64) -> Answer {
        Err(LogError::Unreadable { log: "scripted".into(), partition, offset, why: "made to fail".into() })
    }

    fn reading<'a>(log: &'a Scripted, telemetry: &'a Telemetry) -> Reading<'a> {
        Reading::new(log, BTreeMap::from([(0, 5), (1, 7)]), telemetry)
    }

    fn scripted(answers: Vec<Answer>) -> Scripted {
        Scripted { answers: Arc::new(Mutex::new(answers.into())), opened: Mutex::default() }
    }

    #[test]
    fn reading_resumes_and_is_ready_once_the_failed_partition_is_read() {
        let log = scripted(vec![batch(0, 5), unreadable(1, 7), batch(0, 6), batch(1, 7)]);
        let telemetry = Telemetry::new();
        telemetry.set_ready(super::super::LOG);
        let mut reading = reading(&log, &telemetry);
        reading.recovered_after = Duration::MAX;
        reading.fetch().unwrap();
        let error = reading.fetch().unwrap_err();
        reading.fail(error).unwrap();
        assert!(!telemetry.is_ready(), "{:?}", telemetry.parts());
        reading.fetch().unwrap();
        assert!(!telemetry.is_ready(), "the other partition says nothing about this one");
        reading.fetch().unwrap();
        assert!(telemetry.is_ready());
        assert_eq!(*log.opened.lock().unwrap(), [vec![(0, 5), (1, 7)], vec![(0, 6), (1, 7)]]);
        assert_eq!(reading.next, BTreeMap::from([(0, 7), (1, 8)]));
    }

    #[test]
    fn a_log_without_further_errors_counts_as_recovered() {
        let log = scripted(vec![unreadable(0, 5), Ok(None), Ok(None)]);
        let telemetry = Telemetry::new();
        let mut reading = reading(&log, &telemetry);
        let error = reading.fetch().unwrap_err();
        reading.fail(error).unwrap();
        reading.recovered_after = Duration::MAX;
        reading.fetch().unwrap();
        assert!(!telemetry.is_ready(), "it may fail again");
        reading.recovered_after = Duration::ZERO;
        reading.fetch().unwrap();
        assert!(telemetry.is_ready());
    }

    #[test]
    fn a_partition_that_stays_unreadable_ends_the_count() {
        let log = scripted(vec![unreadable(0, 5), batch(1, 7), unreadable(0, 5)]);
        let telemetry = Telemetry::new();
        let mut reading = reading(&log, &telemetry);
        (reading.recovered_after, reading.unreadable_max) = (Duration::MAX, Duration::ZERO);
        let first = reading.fetch().unwrap_err();
        reading.fail(first).unwrap();
        reading.fetch().unwrap();
        let second = reading.fetch().unwrap_err();
        assert!(matches!(reading.fail(second), Err(LogError::Unreadable { partition: 0, .. })));
        assert!(!telemetry.is_ready());
        drop(reading);
        assert!(telemetry.is_ready(), "nobody reads any more");
    }
}
