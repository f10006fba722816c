//! A consumer group shares the partitions out among the processes that count together.
//!
//! Its member fetches nothing: it learns which partitions are its own, and tells the brokers how far they are counted,
//! for the tools that look at a group's lag. Where the count goes on is PostgreSQL's to say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use super::client::{self, unusable};
use super::{InstanceId, KafkaAddress, KafkaLog};
use crate::{LogError, Membership, Result};

/// A member that is not heard of for so long is taken for dead, and its partitions go to others.
const SESSION_TIMEOUT: &str = "3000";
/// The shortest that brokers allow as they come.
const ALLOWED_SESSION_TIMEOUT: &str = "6000";
const HEARTBEAT_INTERVAL: &str = "500";

const INSTANCE: &str = "group.instance.id";

/// Without brokers the group cannot be left, and now and then librdkafka does not give it up.
const LEAVE_WAIT: Duration = Duration::from_secs(5);

pub(super) struct Member {
    address: KafkaAddress,
    config: ClientConfig,
    instance: Option<Arc<InstanceId>>,
    /// Shared with nobody, so that it can be kept from being dropped.
    consumer: Arc<BaseConsumer<GroupContext>>,
    /// None until the group has decided.
    owned: Option<BTreeSet<u32>>,
}

#[derive(Debug)]
enum Change {
    Assigned(BTreeSet<u32>),
    /// Of all that it had.
    Revoked,
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
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => consumer.assign(partitions),
                _ => consumer.unassign(),
            };
            if let Err(error) = answered {
                tracing::debug!("librdkafka: {error}");
            }
            return;
        }
        self.changes().push_back(match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                Change::Assigned(partitions.elements().iter().map(|element| element.partition() as u32).collect())
            }
            _ => Change::Revoked,
        });
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!("the group's offsets were not taken: {error}");
        }
    }
}

fn subscribe(address: &KafkaAddress, config: &ClientConfig) -> Result<Arc<BaseConsumer<GroupContext>>> {
    let consumer: BaseConsumer<GroupContext> =
        config.create_with_context(GroupContext::default()).map_err(|error| unusable(address, &error))?;
    consumer.subscribe(&[&address.topic]).map_err(|error| unusable(address, &error))?;
    Ok(Arc::new(consumer))
}

impl Member {
    pub fn join(log: &KafkaLog, group: &str) -> Result<Member> {
        let defaults = [("session.timeout.ms", SESSION_TIMEOUT), ("heartbeat.interval.ms", HEARTBEAT_INTERVAL)];
        let mut config = log.settings.consumer(&log.address, &defaults);
        config
            .set("group.id", group)
            // Not cooperative-sticky: a member that is killed between its two rounds, and comes back by its name, does not
            // know that it has to ask for the second, and what it was to give up stays nobody's.
            .set("partition.assignment.strategy", "range")
            // It fetches nothing; this bounds what is fetched before the pause is heard.
            .set("queued.min.messages", "1")
            .set("queued.max.messages.kbytes", "1");
        if let Some(instance) = &log.instance {
            config.set(INSTANCE, instance.get());
        }
        let consumer = subscribe(&log.address, &config)?;
        Ok(Member { address: log.address.clone(), config, instance: log.instance.clone(), consumer, owned: None })
    }

    /// The session that was asked for is shorter, or longer, than the brokers allow.
    fn ask_for_an_allowed_session(&mut self) -> Result<()> {
        let asked = self.config.get("session.timeout.ms").unwrap_or_default().to_owned();
        if asked != SESSION_TIMEOUT {
            return Err(LogError::Unusable(format!(
                "the brokers of {} refuse session.timeout.ms={asked}; set it to between their \
                 group.min.session.timeout.ms and group.max.session.timeout.ms",
                self.address
            )));
        }
        tracing::info!(
            "a counter that dies is missed after {ALLOWED_SESSION_TIMEOUT} ms; brokers with \
             group.min.session.timeout.ms={SESSION_TIMEOUT} would let it be sooner"
        );
        self.config.set("session.timeout.ms", ALLOWED_SESSION_TIMEOUT);
        self.consumer = subscribe(&self.address, &self.config)?;
        Ok(())
    }

    /// The group takes another for this member: one with a copy of its data folder, or itself, when it had to join anew
    /// while a broker failed and something that it had sent before arrived later. What it counts stays its own until the
    /// group says otherwise, so nobody waits.
    fn join_by_another_name(&mut self) -> Result<()> {
        tracing::warn!(
            "the group of {} has this process's name from another one too; it joins anew by a new name",
            self.address
        );
        match self.instance.as_ref().map(|instance| instance.renew()) {
            Some(Ok(id)) => self.config.set(INSTANCE, id),
            Some(Err(error)) => {
                tracing::warn!(
                    "the new name is not kept, so this process will not have its partitions back at once after a restart: {error}"
                );
                self.config.remove(INSTANCE)
            }
            None => self.config.remove(INSTANCE),
        };
        let fenced = std::mem::replace(&mut self.consumer, subscribe(&self.address, &self.config)?);
        // It has left the group already; ending its threads may take a while.
        std::thread::spawn(move || drop(fenced));
        Ok(())
    }

    /// Says good-bye, so that others need not wait for the session to end: closing alone does not, for a member with a
    /// name of its own.
    fn leave(&self) {
        self.consumer.unsubscribe();
        let deadline = Instant::now() + LEAVE_WAIT;
        while self.is_member() && Instant::now() < deadline {
            let _ = self.consumer.poll(LEAVE_WAIT / 100);
        }
    }

    fn is_member(&self) -> bool {
        // SAFETY: The client lives. What it gives is null or a string of its own making, which is freed once.
        unsafe {
            let id = rd::rd_kafka_memberid(self.consumer.client().native_ptr());
            if id.is_null() {
                return false;
            }
            let is_member = *id != 0;
            rd::rd_kafka_mem_free(self.consumer.client().native_ptr(), id.cast());
            is_member
        }
    }

    fn apply(&mut self, change: Change) -> Result<()> {
        let unusable = |error: KafkaError| unusable(&self.address, &error);
        match change {
            Change::Assigned(partitions) => {
                let mut list = TopicPartitionList::new();
                for partition in &partitions {
                    let added = list.add_partition_offset(&self.address.topic, *partition as i32, Offset::End);
                    added.map_err(unusable)?;
                }
                self.consumer.assign(&list).map_err(unusable)?;
                self.consumer.pause(&list).map_err(unusable)?;
                self.owned = Some(partitions);
            }
            Change::Revoked => {
                self.consumer.unassign().map_err(unusable)?;
                self.owned = None;
            }
        }
        Ok(())
    }

    fn next_change(&self) -> Option<Change> {
        self.consumer.context().changes().pop_front()
    }

    fn is_nothing_new(&self, change: &Change) -> bool {
        match change {
            Change::Assigned(partitions) => self.owned.as_ref() == Some(partitions),
            Change::Revoked => self.owned.as_ref().is_none_or(BTreeSet::is_empty),
        }
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
                Some(RDKafkaErrorCode::InconsistentGroupProtocol) => {
                    return Err(LogError::Unusable(format!(
                        "others in the group of {} share the partitions out in another way; stop them first: they are of \
                         another version, or are not counters at all",
                        self.address
                    )));
                }
                Some(RDKafkaErrorCode::InvalidSessionTimeout) => self.ask_for_an_allowed_session()?,
                Some(RDKafkaErrorCode::GroupAuthorizationFailed | RDKafkaErrorCode::TopicAuthorizationFailed) => {
                    return Err(unusable(&self.address, &error));
                }
                _ => tracing::debug!("librdkafka: {error}"),
            }
        }
        match self.consumer.client().fatal_error() {
            None => {}
            Some((RDKafkaErrorCode::FencedInstanceId, _)) => self.join_by_another_name()?,
            Some((error, why)) => {
                let what = format!("the group cannot go on ({error}: {why}); start the count again");
                return Err(LogError::Unusable(what));
            }
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
        if self.consumer.client().fatal_error().is_some() {
            // It is out of the group, and would not close.
            keep_from_being_dropped(&self.consumer);
            return;
        }
        // Closing waits, however long, until the group has its answer to what it has asked for already. What it asks for
        // while closing, the callback answers.
        if let Err(error) = self.accept() {
            tracing::debug!("{error}");
        }
        self.consumer.context().is_leaving.store(true, Ordering::SeqCst);
        self.leave();
        if let Err(error) = self.consumer.close_queue() {
            tracing::debug!("librdkafka: {error}");
        }
        let deadline = Instant::now() + LEAVE_WAIT;
        while !self.consumer.closed() && Instant::now() < deadline {
            let _ = self.consumer.poll(LEAVE_WAIT / 100);
        }
        if !self.consumer.closed() {
            tracing::warn!("the group of {} cannot be told that this process leaves it", self.address);
            keep_from_being_dropped(&self.consumer);
        }
    }
}

#[expect(clippy::mem_forget, reason = "its own drop would wait for ever; the group gives the member up by itself")]
fn keep_from_being_dropped(consumer: &Arc<BaseConsumer<GroupContext>>) {
    std::mem::forget(Arc::clone(consumer));
}
