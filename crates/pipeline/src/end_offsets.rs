//! Where the log ends, asked for now and then: the count's lag, whether the log answers, and whether it is still the same.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use scrutin_log::{LogError, Result, VoteLog};
use scrutin_telemetry::Telemetry;

use super::held_back::HeldBack;
use super::{LOG, Stop};

/// How often the log is asked.
const INTERVAL: Duration = Duration::from_millis(250);

/// The ends of some partitions as last heard, by partition. The log is asked until this is dropped.
pub struct EndOffsets {
    latest: Mutex<BTreeMap<u32, u64>>,
    /// Whether the log has answered since this was last asked.
    has_answered: AtomicBool,
    /// Why it cannot be counted any more.
    broken: Mutex<Option<LogError>>,
}

impl EndOffsets {
    /// `first` are the partitions to ask for, and what is known of them. Tells `telemetry` whether the log answers, and
    /// asks for a stop if it is not the log any more that was opened.
    pub fn watch(
        log: Arc<dyn VoteLog>,
        first: BTreeMap<u32, u64>,
        telemetry: Arc<Telemetry>,
        stop: Arc<Stop>,
    ) -> Arc<EndOffsets> {
        let partitions: Vec<u32> = first.keys().copied().collect();
        let ends = Arc::new(EndOffsets {
            latest: Mutex::new(first),
            has_answered: AtomicBool::default(),
            broken: Mutex::default(),
        });
        let watched = Arc::downgrade(&ends);
        // A thread of its own, which nobody waits for: a log that is away keeps it for seconds.
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
                let Some(ends) = watched.upgrade() else { return };
                match found {
                    Ok(found) => {
                        *ends.latest.lock().unwrap_or_else(PoisonError::into_inner) = found;
                        ends.has_answered.store(true, Ordering::SeqCst);
                        telemetry.set_ready(LOG);
                    }
                    Err(error) => {
                        telemetry.set_waiting(LOG, error.to_string());
                        if is_broken {
                            *ends.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                            stop.ask();
                        }
                    }
                }
            }
        };
        if let Err(error) = thread::Builder::new().name("log-ends".into()).spawn(watch) {
            tracing::warn!("the lag cannot be measured: {error}");
        }
        ends
    }

    pub fn latest(&self) -> BTreeMap<u32, u64> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The ends, if the log has answered since this was last asked.
    pub(super) fn answered(&self) -> Option<BTreeMap<u32, u64>> {
        self.has_answered.swap(false, Ordering::SeqCst).then(|| self.latest())
    }

    /// Fails if the log cannot be counted any more.
    pub fn check(&self) -> Result<()> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/// The ends of the partitions.
fn ask(log: &dyn VoteLog, partitions: &[u32]) -> Result<BTreeMap<u32, u64>> {
    partitions.iter().map(|&partition| Ok((partition, log.offsets(partition)?.end))).collect()
}
