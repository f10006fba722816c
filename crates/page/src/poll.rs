//! Polls PostgreSQL for what the page shows, once for all viewers; with no viewers it asks next to nothing.
//!
//! Each topic has its own pace: the figures several times a second, the others less often.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use scrutin_contract::vote::format_millis;
use scrutin_telemetry::{Part, Telemetry};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::live::Live;
use super::moments::{Moments, Race};
use super::reader::{ReadError, Reader};
use super::{PART, queries};

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MOST: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topic {
    Figures,
    Regions,
    Steps,
    Checks,
}

/// How often a topic is polled. Its queries take at most 1 in `share` of the time, however slow PostgreSQL is.
struct Pace {
    every: Duration,
    share: u32,
    /// How often without viewers; none: not at all.
    alone: Option<Duration>,
}

impl Topic {
    const fn pace(self) -> Pace {
        let (every_ms, share) = match self {
            Topic::Figures => (250, 4),
            Topic::Regions => (1000, 12),
            // With a million cells it takes most of a second.
            Topic::Steps => (1000, 20),
            Topic::Checks => (4000, 20),
        };
        let alone = match self {
            // Moments must not be missed because there were no viewers.
            Topic::Regions => Some(Duration::from_secs(5)),
            _ => None,
        };
        Pace { every: Duration::from_millis(every_ms), share, alone }
    }

    fn sql(self) -> &'static str {
        match self {
            Topic::Figures => &queries::live::FIGURES,
            Topic::Regions => &queries::live::REGIONS,
            Topic::Steps => &queries::timeline::CELLS,
            Topic::Checks => &queries::live::CHECKS,
        }
    }
}

pub struct Poller<'a> {
    pub live: &'a Live,
    pub telemetry: &'a Telemetry,
    pub counter: &'a str,
}

impl Poller<'_> {
    /// Polls for ever. Slow queries have their own session, so that the figures do not wait for them.
    pub async fn run(&self, quick: &Reader, slow: &Reader) {
        let about = json!({ "version": env!("CARGO_PKG_VERSION"), "started_at": now() });
        self.put(about);
        let mut moments = Watch::default();
        tokio::join!(
            self.repeat(Topic::Figures, quick, |read| self.figures(read)),
            self.repeat(Topic::Regions, quick, |read| self.regions(read, &mut moments)),
            self.repeat(Topic::Steps, slow, |read| self.steps(read)),
            self.repeat(Topic::Checks, slow, |read| self.checks(read)),
        );
    }

    /// Polls a topic for ever; `show` publishes each result, and returns its error or one of its own.
    async fn repeat(
        &self,
        topic: Topic,
        reader: &Reader,
        mut show: impl FnMut(Result<Option<Value>, ReadError>) -> Result<(), ReadError>,
    ) {
        let Pace { every, share, alone } = topic.pace();
        let mut retry = RETRY_FIRST;
        loop {
            self.live.somebody(alone).await;
            let started = Instant::now();
            let read = match topic {
                Topic::Steps => {
                    reader.json(topic.sql(), &[&self.counter, &None::<&str>, &queries::timeline::POINTS_SHOWN]).await
                }
                _ => reader.json(topic.sql(), &[&self.counter, &None::<&str>]).await,
            };
            let took = started.elapsed();
            let pause = match show(read.and_then(parsed)) {
                Ok(()) => {
                    retry = RETRY_FIRST;
                    every.saturating_sub(took).max(took * (share - 1))
                }
                Err(error) => {
                    if let ReadError::Failed(what) = error {
                        tracing::warn!("the page's {topic:?} cannot be updated: {what}");
                    }
                    let pause = retry;
                    retry = (retry * 2).min(RETRY_MOST);
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Publishes the figures, and whether PostgreSQL could be queried for them.
    fn figures(&self, read: Result<Option<Value>, ReadError>) -> Result<(), ReadError> {
        let now = now();
        let (mut fields, problem, failed) = match read {
            Ok(Some(data)) => {
                let mut fields = object(data);
                fields.insert("at".into(), now.as_str().into());
                (fields, None, None)
            }
            Ok(None) => (Map::new(), Some("no election is loaded yet; `scrutin setup` loads one".to_owned()), None),
            Err(error) => (Map::new(), Some(error.to_string()), Some(error)),
        };
        match &failed {
            None => self.telemetry.set_ready(PART),
            Some(error) => self.telemetry.set_waiting(PART, error.to_string()),
        }
        fields.insert("now".into(), now.into());
        fields.insert("connected".into(), failed.is_none().into());
        fields.insert("problem".into(), problem.into());
        fields.insert("ready".into(), self.telemetry.is_ready().into());
        let parts: BTreeMap<&str, PartJson> =
            self.telemetry.parts().into_iter().map(|part| (part.name, part.into())).collect();
        fields.insert("parts".into(), json!(parts));
        self.live.put_figures(fields);
        failed.map_or(Ok(()), Err)
    }

    fn regions(&self, read: Result<Option<Value>, ReadError>, watch: &mut Watch) -> Result<(), ReadError> {
        let Some(value) = read? else { return Ok(()) };
        let found: Regions = shaped(&value)?;
        watch.see(&found);
        let Regions { regions_total, regions, .. } = found;
        let moments = watch.moments.reported().map(|(number, at, moment)| {
            let mut fields = object(json!(moment));
            fields.insert("at".into(), at.as_str().into());
            (number.to_string(), Value::Object(fields))
        });
        let moments: Map<String, Value> = moments.collect();
        self.put(json!({ "regions_total": regions_total, "regions": regions, "moments": moments }));
        Ok(())
    }

    fn steps(&self, read: Result<Option<Value>, ReadError>) -> Result<(), ReadError> {
        let Some(value) = read? else { return Ok(()) };
        let Steps { first, step_seconds, points, places, cells } = shaped(&value)?;
        // Per point: votes by place, of the other choices, blank and null.
        let mut votes: BTreeMap<i64, (Vec<i64>, i64, i64, i64)> = BTreeMap::new();
        for (point, place, number) in cells {
            let at = votes.entry(point).or_insert_with(|| (vec![0; places.len()], 0, 0, 0));
            match place {
                -1 => at.1 = number,
                -2 => at.2 = number,
                -3 => at.3 = number,
                place => {
                    if let Some(i) = places.iter().position(|known| *known == place) {
                        at.0[i] = number;
                    }
                }
            }
        }
        self.put(json!({ "timeline": {
            "first": first, "step_seconds": step_seconds, "points": points, "places": places, "votes": votes,
        }}));
        Ok(())
    }

    fn checks(&self, read: Result<Option<Value>, ReadError>) -> Result<(), ReadError> {
        let Some(value) = read? else { return Ok(()) };
        self.put(value);
        Ok(())
    }

    fn put(&self, fields: Value) {
        self.live.put(object(fields));
    }
}

fn parsed(text: Option<String>) -> Result<Option<Value>, ReadError> {
    let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
    parsed.map_err(|error| ReadError::Failed(format!("the answer is not JSON: {error}")))
}

fn shaped<'a, T: Deserialize<'a>>(value: &'a Value) -> Result<T, ReadError> {
    T::deserialize(value).map_err(|error| ReadError::Failed(format!("the answer has an unexpected shape: {error}")))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Registered voters and expected votes of a region; none: unknown.
type ToCome = (Option<u64>, Option<u64>);

/// The result of `queries::live::REGIONS`.
#[derive(Deserialize)]
struct Regions {
    election: String,
    /// None while no counter has this name.
    total: Option<Total>,
    ahead: Vec<Ahead>,
    /// Expected votes of all regions; none: unknown.
    expected_total: Option<u64>,
    regions_total: u64,
    regions: Option<BTreeMap<String, Counted>>,
    /// By region.
    expected: Option<BTreeMap<String, ToCome>>,
}

#[derive(Clone, Copy, Deserialize)]
struct Total {
    registered: Option<u64>,
    votes: u64,
    valid: u64,
}

#[derive(Clone, Copy, Deserialize)]
struct Ahead {
    place: u32,
    votes: u64,
}

/// Votes, valid votes, place and votes of the first, place and votes of the second.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Counted(u64, u64, Option<u32>, Option<u64>, Option<u32>, Option<u64>);

/// The result of `queries::timeline::CELLS`.
#[derive(Deserialize)]
struct Steps {
    first: String,
    step_seconds: i64,
    points: i64,
    places: Vec<i64>,
    cells: Vec<(i64, i64, i64)>,
}

/// The moments of the election being counted.
#[derive(Default)]
struct Watch {
    election: String,
    moments: Moments,
}

impl Watch {
    fn see(&mut self, found: &Regions) {
        if self.election != found.election {
            self.moments.forget();
            found.election.clone_into(&mut self.election);
        }
        let Some(Total { registered, votes, valid }) = found.total else { return };
        let ahead = |rank: usize| found.ahead.get(rank).map(|ahead| (ahead.place, ahead.votes));
        let expected = found.expected_total;
        let whole = Race { votes, valid, first: ahead(0), second: ahead(1), registered, expected };
        let regions = found.regions.iter().flatten().map(|(region, counted)| {
            let expected = found.expected.as_ref().and_then(|expected| expected.get(region));
            let (registered, expected) = expected.copied().unwrap_or_default();
            (region.clone(), counted.race(registered, expected))
        });
        self.moments.observe(&now(), whole, regions);
    }
}

impl Counted {
    fn race(self, registered: Option<u64>, expected: Option<u64>) -> Race {
        let Counted(votes, valid, ..) = self;
        Race { votes, valid, first: self.2.zip(self.3), second: self.4.zip(self.5), registered, expected }
    }
}

/// A part's readiness, as the page and the API report it.
#[derive(Serialize)]
pub struct PartJson {
    ready: bool,
    problem: Option<String>,
    since: String,
}

impl From<Part> for PartJson {
    fn from(part: Part) -> PartJson {
        PartJson { ready: part.problem.is_none(), problem: part.problem, since: format_millis(part.since_ms) }
    }
}

fn now() -> String {
    format_millis(jiff::Timestamp::now().as_millisecond())
}
