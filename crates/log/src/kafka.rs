//! A log in a topic of Apache Kafka.
//!
//! ```text
//! kafka://host:port,host:port/topic     bootstrap brokers and topic (default `votes`)
//! ```
//!
//! The settings that a count depends on are fixed here and cannot be configured: producers are idempotent and wait for
//! all in-sync replicas; readers see committed records only, check every batch's checksum, and never let the client
//! substitute another offset for the requested one. The user controls the rest of librdkafka's settings (TLS, SASL,
//! sizes, timeouts).
//!
//! librdkafka does everything but the reading over plain connections, which [`fetch`] does.

mod address;
mod client;
mod consumer;
mod fetch;
mod group;
mod instance;
mod java;
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

use super::{Home, LogError, LogReader, LogWriter, Membership, Result, VoteLog, check_asked};
use client::Context;

/// A topic with votes.
#[derive(Clone)]
pub struct KafkaLog {
    address: KafkaAddress,
    settings: KafkaSettings,
    topic: topic::Topic,
    holds: Holds,
    /// Queries offsets; reads no records.
    client: Arc<BaseConsumer<Context>>,
    /// The same, except that a partition ends where the first open transaction begins.
    committed: Arc<BaseConsumer<Context>>,
    /// Whether a writer has waited for the log to settle: an earlier writer's records may still be arriving.
    is_settled: Arc<Mutex<bool>>,
    /// This process's id in its group, if it keeps one.
    instance: Option<Arc<InstanceId>>,
}

impl KafkaLog {
    /// Creates the topic if it does not exist, and checks that its settings are safe. Needs a multi-threaded runtime,
    /// as it blocks while waiting for the brokers.
    ///
    /// # Errors
    ///
    /// Fails if the brokers cannot be reached, the topic cannot be created, or its settings or partitions are not as
    /// required.
    pub async fn open(address: &KafkaAddress, settings: &KafkaSettings, new: &NewTopic) -> Result<KafkaLog> {
        topic::create_if_missing(address, settings, Holds::Votes, new).await?;
        let log = KafkaLog::open_existing(address, settings).await?;
        if let Some(asked) = new.partitions {
            check_asked(&log, asked)?;
        }
        Ok(log)
    }

    /// Makes the process join its group under this id, so that it gets its partitions back at once after a restart.
    pub fn as_instance(self, instance: InstanceId) -> KafkaLog {
        KafkaLog { instance: Some(Arc::new(instance)), ..self }
    }

    /// Opens an existing topic and checks that its settings are safe. Needs a multi-threaded runtime, too.
    ///
    /// # Errors
    ///
    /// Fails if the brokers cannot be reached, or the topic does not exist or has unsafe settings.
    pub async fn open_existing(address: &KafkaAddress, settings: &KafkaSettings) -> Result<KafkaLog> {
        KafkaLog::find(address, settings, Holds::Votes).await
    }

    /// Opens the compacted topic for running totals on the same brokers, and creates it if it does not exist, with as
    /// many copies as the brokers allow.
    ///
    /// # Errors
    ///
    /// As for [`open`](KafkaLog::open).
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
        KafkaLog::of(address, settings, client, topic, holds)
    }

    fn of(
        address: &KafkaAddress,
        settings: &KafkaSettings,
        client: BaseConsumer<Context>,
        topic: topic::Topic,
        holds: Holds,
    ) -> Result<KafkaLog> {
        Ok(KafkaLog {
            address: address.clone(),
            settings: settings.clone(),
            topic,
            holds,
            client: Arc::new(client),
            committed: Arc::new(settings.committed_client(address)?),
            is_settled: Arc::default(),
            instance: None,
        })
    }
}

/// Why records cannot be read.
impl KafkaLog {
    fn unreadable(&self, partition: u32, offset: u64, why: String) -> LogError {
        LogError::Unreadable { log: self.address.to_string(), partition, offset, why }
    }

    fn corrupt(&self, partition: u32, offset: u64, why: &str) -> LogError {
        LogError::Unusable(format!(
            "partition {partition} of the log at {} cannot be read at offset {offset} ({why}): the stored bytes are \
             corrupt; restore that broker's copy from another broker",
            self.address
        ))
    }

    /// The log says that it does not hold an offset.
    fn out_of_range(&self, partition: u32, wanted: u64) -> LogError {
        match self.offsets(partition) {
            Err(error) => error,
            Ok(offsets) if wanted < offsets.start => LogError::Truncated { partition, wanted, start: offsets.start },
            // A leader that was just elected may not know yet how far its log reaches.
            Ok(offsets) if wanted <= offsets.end => {
                self.unreadable(partition, wanted, "the broker does not know the offset".into())
            }
            Ok(offsets) => self.shortened(partition, wanted, offsets.end),
        }
    }

    /// The log ends at `end`, but was read up to `wanted` before.
    fn shortened(&self, partition: u32, wanted: u64, end: u64) -> LogError {
        LogError::Unusable(format!(
            "partition {partition} of the log at {} ends at offset {end}, but was read up to {wanted} before: it has \
             lost votes, or this is another topic of the same name",
            self.address
        ))
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
        // In this order, so that records appended in between are not mistaken for held-back ones.
        let all = self.offsets(partition)?;
        let committed = self.offsets_by(&self.committed, partition)?;
        Ok((committed.end < all.end).then_some(committed.end))
    }

    fn reader(&self, from: &[(u32, u64)]) -> Result<Box<dyn LogReader>> {
        if self.settings.is_plaintext()
            && let Some(reader) = fetch::FetchReader::open(self, from)?
        {
            return Ok(Box::new(reader));
        }
        Ok(Box::new(consumer::ConsumerReader::open(self, from)?))
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
