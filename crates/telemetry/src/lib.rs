//! The running program's logs, metrics, and the readiness of each of its parts.
//!
//! Every metric is declared here, once. No result depends on anything in this crate.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use scrutin_contract::vote::Reason;
use tracing_subscriber::filter::LevelFilter;

/// Sends log lines at this level and above to stderr. Only the first call has an effect.
pub fn init_log(level: LevelFilter) {
    // Fails if there already is a subscriber: a test's, or an earlier call's.
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .with_max_level(level)
        // If stderr is closed, reporting that would panic.
        .log_internal_errors(false)
        .try_init();
}

/// All metrics. Update them once per batch, not per vote.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub votes_received: Family<PartitionLabel, Counter>,
    pub votes_counted: Counter,
    pub votes_rejected: Family<ReasonLabel, Counter>,
    pub lag_votes: Family<PartitionLabel, Gauge>,
    pub commits: Counter,
    pub commit_seconds: Histogram,
    pub append_to_visible_seconds: Histogram,
    pub poll_book_voters: Gauge,
    pub page_clients: Gauge,
    pub database_reconnects: Counter,
    pub rebalances: Counter,
    pub counters_apart_votes: Family<CounterLabel, Gauge>,
    pub spark_batch_seconds: Histogram,
    pub spark_step_seconds: Family<StepLabel, Counter<f64, AtomicU64>>,
    pub spark_state_rows: Gauge,
}

/// A step of a batch, by Spark's name: `addBatch`, `queryPlanning`, `walCommit` and so on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StepLabel {
    pub step: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PartitionLabel {
    pub partition: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CounterLabel {
    pub other: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    pub reason: &'static str,
}

impl Metrics {
    fn register(registry: &mut Registry) -> Metrics {
        // Doubles from 1 ms to 16 s: a commit takes milliseconds, waiting for PostgreSQL takes seconds.
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let metrics = Metrics {
            votes_received: Family::default(),
            votes_counted: Counter::default(),
            votes_rejected: Family::default(),
            lag_votes: Family::default(),
            commits: Counter::default(),
            commit_seconds: seconds(),
            append_to_visible_seconds: seconds(),
            poll_book_voters: Gauge::default(),
            page_clients: Gauge::default(),
            database_reconnects: Counter::default(),
            rebalances: Counter::default(),
            counters_apart_votes: Family::default(),
            // Doubles from 63 ms to 17 minutes.
            spark_batch_seconds: Histogram::new(exponential_buckets(0.063, 2.0, 15)),
            spark_step_seconds: Family::default(),
            spark_state_rows: Gauge::default(),
        };
        // The encoder appends `_total` to the names of counters.
        let m = &metrics;
        registry.register("votes_received", "Records read from the log and committed", m.votes_received.clone());
        registry.register("votes_counted", "Votes counted and committed", m.votes_counted.clone());
        registry.register("votes_rejected", "Votes rejected and committed, by reason", m.votes_rejected.clone());
        registry.register("lag_votes", "Votes in the log that are not committed yet", m.lag_votes.clone());
        registry.register("commits", "Transactions that committed votes", m.commits.clone());
        registry.register(
            "commit_seconds",
            "Seconds from the start of a transaction to its commit",
            m.commit_seconds.clone(),
        );
        registry.register(
            "append_to_visible_seconds",
            "Seconds from the append of a vote to its commit",
            m.append_to_visible_seconds.clone(),
        );
        registry.register("poll_book_voters", "Voters in the poll book held in memory", m.poll_book_voters.clone());
        registry.register("page_clients", "Viewers following the page live", m.page_clients.clone());
        registry.register("database_reconnects", "Reconnections to PostgreSQL", m.database_reconnects.clone());
        registry.register("rebalances", "Changes of this process's assignment", m.rebalances.clone());
        registry.register(
            "counters_apart_votes",
            "Votes and rejections in which another counter at the same positions differs from this one",
            m.counters_apart_votes.clone(),
        );
        registry.register(
            "spark_batch_seconds",
            "Seconds that Spark took to process a batch",
            m.spark_batch_seconds.clone(),
        );
        registry.register(
            "spark_step_seconds",
            "Seconds that Spark spent in each step of its batches",
            m.spark_step_seconds.clone(),
        );
        registry.register("spark_state_rows", "Rows in Spark's state, including voters", m.spark_state_rows.clone());
        metrics
    }

    pub fn received(&self, partition: u32, votes: u64) {
        self.votes_received.get_or_create(&PartitionLabel { partition }).inc_by(votes);
    }

    pub fn rejected(&self, reason: Reason, votes: u64) {
        self.votes_rejected.get_or_create(&ReasonLabel { reason: reason.code() }).inc_by(votes);
    }

    pub fn lag(&self, partition: u32, votes: u64) {
        self.lag_votes.get_or_create(&PartitionLabel { partition }).set(votes.try_into().unwrap_or(i64::MAX));
    }
}

/// A part of the program that others wait for: the log, PostgreSQL, the count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: &'static str,
    /// What it waits for; none if it is ready.
    pub problem: Option<String>,
    /// When it last became ready or not ready, in milliseconds since 1970 UTC.
    pub since_ms: i64,
}

#[derive(Debug)]
pub struct Telemetry {
    pub metrics: Metrics,
    registry: Registry,
    parts: Mutex<BTreeMap<&'static str, Part>>,
    /// The reason last logged for each waiting part.
    logged: Mutex<BTreeMap<&'static str, String>>,
}

impl Telemetry {
    pub fn new() -> Arc<Telemetry> {
        let mut registry = Registry::with_prefix("scrutin");
        let metrics = Metrics::register(&mut registry);
        Arc::new(Telemetry { metrics, registry, parts: Mutex::default(), logged: Mutex::default() })
    }

    /// Marks the part as ready.
    pub fn set_ready(&self, part: &'static str) {
        self.set(part, None);
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).remove(part);
    }

    /// Logs in full why a part waits; each new reason once, until the part is ready again.
    pub fn log_waiting(&self, part: &'static str, why: &str) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.get(part).is_none_or(|last| last != why) {
            tracing::warn!("{part}: {why}");
            logged.insert(part, why.to_owned());
        }
    }

    /// Marks the part as waiting. `why` is public, so it must not contain a host, user or secret.
    pub fn set_waiting(&self, part: &'static str, why: impl Into<String>) {
        self.set(part, Some(why.into()));
    }

    fn set(&self, name: &'static str, problem: Option<String>) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let part = parts.entry(name).or_insert_with(|| Part { name, problem: problem.clone(), since_ms: now_ms });
        if part.problem.is_some() != problem.is_some() {
            part.since_ms = now_ms;
        }
        part.problem = problem;
    }

    /// All parts that have reported a state, by name.
    pub fn parts(&self) -> Vec<Part> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Whether every part is ready; false while none is known.
    pub fn is_ready(&self) -> bool {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        !parts.is_empty() && parts.values().all(|part| part.problem.is_none())
    }

    /// The metrics in the OpenMetrics text format.
    pub fn metrics_text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_once_every_known_part_is() {
        let telemetry = Telemetry::new();
        assert!(!telemetry.is_ready(), "no part is known yet");
        telemetry.set_ready("log");
        assert!(telemetry.is_ready());
        telemetry.set_waiting("database", "connection rejected");
        assert!(!telemetry.is_ready());
        let parts = telemetry.parts();
        assert_eq!(parts.iter().map(|part| part.name).collect::<Vec<_>>(), ["database", "log"]);
        assert_eq!(parts[0].problem.as_deref(), Some("connection rejected"));
        telemetry.set_ready("database");
        assert!(telemetry.is_ready());
    }

    #[test]
    fn since_changes_only_with_the_state() {
        let telemetry = Telemetry::new();
        telemetry.set_waiting("database", "connection rejected");
        telemetry.parts.lock().unwrap().get_mut("database").unwrap().since_ms = 1;
        telemetry.set_waiting("database", "starting up");
        assert_eq!(telemetry.parts()[0].since_ms, 1);
        assert_eq!(telemetry.parts()[0].problem.as_deref(), Some("starting up"));
        telemetry.set_ready("database");
        assert!(telemetry.parts()[0].since_ms > 1);
    }

    #[test]
    fn metrics_are_written_with_help_and_labels() {
        let telemetry = Telemetry::new();
        telemetry.metrics.received(3, 20);
        telemetry.metrics.rejected(Reason::AlreadyVoted, 2);
        telemetry.metrics.lag(3, 7);
        telemetry.metrics.commit_seconds.observe(0.004);
        let text = telemetry.metrics_text();
        for line in [
            "# HELP scrutin_votes_received Records read from the log and committed.",
            "scrutin_votes_received_total{partition=\"3\"} 20",
            "scrutin_votes_rejected_total{reason=\"already_voted\"} 2",
            "scrutin_lag_votes{partition=\"3\"} 7",
            "scrutin_commit_seconds_count 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "no line `{line}` in\n{text}");
        }
    }
}
