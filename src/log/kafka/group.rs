//! A consumer group shares the partitions out among the processes that count together.
//!
//! Its member fetches nothing: it learns which partitions are its own, and tells the brokers how far they are counted,
//! for the tools that look at a group's lag. Where the count goes on is PostgreSQL's to say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::client::{self, unusable};
use super::{KafkaAddress, KafkaLog};
use crate::log::{LogError, Membership, Result};

/// A member that is not heard of for ten seconds is taken for dead.
const DEFAULTS: &[(&str, &str)] = &[("session.timeout.ms", "10000"), ("heartbeat.interval.ms", "1000")];

/// Without brokers the group cannot be left, and now and then librdkafka does not give it up.
const LEAVE_WAIT: Duration = Duration::from_secs(5);

pub(super) struct Member {
    address: KafkaAddress,
    /// Shared with nobody, so that it can be kept from being dropped.
    consumer: Arc<BaseConsumer<GroupContext>>,
    /// None until the group has decided for the first time.
    owned: Option<BTreeSet<u32>>,
}

#[derive(Debug)]
enum Change {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
}

#[derive(Default)]
struct GroupContext {
    changes: Mutex<VecDeque<Change>>,
    is_leaving: AtomicBool,
}

impl GroupContext {
    fn changes(&self) -> std::sync::MutexGuard<'_, VecDeque<Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
    }
}

impl ConsumerContext for GroupContext {
    /// Only notes what the group wants: it waits until the work in hand is done.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        if self.is_leaving.load(Ordering::SeqCst) {
            // Asked before the leaving was heard of, it must be answered in its own way, or closing waits for ever.
            let answered = match what {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => consumer.incremental_assign(partitions),
                _ => consumer.incremental_unassign(partitions),
            };
            if let Err(error) = answered {
                tracing::debug!("librdkafka: {error}");
            }
            return;
        }
        let partitions = partitions.elements().iter().map(|element| element.partition()).collect();
        self.changes().push_back(match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Change::Assigned(partitions),
            _ => Change::Revoked(partitions),
        });
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!("the group's offsets were not taken: {error}");
        }
    }
}

impl Member {
    pub fn join(log: &KafkaLog, group: &str) -> Result<Member> {
        let mut config = log.settings.consumer(&log.address, DEFAULTS);
        config
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            // It fetches nothing; this bounds what is fetched before the pause is heard.
            .set("queued.min.messages", "1")
            .set("queued.max.messages.kbytes", "1");
        let consumer: BaseConsumer<GroupContext> =
            config.create_with_context(GroupContext::default()).map_err(|error| unusable(&log.address, &error))?;
        consumer.subscribe(&[&log.address.topic]).map_err(|error| unusable(&log.address, &error))?;
        Ok(Member { address: log.address.clone(), consumer: Arc::new(consumer), owned: None })
    }

    fn list(&self, partitions: impl IntoIterator<Item = i32>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        partitions.into_iter().for_each(|partition| {
            list.add_partition(&self.address.topic, partition);
        });
        list
    }

    fn apply(&mut self, change: Change) -> Result<()> {
        let unusable = |error: KafkaError| unusable(&self.address, &error);
        let mut owned = self.owned.take().unwrap_or_default();
        match change {
            Change::Assigned(partitions) => {
                let mut list = self.list(partitions.iter().copied());
                list.set_all_offsets(Offset::End).map_err(unusable)?;
                self.consumer.incremental_assign(&list).map_err(unusable)?;
                self.consumer.pause(&list).map_err(unusable)?;
                owned.extend(partitions.iter().map(|partition| *partition as u32));
            }
            Change::Revoked(partitions) => {
                self.consumer.incremental_unassign(&self.list(partitions.iter().copied())).map_err(unusable)?;
                partitions.iter().for_each(|partition| {
                    owned.remove(&(*partition as u32));
                });
            }
        }
        self.owned = Some(owned);
        Ok(())
    }

    fn next_change(&self) -> Option<Change> {
        self.consumer.context().changes().pop_front()
    }

    fn is_nothing_new(&self, change: &Change) -> bool {
        let (Change::Assigned(partitions) | Change::Revoked(partitions)) = change;
        partitions.is_empty() && self.owned.is_some()
    }

    fn offsets(&self, positions: &BTreeMap<u32, u64>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, next) in positions {
            if self.owned.as_ref().is_some_and(|owned| owned.contains(partition)) {
                // An offset too large for Kafka does not come out of Kafka.
                let _ = list.add_partition_offset(&self.address.topic, *partition as i32, Offset::Offset(*next as i64));
            }
        }
        list
    }
}

impl Membership for Member {
    fn partitions(&self) -> Option<&BTreeSet<u32>> {
        self.owned.as_ref()
    }

    fn is_change_due(&mut self, wait: Duration) -> Result<bool> {
        if self.consumer.context().changes().is_empty()
            && let Some(Err(error)) = self.consumer.poll(wait)
        {
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::GroupAuthorizationFailed | RDKafkaErrorCode::TopicAuthorizationFailed) => {
                    return Err(unusable(&self.address, &error));
                }
                _ => tracing::debug!("librdkafka: {error}"),
            }
        }
        if let Some((error, why)) = self.consumer.client().fatal_error() {
            return Err(LogError::Unusable(format!("the group cannot go on ({error}: {why}); start the count again")));
        }
        // What changes nothing is not worth stopping for.
        loop {
            let Some(change) = self.next_change() else { return Ok(false) };
            if !self.is_nothing_new(&change) {
                self.consumer.context().changes().push_front(change);
                return Ok(true);
            }
            self.apply(change)?;
        }
    }

    fn accept(&mut self) -> Result<()> {
        while let Some(change) = self.next_change() {
            self.apply(change)?;
        }
        Ok(())
    }

    fn publish(&mut self, positions: &BTreeMap<u32, u64>) {
        let offsets = self.offsets(positions);
        if offsets.count() > 0
            && let Err(error) = self.consumer.commit(&offsets, CommitMode::Async)
        {
            tracing::debug!("the group's offsets were not sent: {error}");
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Closing waits, however long, until the group has its answer to what it has asked for already. What it asks for
        // while closing, the callback answers.
        if let Err(error) = self.accept() {
            tracing::debug!("{error}");
        }
        self.consumer.context().is_leaving.store(true, Ordering::SeqCst);
        if let Err(error) = self.consumer.close_queue() {
            tracing::debug!("librdkafka: {error}");
        }
        let deadline = Instant::now() + LEAVE_WAIT;
        while !self.consumer.closed() && Instant::now() < deadline {
            let _ = self.consumer.poll(LEAVE_WAIT / 100);
        }
        if !self.consumer.closed() {
            tracing::warn!("the group of {} cannot be told that this process leaves it", self.address);
            #[expect(
                clippy::mem_forget,
                reason = "its own drop would wait for ever; the group gives the member up by itself"
            )]
            std::mem::forget(Arc::clone(&self.consumer));
        }
    }
}
