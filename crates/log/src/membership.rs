//! Sharing out the partitions among the processes that count together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Result;

/// A process's membership of a group. Dropping it leaves the group.
///
/// # Errors
///
/// Every method that returns [`Result`] fails if this process cannot be a member of the group.
pub trait Membership: Send {
    /// Whether there may be other members.
    fn is_shared(&self) -> bool {
        true
    }

    /// The partitions assigned to this process; `None` until the group has decided.
    fn partitions(&self) -> Option<&BTreeSet<u32>>;

    /// Whether the group wants to change the assignment; waits up to `wait` for that. The other members wait meanwhile,
    /// so finish and commit the work in hand, then call [`accept`](Membership::accept).
    fn is_change_due(&mut self, wait: Duration) -> Result<bool>;

    /// Accepts the new assignment.
    fn accept(&mut self) -> Result<()>;

    /// Publishes how far the partitions are counted, for tools that monitor the group. Nothing here depends on it.
    fn publish(&mut self, positions: &BTreeMap<u32, u64>);
}

/// The only member: one process counts a log in a folder.
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
