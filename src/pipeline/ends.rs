//! Where the log ends, asked for now and then: the count's lag, and whether the log answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::LOG;
use crate::log::{Result, VoteLog};
use crate::telemetry::Telemetry;

/// How often the log is asked.
const INTERVAL: Duration = Duration::from_millis(250);

/// The ends of some partitions as last heard, by partition. The log is asked until this is dropped.
pub struct Ends {
    latest: Mutex<BTreeMap<u32, u64>>,
}

impl Ends {
    /// `first` are the partitions to ask for, and what is known of them. Tells `telemetry` whether the log answers.
    pub fn watch(log: Arc<dyn VoteLog>, first: BTreeMap<u32, u64>, telemetry: Arc<Telemetry>) -> Arc<Ends> {
        let partitions: Vec<u32> = first.keys().copied().collect();
        let ends = Arc::new(Ends { latest: Mutex::new(first) });
        let watched = Arc::downgrade(&ends);
        // A thread of its own, which nobody waits for: a log that is away keeps it for seconds.
        let watch = move || {
            loop {
                thread::sleep(INTERVAL);
                let found = ask(&*log, &partitions);
                let Some(ends) = watched.upgrade() else { return };
                match found {
                    Ok(found) => {
                        *ends.latest.lock().unwrap_or_else(PoisonError::into_inner) = found;
                        telemetry.set_ready(LOG);
                    }
                    Err(error) => telemetry.set_waiting(LOG, error.to_string()),
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
}

/// The ends of the partitions.
fn ask(log: &dyn VoteLog, partitions: &[u32]) -> Result<BTreeMap<u32, u64>> {
    partitions.iter().map(|&partition| Ok((partition, log.offsets(partition)?.end))).collect()
}
