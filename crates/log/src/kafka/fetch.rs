//! Reads partitions of a topic by Fetch requests of our own, over connections without TLS and login.
//!
//! This costs a fraction of what librdkafka does for each record: a batch is decompressed once, and its records stay
//! where they are. It also sees what librdkafka hides, markers of transactions and records of aborted ones. No other
//! offset may be without a record.
//!
//! A partition that cannot be read is tried again; only if that lasts, it is an error.
//!
//! Protocol: <https://kafka.apache.org/protocol>, Metadata and Fetch; for leader epochs,
//! <https://cwiki.apache.org/confluence/display/KAFKA/KIP-320>.

mod compression;
mod connection;
mod leaders;
mod record_batch;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use scrutin_contract::record::Batch;
use uuid::Uuid;

use super::topic::Holds;
use super::{KafkaLog, client};
use crate::{LogError, LogReader, Result, VoteLog};
use connection::{Connection, ConnectionError, PATIENCE, Server};
use leaders::{Leader, Leaders, Servers, check};
use record_batch::{BatchError, Reach, RecordBatches};

/// How long a broker waits for records before it answers without any.
const BROKER_WAIT: Duration = Duration::from_millis(500);

/// How much to ask for, in all and of each partition. A broker sends at least one batch, however large.
const ANSWER_BYTES: i32 = 16 << 20;
const PARTITION_BYTES: i32 = 4 << 20;

/// The isolation level `read_committed`.
const READ_COMMITTED: i8 = 1;

/// Time between two searches for leaders.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);
/// Shorter than the time without an error after which a worker takes reading for recovered.
const TROUBLE_MAX: Duration = Duration::from_secs(2);

pub(super) struct FetchReader {
    log: KafkaLog,
    servers: Servers,
    topic_id: Uuid,
    partitions: BTreeMap<u32, Partition>,
    /// By id, those that lead a partition.
    brokers: BTreeMap<i32, Broker>,
    /// When to search for the leaders of partitions that have none.
    search_at: Instant,
    /// Records that have arrived and were not read yet.
    arrived: VecDeque<RecordBatches>,
    spare: Vec<Batch>,
    /// An error behind records that have been passed on.
    problem: Option<LogError>,
    /// The number of requests so far.
    requests: usize,
    /// How long a partition may be in trouble before that is an error.
    trouble_max: Duration,
}

struct Partition {
    /// The offset to ask for.
    next_offset: u64,
    /// The epoch of the leader that wrote the record before it; -1 if unknown.
    last_epoch: i32,
    /// `None` if it has to be searched for.
    leader: Option<Leader>,
    /// How much to ask for.
    bytes: i32,
    trouble_since: Option<Instant>,
}

struct Broker {
    server: Server,
    connection: Option<Connection>,
    /// When the answer to a running request must have come.
    due: Option<Instant>,
}

impl FetchReader {
    /// Finds the leaders of the partitions. Returns `None` if the brokers are too old for this reader.
    pub fn open(log: &KafkaLog, from: &[(u32, u64)]) -> Result<Option<FetchReader>> {
        let partition = |next_offset| Partition {
            next_offset,
            last_epoch: -1,
            leader: None,
            bytes: PARTITION_BYTES,
            trouble_since: None,
        };
        let mut reader = FetchReader {
            log: log.clone(),
            servers: Servers::new(&log.address.servers),
            topic_id: Uuid::nil(),
            partitions: from.iter().map(|(id, next_offset)| (*id, partition(*next_offset))).collect(),
            brokers: BTreeMap::new(),
            search_at: Instant::now(),
            arrived: VecDeque::new(),
            spare: Vec::new(),
            problem: None,
            requests: 0,
            trouble_max: TROUBLE_MAX,
        };
        match reader.servers.find(&log.address.topic) {
            Err(ConnectionError::TooOld { broker }) => {
                tracing::info!("{broker} is older than Kafka 3.1, so librdkafka reads; gaps are accepted as they are");
                Ok(None)
            }
            Err(error) => Err(reader.away(&error)),
            Ok(found) => reader.take_leaders(found).map(|()| Some(reader)),
        }
    }

    /// The partitions to search for.
    fn lost(&self) -> Vec<u32> {
        self.partitions.iter().filter(|(_, partition)| partition.leader.is_none()).map(|(id, _)| *id).collect()
    }

    fn away(&self, why: &ConnectionError) -> LogError {
        LogError::Away { log: self.log.address.to_string(), why: why.to_string() }
    }

    /// Searches for the leaders of partitions that have none, if it is time.
    fn search(&mut self) -> Result<()> {
        let lost = self.lost();
        if lost.is_empty() || Instant::now() < self.search_at {
            return Ok(());
        }
        let found = self.servers.find(&self.log.address.topic);
        self.search_at = Instant::now() + SEARCH_PAUSE;
        match found {
            Ok(found) => self.take_leaders(found),
            Err(error) => lost.into_iter().try_for_each(|id| self.note(id, self.away(&error))),
        }
    }

    fn take_leaders(&mut self, found: std::result::Result<Leaders, ResponseError>) -> Result<()> {
        let mut lost = self.lost().into_iter();
        let mut leaders = match found {
            Ok(leaders) => leaders,
            Err(error) => return lost.try_for_each(|id| self.refuse(id, error)),
        };
        if STANDARD_NO_PAD.encode(leaders.topic_id) != self.log.topic.id {
            self.log.check()?;
            // The broker does not know yet of the topic that the others have.
            return lost.try_for_each(|id| self.refuse(id, ResponseError::InconsistentTopicId));
        }
        self.topic_id = leaders.topic_id;
        lost.try_for_each(|id| match leaders.of(id) {
            Ok(leader) => {
                self.follow(id, leader);
                Ok(())
            }
            Err(error) => self.refuse(id, error),
        })
    }

    fn follow(&mut self, id: u32, leader: Leader) {
        let Leader { broker, server, .. } = leader.clone();
        if self.brokers.get(&broker).is_none_or(|known| known.server != server) {
            self.brokers.insert(broker, Broker { server, connection: None, due: None });
        }
        self.partition(id).leader = Some(leader);
    }

    fn partition(&mut self, id: u32) -> &mut Partition {
        self.partitions.get_mut(&id).expect("it is one of this reader's")
    }

    /// Sends a request to each broker that has none to answer.
    fn request(&mut self) -> Result<()> {
        let idle: Vec<i32> = self.brokers.iter().filter(|(_, it)| it.due.is_none()).map(|(id, _)| *id).collect();
        idle.into_iter().try_for_each(|id| match self.request_from(id) {
            Ok(()) => Ok(()),
            Err(error) => self.drop_connection(id, &error),
        })
    }

    fn request_from(&mut self, id: i32) -> std::result::Result<(), ConnectionError> {
        let led = self.partitions.iter().filter_map(|(number, partition)| {
            let leader = partition.leader.as_ref().filter(|leader| leader.broker == id)?;
            let wanted = FetchPartition::default()
                .with_partition(*number as i32)
                .with_current_leader_epoch(leader.epoch)
                .with_fetch_offset(partition.next_offset as i64)
                .with_last_fetched_epoch(partition.last_epoch)
                .with_partition_max_bytes(partition.bytes);
            Some(wanted)
        });
        let mut led: Vec<FetchPartition> = led.collect();
        let Some(first) = self.requests.checked_rem(led.len()) else { return Ok(()) };
        // An answer may be full before the last partitions' turn, so each comes first in turn.
        led.rotate_left(first);
        let request = FetchRequest::default()
            .with_max_wait_ms(BROKER_WAIT.as_millis() as i32)
            .with_min_bytes(1)
            .with_max_bytes(ANSWER_BYTES)
            .with_isolation_level(READ_COMMITTED)
            .with_topics(vec![FetchTopic::default().with_topic_id(self.topic_id).with_partitions(led)]);
        let broker = self.brokers.get_mut(&id).expect("it leads a partition");
        let connection = match &mut broker.connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(&broker.server)?),
        };
        connection.send(&request)?;
        broker.due = Some(Instant::now() + BROKER_WAIT + PATIENCE);
        self.requests += 1;
        Ok(())
    }

    /// Takes what has arrived, or arrives within `wait`.
    fn receive(&mut self, wait: Duration) -> Result<()> {
        let now = Instant::now();
        let search_in = (!self.lost().is_empty()).then(|| self.search_at.saturating_duration_since(now));
        let asked =
            || self.brokers.iter().filter_map(|(id, broker)| Some((*id, broker.connection.as_ref()?, broker.due?)));
        let due_in = asked().map(|(_, _, due)| due.saturating_duration_since(now));
        let wait = due_in.chain(search_in).min().unwrap_or(wait).min(wait);
        let mut watched: Vec<PollFd<'_>> =
            asked().map(|(_, connection, _)| PollFd::new(connection.as_fd(), PollFlags::POLLIN)).collect();
        if watched.is_empty() {
            thread::sleep(wait);
            return Ok(());
        }
        let timeout = PollTimeout::try_from(wait + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        let found = match poll(&mut watched, timeout) {
            Ok(found) => found > 0,
            Err(Errno::EINTR) => false,
            Err(error) => {
                return Err(LogError::Away { log: self.log.address.to_string(), why: error.to_string() });
            }
        };
        let is_ready = watched.iter().map(|fd| found && fd.any().unwrap_or(true));
        let ready: Vec<(i32, bool, bool)> =
            asked().zip(is_ready).map(|((id, _, due), is_ready)| (id, is_ready, due <= Instant::now())).collect();
        for (id, is_ready, is_due) in ready {
            match (is_ready, is_due) {
                (true, _) => self.take_answer(id)?,
                (false, true) => self.drop_connection(id, &ConnectionError::silent(&self.brokers[&id].server))?,
                (false, false) => {}
            }
        }
        Ok(())
    }

    fn take_answer(&mut self, id: i32) -> Result<()> {
        let broker = self.brokers.get_mut(&id).expect("it was asked");
        let connection = broker.connection.as_mut().expect("it was asked");
        let answer = match connection.receive::<FetchRequest>() {
            Ok(answer) => answer,
            Err(error) => return self.drop_connection(id, &error),
        };
        broker.due = None;
        if let Err(error) = check(answer.error_code) {
            return self.led_by(id).into_iter().try_for_each(|id| self.refuse(id, error));
        }
        let topic_id = self.topic_id;
        let topics = answer.responses.into_iter().filter(|topic| topic.topic_id == topic_id);
        topics.flat_map(|topic| topic.partitions).try_for_each(|data| self.take_data(data))
    }

    fn take_data(&mut self, data: PartitionData) -> Result<()> {
        let id = data.partition_index as u32;
        let Some(partition) = self.partitions.get_mut(&id) else { return Ok(()) };
        if let Err(error) = check(data.error_code) {
            return self.refuse(id, error);
        }
        if data.diverging_epoch.epoch >= 0 {
            return Err(self.log.shortened(id, partition.next_offset, data.diverging_epoch.end_offset.max(0) as u64));
        }
        let batches = data.records.unwrap_or_default();
        let reach = Reach::of(&batches).map_err(|error| meaning(&self.log, id, error))?;
        match reach {
            Reach { end: Some((end, epoch)), .. } => {
                let aborted = data.aborted_transactions.unwrap_or_default();
                let aborted = aborted.iter().map(|it| (it.first_offset as u64, it.producer_id.0)).collect();
                let from = partition.next_offset;
                let batches = RecordBatches::new(id, from, batches, aborted)
                    .aligned(partition.last_epoch >= 0)
                    .compacted(self.log.holds == Holds::Totals);
                self.arrived.push_back(batches);
                (partition.next_offset, partition.last_epoch) = (end.max(from), epoch);
                (partition.bytes, partition.trouble_since) = (PARTITION_BYTES, None);
                Ok(())
            }
            // The other partitions have filled the answer, or the batch is larger than what was asked for.
            Reach { cut: Some(bytes), .. } => {
                partition.bytes = partition.bytes.max(i32::try_from(bytes).unwrap_or(i32::MAX));
                let error =
                    self.log.unreadable(id, partition.next_offset, "the broker sends only part of a batch".into());
                self.note(id, error)
            }
            Reach { cut: None, .. } => {
                partition.trouble_since = None;
                Ok(())
            }
        }
    }

    /// What a broker's error means for a partition.
    fn refuse(&mut self, id: u32, error: ResponseError) -> Result<()> {
        let next_offset = self.partition(id).next_offset;
        match error {
            ResponseError::OffsetOutOfRange => Err(self.log.out_of_range(id, next_offset)),
            ResponseError::CorruptMessage => Err(self.log.corrupt(id, next_offset, "the broker says so")),
            ResponseError::TopicAuthorizationFailed => Err(LogError::Unusable(format!(
                "the log at {} cannot be read: reading it is not allowed without a login",
                self.log.address
            ))),
            ResponseError::UnknownTopicOrPartition
            | ResponseError::UnknownTopicId
            | ResponseError::InconsistentTopicId => self.lose(id, client::gone(&self.log.address)),
            error => self.lose(id, self.log.unreadable(id, next_offset, format!("the broker's error is {error}"))),
        }
    }

    /// Gives up a connection, and searches for its partitions' leaders.
    fn drop_connection(&mut self, id: i32, why: &ConnectionError) -> Result<()> {
        let broker = self.brokers.get_mut(&id).expect("it was asked");
        (broker.connection, broker.due) = (None, None);
        self.servers.distrust(&broker.server);
        self.led_by(id).into_iter().try_for_each(|id| self.lose(id, self.away(why)))
    }

    fn led_by(&self, broker: i32) -> Vec<u32> {
        let is_leader = |partition: &Partition| partition.leader.as_ref().is_some_and(|leader| leader.broker == broker);
        self.partitions.iter().filter(|(_, partition)| is_leader(partition)).map(|(id, _)| *id).collect()
    }

    /// Makes the partition's leader be searched for.
    fn lose(&mut self, id: u32, error: LogError) -> Result<()> {
        self.partition(id).leader = None;
        self.note(id, error)
    }

    /// Returns the error once the partition has been in trouble for too long.
    fn note(&mut self, id: u32, error: LogError) -> Result<()> {
        tracing::debug!("{error}; trying again");
        let since = *self.partition(id).trouble_since.get_or_insert_with(Instant::now);
        match since.elapsed() >= self.trouble_max {
            true => Err(error),
            false => Ok(()),
        }
    }

    /// Reads records that have arrived.
    fn read(&mut self) -> Result<Option<Batch>> {
        while let Some(batches) = self.arrived.front_mut() {
            let mut batch = self.spare.pop().unwrap_or_default();
            batch.restart(batches.partition);
            match batches.read(&mut batch) {
                Ok(true) => return Ok(Some(batch)),
                Ok(false) => {
                    self.arrived.pop_front();
                    self.spare.push(batch);
                }
                Err(error) => {
                    let error = meaning(&self.log, batch.partition, error);
                    // Nothing behind the error may be counted.
                    self.arrived.clear();
                    if batch.is_empty() {
                        return Err(error);
                    }
                    self.problem = Some(error);
                    return Ok(Some(batch));
                }
            }
        }
        Ok(None)
    }
}

fn meaning(log: &KafkaLog, partition: u32, error: BatchError) -> LogError {
    match &error {
        BatchError::Corrupt { offset, what } => log.corrupt(partition, *offset, what),
        BatchError::Missing { offset } => log.unreadable(partition, *offset, error.to_string()),
    }
}

impl LogReader for FetchReader {
    fn fetch(&mut self, wait: Duration) -> Result<Option<Batch>> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(problem) = self.problem.take() {
                return Err(problem);
            }
            self.search()?;
            // The next answer is on its way while this one is counted.
            self.request()?;
            if let Some(batch) = self.read()? {
                return Ok(Some(batch));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.receive(left)?;
            if self.arrived.is_empty() && left.is_zero() {
                return Ok(None);
            }
        }
    }

    fn recycle(&mut self, batch: Batch) {
        self.spare.push(batch);
    }
}

#[cfg(test)]
mod tests;
