//! Membership of a consumer group, which shares out the partitions among the processes that count together.
//!
//! The consumer fetches no records. It learns which partitions are assigned to this process, and commits to the brokers
//! how far they are counted, for tools that monitor a group's lag. The positions to resume from are in PostgreSQL.

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

/// Milliseconds without a heartbeat after which the group considers a member dead and gives its partitions to others.
const SESSION_TIMEOUT: &str = "3000";
/// The shortest that brokers allow by default.
const ALLOWED_SESSION_TIMEOUT: &str = "6000";
const HEARTBEAT_INTERVAL: &str = "500";

const INSTANCE: &str = "group.instance.id";

/// How long to wait for the group to confirm: without brokers it cannot, and occasionally librdkafka never finishes.
const LEAVE_WAIT: Duration = Duration::from_secs(5);

pub(super) struct Member {
    address: KafkaAddress,
    config: ClientConfig,
    instance: Option<Arc<InstanceId>>,
    /// Not shared. It is in an `Arc` so that it can be kept from being dropped.
    consumer: Arc<BaseConsumer<GroupContext>>,
    /// `None` until the group has decided.
    owned: Option<BTreeSet<u32>>,
}

#[derive(Debug)]
enum Change {
    Assigned(BTreeSet<u32>),
    /// All of the member's partitions are revoked.
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
    /// Only queues what the group wants: the change waits until the work in hand is done.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        if self.is_leaving.load(Ordering::SeqCst) {
            // The group asked before it noticed that we are leaving. Answer right here, or closing waits for ever.
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
            tracing::debug!("the brokers did not accept the group's offsets: {error}");
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
            // Not cooperative-sticky: if a member is killed between its two rounds and comes back under the same id, it
            // does not know that it has to ask for the second, and the partitions it was to give up stay unassigned.
            .set("partition.assignment.strategy", "range")
            // The consumer is paused; this bounds what it fetches before the pause takes effect.
            .set("queued.min.messages", "1")
            .set("queued.max.messages.kbytes", "1");
        if let Some(instance) = &log.instance {
            config.set(INSTANCE, instance.get());
        }
        let consumer = subscribe(&log.address, &config)?;
        Ok(Member { address: log.address.clone(), config, instance: log.instance.clone(), consumer, owned: None })
    }

    /// Joins again after the brokers have refused the session timeout as too short or too long.
    fn ask_for_an_allowed_session(&mut self) -> Result<()> {
        let asked = self.config.get("session.timeout.ms").unwrap_or_default().to_owned();
        if asked != SESSION_TIMEOUT {
            return Err(LogError::Unusable(format!(
                "the brokers of {} refuse session.timeout.ms={asked}; set it to a value between their \
                 group.min.session.timeout.ms and group.max.session.timeout.ms",
                self.address
            )));
        }
        tracing::info!(
            "the group notices a dead process after {ALLOWED_SESSION_TIMEOUT} ms; to make that sooner, set \
             group.min.session.timeout.ms={SESSION_TIMEOUT} on the brokers"
        );
        self.config.set("session.timeout.ms", ALLOWED_SESSION_TIMEOUT);
        self.consumer = subscribe(&self.address, &self.config)?;
        Ok(())
    }

    /// Joins again under a new id, because the group has seen this member's id from another one: a process with a copy
    /// of its data folder, or this process itself, if it had to rejoin while a broker failed and an earlier request
    /// arrived late. The member keeps its partitions until the group says otherwise, so nobody waits.
    fn join_by_another_name(&mut self) -> Result<()> {
        tracing::warn!(
            "the group of {} has seen this process's id from another process; joining again under a new id",
            self.address
        );
        match self.instance.as_ref().map(|instance| instance.renew()) {
            Some(Ok(id)) => self.config.set(INSTANCE, id),
            Some(Err(error)) => {
                tracing::warn!(
                    "cannot save the new id, so this process will not get its partitions back at once after a \
                     restart: {error}"
                );
                self.config.remove(INSTANCE)
            }
            None => self.config.remove(INSTANCE),
        };
        let fenced = std::mem::replace(&mut self.consumer, subscribe(&self.address, &self.config)?);
        // The old consumer has left the group already; ending its threads may take a while.
        std::thread::spawn(move || drop(fenced));
        Ok(())
    }

    /// Leaves the group explicitly, so that others need not wait for the session to time out. Closing does not do that
    /// for a member with a `group.instance.id`.
    fn leave(&self) {
        self.consumer.unsubscribe();
        let deadline = Instant::now() + LEAVE_WAIT;
        while self.is_member() && Instant::now() < deadline {
            let _ = self.consumer.poll(LEAVE_WAIT / 100);
        }
    }

    fn is_member(&self) -> bool {
        // SAFETY: the client is alive. It returns null or a string that it allocated, which is freed once.
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
                // The positions come from Kafka, so they are never too large for it.
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
                        "other members of the group of {} use another assignment strategy; stop them first: \
                         they are of another version, or are not counters at all",
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
                let what = format!(
                    "this process can no longer be a member of its group ({error}: {why}); start the count again"
                );
                return Err(LogError::Unusable(what));
            }
        }
        // A change that changes nothing is not worth stopping for.
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
        // While the group decides about a join, the brokers know the member's id already and the member does not: offsets
        // sent without it would be taken for another process's, and fence the member off.
        if offsets.count() > 0
            && self.is_member()
            && let Err(error) = self.consumer.commit(&offsets, CommitMode::Async)
        {
            tracing::debug!("cannot send the group's offsets: {error}");
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.consumer.client().fatal_error().is_some() {
            // The member has been fenced off, and closing would never finish.
            keep_from_being_dropped(&self.consumer);
            return;
        }
        // Closing waits without limit for answers to requests that the group has already made. The callback answers
        // those that it makes during closing.
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
            tracing::warn!("cannot tell the group of {} that this process is leaving", self.address);
            keep_from_being_dropped(&self.consumer);
        }
    }
}

#[expect(clippy::mem_forget, reason = "its own drop would wait for ever; the group drops the member by itself")]
fn keep_from_being_dropped(consumer: &Arc<BaseConsumer<GroupContext>>) {
    std::mem::forget(Arc::clone(consumer));
}
