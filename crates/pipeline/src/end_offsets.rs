//! Polls the log's end offsets, for the lag, and checks that the log answers and is still the same.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use scrutin_log::{LogError, Result, VoteLog};
use scrutin_telemetry::Telemetry;

use super::held_back::HeldBack;
use super::{LOG, Stop};

/// How often the log is polled.
const INTERVAL: Duration = Duration::from_millis(250);

/// The last known end offsets of some partitions. The log is polled until this is dropped.
pub struct EndOffsets {
    latest: Mutex<BTreeMap<u32, u64>>,
    /// Whether the log has answered since this flag was last read.
    has_answered: AtomicBool,
    /// Why the log can no longer be counted.
    broken: Mutex<Option<LogError>>,
}

impl EndOffsets {
    /// `first` holds the partitions to poll and their known end offsets. Reports to `telemetry` whether the log
    /// answers, and requests a stop if it is no longer the log that was opened.
    pub fn watch(
        log: Arc<dyn VoteLog>,
        first: BTreeMap<u32, u64>,
        telemetry: Arc<Telemetry>,
        stop: Arc<Stop>,
    ) -> Arc<EndOffsets> {
        let partitions: Vec<u32> = first.keys().copied().collect();
        let end_offsets = Arc::new(EndOffsets {
            latest: Mutex::new(first),
            has_answered: AtomicBool::default(),
            broken: Mutex::default(),
        });
        let watched = Arc::downgrade(&end_offsets);
        // It has its own thread, which nobody waits for: a log that is away blocks it for seconds.
        let watch = move || {
            let mut held_back = HeldBack::new(&telemetry);
            loop {
                thread::sleep(INTERVAL);
                let is_same = log.check();
                let is_broken = is_same.as_ref().is_err_and(|error| !error.is_transient());
                let found = is_same.and_then(|()| {
                    held_back.look(&*log, &partitions)?;
                    ask(&*log, &partitions)
                });
                let Some(end_offsets) = watched.upgrade() else { return };
                match found {
                    Ok(found) => {
                        *end_offsets.latest.lock().unwrap_or_else(PoisonError::into_inner) = found;
                        end_offsets.has_answered.store(true, Ordering::SeqCst);
                        telemetry.set_ready(LOG);
                    }
                    Err(error) => {
                        telemetry.set_waiting(LOG, error.to_string());
                        if is_broken {
                            *end_offsets.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                            stop.ask();
                        }
                    }
                }
            }
        };
        if let Err(error) = thread::Builder::new().name("log-ends".into()).spawn(watch) {
            tracing::warn!("cannot measure the lag: {error}");
        }
        end_offsets
    }

    /// The last known end offsets, by partition.
    pub fn latest(&self) -> BTreeMap<u32, u64> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The end offsets, if the log has answered since the last call.
    pub(super) fn answered(&self) -> Option<BTreeMap<u32, u64>> {
        self.has_answered.swap(false, Ordering::SeqCst).then(|| self.latest())
    }

    /// Checks that the log can still be counted.
    ///
    /// # Errors
    ///
    /// Fails, once, if the log is no longer the one that was opened.
    pub fn check(&self) -> Result<()> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/// The end offsets of the partitions.
fn ask(log: &dyn VoteLog, partitions: &[u32]) -> Result<BTreeMap<u32, u64>> {
    partitions.iter().map(|&partition| Ok((partition, log.offsets(partition)?.end))).collect()
}
