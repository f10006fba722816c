//! Sharing the partitions out among the processes that count together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Result;

/// A process's part in a group. Left when it is dropped.
pub trait Membership: Send {
    /// Whether there may be others.
    fn is_shared(&self) -> bool {
        true
    }

    /// The partitions that are this process's to count; none while the group has not decided.
    fn partitions(&self) -> Option<&BTreeSet<u32>>;

    /// Whether the group wants the assignment changed, waiting up to `wait` for that. The others wait meanwhile: finish what
    /// is in hand, commit it, then [`accept`](Membership::accept).
    fn is_change_due(&mut self, wait: Duration) -> Result<bool>;

    /// Gives up what is to be given up, and takes what is new.
    fn accept(&mut self) -> Result<()>;

    /// Tells whoever looks at the group how far its partitions are counted. Nothing here rests on it.
    fn publish(&mut self, positions: &BTreeMap<u32, u64>);
}

/// The only member: a log in a folder is counted by one process.
pub struct Alone {
    partitions: BTreeSet<u32>,
}

impl Alone {
    pub fn new(partitions: u32) -> Alone {
        Alone { partitions: (0..partitions).collect() }
    }
}

impl Membership for Alone {
    fn is_shared(&self) -> bool {
        false
    }

    fn partitions(&self) -> Option<&BTreeSet<u32>> {
        Some(&self.partitions)
    }

    fn is_change_due(&mut self, wait: Duration) -> Result<bool> {
        std::thread::sleep(wait);
        Ok(false)
    }

    fn accept(&mut self) -> Result<()> {
        Ok(())
    }

    fn publish(&mut self, _positions: &BTreeMap<u32, u64>) {}
}
