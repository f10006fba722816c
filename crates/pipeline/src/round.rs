//! What workers and committer share while the process counts the same partitions.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use scrutin_engine::{Changes, Rules};
use tokio::sync::Notify;

use super::Stop;

/// Votes that may wait for a commit, over all workers.
const PENDING_VOTES_MAX: u64 = 2_000_000;

/// Bytes of changes that may wait for a commit, over all workers.
const PENDING_BYTES_MAX: usize = 128 << 20;

pub(super) struct Shared {
    /// Changes that wait for a commit, one slot a worker.
    pub slots: Vec<Slot>,
    /// Tells the committer that there is something to commit, or that a worker has ended.
    pub wake: Notify,
    /// Ends the round: what is in hand is committed, no more is read.
    pub stop: Arc<Stop>,
    /// The committer has given up; nothing will be committed any more.
    pub closed: AtomicBool,
}

pub(super) struct Slot {
    changes: Mutex<Changes>,
    /// Tells the worker that its changes were taken.
    pub room: Condvar,
    /// Votes and bytes waiting, for a look without the lock.
    pub votes: AtomicU64,
    bytes: AtomicUsize,
    pub ended: AtomicBool,
}

impl Shared {
    pub fn new(rules: &Rules, workers: usize, stop: Arc<Stop>) -> Shared {
        let slot = || Slot {
            changes: Mutex::new(Changes::new(rules)),
            room: Condvar::new(),
            votes: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        };
        Shared {
            slots: std::iter::repeat_with(slot).take(workers).collect(),
            wake: Notify::new(),
            stop,
            closed: AtomicBool::new(false),
        }
    }

    /// Whether a worker's changes are at its share of the bounds.
    pub fn is_full(&self, slot: &Slot) -> bool {
        let workers = self.slots.len();
        slot.votes.load(Ordering::Relaxed) >= PENDING_VOTES_MAX / workers as u64
            || slot.bytes.load(Ordering::Relaxed) >= PENDING_BYTES_MAX / workers
    }

    /// The committer has ended: whoever waits for it need not.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.slots.iter().for_each(|slot| slot.room.notify_all());
    }
}

impl Slot {
    /// A worker that panicked may have left half of a batch in it: nobody may commit that.
    pub fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().expect("no worker has panicked")
    }

    /// Says how much is waiting; called with the lock held.
    pub fn measure(&self, changes: &Changes) {
        self.votes.store(changes.received(), Ordering::Relaxed);
        self.bytes.store(changes.size(), Ordering::Relaxed);
    }
}
