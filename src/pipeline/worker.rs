//! Reads its share of the partitions and counts it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::READING;
use super::round::Shared;
use crate::engine::Engine;
use crate::log::{Batch, LogError, LogReader, VoteLog};
use crate::telemetry::Telemetry;

/// How soon a stop is heard while no votes come.
const WAIT: Duration = Duration::from_millis(50);

/// Between two tries to read what could not be read.
const RETRY: Duration = Duration::from_millis(500);

/// A log that answers, but gives no records where there must be some, is given up after this time.
const UNREADABLE_MAX: Duration = Duration::from_secs(600);

/// What a worker counts, and with what.
pub(super) struct Work {
    pub engine: Engine,
    pub log: Arc<dyn VoteLog>,
    /// The partitions, each with its next offset.
    pub share: BTreeMap<u32, u64>,
    /// Where to stop, by partition.
    pub until: Option<BTreeMap<u32, u64>>,
    /// The place of its changes in `shared`.
    pub slot: usize,
    pub shared: Arc<Shared>,
    pub telemetry: Arc<Telemetry>,
}

/// The engine as the worker left it, and whether it has failed.
pub(super) type Ended = (Engine, Result<(), LogError>);

/// Starts a thread that runs until a stop, an error, or, where `until` is given, each partition has reached its offset
/// there. Gives what it leaves once it has ended.
pub(super) fn start(work: Work) -> std::io::Result<oneshot::Receiver<Ended>> {
    let (ended, end) = oneshot::channel();
    let name = format!("worker-{}", work.slot);
    let run = move || {
        let Work { mut engine, log, share, until, slot, shared, telemetry } = work;
        let mut reading = Reading { log: &*log, reader: None, next: share, telemetry: &telemetry, unread_since: None };
        let result = count(&mut engine, &mut reading, until, slot, &shared);
        if result.is_err() {
            shared.stop.ask();
        }
        shared.slots[slot].ended.store(true, Ordering::SeqCst);
        shared.wake.notify_one();
        // The round that waited for it may have been dropped.
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

/// Reads on after errors that pass, from where it was.
struct Reading<'a> {
    log: &'a dyn VoteLog,
    reader: Option<Box<dyn LogReader>>,
    next: BTreeMap<u32, u64>,
    telemetry: &'a Telemetry,
    /// Since when the log answers and cannot be read.
    unread_since: Option<Instant>,
}

impl Reading<'_> {
    fn fetch(&mut self) -> Result<Option<Batch>, LogError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let share: Vec<(u32, u64)> = self.next.iter().map(|(partition, next)| (*partition, *next)).collect();
                self.reader.insert(self.log.reader(&share)?)
            }
        };
        let batch = reader.fetch(WAIT)?;
        if let Some(batch) = &batch {
            self.next.insert(batch.partition, batch.next_offset);
            if self.unread_since.take().is_some() {
                self.telemetry.set_ready(READING);
            }
        }
        Ok(batch)
    }

    /// Notes an error that may pass; gives it back once it has lasted too long.
    fn fail(&mut self, error: LogError) -> Result<(), LogError> {
        self.reader = None;
        tracing::warn!("{error}; the count waits");
        self.telemetry.set_waiting(READING, error.to_string());
        let since = *self.unread_since.get_or_insert_with(Instant::now);
        match error {
            LogError::Unreadable { .. } if since.elapsed() > UNREADABLE_MAX => Err(error),
            _ => Ok(()),
        }
    }

    fn recycle(&mut self, batch: Batch) {
        if let Some(reader) = &mut self.reader {
            reader.recycle(batch);
        }
    }
}
