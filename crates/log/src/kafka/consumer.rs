//! Reads partitions of a topic through librdkafka, many records at a time.
//!
//! For connections with TLS or a login, and for old brokers; [`super::fetch`] reads the others. Each reader has its own
//! client, so that two of them fetch, check and decompress in parallel. Uses librdkafka's batch interface, which costs
//! half as much as one call per record.
//!
//! librdkafka skips markers of transactions and records of aborted ones, just as it would skip records that it lost.
//! Offsets without a record are accepted here as they come.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::ptr;
use std::slice;
use std::time::{Duration, Instant};

use rdkafka::bindings::{self as rd, rd_kafka_resp_err_t as Code};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode;
use scrutin_contract::record::{Batch, Record};

use super::client::{self, Context, unusable};
use super::{KafkaAddress, KafkaLog};
use crate::{LogError, LogReader, Result};

/// Records taken from librdkafka in one call.
const CALL_RECORDS: usize = 4096;

/// How much librdkafka may prefetch for a reader, and how soon it fetches again once there is room.
const DEFAULTS: &[(&str, &str)] = &[("queued.max.messages.kbytes", "65536"), ("fetch.queue.backoff.ms", "10")];

pub(super) struct ConsumerReader {
    log: KafkaLog,
    source: Source,
    /// By partition, the offset of the next record to read.
    next: BTreeMap<u32, u64>,
    ready: VecDeque<Batch>,
    spare: Vec<Batch>,
    /// A transient error, reported once the records before it have been delivered.
    problem: Option<LogError>,
}

/// The open partitions, all forwarded to one queue.
struct Source {
    queue: *mut rd::rd_kafka_queue_t,
    topic: *mut rd::rd_kafka_topic_t,
    open: Vec<i32>,
    messages: Vec<*mut rd::rd_kafka_message_t>,
    /// Last, so that it is dropped after the handles that belong to it.
    client: BaseConsumer<Context>,
}

// SAFETY: librdkafka's handles may be used from any thread; the messages exist only during a call.
unsafe impl Send for Source {}

impl ConsumerReader {
    pub fn open(log: &KafkaLog, from: &[(u32, u64)]) -> Result<ConsumerReader> {
        let config = log.settings.consumer(&log.address, DEFAULTS);
        let client: BaseConsumer<Context> =
            config.create_with_context(Context::default()).map_err(|error| unusable(&log.address, &error))?;
        let source = Source::open(client, &log.address, from)?;
        Ok(ConsumerReader {
            log: log.clone(),
            source,
            next: from.iter().copied().collect(),
            ready: VecDeque::new(),
            spare: Vec::new(),
            problem: None,
        })
    }

    /// Takes what librdkafka has ready and sorts it into batches. An error of one partition affects no other record,
    /// since librdkafka fetches again from the same offset: the records after the error follow those before it.
    fn read(&mut self, wait: Duration) -> Result<()> {
        let ConsumerReader { source, next, ready, spare, .. } = self;
        let mut batch: Option<Batch> = None;
        let mut problems = Vec::new();
        source.read(wait, |partition, offset, found| {
            let wanted = next.entry(partition).or_default();
            let mut open = |batch: &mut Option<Batch>| {
                if batch.as_ref().is_none_or(|batch| batch.partition != partition) {
                    let mut fresh = spare.pop().unwrap_or_default();
                    fresh.restart(partition);
                    ready.extend(batch.replace(fresh));
                }
            };
            match found {
                Ok((appended_at_ms, key, value)) => {
                    open(&mut batch);
                    let record = Record { offset, appended_at_ms, key, value };
                    batch.as_mut().expect("just opened").push(record);
                    *wanted = offset + 1;
                }
                // Markers of transactions have offsets too; this is the end of a run of offsets without a record.
                Err(Code::RD_KAFKA_RESP_ERR__PARTITION_EOF) if offset > *wanted => {
                    open(&mut batch);
                    batch.as_mut().expect("just opened").next_offset = offset;
                    *wanted = offset;
                }
                Err(Code::RD_KAFKA_RESP_ERR__PARTITION_EOF) => {}
                Err(code) => problems.push((partition, *wanted, code)),
            }
        });
        ready.extend(batch);
        for (partition, wanted, code) in problems {
            match self.judge(partition, wanted, code) {
                error if error.is_transient() => self.problem = Some(error),
                error => {
                    // Records read after the error must not be counted.
                    self.ready.clear();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// What a partition's error means. Unless it is known to be fatal it counts as transient, since the client retries.
    fn judge(&self, partition: u32, wanted: u64, code: Code) -> LogError {
        let address = &self.log.address;
        let code: RDKafkaErrorCode = code.into();
        match code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                self.log.out_of_range(partition, wanted)
            }
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition => client::gone(address),
            RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::BadCompression | RDKafkaErrorCode::InvalidMessage => {
                self.log.corrupt(partition, wanted, &client::in_words(code))
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                LogError::Unusable(format!("the log at {address} cannot be read: {}", client::in_words(code)))
            }
            _ => self.log.unreadable(partition, wanted, client::in_words(code)),
        }
    }
}

impl LogReader for ConsumerReader {
    fn fetch(&mut self, wait: Duration) -> Result<Option<Batch>> {
        let deadline = Instant::now() + wait;
        while self.ready.is_empty() {
            if let Some(problem) = self.problem.take() {
                return Err(problem);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // The first thing to arrive may not be a record.
            self.read(left)?;
            if left.is_zero() {
                break;
            }
        }
        match self.ready.pop_front() {
            None => self.problem.take().map_or(Ok(None), Err),
            batch => Ok(batch),
        }
    }

    fn recycle(&mut self, batch: Batch) {
        self.spare.push(batch);
    }
}

/// Append time in milliseconds, key, value.
type Found<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>);

impl Source {
    fn open(client: BaseConsumer<Context>, address: &KafkaAddress, from: &[(u32, u64)]) -> Result<Source> {
        let name = CString::new(address.topic.as_str()).expect("a topic's name has no zero byte");
        let rk = client.client().native_ptr();
        // SAFETY: the client lives in the source created here; topic and queue are destroyed before it.
        let (queue, topic) =
            unsafe { (rd::rd_kafka_queue_new(rk), rd::rd_kafka_topic_new(rk, name.as_ptr(), ptr::null_mut())) };
        let mut source =
            Source { queue, topic, open: Vec::new(), messages: vec![ptr::null_mut(); CALL_RECORDS], client };
        if topic.is_null() {
            return Err(LogError::Unusable(format!("the topic of {address} cannot be opened")));
        }
        for &(partition, offset) in from {
            // SAFETY: topic and queue belong to this client.
            let failed = unsafe { rd::rd_kafka_consume_start_queue(topic, partition as i32, offset as i64, queue) };
            if failed != 0 {
                return Err(LogError::Unusable(format!(
                    "partition {partition} of the log at {address} cannot be read"
                )));
            }
            source.open.push(partition as i32);
        }
        Ok(source)
    }

    /// Passes on what is ready, or arrives within `wait`: partition, offset, and a record or an error.
    fn read(&mut self, wait: Duration, mut take: impl FnMut(u32, u64, std::result::Result<Found<'_>, Code>)) {
        // Logs and error reports come through the client's main queue.
        client::take_reports(&self.client);
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // librdkafka waits until the array is full or the time is over, so wait for one message only.
        let mut count = self.call(0, 0, self.messages.len());
        if count == 0 {
            count = self.call(wait_ms, 0, 1);
            count += self.call(0, count, self.messages.len() - count);
        }
        for &message in self.messages.iter().take(count) {
            // SAFETY: librdkafka gave the message, whose fields are valid until it is destroyed, here and once.
            unsafe {
                let found = &*message;
                let field = |start: *mut std::ffi::c_void, len: usize| {
                    (!start.is_null()).then(|| slice::from_raw_parts(start.cast_const().cast::<u8>(), len))
                };
                let outcome = match found.err {
                    Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok((
                        rd::rd_kafka_message_timestamp(message, ptr::null_mut()),
                        field(found.key, found.key_len),
                        field(found.payload, found.len),
                    )),
                    code => Err(code),
                };
                take(found.partition as u32, found.offset.max(0) as u64, outcome);
                rd::rd_kafka_message_destroy(message);
            }
        }
    }

    /// Puts messages that are ready, or arrive within the time, into the array from `start`, at most `room`. Returns
    /// their number.
    fn call(&mut self, wait_ms: i32, start: usize, room: usize) -> usize {
        let place = &mut self.messages[start..start + room];
        // SAFETY: the queue is open, and the array has room for `place.len()` messages.
        let count = unsafe { rd::rd_kafka_consume_batch_queue(self.queue, wait_ms, place.as_mut_ptr(), place.len()) };
        usize::try_from(count).unwrap_or(0)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: partitions are stopped first, handles are destroyed once, and their client is dropped after them.
        unsafe {
            for partition in &self.open {
                rd::rd_kafka_consume_stop(self.topic, *partition);
            }
            rd::rd_kafka_queue_destroy(self.queue);
            if !self.topic.is_null() {
                rd::rd_kafka_topic_destroy(self.topic);
            }
        }
    }
}
