//! Asks PostgreSQL what the page shows, once for all viewers, and while nobody looks not at all.
//!
//! Each topic has a pace of its own: the figures several times a second, the map and the timeline less often.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;

use super::live::{Live, Topic};
use super::reader::{ReadError, Reader};
use super::{PART, queries};
use crate::telemetry::{Part, Telemetry};
use crate::vote::format_millis;

/// A snapshot is pushed at least that often, so that a viewer knows the page is alive.
const PUSH_AT_LEAST_EVERY: Duration = Duration::from_secs(1);
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MOST: Duration = Duration::from_secs(4);

/// How often a topic is asked for, and which part of the time may go into it however slow PostgreSQL is: 1 in `share`.
struct Pace {
    every: Duration,
    share: u32,
}

const fn pace(topic: Topic) -> Pace {
    match topic {
        Topic::Snapshot => Pace { every: Duration::from_millis(250), share: 4 },
        Topic::Map => Pace { every: Duration::from_secs(1), share: 8 },
        // With a million cells it takes most of a second.
        Topic::Timeline => Pace { every: Duration::from_secs(1), share: 8 },
    }
}

pub struct Poller<'a> {
    pub live: &'a Live,
    pub telemetry: &'a Telemetry,
    pub counter: &'a str,
}

impl Poller<'_> {
    /// Polls for ever. The timeline has a session of its own, so that the figures do not wait for it.
    pub async fn run(&self, quick: &Reader, slow: &Reader) {
        tokio::join!(
            self.repeat(Topic::Snapshot, quick),
            self.repeat(Topic::Map, quick),
            self.repeat(Topic::Timeline, slow)
        );
    }

    async fn repeat(&self, topic: Topic, reader: &Reader) {
        let Pace { every, share } = pace(topic);
        let mut retry = RETRY_FIRST;
        let mut last = LastSnapshot::default();
        loop {
            self.live.somebody(topic).await;
            let started = Instant::now();
            let answered = match topic {
                Topic::Snapshot => self.snapshot(reader, &mut last).await,
                Topic::Map => self.feed(topic, reader.json(&queries::MAP, &[&self.counter, &None::<&str>]).await),
                Topic::Timeline => {
                    let params: super::reader::Params = &[&self.counter, &None::<&str>, &queries::POINTS_SHOWN];
                    self.feed(topic, reader.json(&queries::TIMELINE, params).await)
                }
            };
            let took = started.elapsed();
            let pause = if answered {
                retry = RETRY_FIRST;
                every.saturating_sub(took).max(took * (share - 1))
            } else {
                let pause = retry;
                retry = (retry * 2).min(RETRY_MOST);
                pause
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether PostgreSQL could be asked. If not, the snapshot says so to the viewers.
    fn feed(&self, topic: Topic, read: Result<Option<String>, ReadError>) -> bool {
        match read {
            Ok(text) => {
                if let Some(text) = text {
                    self.live.push(topic, text);
                }
                true
            }
            Err(ReadError::Unavailable(_)) => false,
            Err(ReadError::Failed(what)) => {
                tracing::warn!("the page's {} stands still: {what}", topic.name());
                false
            }
        }
    }

    async fn snapshot(&self, reader: &Reader, last: &mut LastSnapshot) -> bool {
        let read = reader.json(&queries::SNAPSHOT, &[&self.counter, &None::<&str>]).await.and_then(|text| {
            let raw = text.map(RawValue::from_string).transpose();
            raw.map_err(|error| ReadError::Failed(format!("the snapshot is not JSON: {error}")))
        });
        let (connected, problem, data) = match read {
            Ok(Some(data)) => (true, None, Some(data)),
            Ok(None) => (true, Some("no election is loaded yet; `scrutin setup` loads one".to_owned()), None),
            Err(error) => (false, Some(error.to_string()), None),
        };
        match &problem {
            Some(what) if !connected => self.telemetry.set_waiting(PART, what.as_str()),
            _ => self.telemetry.set_ready(PART),
        }
        let parts = self.telemetry.parts();
        let mut new = parts != last.parts || connected != last.connected || problem != last.problem;
        if let Some(data) = data {
            new |= last.data.as_ref().is_none_or(|known| known.get() != data.get());
            last.data = Some(data);
            last.at = Some(now());
        }
        (last.parts, last.connected, last.problem) = (parts, connected, problem);
        if new || last.pushed_at.is_none_or(|at| at.elapsed() >= PUSH_AT_LEAST_EVERY) {
            last.pushed_at = Some(Instant::now());
            self.live.push(Topic::Snapshot, last.text(self.telemetry.is_ready()));
        }
        connected
    }
}

#[derive(Default)]
struct LastSnapshot {
    data: Option<Box<RawValue>>,
    at: Option<String>,
    parts: Vec<Part>,
    connected: bool,
    problem: Option<String>,
    pushed_at: Option<Instant>,
}

impl LastSnapshot {
    fn text(&self, ready: bool) -> String {
        #[derive(Serialize)]
        struct Snapshot<'a> {
            /// Whether PostgreSQL could be asked.
            connected: bool,
            problem: Option<&'a str>,
            /// The server's clock.
            now: String,
            /// When `data` was read.
            at: Option<&'a str>,
            ready: bool,
            parts: Vec<PartJson>,
            /// What `queries::SNAPSHOT` gave last, even if PostgreSQL is away now.
            data: Option<&'a RawValue>,
        }
        let snapshot = Snapshot {
            connected: self.connected,
            problem: self.problem.as_deref(),
            now: now(),
            at: self.at.as_deref(),
            ready,
            parts: self.parts.iter().cloned().map(PartJson::from).collect(),
            data: self.data.as_deref(),
        };
        serde_json::to_string(&snapshot).expect("strings and JSON are always written to memory")
    }
}

/// A part of the program, as the API writes it.
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

fn now() -> String {
    format_millis(jiff::Timestamp::now().as_millisecond())
}
