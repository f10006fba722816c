//! What workers and committer share during a round.

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
    /// Changes that wait for a commit, one slot per worker.
    pub slots: Vec<Slot>,
    /// Wakes the committer: there is something to commit, or a worker has ended.
    pub wake: Notify,
    /// Ends the round: the work in hand is committed, nothing more is read.
    pub stop: Arc<Stop>,
    /// The committer has ended; nothing more will be committed.
    pub closed: AtomicBool,
}

pub(super) struct Slot {
    changes: Mutex<Changes>,
    /// Wakes the worker: its changes were taken.
    pub room: Condvar,
    /// Votes and bytes waiting, readable without the lock.
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

    /// Whether a worker's changes have reached its share of the bounds.
    pub fn is_full(&self, slot: &Slot) -> bool {
        let workers = self.slots.len();
        slot.votes.load(Ordering::Relaxed) >= PENDING_VOTES_MAX / workers as u64
            || slot.bytes.load(Ordering::Relaxed) >= PENDING_BYTES_MAX / workers
    }

    /// Called when the committer has ended, so that no worker waits for it.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.slots.iter().for_each(|slot| slot.room.notify_all());
    }
}

impl Slot {
    /// Panics if a worker has panicked: it may have left half a batch here, which must not be committed.
    pub fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().expect("no worker has panicked")
    }

    /// Updates the counts of what is waiting; called with the lock held.
    pub fn measure(&self, changes: &Changes) {
        self.votes.store(changes.received(), Ordering::Relaxed);
        self.bytes.store(changes.size(), Ordering::Relaxed);
    }
}
