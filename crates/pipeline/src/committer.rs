//! Commits what the workers have counted, several times a second.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use scrutin_contract::vote::Reason;
use scrutin_engine::{Changes, Rules};
use scrutin_store::commit::{self, BatchRow, CommitBasis, CommitRows};
use scrutin_store::positions::Position;
use scrutin_store::{CommitError, Database};
use scrutin_telemetry::Telemetry;

use super::clock::Clock;
use super::end_offsets::EndOffsets;
use super::job::{Job, Positions};
use super::latencies::Latencies;
use super::retry::Retry;
use super::round::Shared;
use super::rows::rows_of;
use super::{CountError, CountProgress, POSTGRESQL};

/// Interval between the starts of two commits: twice the recent average duration of a commit, so that PostgreSQL has
/// time for readers, within these bounds. It is an average so that one slow commit does not delay the next.
const INTERVAL_PER_COMMIT: u32 = 2;
const INTERVAL_MIN: Duration = Duration::from_millis(40);
const INTERVAL_MAX: Duration = Duration::from_millis(100);

/// While this many votes wait in the log, commits are few and large, so that each row is written less often.
const BACKLOG_VOTES: u64 = 500_000;
const BACKLOG_INTERVAL: Duration = Duration::from_secs(2);

/// Statistics of a finished commit are stored with the next one, or after this time without one.
const REMEMBER_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Committer {
    database: Database,
    counter: String,
    rules: Arc<Rules>,
    telemetry: Arc<Telemetry>,
    progress: Arc<CountProgress>,
    /// The position of each partition in the tables.
    positions: BTreeMap<u32, Position>,
    /// The same, to be published to the group.
    published: Positions,
    end_offsets: Arc<EndOffsets>,
    session: Option<commit::CommitSession>,
    /// Whether there has been a session before.
    was_connected: bool,
    finished: Vec<BatchRow>,
    lag: u64,
    clock: Clock,
}

impl Committer {
    pub fn new(
        job: &Job,
        positions: BTreeMap<u32, Position>,
        end_offsets: Arc<EndOffsets>,
        published: Positions,
        clock: Clock,
    ) -> Committer {
        Committer {
            database: job.database.clone(),
            counter: job.counter.clone(),
            rules: Arc::clone(&job.rules),
            telemetry: Arc::clone(&job.telemetry),
            progress: Arc::clone(&job.progress),
            positions,
            published,
            end_offsets,
            session: None,
            was_connected: false,
            finished: Vec::new(),
            lag: 0,
            clock,
        }
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Commits until every worker has ended and nothing is left.
    pub async fn run(&mut self, shared: &Shared) -> Result<(), CountError> {
        let mut changes = Changes::new(&self.rules);
        let mut last_start = Instant::now();
        let mut usual = Duration::ZERO;
        self.publish_positions();
        self.measure_lag();
        loop {
            let ended = shared.slots.iter().all(|slot| slot.ended.load(Ordering::SeqCst));
            let is_idle =
                shared.slots.iter().all(|slot| slot.votes.load(Ordering::Relaxed) == 0 && slot.lock().is_empty());
            if is_idle {
                if ended {
                    return self.remember(shared).await;
                }
                if tokio::time::timeout(REMEMBER_AFTER, shared.wake.notified()).await.is_err() {
                    self.measure_lag();
                    self.remember(shared).await?;
                }
                continue;
            }
            let due = last_start + self.interval(usual);
            let now = Instant::now();
            if !ended && now < due && !shared.slots.iter().any(|slot| shared.is_full(slot)) {
                // Wakes up when the commit is due, or when something arrived that may have filled a slot.
                let _ = tokio::time::timeout(due - now, shared.wake.notified()).await;
                continue;
            }
            last_start = now;
            for slot in &shared.slots {
                let mut waiting = slot.lock();
                changes.take_in(&mut waiting);
                slot.measure(&waiting);
                slot.room.notify_all();
            }
            self.commit(&changes, shared).await?;
            let took = last_start.elapsed();
            usual = (usual * 3 + took) / 4;
            self.account(&changes, took);
            changes.clear();
        }
    }

    /// `usual` is the recent average duration of a commit.
    fn interval(&self, usual: Duration) -> Duration {
        match self.lag {
            BACKLOG_VOTES.. => BACKLOG_INTERVAL,
            _ => (usual * INTERVAL_PER_COMMIT).clamp(INTERVAL_MIN, INTERVAL_MAX),
        }
    }

    /// Publishes the positions of the partitions.
    fn publish_positions(&self) {
        let published = self.positions.iter().map(|(partition, position)| (*partition, position.next_offset)).collect();
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = published;
    }

    /// Measures the lag behind the last known end offsets, and returns these.
    fn measure_lag(&mut self) -> BTreeMap<u32, u64> {
        let end_offsets = self.end_offsets.latest();
        self.lag = 0;
        for (partition, end) in &end_offsets {
            let behind = end.saturating_sub(self.positions[partition].next_offset);
            self.telemetry.metrics.lag(*partition, behind);
            self.lag += behind;
        }
        self.progress.lag.store(self.lag, Ordering::Relaxed);
        end_offsets
    }

    /// Commits the changes, and retries for as long as PostgreSQL is away.
    async fn commit(&mut self, changes: &Changes, shared: &Shared) -> Result<(), CountError> {
        // The log may have been replaced, and the changes may be of the new one.
        self.end_offsets.check()?;
        let end_offsets = self.measure_lag();
        let telemetry = Arc::clone(&self.telemetry);
        let mut retry = Retry::new(&telemetry, &shared.stop);
        let rules = Arc::clone(&self.rules);
        let rows = rows_of(&rules, changes);
        loop {
            match self.try_commit(&rows, &end_offsets).await {
                Ok(()) => break,
                // The answer may have been lost. Committing again does nothing if the first attempt succeeded.
                Err(CommitError::Store(error)) if error.is_transient() => {
                    retry.wait_for_postgresql(&error).await?;
                    self.measure_lag();
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.telemetry.set_ready(POSTGRESQL);
        Ok(())
    }

    async fn try_commit(&mut self, rows: &CommitRows<'_>, end_offsets: &BTreeMap<u32, u64>) -> Result<(), CommitError> {
        let session = match &mut self.session {
            Some(session) => session,
            None => {
                if std::mem::replace(&mut self.was_connected, true) {
                    self.telemetry.metrics.database_reconnects.inc();
                }
                let session = self.connect().await?;
                self.session.insert(session)
            }
        };
        let basis = CommitBasis { expected: &self.positions, end_offsets, finished: &self.finished };
        let result = session.commit(rows, basis).await;
        match result {
            Ok(()) => self.finished.clear(),
            Err(_) => self.session = None,
        }
        result
    }

    async fn connect(&self) -> Result<commit::CommitSession, CommitError> {
        let partitions = self.rules.partitions;
        commit::CommitSession::connect(&self.database, &self.counter, partitions, &self.positions).await
    }

    /// Records a finished commit, and how long it took, in positions, metrics and progress.
    fn account(&mut self, changes: &Changes, took: Duration) {
        let committed_at = self.clock.now();
        let (mut counted, mut rejected) = (0, 0);
        for (partition, change) in &changes.partitions {
            if let Some(position) = self.positions.get_mut(partition) {
                position.next_offset = change.next_offset;
            }
            self.telemetry.metrics.received(*partition, change.counted + change.rejected);
            counted += change.counted;
            rejected += change.rejected;
        }
        self.publish_positions();
        self.measure_lag();

        let metrics = &self.telemetry.metrics;
        metrics.commits.inc();
        metrics.commit_seconds.observe(took.as_secs_f64());
        metrics.votes_counted.inc_by(counted);
        metrics.poll_book_voters.inc_by(counted as i64);
        let mut by_reason: BTreeMap<Reason, u64> = BTreeMap::new();
        for ((reason, _), votes) in &changes.totals.rejections {
            *by_reason.entry(*reason).or_default() += votes;
        }
        by_reason.into_iter().for_each(|(reason, votes)| metrics.rejected(reason, votes));

        let latencies = Latencies::of(&changes.totals.appended, &self.clock);
        latencies.seconds().for_each(|seconds| metrics.append_to_visible_seconds.observe(seconds));
        self.finished.push(BatchRow {
            committed_at,
            received: counted + rejected,
            counted,
            rejected,
            lag: self.lag,
            latency_ms_p50: latencies.percentile(0.50),
            latency_ms_p99: latencies.percentile(0.99),
            steps_ms: [("commit".to_owned(), took.as_secs_f64() * 1000.0)].into(),
        });
        self.progress.counted.fetch_add(counted, Ordering::Relaxed);
        self.progress.rejected.fetch_add(rejected, Ordering::Relaxed);
        self.progress.commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Stores the statistics of finished commits that no later commit has stored, and notices when PostgreSQL is away.
    async fn remember(&mut self, shared: &Shared) -> Result<(), CountError> {
        let connected = match self.session.take() {
            Some(session) => Ok(session),
            None => self.connect().await,
        };
        let done = match connected {
            Ok(mut session) => {
                let remembered = session.remember(&self.finished, &self.end_offsets.latest()).await;
                remembered.map(|()| self.session = Some(session)).map_err(CommitError::from)
            }
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => {
                self.finished.clear();
                self.was_connected = true;
                self.telemetry.set_ready(POSTGRESQL);
                Ok(())
            }
            // This is only telemetry, so it is dropped at a stop.
            Err(CommitError::Store(error)) if error.is_transient() => {
                self.telemetry.set_waiting(POSTGRESQL, error.public_message());
                if !shared.stop.is_asked() {
                    tracing::warn!("{error}; the count waits");
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}
