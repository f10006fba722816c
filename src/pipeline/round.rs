//! What workers and committer share while the process counts the same partitions.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Stop;
use crate::engine::{Changes, Rules};

/// Votes that may wait for a commit, over all workers.
const PENDING_VOTES_MAX: u64 = 2_000_000;

/// Bytes of changes that may wait for a commit, over all workers.
const PENDING_BYTES_MAX: usize = 128 << 20;

/// Votes of a backlog by which a worker may be ahead of another, and how long it waits for one that does not move.
///
/// Side by side they are at about the same time of the day, so most buckets of the timeline are whole after one commit.
const AHEAD_VOTES_MAX: u64 = 50_000;
const AHEAD_WAIT: Duration = Duration::from_millis(20);
const AHEAD_LOOK: Duration = Duration::from_millis(1);

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
    /// Votes that its partitions held when the round began and that it has not read.
    pub backlog: AtomicU64,
    pub ended: AtomicBool,
}

impl Shared {
    pub fn new(rules: &Rules, workers: usize, stop: Arc<Stop>) -> Shared {
        let slot = || Slot {
            changes: Mutex::new(Changes::new(rules)),
            room: Condvar::new(),
            votes: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            backlog: AtomicU64::new(0),
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

    /// Keeps a worker from running ahead of the others on a backlog. `stuck` is the backlog of one that was waited for in
    /// vain: it is not waited for again until it moves.
    pub fn stay_beside(&self, slot: &Slot, stuck: &mut u64) {
        let backlog = |slot: &Slot| slot.backlog.load(Ordering::Relaxed);
        let own = backlog(slot);
        if own == 0 {
            return;
        }
        let deadline = Instant::now() + AHEAD_WAIT;
        loop {
            let longest = self.slots.iter().map(backlog).max().unwrap_or(0);
            let is_over = self.stop.is_asked() || self.closed.load(Ordering::SeqCst);
            if is_over || longest <= own + AHEAD_VOTES_MAX || longest == *stuck {
                return;
            }
            if Instant::now() >= deadline {
                *stuck = longest;
                return;
            }
            thread::sleep(AHEAD_LOOK);
        }
    }

    /// The committer has ended: whoever waits for it need not.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.slots.iter().for_each(|slot| slot.room.notify_all());
    }
}

impl Slot {
    pub fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how much is waiting; called with the lock held.
    pub fn measure(&self, changes: &Changes) {
        self.votes.store(changes.received(), Ordering::Relaxed);
        self.bytes.store(changes.size(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::Election;

    fn two_workers(backlogs: [u64; 2]) -> Shared {
        let rules = Rules::new(&[Election::built_in()], 4).unwrap();
        let shared = Shared::new(&rules, 2, Arc::default());
        for (slot, backlog) in shared.slots.iter().zip(backlogs) {
            slot.backlog.store(backlog, Ordering::Relaxed);
        }
        shared
    }

    #[test]
    fn one_that_does_not_move_is_waited_for_once() {
        let shared = two_workers([1_000, 200_000]);
        let mut stuck = 0;
        shared.stay_beside(&shared.slots[0], &mut stuck);
        assert_eq!(stuck, 200_000);
        shared.stay_beside(&shared.slots[0], &mut stuck);
        assert_eq!(stuck, 200_000);
    }

    #[test]
    fn whoever_is_behind_or_done_or_asked_to_stop_does_not_wait() {
        let mut stuck = 0;
        let shared = two_workers([200_000, 0]);
        shared.stay_beside(&shared.slots[0], &mut stuck);
        shared.stay_beside(&shared.slots[1], &mut stuck);
        let shared = two_workers([1_000, 200_000]);
        shared.stop.ask();
        shared.stay_beside(&shared.slots[0], &mut stuck);
        assert_eq!(stuck, 0);
    }
}
