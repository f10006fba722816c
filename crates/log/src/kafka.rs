//! A log in a topic of Apache Kafka.
//!
//! ```text
//! kafka://host:port,host:port/topic     the brokers to ask first, and the topic (`votes` where none is named)
//! ```
//!
//! What a count may rest on is fixed here and cannot be configured: producers are idempotent and wait for all replicas in
//! sync; readers see committed records only, check every batch's checksum, and never let the client choose another
//! offset than the one asked for. The rest of librdkafka's settings (TLS, SASL, sizes, waits) is the user's.

mod address;
mod client;
mod group;
mod holes;
mod instance;
mod java;
mod reader;
mod topic;
mod writer;

use std::ops::Range;
use std::sync::{Arc, Mutex};

use rdkafka::consumer::{BaseConsumer, Consumer};

pub use address::KafkaAddress;
pub use client::KafkaSettings;
pub use instance::InstanceId;
use topic::Holds;
pub use topic::NewTopic;

use super::{Home, LogReader, LogWriter, Membership, Result, VoteLog, check_asked};
use client::Context;

/// A topic with votes.
#[derive(Clone)]
pub struct KafkaLog {
    address: KafkaAddress,
    settings: KafkaSettings,
    topic: topic::Topic,
    /// Asks for offsets. Reads nothing.
    client: Arc<BaseConsumer<Context>>,
    /// The same; for it a partition ends where the first open transaction begins.
    committed: Arc<BaseConsumer<Context>>,
    /// Whether what an earlier writer had under way has been waited for.
    is_settled: Arc<Mutex<bool>>,
    /// This process's name in its group, if it keeps one.
    instance: Option<Arc<InstanceId>>,
}

impl KafkaLog {
    /// Makes the topic if it is not there, and checks that it can be relied on. Needs a runtime of several threads: the
    /// brokers are waited for in place.
    pub async fn open(address: &KafkaAddress, settings: &KafkaSettings, new: &NewTopic) -> Result<KafkaLog> {
        topic::create_if_missing(address, settings, Holds::Votes, new).await?;
        let log = KafkaLog::open_existing(address, settings).await?;
        if let Some(asked) = new.partitions {
            check_asked(&log, asked)?;
        }
        Ok(log)
    }

    /// By this name the process takes part in its group, and has its partitions back at once after a restart.
    pub fn as_instance(self, instance: InstanceId) -> KafkaLog {
        KafkaLog { instance: Some(Arc::new(instance)), ..self }
    }

    /// Opens a topic that must be there, and checks that it can be relied on. Needs such a runtime too.
    pub async fn open_existing(address: &KafkaAddress, settings: &KafkaSettings) -> Result<KafkaLog> {
        KafkaLog::find(address, settings, Holds::Votes).await
    }

    /// The topic beside this one that holds running totals, of which the last of each key is kept: made if it is not
    /// there, with as many copies as this one's brokers are good for.
    pub async fn totals(&self, topic: &str) -> Result<KafkaLog> {
        let address = KafkaAddress { servers: self.address.servers.clone(), topic: topic.to_owned() };
        let new = NewTopic { partitions: Some(1), ..NewTopic::default() };
        topic::create_if_missing(&address, &self.settings, Holds::Totals, &new).await?;
        KafkaLog::find(&address, &self.settings, Holds::Totals).await
    }

    pub fn address(&self) -> &KafkaAddress {
        &self.address
    }

    fn offsets_by(&self, client: &BaseConsumer<Context>, partition: u32) -> Result<Range<u64>> {
        client::take_reports(client);
        let topic = &self.address.topic;
        match client::ask(client, topic, |wait| client.fetch_watermarks(topic, partition as i32, wait)) {
            Ok((start, end)) => Ok(start.max(0) as u64..end.max(0) as u64),
            Err(error) => Err(client::failed(&self.address, client, &error)),
        }
    }

    async fn find(address: &KafkaAddress, settings: &KafkaSettings, holds: Holds) -> Result<KafkaLog> {
        let client = settings.client(address)?;
        let topic = topic::find(address, &client)?;
        topic::check_settings(address, settings, holds).await?;
        Ok(KafkaLog {
            address: address.clone(),
            settings: settings.clone(),
            topic,
            client: Arc::new(client),
            committed: Arc::new(settings.committed_client(address)?),
            is_settled: Arc::default(),
            instance: None,
        })
    }
}

impl KafkaLog {
    /// Host and port of the broker that leads a partition; or why it is not known.
    fn leader(&self, partition: u32) -> std::result::Result<(String, u16), String> {
        let found = self.client.fetch_metadata(Some(&self.address.topic), client::PATIENCE);
        let found = found.map_err(|error| error.to_string())?;
        let partitions = found.topics().iter().flat_map(|topic| topic.partitions());
        let leader = partitions.filter(|it| it.id() == partition as i32).map(|it| it.leader()).next();
        let broker = found.brokers().iter().find(|broker| Some(broker.id()) == leader);
        broker
            .and_then(|broker| Some((broker.host().to_owned(), u16::try_from(broker.port()).ok()?)))
            .ok_or_else(|| "it has no leader now".to_owned())
    }
}

impl VoteLog for KafkaLog {
    fn partitions(&self) -> u32 {
        self.topic.partitions
    }

    fn offsets(&self, partition: u32) -> Result<Range<u64>> {
        self.offsets_by(&self.client, partition)
    }

    fn held_back(&self, partition: u32) -> Result<Option<u64>> {
        // In this order: what is appended in between is no transaction's.
        let all = self.offsets(partition)?;
        let committed = self.offsets_by(&self.committed, partition)?;
        Ok((committed.end < all.end).then_some(committed.end))
    }

    fn reader(&self, from: &[(u32, u64)]) -> Result<Box<dyn LogReader>> {
        Ok(Box::new(reader::Reader::open(self, from)?))
    }

    fn writer(&self, _partitions: &[u32]) -> Result<Box<dyn LogWriter>> {
        writer::settle(self)?;
        Ok(Box::new(writer::Writer::open(self)?))
    }

    fn join(&self, group: &str) -> Result<Box<dyn Membership>> {
        Ok(Box::new(group::Member::join(self, group)?))
    }

    fn check(&self) -> Result<()> {
        topic::check_same(&self.address, &self.client, &self.topic)
    }

    fn home(&self) -> Home<'_> {
        Home::Topic { address: &self.address, settings: &self.settings }
    }

    fn name(&self) -> String {
        self.address.to_string()
    }

    fn id(&self) -> String {
        format!("kafka {}", self.topic.id)
    }
}

#[cfg(test)]
mod tests;
