//! What to count, and everything needed to count it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use scrutin_engine::Rules;
use scrutin_log::VoteLog;
use scrutin_store::Database;
use scrutin_telemetry::Telemetry;

use super::{CountProgress, Stop};

pub(super) struct Job {
    pub counter: String,
    pub workers: usize,
    pub log: Arc<dyn VoteLog>,
    pub database: Database,
    pub rules: Arc<Rules>,
    pub telemetry: Arc<Telemetry>,
    pub progress: Arc<CountProgress>,
    pub stop: Arc<Stop>,
    /// Where to stop, by partition.
    pub until: Option<BTreeMap<u32, u64>>,
    /// The seed of the poll books, unknown to those who cast votes.
    pub seed: [u64; 2],
}

/// The position of each partition in the tables.
pub(super) type Positions = Arc<Mutex<BTreeMap<u32, u64>>>;
