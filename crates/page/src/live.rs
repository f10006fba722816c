//! Pushes the count to all viewers of the page, as server-sent events.
//!
//! There is one state and no queue: a viewer gets what changed since the version it saw last, so a slow viewer skips
//! versions and a reconnecting one resumes. Viewers at the same version share one text. The poller fills the state.

mod state;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use scrutin_telemetry::Telemetry;
use serde_json::{Map, Value};
use tokio::sync::watch;

use state::State;

/// Further viewers get 503.
pub const VIEWERS_MAX: usize = 10_000;

/// Texts kept for one version. Nearly all viewers are at the version before it.
const TEXTS_MAX: usize = 64;

pub struct Live {
    /// Prefix of this server's event ids: versions of another server mean nothing here.
    epoch: String,
    kept: Mutex<Kept>,
    version: watch::Sender<u64>,
    viewers: watch::Sender<usize>,
    telemetry: Arc<Telemetry>,
}

#[derive(Default)]
struct Kept {
    state: State,
    /// Set while there have been no viewers: the state may be old or incomplete.
    is_stale: bool,
    /// Events up to the newest version, by the version they start from; none: the whole state.
    texts: HashMap<Option<u64>, Bytes>,
}

impl Live {
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub fn new(telemetry: Arc<Telemetry>) -> anyhow::Result<Live> {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random)?;
        let epoch = format!("{:016x}", u64::from_ne_bytes(random));
        let (version, viewers) = (watch::Sender::new(0), watch::Sender::new(0));
        let kept = Mutex::new(Kept { is_stale: true, ..Kept::default() });
        Ok(Live { epoch, kept, version, viewers, telemetry })
    }

    /// Puts the figures into the state and pushes what changed. A viewer gets nothing before the first figures.
    pub fn put_figures(&self, fields: Map<String, Value>) {
        self.put_all(fields, true);
    }

    /// Replaces other fields of the state and pushes what changed.
    pub fn put(&self, fields: Map<String, Value>) {
        self.put_all(fields, false);
    }

    fn put_all(&self, fields: Map<String, Value>, are_figures: bool) {
        let version = {
            let mut kept = self.kept();
            let was_stale = are_figures && std::mem::take(&mut kept.is_stale);
            if !kept.state.put(fields) && !was_stale {
                return;
            }
            kept.texts.clear();
            if kept.is_stale {
                return;
            }
            kept.state.version()
        };
        self.version.send_replace(version);
    }

    /// Waits until there is a viewer, or for at most this long.
    pub async fn somebody(&self, at_most: Option<Duration>) {
        let mut viewers = self.viewers.subscribe();
        let somebody = viewers.wait_for(|viewers| *viewers > 0);
        // The sender is ours, so waiting cannot fail.
        match at_most {
            Some(at_most) => drop(tokio::time::timeout(at_most, somebody).await),
            None => drop(somebody.await),
        }
    }

    /// A viewer's stream of events, until `stop` turns true; none if there are too many viewers. A viewer that sends
    /// its last event id gets what changed since.
    pub fn events(self: &Arc<Live>, last: Option<&str>, stop: watch::Receiver<bool>) -> Option<Response> {
        let mut before = 0;
        let admitted = self.viewers.send_if_modified(|viewers| {
            before = *viewers;
            let admitted = *viewers < VIEWERS_MAX;
            *viewers += usize::from(admitted);
            admitted
        });
        if !admitted {
            return None;
        }
        self.telemetry.metrics.page_clients.inc();
        let mut version = self.version.subscribe();
        if before == 0 {
            self.kept().is_stale = true;
        } else if !self.kept().is_stale {
            version.mark_changed();
        }
        let seen = last.and_then(|last| last.strip_prefix(&*self.epoch)?.strip_prefix('-')?.parse().ok());
        let viewer = Viewer { live: self.clone(), version, stop, seen };
        let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
        // Tells proxies not to buffer this response.
        let unbuffered = [("x-accel-buffering", "no")];
        Some((headers, unbuffered, Body::from_stream(viewer.into_stream())).into_response())
    }

    /// The event that takes a viewer from version `seen` to the newest, and the newest version.
    fn text_since(&self, seen: Option<u64>) -> (Bytes, u64) {
        let mut kept = self.kept();
        let version = kept.state.version();
        if let Some(text) = kept.texts.get(&seen) {
            return (text.clone(), version);
        }
        let change = seen.and_then(|seen| kept.state.since(seen));
        let (from, name, value) = match change {
            Some(change) => (seen, "change", change),
            None => (None, "state", kept.state.whole()),
        };
        let text = Bytes::from(format!("event: {name}\nid: {}-{version}\ndata: {value}\n\n", self.epoch));
        if kept.texts.len() < TEXTS_MAX {
            kept.texts.insert(from, text.clone());
        }
        (text, version)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Viewer {
    live: Arc<Live>,
    version: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    seen: Option<u64>,
}

impl Viewer {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        // Browsers reconnect after a second.
        let greeting = stream::once(async { Ok(Bytes::from_static(b"retry: 1000\n\n")) });
        greeting.chain(stream::unfold(self, |mut viewer| async {
            let text = viewer.next().await?;
            Some((Ok(text), viewer))
        }))
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => return None,
                changed = self.version.changed() => changed.ok()?,
            }
            let (text, version) = self.live.text_since(self.seen);
            if self.seen.replace(version) != Some(version) {
                return Some(text);
            }
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.live.viewers.send_modify(|viewers| *viewers -= 1);
        self.live.telemetry.metrics.page_clients.dec();
    }
}
