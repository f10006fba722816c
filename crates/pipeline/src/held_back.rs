//! Reports open transactions, of any producer, that hold votes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use scrutin_log::{Result, VoteLog};
use scrutin_telemetry::Telemetry;

use super::TRANSACTION;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a transaction may stay open before it is reported.
const REPORT_AFTER: Duration = Duration::from_secs(5);

pub(super) struct HeldBack {
    telemetry: Arc<Telemetry>,
    looked: Instant,
    /// Since when every check has seen an open transaction.
    since: Option<Instant>,
    is_reported: bool,
}

impl HeldBack {
    pub fn new(telemetry: &Arc<Telemetry>) -> HeldBack {
        HeldBack { telemetry: Arc::clone(telemetry), looked: Instant::now(), since: None, is_reported: false }
    }

    /// Checks once in a while, and reports a transaction that stays open.
    pub fn look(&mut self, log: &dyn VoteLog, partitions: &[u32]) -> Result<()> {
        if self.looked.elapsed() < LOOK_INTERVAL {
            return Ok(());
        }
        self.looked = Instant::now();
        let mut held = None;
        for &partition in partitions {
            held = log.held_back(partition)?.map(|offset| (partition, offset));
            if held.is_some() {
                break;
            }
        }
        match held {
            None => {
                self.since = None;
                self.withdraw();
            }
            Some((partition, offset)) => {
                let since = *self.since.get_or_insert_with(Instant::now);
                if since.elapsed() >= REPORT_AFTER {
                    let why = describe(log, partition, offset);
                    if !std::mem::replace(&mut self.is_reported, true) {
                        tracing::warn!("{why}");
                    }
                    self.telemetry.set_waiting(TRANSACTION, why);
                }
            }
        }
        Ok(())
    }

    fn withdraw(&mut self) {
        if std::mem::take(&mut self.is_reported) {
            self.telemetry.set_ready(TRANSACTION);
        }
    }
}

/// The next process to count the partitions checks for itself.
impl Drop for HeldBack {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// Describes what holds votes back, and what will end it.
pub fn describe(log: &dyn VoteLog, partition: u32, offset: u64) -> String {
    format!(
        "an open transaction in the log at {} holds back what comes after offset {offset} of partition {partition}, until its \
         producer ends it or the brokers do (transaction.timeout.ms)",
        log.name()
    )
}
