//! A request to stop, for threads and tasks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::WATCH_INTERVAL;

/// A request to stop, for threads and tasks.
#[derive(Debug, Default)]
pub struct Stop {
    asked: AtomicBool,
    notify: Notify,
}

impl Stop {
    /// Requests the stop.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Waits until a stop is requested or the time is over. Blocks.
    pub fn asked_within(&self, wait: Duration) {
        let deadline = Instant::now() + wait;
        while !self.is_asked() && Instant::now() < deadline {
            std::thread::sleep(WATCH_INTERVAL);
        }
    }

    /// The flag, for threads that check it directly.
    pub fn flag(&self) -> &AtomicBool {
        &self.asked
    }

    /// Returns once a stop is requested.
    pub async fn asked(&self) {
        loop {
            let mut notified = std::pin::pin!(self.notify.notified());
            notified.as_mut().enable();
            if self.is_asked() {
                return;
            }
            notified.await;
        }
    }
}
