//! Sessions for those who ask the API: some at a time, and for the others a short wait.
//!
//! Whoever asks gets a session to itself, so that a query that is cancelled is nobody else's.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::cache::busy;
use super::error::ApiError;
use super::reader::Reader;

/// More who want a session at the same time are sent away at once.
const WAITING_MAX: usize = 64;

/// How long one is waited for. The longest wait of all is this and that of a query.
const WAIT: Duration = Duration::from_secs(2);

pub struct Pool {
    free: Mutex<Vec<Reader>>,
    sessions: Semaphore,
    places: Semaphore,
}

impl Pool {
    pub fn of(readers: impl IntoIterator<Item = Reader>) -> Pool {
        let free: Vec<Reader> = readers.into_iter().collect();
        let (sessions, places) = (Semaphore::new(free.len()), Semaphore::new(free.len() + WAITING_MAX));
        Pool { free: Mutex::new(free), sessions, places }
    }

    /// A session for as long as it is held.
    pub async fn reader(&self) -> Result<Held<'_>, ApiError> {
        let place = self.places.try_acquire().map_err(|_| busy())?;
        let session = tokio::time::timeout(WAIT, self.sessions.acquire()).await.map_err(|_| busy())?;
        let session = session.expect("it is never closed");
        let reader = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(Held { pool: self, reader, _session: session, _place: place })
    }
}

pub struct Held<'a> {
    pool: &'a Pool,
    reader: Option<Reader>,
    _session: SemaphorePermit<'a>,
    _place: SemaphorePermit<'a>,
}

impl Deref for Held<'_> {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        self.reader.as_ref().expect("there are as many as may be held")
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Before the permit is given back, which is done when this has ended.
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).extend(self.reader.take());
    }
}
