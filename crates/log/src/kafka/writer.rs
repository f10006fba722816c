//! Appends records to a topic in large batches, many in flight at once, until all in-sync replicas have them.

use std::ffi::CString;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings::{self as rd, rd_kafka_resp_err_t as Code};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Message};
use scrutin_contract::record::RecordBuffer;

use super::client::{self, unusable};
use super::{KafkaAddress, KafkaLog};
use crate::{LogError, LogWriter, Result, VoteLog};

/// Settings that apply where the user has set nothing: batches as large as brokers accept by default, sent when full or
/// after a moment.
const DEFAULTS: &[(&str, &str)] =
    &[("linger.ms", "2"), ("batch.size", "1000000"), ("batch.num.messages", "100000"), ("compression.type", "lz4")];

/// How much may be in flight, in records and KiB, before a writer waits.
const QUEUED_RECORDS: usize = 400_000;
const QUEUED_KIB: usize = 131_072;

/// How often a waiting writer checks what is in flight; less often after `BRISK` without progress.
const POLL: Duration = Duration::from_millis(1);
const BRISK: Duration = Duration::from_millis(100);

/// A wait for the brokers that takes longer is logged.
const SAY_AFTER: Duration = Duration::from_secs(5);

/// A log has settled once its ends have not moved for this long.
const REST: Duration = Duration::from_secs(1);

/// The same for several copies: a replica that hangs hides what the others have, until it leaves the in-sync set
/// (`replica.lag.time.max.ms`, 30 s by default).
const REST_OF_COPIES: Duration = Duration::from_secs(35);

pub(super) struct Writer {
    address: KafkaAddress,
    topic: *mut rd::rd_kafka_topic_t,
    messages: Vec<rd::rd_kafka_message_t>,
    /// Last, so that it is dropped after the topic, which belongs to it.
    producer: BaseProducer<Deliveries>,
}

// SAFETY: librdkafka's handles may be used from any thread; the messages exist only during a call.
unsafe impl Send for Writer {}

/// Failed deliveries. Successful ones are not reported: the client only says how much is in flight.
#[derive(Default)]
struct Deliveries {
    trouble: Mutex<Trouble>,
}

#[derive(Default)]
struct Trouble {
    /// The first record that was not accepted: why, and its partition.
    failed: Option<(RDKafkaErrorCode, i32)>,
    /// The last problem that the client has reported.
    problem: Option<String>,
}

impl Deliveries {
    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
        self.trouble().problem = Some(client::in_short(reason));
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            self.trouble().failed.get_or_insert((code, message.partition()));
        }
    }
}

impl Writer {
    pub fn open(log: &KafkaLog) -> Result<Writer> {
        let mut config = log.settings.producer(&log.address, DEFAULTS);
        config
            .set("queue.buffering.max.messages", QUEUED_RECORDS.to_string())
            .set("queue.buffering.max.kbytes", QUEUED_KIB.to_string())
            .set("delivery.report.only.error", "true");
        let producer: BaseProducer<Deliveries> =
            config.create_with_context(Deliveries::default()).map_err(|error| unusable(&log.address, &error))?;
        let name = CString::new(log.address.topic.as_str()).expect("a topic's name has no zero byte");
        // SAFETY: the producer lives in the writer created here; the topic is destroyed before it.
        let topic = unsafe { rd::rd_kafka_topic_new(producer.client().native_ptr(), name.as_ptr(), ptr::null_mut()) };
        if topic.is_null() {
            return Err(LogError::Unusable(format!("the topic of {} cannot be opened", log.address)));
        }
        Ok(Writer { address: log.address.clone(), topic, messages: Vec::new(), producer })
    }

    /// Hands the records to librdkafka, which copies them.
    fn send(&mut self, partition: u32, buffer: &RecordBuffer) -> Result<()> {
        let field = |bytes: Option<&[u8]>| match bytes {
            Some(bytes) => (bytes.as_ptr().cast_mut().cast(), bytes.len()),
            None => (ptr::null_mut(), 0),
        };
        self.messages.clear();
        self.messages.extend(buffer.records().map(|(key, value)| {
            let ((key, key_len), (payload, len)) = (field(key), field(value));
            rd::rd_kafka_message_t {
                err: Code::RD_KAFKA_RESP_ERR_NO_ERROR,
                rkt: ptr::null_mut(),
                partition: partition as i32,
                payload,
                len,
                key,
                key_len,
                offset: 0,
                _private: ptr::null_mut(),
            }
        }));
        let mut sent = 0;
        while sent < self.messages.len() {
            let rest = &mut self.messages[sent..];
            let count = i32::try_from(rest.len()).unwrap_or(i32::MAX);
            // SAFETY: topic and records are valid during the call, in which librdkafka copies what it needs. It only
            // reads through the pointers.
            let taken = unsafe {
                rd::rd_kafka_produce_batch(
                    self.topic,
                    partition as i32,
                    rd::RD_KAFKA_MSG_F_COPY,
                    rest.as_mut_ptr(),
                    count,
                )
            };
            // After a refused record librdkafka continues with the next, unless the queue is full: then it takes no
            // more.
            let is_refused =
                |code: Code| !matches!(code, Code::RD_KAFKA_RESP_ERR_NO_ERROR | Code::RD_KAFKA_RESP_ERR__QUEUE_FULL);
            match rest.iter().map(|message| message.err).find(|code| is_refused(*code)) {
                None => {}
                Some(Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC) => {
                    return Err(client::gone(&self.address));
                }
                Some(code) => return Err(self.refused(code.into(), partition as i32)),
            }
            sent += usize::try_from(taken).unwrap_or(0);
            if sent < self.messages.len() {
                self.wait_until_under_way(self.under_way() / 2)?;
            }
        }
        Ok(())
    }

    fn refused(&self, code: RDKafkaErrorCode, partition: i32) -> LogError {
        let why = match self.producer.client().fatal_error() {
            Some((_, why)) => why,
            None => client::in_words(code),
        };
        LogError::Unusable(format!(
            "partition {partition} of the log at {} does not accept the votes: {why}; run again to continue from \
             the end of the log",
            self.address
        ))
    }

    /// Records that were handed to librdkafka and have not arrived.
    fn under_way(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }

    /// Waits, however long the brokers are away, until at most this many records are in flight.
    fn wait_until_under_way(&self, records: usize) -> Result<()> {
        let mut heard = Instant::now();
        let mut has_said = false;
        let mut least = usize::MAX;
        loop {
            if let Some((code, partition)) = self.producer.context().trouble().failed {
                return Err(self.refused(code, partition));
            }
            let under_way = self.under_way();
            if under_way <= records {
                return Ok(());
            }
            if under_way < least {
                (least, heard) = (under_way, Instant::now());
            } else if heard.elapsed() > SAY_AFTER && !has_said {
                let why = self.producer.context().trouble().problem.clone().unwrap_or_else(|| "no answer".into());
                tracing::warn!("the log at {} is not accepting votes: {why}; still waiting", self.address);
                has_said = true;
            }
            // With a timeout, `poll` would spin until it is over.
            self.producer.poll(Duration::ZERO);
            std::thread::sleep(if heard.elapsed() < BRISK { POLL } else { BRISK });
        }
    }
}

impl LogWriter for Writer {
    fn append(&mut self, buffers: &mut [(u32, RecordBuffer)]) -> Result<()> {
        self.producer.poll(Duration::ZERO);
        for (partition, buffer) in buffers.iter_mut() {
            self.send(*partition, buffer)?;
            buffer.clear();
        }
        match self.producer.context().trouble().failed {
            Some((code, partition)) => Err(self.refused(code, partition)),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.wait_until_under_way(0)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // SAFETY: destroyed once, before the producer that it belongs to.
        unsafe { rd::rd_kafka_topic_destroy(self.topic) };
    }
}

/// Waits until a log that is not empty stops growing: records that a killed writer had in flight may still arrive. Done
/// once for all writers of this process.
pub(super) fn settle(log: &KafkaLog) -> Result<()> {
    let mut is_settled = log.is_settled.lock().unwrap_or_else(PoisonError::into_inner);
    if std::mem::replace(&mut *is_settled, true) {
        return Ok(());
    }
    let ends =
        || -> Result<Vec<u64>> { (0..log.partitions()).map(|partition| Ok(log.offsets(partition)?.end)).collect() };
    let mut last = ends()?;
    if last.iter().all(|end| *end == 0) {
        return Ok(());
    }
    let rest = match copies(log)? {
        0 | 1 => REST,
        _ => {
            tracing::warn!(
                "waiting {} s for records that an earlier run may have sent to {} just before it ended",
                REST_OF_COPIES.as_secs(),
                log.address
            );
            REST_OF_COPIES
        }
    };
    let mut since = Instant::now();
    while since.elapsed() < rest {
        std::thread::sleep(REST / 10);
        let now = ends()?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(())
}

/// Copies of each partition.
fn copies(log: &KafkaLog) -> Result<usize> {
    let found = log
        .client
        .fetch_metadata(Some(&log.address.topic), client::PATIENCE)
        .map_err(|error| client::failed(&log.address, &log.client, &error))?;
    let partitions = found.topics().iter().flat_map(|topic| topic.partitions());
    Ok(partitions.map(|partition| partition.replicas().len()).max().unwrap_or(0))
}
