//! A small pool of PostgreSQL sessions for API requests; when all are in use, requests wait briefly.
//!
//! Each request has a session to itself, so that cancelling its query affects no other request.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::cache::busy;
use super::error::ApiError;
use super::reader::Reader;

/// Requests that may wait for a session; further ones fail at once.
const WAITING_MAX: usize = 64;

/// How long a request waits for a session. Its total wait is at most this plus a query's limit.
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

    /// Takes a session until the guard is dropped.
    pub async fn reader(&self) -> Result<Held<'_>, ApiError> {
        let place = self.places.try_acquire().map_err(|_| busy())?;
        let session = tokio::time::timeout(WAIT, self.sessions.acquire()).await.map_err(|_| busy())?;
        let session = session.expect("the semaphore is never closed");
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
        self.reader.as_ref().expect("there is a session for every permit")
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Return the session before the permit, which is dropped after this.
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).extend(self.reader.take());
    }
}
