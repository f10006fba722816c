//! Creates the topic for votes or for running totals, and refuses one that would lose some.

use std::ffi::{CStr, CString};
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier, TopicReplication};
use rdkafka::bindings::{self as rd, rd_kafka_resp_err_t as Code};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use tokio::task::block_in_place;

use super::KafkaAddress;
use super::client::{self, Context, KafkaSettings, PATIENCE};
use crate::{LogError, PARTITIONS, Result};

/// The topic to create if none exists.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewTopic {
    /// Default: [`PARTITIONS`].
    pub partitions: Option<u32>,
    /// Copies of each partition. Default: 3, or the number of brokers if there are fewer.
    pub replication: Option<u32>,
    /// Copies that must hold a vote before it is acknowledged. Default: one less than `replication`, at least 1.
    pub min_insync: Option<u32>,
}

const REPLICATION: u32 = 3;

/// How long to wait for the leaders of a new topic.
const LEADERS_WAIT: Duration = Duration::from_secs(30);

/// A topic as it was found.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    /// Kafka's topic id: a topic that is deleted and created again gets a new one.
    pub id: String,
    pub partitions: u32,
}

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Votes,
    /// The last record of each key.
    Totals,
}

impl Holds {
    /// Required settings: name, value, and what would go wrong otherwise.
    fn needed(self) -> &'static [(&'static str, &'static str, &'static str)] {
        match self {
            Holds::Votes => &VOTES,
            Holds::Totals => &TOTALS,
        }
    }
}

const TOTALS: [(&str, &str, &str); 2] = [
    ("cleanup.policy", "compact", "old totals would be deleted by age"),
    ("unclean.leader.election.enable", "false", "acknowledged totals could be lost with a broker"),
];

const VOTES: [(&str, &str, &str); 5] = [
    ("cleanup.policy", "delete", "compaction would keep the last vote of each voter and drop the first"),
    ("retention.ms", "-1", "votes would be deleted by age"),
    ("retention.bytes", "-1", "votes would be deleted by size"),
    ("message.timestamp.type", "LogAppendTime", "votes would carry the senders' clocks"),
    ("unclean.leader.election.enable", "false", "acknowledged votes could be lost with a broker"),
];

pub(super) async fn create_if_missing(
    address: &KafkaAddress,
    settings: &KafkaSettings,
    holds: Holds,
    new: &NewTopic,
) -> Result<()> {
    let client = settings.client(address)?;
    let brokers = match describe(address, &client)? {
        Some(_) => return Ok(()),
        None => brokers(address, &client)?,
    };
    let replication = new.replication.unwrap_or(REPLICATION.min(brokers));
    let min_insync = new.min_insync.unwrap_or(replication.saturating_sub(1).max(1));
    if min_insync > replication {
        return Err(LogError::Unusable(format!(
            "{min_insync} in-sync copies are more than the {replication} copies of each partition; lower --min-insync \
             or raise --replication"
        )));
    }
    let min_insync = min_insync.to_string();
    let partitions = new.partitions.unwrap_or(PARTITIONS);
    let mut topic =
        rdkafka::admin::NewTopic::new(&address.topic, partitions as i32, TopicReplication::Fixed(replication as i32))
            .set("min.insync.replicas", &min_insync);
    for (name, value, _) in holds.needed() {
        topic = topic.set(name, value);
    }
    let admin = admin(address, settings)?;
    let made = admin.create_topics([&topic], &options()).await.map_err(|error| client::undone(address, &error))?;
    match made.into_iter().next() {
        // Another setup may create the topic at the same time.
        None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {}
        Some(Err((_, RDKafkaErrorCode::InvalidReplicationFactor))) => {
            return Err(LogError::Unusable(format!(
                "{brokers} brokers cannot hold {replication} copies; lower --replication"
            )));
        }
        Some(Err((_, code))) => {
            return Err(LogError::Unusable(format!(
                "cannot create the topic `{}` at {}: {}",
                address.topic,
                address.servers,
                client::in_words(code)
            )));
        }
    }
    wait_until_it_is_there(address, &client, partitions).await
}

/// Brokers learn of a new topic and of its leaders one after the other.
async fn wait_until_it_is_there(address: &KafkaAddress, client: &BaseConsumer<Context>, partitions: u32) -> Result<()> {
    let has_leader = |partition| client.fetch_watermarks(&address.topic, partition, PATIENCE).is_ok();
    let deadline = Instant::now() + LEADERS_WAIT;
    while !block_in_place(|| (0..partitions as i32).all(has_leader)) {
        if Instant::now() > deadline {
            return Err(LogError::Away { log: address.to_string(), why: "the new topic has no leaders yet".into() });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The topic, which must exist.
pub(super) fn find(address: &KafkaAddress, client: &BaseConsumer<Context>) -> Result<Topic> {
    describe(address, client)?.ok_or_else(|| client::gone(address))
}

/// Refuses a topic whose settings would break a guarantee.
pub(super) async fn check_settings(address: &KafkaAddress, settings: &KafkaSettings, holds: Holds) -> Result<()> {
    let admin = admin(address, settings)?;
    let resource = [ResourceSpecifier::Topic(&address.topic)];
    let found = admin.describe_configs(&resource, &options()).await.map_err(|error| client::undone(address, &error))?;
    let found = match found.into_iter().next() {
        Some(Ok(found)) => found,
        Some(Err(RDKafkaErrorCode::TopicAuthorizationFailed)) => {
            tracing::warn!(
                "cannot check the settings of topic `{}`: this user may not read them (DescribeConfigs)",
                address.topic
            );
            return Ok(());
        }
        Some(Err(code)) => return Err(client::undone(address, &KafkaError::AdminOp(code))),
        None => return Err(client::gone(address)),
    };
    let mut wrong = Vec::new();
    for (name, needed, why) in holds.needed() {
        let value = found.get(name).and_then(|entry| entry.value.as_deref()).unwrap_or(needed);
        if value != *needed {
            wrong.push(format!("{name} is {value}, but must be {needed}: {why}"));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(LogError::Unusable(format!(
        "the topic `{}` at {} cannot hold {}: {}; change it with kafka-configs.sh, or name another topic",
        address.topic,
        address.servers,
        match holds {
            Holds::Votes => "votes",
            Holds::Totals => "running totals",
        },
        wrong.join("; ")
    )))
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE * 2)).operation_timeout(Some(PATIENCE * 2))
}

fn admin(address: &KafkaAddress, settings: &KafkaSettings) -> Result<AdminClient<Context>> {
    settings
        .base(address, &[])
        .create_with_context(Context::default())
        .map_err(|error| client::unusable(address, &error))
}

fn brokers(address: &KafkaAddress, client: &BaseConsumer<Context>) -> Result<u32> {
    match block_in_place(|| client.fetch_metadata(Some(&address.topic), PATIENCE)) {
        Ok(metadata) => Ok((metadata.brokers().len() as u32).max(1)),
        Err(error) => Err(client::failed(address, client, &error)),
    }
}

fn describe(address: &KafkaAddress, client: &BaseConsumer<Context>) -> Result<Option<Topic>> {
    match block_in_place(|| ask_for_topic(client, &address.topic)) {
        Ok(topic) => Ok(Some(topic)),
        Err(RDKafkaErrorCode::UnknownTopicOrPartition) => Ok(None),
        Err(code) => Err(client::failed(address, client, &KafkaError::AdminOp(code))),
    }
}

/// Checks that this is still the same topic: positions and partitions mean nothing in another one.
pub(super) fn check_same(address: &KafkaAddress, client: &BaseConsumer<Context>, known: &Topic) -> Result<()> {
    let found = ask_for_topic(client, &address.topic)
        .map_err(|code| client::failed(address, client, &KafkaError::AdminOp(code)))?;
    if found.id != known.id {
        return Err(LogError::Unusable(format!(
            "the topic `{}` at {} was deleted and created again: it is another log; use another counter name, which \
             counts it from the start",
            address.topic, address.servers
        )));
    }
    if found.partitions != known.partitions {
        return Err(LogError::Repartitioned {
            log: address.to_string(),
            had: known.partitions,
            found: found.partitions,
        });
    }
    Ok(())
}

/// Calls `DescribeTopics`, the only source of a topic's id, which rdkafka's safe interface lacks.
fn ask_for_topic(client: &BaseConsumer<Context>, topic: &str) -> std::result::Result<Topic, RDKafkaErrorCode> {
    client::ask(client, topic, |wait| ask_for_topic_once(client, topic, wait))
}

fn ask_for_topic_once(
    client: &BaseConsumer<Context>,
    topic: &str,
    wait: Duration,
) -> std::result::Result<Topic, RDKafkaErrorCode> {
    let name = CString::new(topic).expect("a topic's name has no zero byte");
    let rk = client.client().native_ptr();
    let mut names = [name.as_ptr()];
    // SAFETY: the client outlives this call. Queue, options and names are created and used here only, and destroyed
    // once, after the event that refers to them.
    unsafe {
        let queue = rd::rd_kafka_queue_new(rk);
        let names = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        let options = rd::rd_kafka_AdminOptions_new(rk, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let wait_ms = wait.as_millis() as i32;
        rd::rd_kafka_AdminOptions_set_request_timeout(options, wait_ms, ptr::null_mut(), 0);
        rd::rd_kafka_DescribeTopics(rk, names, options, queue);
        let event = rd::rd_kafka_queue_poll(queue, wait_ms + 1000);
        let topic = if event.is_null() { Err(RDKafkaErrorCode::OperationTimedOut) } else { read_topic(event) };
        if !event.is_null() {
            rd::rd_kafka_event_destroy(event);
        }
        rd::rd_kafka_AdminOptions_destroy(options);
        rd::rd_kafka_TopicCollection_destroy(names);
        rd::rd_kafka_queue_destroy(queue);
        topic
    }
}

/// # Safety
/// The event must be the result of `DescribeTopics` for one topic.
unsafe fn read_topic(event: *mut rd::rd_kafka_event_t) -> std::result::Result<Topic, RDKafkaErrorCode> {
    // SAFETY: everything read belongs to the event, which the caller keeps alive. Nullable pointers are checked.
    unsafe {
        let code = rd::rd_kafka_event_error(event);
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(code.into());
        }
        let mut count = 0;
        let result = rd::rd_kafka_event_DescribeTopics_result(event);
        let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if topics.is_null() || count == 0 {
            return Err(RDKafkaErrorCode::UnknownTopicOrPartition);
        }
        let topic = *topics;
        let code = rd::rd_kafka_error_code(rd::rd_kafka_TopicDescription_error(topic));
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(code.into());
        }
        let mut partitions = 0;
        rd::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        let id = rd::rd_kafka_Uuid_base64str(rd::rd_kafka_TopicDescription_topic_id(topic));
        let id = if id.is_null() { String::new() } else { CStr::from_ptr(id).to_string_lossy().into_owned() };
        Ok(Topic { id, partitions: partitions as u32 })
    }
}
