//! Runs the count on Spark and writes its totals to PostgreSQL.
//!
//! ```text
//! log ─▶ Spark's streaming query ─▶ tallies topic ─▶ totals, batch by batch ─▶ PostgreSQL
//!        (state in its checkpoint)  (last of each)   (one transaction)
//! ```
//!
//! Spark reads and judges the votes, keeps track of who has voted, and computes the totals. This process starts Spark's
//! query and polls its status, which keeps the query alive. If the query ends by itself or Spark restarts, the process
//! starts the query again on the same checkpoint. At its own start, it finds the totals not yet in PostgreSQL in
//! the topic.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use scrutin_contract::election::Election;
use scrutin_log::{KafkaLog, LogError, VoteLog};
use scrutin_pipeline::{
    self as pipeline, Clock, CountError, CountProgress, EndOffsets, Entered, LOG, Latencies, POSTGRESQL, Stop,
};
use scrutin_spark_connect::{
    OutputMode, QueryProgress, Relation, Session, SparkAddress, SparkError, SparkSettings, StreamWrite, StreamingQuery,
    Trigger,
};
use scrutin_store::commit::BatchRow;
use scrutin_store::counters::CountingEngine;
use scrutin_store::positions::{self, Position};
use scrutin_store::totals::{Reach, Reached, TotalsSession};
use scrutin_store::{CommitError, Database, Role, agreement};
use scrutin_telemetry::{CounterLabel, StepLabel, Telemetry};
use serde_json::Value;

use super::SparkCountError;
use super::codes::Codes;
use super::job::{self, Job};
use super::tallies::Tallies;

/// The name of this part in [`Telemetry`].
pub const SPARK: &str = "spark";

/// How often the query's status is polled.
const POLL: Duration = Duration::from_millis(50);

/// How long reading the log at an offset may take.
const LOOK_WAIT: Duration = Duration::from_secs(30);

/// Delays between retries, doubling from first to max.
const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// A query that ends by itself this often without finishing a batch is not restarted.
const FAILURES_MAX: u32 = 5;

/// Enters the count's id. To be raised when the totals or Spark's state change their form, so that a count begins anew
/// instead of misreading what an earlier version left behind.
const FORM: &str = "2";

/// Settings that the count relies on, whatever the server's configuration and [`SparkCountOptions::settings`].
const SETTINGS: [(&str, &str); 6] = [
    ("spark.sql.ansi.enabled", "true"),
    ("spark.sql.session.timeZone", "UTC"),
    // The query tells Spark by hints to join without sorting.
    ("spark.sql.optimizer.disableHints", "false"),
    // The default provider keeps all state on the heap.
    (
        "spark.sql.streaming.stateStore.providerClass",
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
    ),
    ("spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled", "true"),
    // Otherwise each new row of state costs a look-up. The totals tell the number of rows.
    ("spark.sql.streaming.stateStore.rocksdb.trackTotalNumberOfRows", "false"),
];

/// Checks that settings for the session leave those alone that the count relies on.
///
/// # Errors
///
/// If one of them does not; the error says which.
pub fn check_settings(settings: &[(String, String)]) -> Result<(), String> {
    for (key, value) in settings {
        if let Some((key, own)) = SETTINGS.iter().find(|(own, _)| own.eq_ignore_ascii_case(key))
            && own != value
        {
            return Err(format!("{key} must be {own} for the count to be right; leave it out"));
        }
    }
    Ok(())
}

/// What Spark counts, and how.
#[derive(Clone, Debug)]
pub struct SparkCountOptions {
    /// The counter's name in the tables.
    pub counter: String,
    pub address: SparkAddress,
    /// Spark's folder for the progress and state of queries, including who has voted. Each count has a folder of its own
    /// in it, which no count of another log or by other rules can take up.
    pub checkpoint: String,
    /// The topic for the totals, on the log's brokers.
    pub tallies: String,
    /// The maximum number of votes per batch. A whole backlog in one batch would exceed any memory.
    pub batch_votes: u64,
    /// Further settings of Spark's own Kafka clients for reaching the log, by Kafka's names.
    pub kafka: BTreeMap<String, String>,
    /// Spark settings for the session that pass [`check_settings`].
    pub settings: Vec<(String, String)>,
    /// Stop once everything in the log at the start has been counted.
    pub drain: bool,
}

/// Spark's progress, for display.
#[derive(Debug, Default)]
pub struct SparkProgress {
    /// Duration of the last batch, in milliseconds.
    pub batch_ms: AtomicU64,
    /// Rows of state: voters who have voted, rejected votes, and totals.
    pub state_rows: AtomicU64,
    pub state_bytes: AtomicU64,
}

/// Counts until asked to stop, or until the log is drained. Commits what Spark has finished before it returns.
///
/// # Errors
///
/// If the count cannot start, cannot continue even after retries, or another process has taken over the counter.
pub async fn count(
    log: KafkaLog,
    database: Database,
    options: SparkCountOptions,
    telemetry: Arc<Telemetry>,
    progress: (Arc<CountProgress>, Arc<SparkProgress>),
    stop: Arc<Stop>,
) -> Result<(), SparkCountError> {
    let votes: Arc<dyn VoteLog> = Arc::new(log.clone());
    let (count, spark) = progress;
    let Entered { elections, offsets, .. } =
        pipeline::enter(&votes, &database, &options.counter, CountingEngine::Spark, &count).await?;
    let id = count_id(&log, &elections);
    let topic = log.totals(&options.tallies).await?;
    let all: BTreeSet<u32> = (0..log.partitions()).collect();
    let positions = positions::take(&mut database.connect(Role::Counter).await?, &options.counter, &all).await?;
    telemetry.set_ready(LOG);
    telemetry.set_ready(POSTGRESQL);

    let end_offsets = (0..).zip(offsets.iter().map(|offsets| offsets.end)).collect();
    let end_offsets = EndOffsets::watch(Arc::clone(&votes), end_offsets, Arc::clone(&telemetry), Arc::clone(&stop));
    pipeline::witness::note(&end_offsets, votes.id(), database.clone(), Role::Counter);
    let driver = Driver {
        tallies: Some(
            pipeline::blocking({
                let (id, codes) = (id.clone(), Codes::of(&elections));
                move || Tallies::open(topic, &id, codes)
            })
            .await?,
        ),
        end_offsets,
        id,
        log,
        elections,
        database,
        options,
        telemetry,
        count,
        spark,
        stop,
        positions,
        done: BTreeMap::new(),
        session: None,
        seen: None,
        appended: Vec::new(),
        steps_ms: BTreeMap::new(),
        clock: Clock::default(),
        failures: 0,
    };
    driver.run().await
}

/// The id that marks this count's totals. Counts of the same log by the same rules share it: their totals are equal.
fn count_id(log: &KafkaLog, elections: &[Election]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(FORM.as_bytes());
    hasher.update(log.id().as_bytes());
    for election in elections {
        hasher.update(election.fingerprint().as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

struct Driver {
    id: String,
    log: KafkaLog,
    elections: Vec<Election>,
    database: Database,
    options: SparkCountOptions,
    telemetry: Arc<Telemetry>,
    count: Arc<CountProgress>,
    spark: Arc<SparkProgress>,
    stop: Arc<Stop>,
    end_offsets: Arc<EndOffsets>,
    /// The partitions' positions in the tables, with the epochs under which this process holds them.
    positions: BTreeMap<u32, Position>,
    /// None while a thread reads them.
    tallies: Option<Tallies>,
    /// The log's offsets after the last batch known to be finished.
    done: BTreeMap<u32, u64>,
    session: Option<TotalsSession>,
    /// The last batch with votes that the query has reported.
    seen: Option<i64>,
    /// Append times of the records in batches since the last commit; see [`job::appended`].
    appended: Vec<(i64, u64)>,
    /// How long each step of these batches took.
    steps_ms: BTreeMap<String, f64>,
    clock: Clock,
    /// How many times in a row the query has ended by itself.
    failures: u32,
}

impl Driver {
    async fn run(mut self) -> Result<(), SparkCountError> {
        let mut wait = WAIT_FIRST;
        loop {
            let (error, part): (SparkCountError, _) = match self.follow().await {
                Ok(()) => return Ok(()),
                Err(SparkCountError::Spark(error)) if error.is_passing() || self.may_start_again(&error) => {
                    (error.into(), SPARK)
                }
                Err(SparkCountError::Count(CountError::Log(error))) if error.is_transient() => (error.into(), LOG),
                Err(SparkCountError::Count(
                    CountError::Store(error) | CountError::Commit(CommitError::Store(error)),
                )) if error.is_transient() => (error.into(), POSTGRESQL),
                Err(error) => return Err(error),
            };
            self.session = None;
            tracing::warn!("{error}; the count waits");
            self.telemetry.set_waiting(part, error.public_message());
            if self.stop.is_asked() {
                return Err(CountError::GaveUp(error.to_string()).into());
            }
            if self.seen.take().is_some() {
                wait = WAIT_FIRST;
            }
            let _ = tokio::time::timeout(wait, self.stop.asked()).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    /// Whether to restart a query that has ended by itself: the cause may have passed, up to [`FAILURES_MAX`] times.
    fn may_start_again(&mut self, error: &SparkError) -> bool {
        if self.seen.is_some() {
            self.failures = 0;
        }
        self.failures += 1;
        matches!(error, SparkError::Failed { action: QUERY, .. }) && self.failures < FAILURES_MAX
    }

    /// Runs the query in a new session until a stop or its end.
    async fn follow(&mut self) -> Result<(), SparkCountError> {
        // A process that took over has started the query in its own session; we must not take it back.
        self.check_tables().await?;
        self.telemetry.set_ready(POSTGRESQL);
        let session = Session::open(&self.options.address, &SparkSettings::default()).await?;
        let query = self.start(&session).await?;
        let followed = self.watch(&query).await;
        if followed.is_ok() {
            session.close().await?;
        }
        followed
    }

    /// Checks the positions in the database, which may be a different server than before.
    async fn check_tables(&mut self) -> Result<(), SparkCountError> {
        let client = self.database.connect(Role::Counter).await?;
        if !positions::check_taken(&client, &self.options.counter, &self.positions).await? {
            tracing::warn!(
                "the database has lost commits of `{}`, for example because a standby took over before receiving them; \
                 all totals will be committed again",
                self.options.counter
            );
            self.tallies_mut().totals.commit_again();
        }
        Ok(())
    }

    async fn start(&self, session: &Session) -> Result<StreamingQuery, SparkError> {
        let own = self.options.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        for (key, value) in own.chain(SETTINGS) {
            session.set(key, value).await?;
        }
        let (address, batch_votes) = (self.log.address(), self.options.batch_votes.to_string());
        let mut brokers: BTreeMap<String, String> =
            self.options.kafka.iter().map(|(name, value)| (format!("kafka.{name}"), value.clone())).collect();
        brokers.insert("kafka.bootstrap.servers".to_owned(), address.servers.clone());
        let source = [
            ("kafka.isolation.level", "read_committed"),
            ("subscribe", address.topic.as_str()),
            ("startingOffsets", "earliest"),
            ("failOnDataLoss", "true"),
            ("maxOffsetsPerTrigger", batch_votes.as_str()),
        ];
        let log = Relation::stream(
            "kafka",
            // The default of 500 makes a backlog wait for its many polls.
            [("kafka.max.poll.records", "20000")]
                .into_iter()
                .chain(brokers.iter().map(|(name, value)| (name.as_str(), value.as_str())))
                .chain(source),
        );
        let job = Job { elections: &self.elections, partitions: self.log.partitions(), count: &self.id };
        let tallies = job.define(session, log).await?;
        let write = StreamWrite::new("kafka", tallies);
        let write = brokers.iter().fold(write, |write, (name, value)| write.option(name, value));
        let write = write
            .name(&format!("scrutin-{}", self.options.counter))
            .option("kafka.acks", "all")
            .option("topic", &self.options.tallies)
            .checkpoint(&self.checkpoint())
            .output_mode(OutputMode::Update)
            .trigger(if self.options.drain { Trigger::AvailableNow } else { Trigger::AsSoonAsPossible });
        session.start(write).await
    }

    /// Polls the query and commits its finished batches, until a stop or its end.
    async fn watch(&mut self, query: &StreamingQuery) -> Result<(), SparkCountError> {
        let mut before: Option<Look> = None;
        let (mut stopping_at, mut whole_after) = (None, None);
        loop {
            let look = Look::at(query, self.seen).await?;
            self.telemetry.set_ready(SPARK);
            // Without new votes, nothing else would reveal that the server is gone.
            if self.session.as_ref().is_some_and(TotalsSession::is_closed) {
                self.session = None;
                self.check_tables().await?;
            }
            let is_stopping = self.stop.is_asked();
            if is_stopping && look.is_active {
                // Wait for the current batch; later votes are counted at the next start.
                let batch = *stopping_at.get_or_insert(look.batch);
                if look.is_idle || look.batch != batch {
                    query.stop().await?;
                }
            }
            self.note(&look);
            // No batch was running when the topic was last read.
            let is_quiet = before.is_some_and(|before| before.is_idle && look.is_idle && before.batch == look.batch);
            if is_quiet {
                self.tallies_mut().totals.settle_all();
            }
            self.read_tallies().await?;
            let is_drained = !look.is_active && self.options.drain && !is_stopping && query.failure().await?.is_none();
            if let Some(end_offsets) = &look.end_offsets {
                self.tallies_mut().totals.settle_until(end_offsets);
                self.done = end_offsets.clone();
            }
            if is_drained {
                self.tallies_mut().totals.settle_all();
            }
            let has_committed = self.commit().await?;
            self.measure_lag();
            if has_committed && (look.is_idle || is_drained) {
                self.compare().await?;
            }
            if !look.is_active {
                return self.ended(query, is_drained, is_stopping).await;
            }
            if is_quiet && whole_after != Some(look.batch) {
                self.check_whole().await?;
                whole_after = Some(look.batch);
            }
            before = Some(look);
            if is_stopping {
                tokio::time::sleep(POLL).await;
            } else {
                let _ = tokio::time::timeout(POLL, self.stop.asked()).await;
            }
        }
    }

    /// Decides what the query's end means.
    async fn ended(
        &mut self,
        query: &StreamingQuery,
        is_drained: bool,
        is_stopping: bool,
    ) -> Result<(), SparkCountError> {
        if let Some(failure) = query.failure().await? {
            return Err(SparkError::Failed { action: QUERY, failure: Box::new(failure) }.into());
        }
        if is_stopping {
            return Ok(());
        }
        if is_drained {
            return self.check_whole().await;
        }
        let server = self.options.address.to_string();
        Err(SparkError::SessionLost { server, cause: "its query was stopped by another client".into() }.into())
    }

    /// Fails if the totals do not cover everything that the query has counted.
    async fn check_whole(&mut self) -> Result<(), SparkCountError> {
        let totals = &self.tallies_mut().totals;
        let is_whole = totals.adds_up() && !falls_short(sums(&totals.reached()), &self.count);
        if !is_whole || self.has_skipped().await? {
            return Err(self.incomplete().into());
        }
        Ok(())
    }

    /// Whether the query must have counted a record that the totals lack.
    async fn has_skipped(&mut self) -> Result<bool, SparkCountError> {
        let reached = self.tallies_mut().totals.reached();
        let (log, positions) = (self.log.clone(), self.positions.clone());
        let done = self.done.clone();
        let look = move || {
            for (partition, position) in positions {
                let end = done.get(&partition).copied().unwrap_or(0);
                let next = reached.get(&partition).map_or(position.next_offset, |reached| reached.next_offset);
                if next < end && holds_record(&log, partition, next..end)? {
                    return Ok(true);
                }
            }
            Ok::<_, LogError>(false)
        };
        Ok(pipeline::blocking(look).await?)
    }

    /// The folder of this count.
    fn checkpoint(&self) -> String {
        format!("{}/{}", self.options.checkpoint.trim_end_matches('/'), self.id)
    }

    fn incomplete(&self) -> CountError {
        CountError::Unusable(format!(
            "the totals in {} are not all that Spark has written with the checkpoint {}: the topic was deleted, or a \
             different one was given; restore both, or delete the checkpoint to count again from the start of the log",
            self.tallies.as_ref().map(Tallies::name).unwrap_or_default(),
            self.checkpoint()
        ))
    }

    /// Publishes the progress of the batches since the last look.
    fn note(&mut self, look: &Look) {
        for progress in &look.news {
            let took = progress.duration_ms.get("triggerExecution").copied().unwrap_or(0);
            let sum = |value: fn(&scrutin_spark_connect::StateProgress) -> i64| {
                progress.state_operators.iter().map(value).sum::<i64>().unsigned_abs()
            };
            self.spark.batch_ms.store(took.unsigned_abs(), Ordering::Relaxed);
            self.spark.state_bytes.store(sum(|state| state.memory_used_bytes), Ordering::Relaxed);
            let metrics = &self.telemetry.metrics;
            metrics.spark_batch_seconds.observe(took as f64 / 1000.0);
            for (step, took_ms) in progress.duration_ms.iter().filter(|(step, _)| *step != "triggerExecution") {
                let label = StepLabel { step: step.clone() };
                metrics.spark_step_seconds.get_or_create(&label).inc_by(*took_ms as f64 / 1000.0);
                *self.steps_ms.entry(step.clone()).or_default() += *took_ms as f64;
            }
            self.appended.append(&mut job::appended(progress));
            self.seen = Some(progress.batch_id);
        }
    }

    fn measure_lag(&self) {
        let mut lag = 0;
        for (partition, end) in self.end_offsets.latest() {
            let behind = end.saturating_sub(self.positions.get(&partition).map_or(0, |position| position.next_offset));
            self.telemetry.metrics.lag(partition, behind);
            lag += behind;
        }
        self.count.lag.store(lag, Ordering::Relaxed);
    }

    fn tallies_mut(&mut self) -> &mut Tallies {
        self.tallies.as_mut().expect("no thread reads it")
    }

    async fn read_tallies(&mut self) -> Result<(), LogError> {
        let mut tallies = self.tallies.take().expect("no thread reads it");
        let (tallies, read) = pipeline::blocking(move || {
            let read = tallies.read();
            (tallies, read)
        })
        .await;
        self.tallies = Some(tallies);
        read
    }

    /// Commits the settled totals if they are the state after a batch and not behind the last commit.
    async fn commit(&mut self) -> Result<bool, SparkCountError> {
        let Some(tallies) = self.tallies.as_mut().filter(|tallies| tallies.totals.has_changed()) else {
            return Ok(false);
        };
        let mut reached = tallies.totals.reached();
        let is_behind = self.positions.iter().any(|(partition, position)| {
            reached.get(partition).is_some_and(|reached| reached.next_offset < position.next_offset)
        });
        let (counted, rejected) = sums(&reached);
        if is_behind || !tallies.totals.adds_up() || falls_short((counted, rejected), &self.count) {
            return Ok(false);
        }
        // The last record may be followed by a gap.
        for (partition, reached) in &mut reached {
            reached.next_offset = reached.next_offset.max(self.done.get(partition).copied().unwrap_or(0));
        }
        let start = Instant::now();
        let end_offsets = self.end_offsets.latest();
        let lag = end_offsets
            .iter()
            .map(|(partition, end)| end.saturating_sub(reached.get(partition).map_or(0, |it| it.next_offset)));
        let before = (self.count.counted.load(Ordering::Relaxed), self.count.rejected.load(Ordering::Relaxed));
        let committed_at = self.clock.now();
        let latencies = Latencies::of(&self.appended, &self.clock);
        let batch = BatchRow {
            committed_at,
            received: (counted + rejected).saturating_sub(before.0 + before.1),
            counted: counted.saturating_sub(before.0),
            rejected: rejected.saturating_sub(before.1),
            lag: lag.sum(),
            latency_ms_p50: latencies.percentile(0.50),
            latency_ms_p99: latencies.percentile(0.99),
            steps_ms: self.steps_ms.clone(),
        };
        let session = match &mut self.session {
            Some(session) => session,
            None => self.session.insert(TotalsSession::connect(&self.database, &self.options.counter).await?),
        };
        let changes = tallies.totals.changes();
        let reach = Reach { positions: &self.positions, reached: &reached, end_offsets: &end_offsets };
        session.commit(&changes, &reach, (batch.received > 0).then_some(&batch)).await?;
        tallies.totals.committed();
        let state_rows = tallies.totals.state_rows();
        self.appended.clear();
        self.steps_ms.clear();
        for (partition, reached) in reached {
            if let Some(position) = self.positions.get_mut(&partition) {
                self.telemetry.metrics.received(partition, reached.next_offset.saturating_sub(position.next_offset));
                position.next_offset = reached.next_offset;
            }
        }
        let metrics = &self.telemetry.metrics;
        metrics.commits.inc();
        metrics.votes_counted.inc_by(batch.counted);
        latencies.seconds().for_each(|seconds| metrics.append_to_visible_seconds.observe(seconds));
        metrics.commit_seconds.observe(start.elapsed().as_secs_f64());
        self.count.counted.store(counted, Ordering::Relaxed);
        self.count.rejected.store(rejected, Ordering::Relaxed);
        self.count.commits.fetch_add(1, Ordering::Relaxed);
        self.spark.state_rows.store(state_rows, Ordering::Relaxed);
        metrics.spark_state_rows.set(state_rows as i64);
        Ok(true)
    }

    /// Measures the agreement with the other counters at the same positions.
    async fn compare(&self) -> Result<(), SparkCountError> {
        let client = self.database.connect(Role::Reader).await?;
        for (other, apart) in agreement::of(&client, &self.options.counter).await? {
            self.telemetry
                .metrics
                .counters_apart_votes
                .get_or_create(&CounterLabel { other: other.clone() })
                .set(apart);
            if apart != 0 {
                tracing::warn!(
                    "this count and `{other}` differ by {apart} votes and rejections; `scrutin status` shows where"
                );
            }
        }
        Ok(())
    }
}

/// Votes counted and rejected, over all partitions.
fn sums(reached: &BTreeMap<u32, Reached>) -> (u64, u64) {
    let add =
        |(counted, rejected), it: &Reached| (counted + it.counted, rejected + it.received.saturating_sub(it.counted));
    reached.values().fold((0, 0), add)
}

/// Whether fewer votes are counted or rejected than before.
fn falls_short((counted, rejected): (u64, u64), before: &CountProgress) -> bool {
    counted < before.counted.load(Ordering::Relaxed) || rejected < before.rejected.load(Ordering::Relaxed)
}

/// Whether the range holds a record, rather than only transaction markers and aborted records.
fn holds_record(log: &KafkaLog, partition: u32, offsets: Range<u64>) -> Result<bool, LogError> {
    let mut reader = log.reader(&[(partition, offsets.start)])?;
    let deadline = Instant::now() + LOOK_WAIT;
    while Instant::now() < deadline {
        match reader.fetch(POLL)? {
            Some(batch) if batch.is_empty() && batch.next_offset < offsets.end => {}
            Some(batch) => return Ok(batch.records().any(|record| record.offset < offsets.end)),
            None => {}
        }
    }
    Err(LogError::Away { log: log.name(), why: format!("partition {partition} cannot be read at {}", offsets.start) })
}

/// The action in [`SparkError::Failed`] for a query that has ended by itself.
const QUERY: &str = "continue counting";

/// The state of the query at one moment.
struct Look {
    is_active: bool,
    /// The query has processed everything and waits for more.
    is_idle: bool,
    batch: Option<i64>,
    /// Batches with votes finished since the last look.
    news: Vec<QueryProgress>,
    /// The log's offsets after the last batch.
    end_offsets: Option<BTreeMap<u32, u64>>,
}

impl Look {
    /// `seen` is the last batch with votes that an earlier look reported.
    async fn at(query: &StreamingQuery, seen: Option<i64>) -> Result<Look, SparkError> {
        let status = query.status().await?;
        let last = query.last_progress().await?;
        let batch = last.as_ref().map(|progress| progress.batch_id);
        let end_offsets = last.as_ref().and_then(end_offsets);
        let is_next = |progress: &QueryProgress| seen.is_some_and(|seen| progress.batch_id <= seen + 1);
        let mut news = match last {
            Some(last) if is_next(&last) => vec![last],
            Some(_) => query.recent_progress().await?,
            None => Vec::new(),
        };
        // Spark reports idle triggers under the id of the next batch.
        news.retain(|progress| progress.num_input_rows() > 0 && Some(progress.batch_id) > seen);
        Ok(Look {
            is_active: status.is_active,
            is_idle: status.is_active && !status.is_trigger_active && status.message == "Waiting for data to arrive",
            batch,
            news,
            end_offsets,
        })
    }
}

/// The offsets of the one topic that is read: `{"votes":{"0":17}}`, which Spark Connect sends as a JSON string.
fn end_offsets(progress: &QueryProgress) -> Option<BTreeMap<u32, u64>> {
    let end = &progress.sources.first()?.end_offset;
    let topics = match end {
        Value::String(text) => serde_json::from_str(text).ok()?,
        other => other.clone(),
    };
    let offsets = topics.as_object()?.values().next().and_then(Value::as_object)?;
    offsets.iter().map(|(partition, end)| Some((partition.parse().ok()?, end.as_u64()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_as_json_and_as_a_json_string() {
        for end in [r#"{"votes":{"0":17,"1":0}}"#, r#""{\"votes\":{\"0\":17,\"1\":0}}""#] {
            let json = format!(r#"{{"batchId":1,"timestamp":"","sources":[{{"endOffset":{end}}}]}}"#);
            let progress: QueryProgress = serde_json::from_str(&json).unwrap();
            assert_eq!(end_offsets(&progress), Some([(0, 17), (1, 0)].into()), "{end}");
        }
    }
}
