//! The answers of the last second, so that many who ask the same cost PostgreSQL one query.
//!
//! Whoever asks first asks PostgreSQL; whoever asks meanwhile, or up to a second later, gets the same answer. If the first
//! goes away, the next takes over. Failures are told to all who waited, and not kept.
//!
//! What is kept no more is dropped at once, so that the bytes that answers take stay bounded. The well-known caches drop it
//! some time later (moka was tried).

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tokio::sync::{OnceCell, Semaphore};

use super::answer::Body;
use super::error::ApiError;

/// How long an answer about the count is given again.
pub const SECOND: Duration = Duration::from_secs(1);

/// Answers that are kept or waited for.
const ENTRIES_MAX: usize = 256;

/// Bytes of the answers that are kept; one that does not fit goes only to those who wait for it.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// Bytes of all answers that anybody still reads, the kept ones among them, in KiB.
const HELD_KIB_MAX: usize = 128 << 10;

/// What is asked: which query, with which parameters.
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

/// None: PostgreSQL has nothing of that name.
pub type Outcome = Result<Option<Arc<Body>>, ApiError>;

struct Told {
    at: Instant,
    outcome: Outcome,
}

struct Entry {
    told: Arc<OnceCell<Told>>,
    keep: Duration,
}

impl Entry {
    /// Whether it can be given, or is still waited for.
    fn is_current(&self) -> bool {
        match self.told.get() {
            Some(told) => told.outcome.is_ok() && told.at.elapsed() < self.keep,
            None => Arc::strong_count(&self.told) > 1,
        }
    }

    fn bytes(&self) -> usize {
        match self.told.get() {
            Some(Told { outcome: Ok(Some(body)), .. }) => body.len(),
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

    /// The answer that is kept, or the one that is on its way, or else what `ask` gives; that is kept for so long. With
    /// a `keep` of zero only those who ask at the same time share an answer.
    pub async fn get(&self, question: Question, keep: Duration, ask: impl Future<Output = Outcome> + Send) -> Outcome {
        let told = self.entry(&question, keep)?;
        let told = told
            .get_or_init(async || {
                let outcome = ask.await;
                if let Ok(Some(body)) = &outcome {
                    self.make_room(&question, keep, body.len());
                }
                Told { at: Instant::now(), outcome }
            })
            .await;
        told.outcome.clone()
    }

    /// A body of this text, or an error if all the answers that are being read take too much memory already.
    pub fn hold(&self, text: String, kind: &'static str) -> Result<Body, ApiError> {
        let kib = (text.len() >> 10) as u32 + 1;
        match self.room.clone().try_acquire_many_owned(kib) {
            Ok(room) => Ok(Body::held(text, kind, room)),
            Err(_) => Err(busy()),
        }
    }

    fn entry(&self, question: &Question, keep: Duration) -> Result<Arc<OnceCell<Told>>, ApiError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(question).filter(|entry| entry.is_current()) {
            return Ok(entry.told.clone());
        }
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, entry| entry.is_current());
        }
        if entries.len() >= ENTRIES_MAX {
            let oldest = entries.iter().filter_map(|(question, entry)| Some((entry.told.get()?.at, question)));
            let oldest = oldest.min_by_key(|(at, _)| *at).map(|(_, question)| question.clone());
            // Nothing to make way: all of them are being asked just now.
            entries.remove(&oldest.ok_or_else(busy)?);
        }
        let told = Arc::new(OnceCell::new());
        entries.insert(question.clone(), Entry { told: told.clone(), keep });
        Ok(told)
    }

    /// Forgets what is old, and the new one too if it is not to be kept or too large; those who wait for it get it all
    /// the same.
    fn make_room(&self, question: &Question, keep: Duration, bytes: usize) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| entry.is_current());
        let kept: usize = entries.values().map(Entry::bytes).sum();
        if keep.is_zero() || kept + bytes > KEPT_BYTES_MAX {
            entries.remove(question);
        }
    }
}

/// There is no room for what is asked.
pub fn busy() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too much is asked at the same time; try again later")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    fn question(n: usize) -> Question {
        Question::new("SELECT", [Some(n.to_string().as_str())])
    }

    /// An answer, and how often it was asked for.
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

    /// Lets it go as far as it gets.
    fn waits(asked: &mut (impl Future + Unpin)) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::Pin::new(asked).poll(&mut context).is_pending()
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_share_one_answer() {
        let cache = Cache::new();
        let asked = Asked { cache: &cache, times: AtomicUsize::new(0) };
        let go = Notify::new();
        let ask = || {
            cache.get(question(1), Duration::ZERO, async {
                go.notified().await;
                asked.ask("a").await
            })
        };
        let told = async { tokio::join!(ask(), ask(), ask(), async { go.notify_one() }) };
        let (first, second, third, ()) = told.await;
        assert!([first, second, third].iter().all(|told| told.as_ref().is_ok_and(Option::is_some)));
        assert_eq!(asked.times(), 1);
        // Later ones ask anew.
        go.notify_one();
        ask().await.ok().unwrap();
        assert_eq!(asked.times(), 2);
    }

    #[tokio::test]
    async fn when_the_first_goes_away_the_next_asks() {
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
    async fn a_kept_answer_is_given_again_and_a_failure_is_not() {
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
    async fn so_many_are_kept_and_no_more() {
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
    async fn too_much_at_the_same_time_is_refused() {
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
    async fn what_is_too_large_is_given_and_not_kept() {
        let cache = Cache::new();
        let asked = Asked { cache: &cache, times: AtomicUsize::new(0) };
        let large = "a".repeat(KEPT_BYTES_MAX / 2 + 1);
        for n in [1, 2, 1, 2] {
            cache.get(question(n), LONG, asked.ask(&large)).await.ok().unwrap();
        }
        assert_eq!(asked.times(), 3, "there is room for one of the two");
        // Whoever still reads it takes room.
        let room = || cache.room.available_permits();
        let before = room();
        let read = cache.get(question(3), Duration::ZERO, asked.ask("b")).await.ok().flatten().unwrap();
        cache.get(question(3), Duration::ZERO, async { Ok(None) }).await.ok().unwrap();
        assert_eq!(room(), before - 1);
        drop(read);
        assert_eq!(room(), before);
    }
}
