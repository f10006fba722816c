//! Where and how the votes of a run are sent, and how far they are.

use std::sync::atomic::{AtomicBool, AtomicU64};

use scrutin_log::VoteLog;

/// The stop flag is checked every so many records.
pub(super) const STOP_EVERY: u32 = 1024;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as the log accepts records.
    Max,
    /// The election's time runs this many times as fast as the clock.
    Times(f64),
}

/// The progress of a run, to be read from another thread.
#[derive(Debug, Default)]
pub struct SendProgress {
    /// The total number of ballots, without faults.
    pub ballots: AtomicU64,
    /// Records that were already in the log at the start.
    pub resumed: AtomicU64,
    /// Records appended since then.
    pub appended: AtomicU64,
    /// How much of the voting day has passed, in millionths.
    pub day_ppm: AtomicU64,
    /// Whether all records are in the log.
    pub done: AtomicBool,
}

/// Where and how the votes of a run are sent.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    pub log: &'a dyn VoteLog,
    pub speed: Speed,
    /// At least 1; threads beyond the number of partitions are not used.
    pub threads: usize,
    pub progress: &'a SendProgress,
    /// Set it to stop the run soon, with everything generated so far in the log.
    pub stop: &'a AtomicBool,
}
