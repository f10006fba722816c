//! Pushes the count to all who look at the page: one poller of PostgreSQL, any number of viewers.
//!
//! While nobody looks, nothing is asked. There is no queue: a viewer who is slow gets the newest state next.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{Notify, watch};

use super::queries;
use super::reader::{ReadError, Reader};
use crate::telemetry::{Part, Telemetry};
use crate::vote::format_millis;

/// At most four polls a second; at least one push a second, so that a viewer knows the page is alive.
const POLL_EVERY: Duration = Duration::from_millis(250);
const FEED_EVERY: Duration = Duration::from_secs(1);
const PUSH_AT_LEAST_EVERY: Duration = Duration::from_secs(1);
/// Polling takes at most this part of the time, however slow PostgreSQL is: 1 in 4, and 1 in 8 for each feed.
const POLL_SHARE: u32 = 4;
const FEED_SHARE: u32 = 8;
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MOST: Duration = Duration::from_secs(4);
/// A state older than this is not shown to a new viewer: the poller has slept since.
const FRESH: Duration = Duration::from_secs(6);

/// More viewers are told to come back later.
pub const VIEWERS_MAX: usize = 10_000;

/// What is pushed beside the snapshot, less often: it is larger, or costs PostgreSQL more.
#[derive(Clone, Copy)]
enum Feed {
    Map,
    Timeline,
}

impl Feed {
    const ALL: [Feed; 2] = [Feed::Map, Feed::Timeline];

    /// The name of its event.
    const fn name(self) -> &'static str {
        match self {
            Feed::Map => "map",
            Feed::Timeline => "timeline",
        }
    }
}

pub struct Live {
    state: watch::Sender<State>,
    arrived: Notify,
    telemetry: Arc<Telemetry>,
}

/// What is pushed, ready to be sent.
#[derive(Clone)]
struct State {
    snapshot: Arc<str>,
    feeds: [Option<Arc<str>>; Feed::ALL.len()],
    /// None before the first poll.
    pushed_at: Option<Instant>,
}

#[derive(Serialize)]
struct Snapshot<'a> {
    /// Whether the last poll reached PostgreSQL.
    connected: bool,
    problem: Option<&'a str>,
    /// The server's clock.
    now: String,
    /// When `data` was read.
    at: Option<String>,
    ready: bool,
    parts: Vec<PartJson>,
    /// What `queries::SNAPSHOT` gave last, even if PostgreSQL is away now.
    data: Option<&'a RawValue>,
}

#[derive(Serialize)]
pub struct PartJson {
    name: &'static str,
    ready: bool,
    problem: Option<String>,
    since: String,
}

impl From<Part> for PartJson {
    fn from(part: Part) -> PartJson {
        PartJson {
            name: part.name,
            ready: part.problem.is_none(),
            problem: part.problem,
            since: format_millis(part.since_ms),
        }
    }
}

impl Live {
    pub fn new(telemetry: Arc<Telemetry>) -> Live {
        let nothing = State { snapshot: "".into(), feeds: Default::default(), pushed_at: None };
        Live { state: watch::Sender::new(nothing), arrived: Notify::new(), telemetry }
    }

    /// Polls while somebody looks, until `stop` turns true.
    pub async fn poll(&self, reader: &Reader, counter: &str, mut stop: watch::Receiver<bool>) {
        let mut poller = Poller { live: self, reader, counter, known: Known::default() };
        let mut retry = RETRY_FIRST;
        loop {
            tokio::select! {
                () = self.somebody() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let started = Instant::now();
            let pause = tokio::select! {
                ok = poller.poll_once() => {
                    if ok {
                        retry = RETRY_FIRST;
                        POLL_EVERY.saturating_sub(started.elapsed()).max(started.elapsed() * (POLL_SHARE - 1))
                    } else {
                        let pause = retry;
                        retry = (retry * 2).min(RETRY_MOST);
                        pause
                    }
                }
                _ = stop.wait_for(|stop| *stop) => return,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Returns while there is a viewer.
    async fn somebody(&self) {
        while self.state.receiver_count() == 0 {
            self.arrived.notified().await;
        }
    }

    /// A viewer's stream of events, until `stop` turns true; none if there are too many viewers.
    pub fn events(
        self: &Arc<Live>,
        stop: watch::Receiver<bool>,
    ) -> Option<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>> {
        if self.state.receiver_count() >= VIEWERS_MAX {
            return None;
        }
        let mut state = self.state.subscribe();
        if state.borrow().pushed_at.is_some_and(|at| at.elapsed() < FRESH) {
            state.mark_changed();
        }
        self.arrived.notify_one();
        self.telemetry.metrics.page_clients.inc();
        // A browser whose connection breaks tries again after a second.
        let first = Event::default().retry(Duration::from_secs(1)).comment("scrutin");
        let viewer = Viewer {
            telemetry: self.telemetry.clone(),
            state,
            stop,
            sent: Default::default(),
            queue: VecDeque::from([first]),
        };
        let stream = futures_util::stream::unfold(viewer, |mut viewer| async {
            let event = viewer.next().await?;
            Some((Ok(event), viewer))
        });
        Some(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(10))))
    }
}

struct Viewer {
    telemetry: Arc<Telemetry>,
    state: watch::Receiver<State>,
    stop: watch::Receiver<bool>,
    /// What was sent last of each feed.
    sent: [Option<Arc<str>>; Feed::ALL.len()],
    /// At most one snapshot and one of each feed.
    queue: VecDeque<Event>,
}

impl Viewer {
    async fn next(&mut self) -> Option<Event> {
        while self.queue.is_empty() {
            tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => return None,
                changed = self.state.changed() => changed.ok()?,
            }
            let state = self.state.borrow_and_update();
            self.queue.push_back(Event::default().event("snapshot").data(&*state.snapshot));
            for ((feed, new), sent) in Feed::ALL.into_iter().zip(&state.feeds).zip(&mut self.sent) {
                let Some(new) = new else { continue };
                if !sent.as_ref().is_some_and(|sent| Arc::ptr_eq(sent, new)) {
                    *sent = Some(new.clone());
                    self.queue.push_back(Event::default().event(feed.name()).data(&**new));
                }
            }
        }
        self.queue.pop_front()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.telemetry.metrics.page_clients.dec();
    }
}

struct Poller<'a> {
    live: &'a Live,
    reader: &'a Reader,
    counter: &'a str,
    known: Known,
}

/// What the last polls gave.
#[derive(Default)]
struct Known {
    data: Option<Box<RawValue>>,
    at: Option<String>,
    feeds: [Option<Arc<str>>; Feed::ALL.len()],
    feeds_due: [Option<Instant>; Feed::ALL.len()],
    parts: Vec<Part>,
    connected: bool,
    problem: Option<String>,
}

impl Poller<'_> {
    /// Asks PostgreSQL and pushes what is new. False: PostgreSQL could not be asked.
    async fn poll_once(&mut self) -> bool {
        let read = self.read().await;
        let (connected, problem, data) = match read {
            Ok(Some(data)) => (true, None, Some(data)),
            Ok(None) => (true, Some("no election is loaded yet; `scrutin setup` loads one".to_owned()), None),
            Err(error) => (false, Some(error.to_string()), None),
        };
        match &problem {
            Some(what) if !connected => self.live.telemetry.set_waiting(super::PART, what.as_str()),
            _ => self.live.telemetry.set_ready(super::PART),
        }
        let mut new = false;
        for feed in Feed::ALL {
            let due = self.known.feeds_due[feed as usize].is_none_or(|due| due <= Instant::now());
            if data.is_some() && due {
                new |= self.read_feed(feed).await;
            }
        }
        let parts = self.live.telemetry.parts();
        if let Some(data) = data {
            new |= self.known.data.as_ref().is_none_or(|known| known.get() != data.get());
            self.known.at = Some(now());
            self.known.data = Some(data);
        }
        new |= parts != self.known.parts || connected != self.known.connected || problem != self.known.problem;
        (self.known.parts, self.known.connected, self.known.problem) = (parts, connected, problem);
        let last = self.live.state.borrow().pushed_at;
        if new || last.is_none_or(|at| at.elapsed() >= PUSH_AT_LEAST_EVERY) {
            self.push();
        }
        connected
    }

    async fn read(&self) -> Result<Option<Box<RawValue>>, ReadError> {
        let text = self.reader.json(&queries::SNAPSHOT, &[&self.counter, &None::<&str>]).await?;
        text.map(raw).transpose()
    }

    /// Whether there is something new. What cannot be read is tried again; the next snapshot says what is the matter.
    async fn read_feed(&mut self, feed: Feed) -> bool {
        let started = Instant::now();
        let election = None::<&str>;
        let read = match feed {
            Feed::Map => self.reader.json(&queries::MAP, &[&self.counter, &election]).await,
            Feed::Timeline => {
                self.reader.json(&queries::TIMELINE, &[&self.counter, &election, &queries::POINTS_SHOWN]).await
            }
        };
        self.known.feeds_due[feed as usize] = Some(started + FEED_EVERY.max(started.elapsed() * FEED_SHARE));
        let known = &mut self.known.feeds[feed as usize];
        match read {
            Ok(Some(text)) if known.as_deref() != Some(text.as_str()) => {
                *known = Some(text.into());
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%error, "the {} could not be read", feed.name());
                false
            }
        }
    }

    fn push(&self) {
        let known = &self.known;
        let snapshot = Snapshot {
            connected: known.connected,
            problem: known.problem.as_deref(),
            now: now(),
            at: known.at.clone(),
            ready: self.live.telemetry.is_ready(),
            parts: known.parts.iter().cloned().map(PartJson::from).collect(),
            data: known.data.as_deref(),
        };
        let snapshot: Arc<str> =
            serde_json::to_string(&snapshot).expect("strings and JSON are always written to memory").into();
        self.live.state.send_modify(|state| {
            state.snapshot = snapshot;
            state.pushed_at = Some(Instant::now());
            state.feeds = known.feeds.clone();
        });
    }
}

fn raw(text: String) -> Result<Box<RawValue>, ReadError> {
    RawValue::from_string(text).map_err(|error| ReadError::Failed(format!("the snapshot is not JSON: {error}")))
}

fn now() -> String {
    format_millis(jiff::Timestamp::now().as_millisecond())
}
