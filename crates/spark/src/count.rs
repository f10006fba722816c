//! Has Spark count the log, and brings what it has counted into PostgreSQL.
//!
//! ```text
//! log ─▶ Spark's streaming query ─▶ topic of the tallies ─▶ totals, batch by batch ─▶ PostgreSQL
//!        (state in its checkpoint)   (the last of each total)   (one transaction)
//! ```
//!
//! Spark reads, judges, remembers who has voted and sums up. This process starts its query, asks it how it is, which keeps
//! it alive, and starts it again on the same checkpoint when it has ended by itself, or Spark is another one. Whatever it
//! has not brought into PostgreSQL it finds in the topic when it starts.

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
use scrutin_telemetry::{CounterLabel, Telemetry};
use serde_json::Value;

use super::SparkCountError;
use super::job::{self, Job};
use super::tallies::Tallies;

/// A part of the program as [`Telemetry`] knows it.
pub const SPARK: &str = "spark";

/// How often the query is asked how it is.
const POLL: Duration = Duration::from_millis(200);

/// How long the log may take to show what is at an offset.
const LOOK_WAIT: Duration = Duration::from_secs(30);

/// Between two tries to go on, longer each time.
const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// A query that ends by itself so often without having done a batch is not started again.
const FAILURES_MAX: u32 = 5;

/// What Spark must do as it does here, whatever the server is set to.
const SETTINGS: [(&str, &str); 4] = [
    ("spark.sql.ansi.enabled", "true"),
    ("spark.sql.session.timeZone", "UTC"),
    // The other one keeps all state in the heap.
    (
        "spark.sql.streaming.stateStore.providerClass",
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
    ),
    ("spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled", "true"),
];

/// What Spark is to count, and how.
#[derive(Clone, Debug)]
pub struct SparkCountOptions {
    /// The name under which the count stands in the tables.
    pub counter: String,
    pub address: SparkAddress,
    /// The folder, of Spark's, that says how far the query is and who has voted.
    pub checkpoint: String,
    /// The topic, beside the log's, that the totals go to.
    pub tallies: String,
    /// In a batch, at most: a backlog in one would be more than any memory holds.
    pub batch_votes: u64,
    /// By which Spark's own clients of Kafka reach the log, beside its address, by Kafka's names.
    pub kafka: BTreeMap<String, String>,
    /// Settings of Spark's for the session.
    pub settings: Vec<(String, String)>,
    /// Stop once all that is in the log at the start is counted.
    pub drain: bool,
}

/// How Spark is doing, for whoever shows it.
#[derive(Debug, Default)]
pub struct SparkProgress {
    /// What the last batch has taken, in milliseconds.
    pub batch_ms: AtomicU64,
    /// What is remembered: voters who have voted, rejected votes, and totals.
    pub state_rows: AtomicU64,
    pub state_bytes: AtomicU64,
}

/// Counts until asked to stop, or until the log is drained. What Spark has done by then is committed before it returns.
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

    let ends = (0..).zip(offsets.iter().map(|offsets| offsets.end)).collect();
    let ends = EndOffsets::watch(Arc::clone(&votes), ends, Arc::clone(&telemetry), Arc::clone(&stop));
    pipeline::witness::note(&ends, votes.id(), database.clone(), Role::Counter);
    let driver = Driver {
        tallies: Some(
            pipeline::blocking({
                let id = id.clone();
                move || Tallies::open(topic, &id)
            })
            .await?,
        ),
        ends,
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
        clock: Clock::default(),
        failures: 0,
    };
    driver.run().await
}

/// Tells this count's totals from those of every other: who counts the same log by the same rules comes to the same.
fn count_id(log: &KafkaLog, elections: &[Election]) -> String {
    let mut hasher = blake3::Hasher::new();
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
    ends: Arc<EndOffsets>,
    /// Where the partitions stand in the tables, and by which number they are this process's.
    positions: BTreeMap<u32, Position>,
    /// None while a thread reads it.
    tallies: Option<Tallies>,
    /// Offsets of the log behind the last batch that is known to be done.
    done: BTreeMap<u32, u64>,
    session: Option<TotalsSession>,
    /// The last batch with votes that the query has told of.
    seen: Option<i64>,
    /// Of the batches since the last commit, when their records were appended: see [`job::appended`].
    appended: Vec<(i64, u64)>,
    clock: Clock,
    /// How often in a row the query has ended by itself.
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

    /// Whether a query that has ended by itself may go on: what it needs may be back, or has to be found out.
    fn may_start_again(&mut self, error: &SparkError) -> bool {
        if self.seen.is_some() {
            self.failures = 0;
        }
        self.failures += 1;
        matches!(error, SparkError::Failed { action: QUERY, .. }) && self.failures < FAILURES_MAX
    }

    /// Has Spark count, in a session of its own, until a stop or the end.
    async fn follow(&mut self) -> Result<(), SparkCountError> {
        // Whoever has taken over has started the query in a session of their own: it must not be taken back.
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

    /// Looks at what the database holds, which may be another server than before.
    async fn check_tables(&mut self) -> Result<(), SparkCountError> {
        let client = self.database.connect(Role::Counter).await?;
        if !positions::check_taken(&client, &self.options.counter, &self.positions).await? {
            tracing::warn!(
                "the database has lost commits of `{}`, as when a standby takes over that had not received them; all totals \
                 are committed once more",
                self.options.counter
            );
            self.tallies_mut().totals.commit_again();
        }
        Ok(())
    }

    async fn start(&self, session: &Session) -> Result<StreamingQuery, SparkError> {
        let own = self.options.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        for (key, value) in SETTINGS.into_iter().chain(own) {
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
            brokers.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(source),
        );
        let job = Job { elections: &self.elections, partitions: self.log.partitions(), count: &self.id };
        let tallies = job.define(session, log).await?;
        let write = StreamWrite::new("kafka", tallies);
        let write = brokers.iter().fold(write, |write, (name, value)| write.option(name, value));
        let write = write
            .name(&format!("scrutin-{}", self.options.counter))
            .option("kafka.acks", "all")
            .option("topic", &self.options.tallies)
            .checkpoint(&self.options.checkpoint)
            .output_mode(OutputMode::Update)
            .trigger(if self.options.drain { Trigger::AvailableNow } else { Trigger::AsSoonAsPossible });
        session.start(write).await
    }

    /// Asks the query how it is, and commits what it has done, until a stop or its end.
    async fn watch(&mut self, query: &StreamingQuery) -> Result<(), SparkCountError> {
        let mut before: Option<Look> = None;
        let (mut stopping_at, mut whole_after) = (None, None);
        loop {
            let look = Look::at(query, self.seen).await?;
            self.telemetry.set_ready(SPARK);
            // Without a vote nothing else would show that the server is gone.
            if self.session.as_ref().is_some_and(TotalsSession::is_closed) {
                self.session = None;
                self.check_tables().await?;
            }
            let is_stopping = self.stop.is_asked();
            if is_stopping && look.is_active {
                // The batch in hand is waited for; what comes after it is counted at the next start.
                let batch = *stopping_at.get_or_insert(look.batch);
                if look.is_idle || look.batch != batch {
                    query.stop().await?;
                }
            }
            self.note(&look);
            // Nothing was under way while the topic was read last.
            let is_quiet = before.is_some_and(|before| before.is_idle && look.is_idle && before.batch == look.batch);
            if is_quiet {
                self.tallies_mut().totals.settle_all();
            }
            self.read_tallies().await?;
            let is_drained = !look.is_active && self.options.drain && !is_stopping && query.failure().await?.is_none();
            if let Some(ends) = &look.ends {
                self.tallies_mut().totals.settle_until(ends);
                self.done = ends.clone();
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

    /// What the end of the query means.
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
        Err(SparkError::SessionLost { server, cause: "its query was stopped from elsewhere".into() }.into())
    }

    /// Fails if the totals are not those of all that the query has counted.
    async fn check_whole(&mut self) -> Result<(), SparkCountError> {
        let totals = &self.tallies_mut().totals;
        let is_whole = totals.adds_up() && !falls_short(sums(&totals.reached()), &self.count);
        if !is_whole || self.has_skipped().await? {
            return Err(self.incomplete().into());
        }
        Ok(())
    }

    /// Whether there is a record behind the totals that the query must have counted.
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

    fn incomplete(&self) -> CountError {
        CountError::Unusable(format!(
            "the totals in {} are not all that Spark has written with the checkpoint {}: the topic was deleted or another \
             one is named; give both as they were, or delete the checkpoint, and Spark counts from the start of the log",
            self.tallies.as_ref().map(Tallies::name).unwrap_or_default(),
            self.options.checkpoint
        ))
    }

    /// Shows what the batches since the last look have done.
    fn note(&mut self, look: &Look) {
        for progress in &look.news {
            let took = progress.duration_ms.get("triggerExecution").copied().unwrap_or(0);
            let sum = |value: fn(&scrutin_spark_connect::StateProgress) -> i64| {
                progress.state_operators.iter().map(value).sum::<i64>().unsigned_abs()
            };
            self.spark.batch_ms.store(took.unsigned_abs(), Ordering::Relaxed);
            self.spark.state_rows.store(sum(|state| state.num_rows_total), Ordering::Relaxed);
            self.spark.state_bytes.store(sum(|state| state.memory_used_bytes), Ordering::Relaxed);
            let metrics = &self.telemetry.metrics;
            metrics.spark_state_rows.set(sum(|state| state.num_rows_total) as i64);
            metrics.spark_batch_seconds.observe(took as f64 / 1000.0);
            self.appended.append(&mut job::appended(progress));
            self.seen = Some(progress.batch_id);
        }
    }

    fn measure_lag(&self) {
        let mut lag = 0;
        for (partition, end) in self.ends.latest() {
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

    /// Commits what is settled, if it is the state after a batch and no earlier one than was committed before.
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
        // Behind the last record there may be offsets without one.
        for (partition, reached) in &mut reached {
            reached.next_offset = reached.next_offset.max(self.done.get(partition).copied().unwrap_or(0));
        }
        let start = Instant::now();
        let ends = self.ends.latest();
        let lag = ends
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
        };
        let session = match &mut self.session {
            Some(session) => session,
            None => self.session.insert(TotalsSession::connect(&self.database, &self.options.counter).await?),
        };
        let changes = tallies.totals.changes();
        let reach = Reach { positions: &self.positions, reached: &reached, ends: &ends };
        session.commit(&changes, &reach, (batch.received > 0).then_some(&batch)).await?;
        tallies.totals.committed();
        self.appended.clear();
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
        Ok(true)
    }

    /// Measures whether the other counters that stand where this one does agree with it.
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
                    "this count and `{other}` differ by {apart} votes and rejections; `scrutin status` says where"
                );
            }
        }
        Ok(())
    }
}

/// Votes counted and rejected, of all partitions.
fn sums(reached: &BTreeMap<u32, Reached>) -> (u64, u64) {
    let add =
        |(counted, rejected), it: &Reached| (counted + it.counted, rejected + it.received.saturating_sub(it.counted));
    reached.values().fold((0, 0), add)
}

/// Whether more was counted, or rejected, before.
fn falls_short((counted, rejected): (u64, u64), before: &CountProgress) -> bool {
    counted < before.counted.load(Ordering::Relaxed) || rejected < before.rejected.load(Ordering::Relaxed)
}

/// Whether there is a record at one of the offsets, or only what is none: markers of transactions, and what was aborted.
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

/// What [`SparkError::Failed`] says of a query that has ended by itself.
const QUERY: &str = "go on counting";

/// How the query is at a moment.
struct Look {
    is_active: bool,
    /// All that has come is done, and it waits for more.
    is_idle: bool,
    batch: Option<i64>,
    /// Batches with votes that were done since the last look.
    news: Vec<QueryProgress>,
    /// Offsets of the log behind the last batch.
    ends: Option<BTreeMap<u32, u64>>,
}

impl Look {
    /// `seen` is the last batch with votes that a look before has told of.
    async fn at(query: &StreamingQuery, seen: Option<i64>) -> Result<Look, SparkError> {
        let status = query.status().await?;
        let last = query.last_progress().await?;
        let batch = last.as_ref().map(|progress| progress.batch_id);
        let ends = last.as_ref().and_then(ends);
        let is_next = |progress: &QueryProgress| seen.is_some_and(|seen| progress.batch_id <= seen + 1);
        let mut news = match last {
            Some(last) if is_next(&last) => vec![last],
            Some(_) => query.recent_progress().await?,
            None => Vec::new(),
        };
        // That nothing has come is told with the number of the batch to come.
        news.retain(|progress| progress.num_input_rows() > 0 && Some(progress.batch_id) > seen);
        Ok(Look {
            is_active: status.is_active,
            is_idle: status.is_active && !status.is_trigger_active && status.message == "Waiting for data to arrive",
            batch,
            news,
            ends,
        })
    }
}

/// The offsets of the one topic that is read: `{"votes":{"0":17}}`, which Spark Connect gives as a text of JSON.
fn ends(progress: &QueryProgress) -> Option<BTreeMap<u32, u64>> {
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
    fn offsets_are_read_as_json_and_as_a_text_of_it() {
        for end in [r#"{"votes":{"0":17,"1":0}}"#, r#""{\"votes\":{\"0\":17,\"1\":0}}""#] {
            let json = format!(r#"{{"batchId":1,"timestamp":"","sources":[{{"endOffset":{end}}}]}}"#);
            let progress: QueryProgress = serde_json::from_str(&json).unwrap();
            assert_eq!(ends(&progress), Some([(0, 17), (1, 0)].into()), "{end}");
        }
    }
}
