//! Caches responses for a second, so that many identical requests cost PostgreSQL one query.
//!
//! The first request runs the query; requests made meanwhile, or up to a second later, share its result. If the first
//! client goes away, the next one takes over. A failure is returned to everyone who waited, but is not cached.
//!
//! Evicted responses are dropped at once, so that the memory they take stays bounded. The well-known caches drop them
//! some time later (moka was tried).

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tokio::sync::{OnceCell, Semaphore};

use super::answer::Body;
use super::error::ApiError;

/// How long a response about the count is reused.
pub const SECOND: Duration = Duration::from_secs(1);

/// Entries, cached or in progress.
const ENTRIES_MAX: usize = 256;

/// Bytes of all cached responses; one that does not fit goes only to the requests waiting for it.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// KiB of all responses in use, cached ones included.
const HELD_KIB_MAX: usize = 128 << 10;

/// The cache key: a query and its parameters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    query: &'static str,
    params: Vec<Option<String>>,
}

impl Question {
    pub fn new<'a>(query: &'static str, params: impl IntoIterator<Item = Option<&'a str>>) -> Question {
        Question { query, params: params.into_iter().map(|param| param.map(str::to_owned)).collect() }
    }
}

/// None: no such election or region.
pub type Outcome = Result<Option<Arc<Body>>, ApiError>;

struct Answered {
    at: Instant,
    outcome: Outcome,
}

struct Entry {
    answered: Arc<OnceCell<Answered>>,
    keep: Duration,
}

impl Entry {
    /// Whether the entry is fresh, or still being waited for.
    fn is_current(&self) -> bool {
        match self.answered.get() {
            Some(answered) => answered.outcome.is_ok() && answered.at.elapsed() < self.keep,
            None => Arc::strong_count(&self.answered) > 1,
        }
    }

    fn bytes(&self) -> usize {
        match self.answered.get() {
            Some(Answered { outcome: Ok(Some(body)), .. }) => body.len(),
            _ => 0,
        }
    }
}

pub struct Cache {
    entries: Mutex<HashMap<Question, Entry>>,
    room: Arc<Semaphore>,
}

impl Cache {
    pub fn new() -> Cache {
        Cache { entries: Mutex::default(), room: Arc::new(Semaphore::new(HELD_KIB_MAX)) }
    }

    /// Returns the cached response or the one in progress, or else runs `ask` and caches its result for `keep`. With a
    /// `keep` of zero, only concurrent requests share a response.
    pub async fn get(&self, question: Question, keep: Duration, ask: impl Future<Output = Outcome> + Send) -> Outcome {
        let answered = self.entry(&question, keep)?;
        let answered = answered
            .get_or_init(async || {
                let outcome = ask.await;
                if let Ok(Some(body)) = &outcome {
                    self.make_room(&question, keep, body.len());
                }
                Answered { at: Instant::now(), outcome }
            })
            .await;
        answered.outcome.clone()
    }

    /// A body of this text, or an error if the responses in use already take too much memory.
    pub fn hold(&self, text: String, kind: &'static str) -> Result<Body, ApiError> {
        let kib = (text.len() >> 10) as u32 + 1;
        match self.room.clone().try_acquire_many_owned(kib) {
            Ok(room) => Ok(Body::held(text, kind, room)),
            Err(_) => Err(busy()),
        }
    }

    fn entry(&self, question: &Question, keep: Duration) -> Result<Arc<OnceCell<Answered>>, ApiError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(question).filter(|entry| entry.is_current()) {
            return Ok(entry.answered.clone());
        }
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, entry| entry.is_current());
        }
        if entries.len() >= ENTRIES_MAX {
            let oldest = entries.iter().filter_map(|(question, entry)| Some((entry.answered.get()?.at, question)));
            let oldest = oldest.min_by_key(|(at, _)| *at).map(|(_, question)| question.clone());
            // Fails if nothing can be evicted: every entry is still in progress.
            entries.remove(&oldest.ok_or_else(busy)?);
        }
        let answered = Arc::new(OnceCell::new());
        entries.insert(question.clone(), Entry { answered: answered.clone(), keep });
        Ok(answered)
    }

    /// Evicts stale entries, and the new one too if it must not be kept or is too large; those waiting for it still get
    /// it.
    fn make_room(&self, question: &Question, keep: Duration, bytes: usize) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| entry.is_current());
        let kept: usize = entries.values().map(Entry::bytes).sum();
        if keep.is_zero() || kept + bytes > KEPT_BYTES_MAX {
            entries.remove(question);
        }
    }
}

/// The error when there is no room for another request.
pub fn busy() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too many concurrent requests; try again later")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    fn question(n: usize) -> Question {
        Question::new("SELECT", [Some(n.to_string().as_str())])
    }

    /// A source of answers that counts how often it is asked.
    struct Asked<'a> {
        cache: &'a Cache,
        times: AtomicUsize,
    }

    impl Asked<'_> {
        async fn ask(&self, text: &str) -> Outcome {
            self.times.fetch_add(1, Ordering::Relaxed);
            Ok(Some(Arc::new(self.cache.hold(text.to_owned(), "text/plain")?)))
        }

        fn times(&self) -> usize {
            self.times.load(Ordering::Relaxed)
        }
    }

    /// Polls once; true if it is still pending.
    fn waits(asked: &mut (impl Future + Unpin)) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::Pin::new(asked).poll(&mut context).is_pending()
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn concurrent_requests_share_one_answer() {
        let cache = Cache::new();
        let asked = Asked { cache: &cache, times: AtomicUsize::new(0) };
        let go = Notify::new();
        let ask = || {
            cache.get(question(1), Duration::ZERO, async {
                go.notified().await;
                asked.ask("a").await
            })
        };
        let answered = async { tokio::join!(ask(), ask(), ask(), async { go.notify_one() }) };
        let (first, second, third, ()) = answered.await;
        assert!([first, second, third].iter().all(|answered| answered.as_ref().is_ok_and(Option::is_some)));
        assert_eq!(asked.times(), 1);
        // A later request runs the query again.
        go.notify_one();
        ask().await.ok().unwrap();
        assert_eq!(asked.times(), 2);
    }

    #[tokio::test]
    async fn if_the_first_client_goes_away_the_next_takes_over() {
        let cache = Cache::new();
        let asked = Asked { cache: &cache, times: AtomicUsize::new(0) };
        let mut first = Box::pin(cache.get(question(1), LONG, std::future::pending()));
        let mut second = Box::pin(cache.get(question(1), LONG, asked.ask("a")));
        assert!(waits(&mut first));
        assert!(waits(&mut second));
        drop(first);
        assert!(second.await.ok().flatten().is_some());
        assert_eq!(asked.times(), 1);
    }

    #[tokio::test]
    async fn answers_are_cached_and_failures_are_not() {
        let cache = Cache::new();
        let asked = Asked { cache: &cache, times: AtomicUsize::new(0) };
        for _ in 0..3 {
            cache.get(question(1), LONG, asked.ask("a")).await.ok().unwrap();
        }
        assert_eq!(asked.times(), 1);
        let fails = async { Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "away")) };
        assert!(cache.get(question(2), LONG, fails).await.is_err());
        cache.get(question(2), LONG, asked.ask("a")).await.ok().unwrap();
        assert_eq!(asked.times(), 2);
    }

    #[tokio::test]
    async fn the_number_of_entries_is_bounded() {
        let cache = Cache::new();
        let asked = Asked { cache: &cache, times: AtomicUsize::new(0) };
        for n in 0..2 * ENTRIES_MAX {
            cache.get(question(n), LONG, asked.ask("a")).await.ok().unwrap();
        }
        assert_eq!(cache.entries.lock().unwrap().len(), ENTRIES_MAX);
        cache.get(question(2 * ENTRIES_MAX - 1), LONG, asked.ask("a")).await.ok().unwrap();
        assert_eq!(asked.times(), 2 * ENTRIES_MAX, "the newest is kept");
        cache.get(question(0), LONG, asked.ask("a")).await.ok().unwrap();
        assert_eq!(asked.times(), 2 * ENTRIES_MAX + 1, "the oldest is not");
    }

    #[tokio::test]
    async fn too_many_concurrent_queries_are_refused() {
        let cache = Cache::new();
        let mut waiting = Vec::new();
        for n in 0..ENTRIES_MAX {
            let mut asked = Box::pin(cache.get(question(n), LONG, std::future::pending()));
            assert!(waits(&mut asked));
            waiting.push(asked);
        }
        assert!(cache.get(question(ENTRIES_MAX), LONG, std::future::pending()).await.is_err());
        waiting.clear();
        assert!(cache.get(question(ENTRIES_MAX), LONG, async { Ok(None) }).await.is_ok());
    }

    #[tokio::test]
    async fn too_large_an_answer_is_given_but_not_cached() {
        let cache = Cache::new();
        let asked = Asked { cache: &cache, times: AtomicUsize::new(0) };
        let large = "a".repeat(KEPT_BYTES_MAX / 2 + 1);
        for n in [1, 2, 1, 2] {
            cache.get(question(n), LONG, asked.ask(&large)).await.ok().unwrap();
        }
        assert_eq!(asked.times(), 3, "there is room for one of the two");
        // A response in use takes room.
        let room = || cache.room.available_permits();
        let before = room();
        let read = cache.get(question(3), Duration::ZERO, asked.ask("b")).await.ok().flatten().unwrap();
        cache.get(question(3), Duration::ZERO, async { Ok(None) }).await.ok().unwrap();
        assert_eq!(room(), before - 1);
        drop(read);
        assert_eq!(room(), before);
    }
}
