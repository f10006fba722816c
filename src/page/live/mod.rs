//! Pushes the count to all who look at the page, as server-sent events.
//!
//! Holds the newest text of each topic and nothing older: a viewer who is slow gets the newest next, so there is no
//! queue. What the texts say is the poller's business.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use tokio::sync::watch;

use crate::telemetry::Telemetry;

/// More viewers are told to come back later.
pub const VIEWERS_MAX: usize = 10_000;

/// A comment that keeps proxies from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What is pushed, each at a pace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    Snapshot,
    Map,
    Timeline,
}

impl Topic {
    pub const ALL: [Topic; 3] = [Topic::Snapshot, Topic::Map, Topic::Timeline];

    /// The name of its event.
    pub const fn name(self) -> &'static str {
        match self {
            Topic::Snapshot => "snapshot",
            Topic::Map => "map",
            Topic::Timeline => "timeline",
        }
    }
}

/// The newest text of each topic; none where it is not known or has gone stale.
type Texts = [Option<Arc<str>>; Topic::ALL.len()];

pub struct Live {
    texts: watch::Sender<Texts>,
    viewers: watch::Sender<usize>,
    telemetry: Arc<Telemetry>,
}

impl Live {
    pub fn new(telemetry: Arc<Telemetry>) -> Live {
        Live { texts: watch::Sender::default(), viewers: watch::Sender::new(0), telemetry }
    }

    /// Pushes a text, unless it is the one that was pushed last.
    pub fn push(&self, topic: Topic, text: String) {
        self.texts.send_if_modified(|texts| {
            let known = &mut texts[topic as usize];
            let new = known.as_deref() != Some(text.as_str());
            if new {
                *known = Some(text.into());
            }
            new
        });
    }

    /// Returns while there is a viewer. While there is none the topic goes stale and is forgotten.
    pub async fn somebody(&self, topic: Topic) {
        let mut viewers = self.viewers.subscribe();
        if *viewers.borrow_and_update() == 0 {
            self.texts.send_if_modified(|texts| {
                texts[topic as usize] = None;
                false
            });
            // The sender is ours, so it is there.
            let _ = viewers.wait_for(|viewers| *viewers > 0).await;
        }
    }

    /// A viewer's stream of events, until `stop` turns true; none if there are too many viewers.
    pub fn events(
        self: &Arc<Live>,
        stop: watch::Receiver<bool>,
    ) -> Option<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>> {
        let mut texts = self.texts.subscribe();
        texts.mark_changed();
        let admitted = self.viewers.send_if_modified(|viewers| {
            let admitted = *viewers < VIEWERS_MAX;
            *viewers += usize::from(admitted);
            admitted
        });
        if !admitted {
            return None;
        }
        self.telemetry.metrics.page_clients.inc();
        // A browser whose connection breaks tries again after a second.
        let first = Event::default().retry(Duration::from_secs(1)).comment("scrutin");
        let viewer = Viewer { live: self.clone(), texts, stop, sent: Texts::default(), queue: VecDeque::from([first]) };
        let stream = futures_util::stream::unfold(viewer, |mut viewer| async {
            let event = viewer.next().await?;
            Some((Ok(event), viewer))
        });
        Some(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
    }
}

struct Viewer {
    live: Arc<Live>,
    texts: watch::Receiver<Texts>,
    stop: watch::Receiver<bool>,
    sent: Texts,
    /// At most one event of each topic.
    queue: VecDeque<Event>,
}

impl Viewer {
    async fn next(&mut self) -> Option<Event> {
        while self.queue.is_empty() {
            tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => return None,
                changed = self.texts.changed() => changed.ok()?,
            }
            let texts = self.texts.borrow_and_update();
            for ((topic, new), sent) in Topic::ALL.into_iter().zip(&*texts).zip(&mut self.sent) {
                let Some(new) = new else { continue };
                if !sent.as_ref().is_some_and(|sent| Arc::ptr_eq(sent, new)) {
                    *sent = Some(new.clone());
                    self.queue.push_back(Event::default().event(topic.name()).data(&**new));
                }
            }
        }
        self.queue.pop_front()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.live.viewers.send_modify(|viewers| *viewers -= 1);
        self.live.telemetry.metrics.page_clients.dec();
    }
}
