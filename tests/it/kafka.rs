//! The log on Kafka, on real brokers: the program as users run it, alongside third-party clients.

mod away; // missing brokers and topics, wrong settings
mod foreign; // votes from third-party producers, by the guide's own examples
mod group; // several counts share the partitions
mod identity; // deleted records, added partitions, a recreated topic: the count can no longer be trusted
mod outage; // brokers and PostgreSQL go away and come back during a count
mod readers; // our own client and librdkafka read the same
#[cfg(feature = "tls")]
mod security; // TLS and passwords
mod setup; // topics created by the program, and topics it refuses
mod transactions; // third-party transactions: aborted, open, and their markers
mod votes; // simulated and replayed votes

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use scrutin_contract::partitioner::partition_of;
use scrutin_log::kafka::KafkaSettings;
use scrutin_log::{KafkaLog, VoteLog};

use crate::broker::Broker;
use crate::kit::{Kit, Watcher};
use crate::run::{PATIENCE, Page, Place};

/// A topic name on a broker, a database, and a working folder whose `scrutin.toml` names the topic. Nothing is created
/// yet.
pub struct Stage {
    pub place: Place,
    pub kit: Kit,
    pub topic: Topic,
    watcher: Watcher,
}

impl Stage {
    pub async fn new() -> Stage {
        Stage::on(Broker::shared()).await
    }

    pub async fn on(broker: &Broker) -> Stage {
        let kit = Kit::empty().await;
        let topic = Topic::on(broker.address(), &broker.topic());
        let place = Place::of(&kit);
        place.write("scrutin.toml", format!("log = \"{}\"\n", broker.log(&topic.name)));
        let watcher = Watcher::of(kit.db());
        Stage { place, kit, topic, watcher }
    }

    /// One figure from the database. Reconnects if the session was cut since the last query.
    pub async fn figure(&self, sql: &str) -> i64 {
        match self.watcher.figure(sql).await {
            Ok(figure) => figure,
            Err(_) => self.watcher.figure(sql).await.unwrap_or_else(|error| panic!("{error}")),
        }
    }

    /// The next offset of each partition.
    pub async fn positions(&self, counter: &str) -> BTreeMap<i32, i64> {
        let sql = "SELECT partition, next_offset FROM lag WHERE counter = $1";
        let rows = self.kit.owner().await.query(sql, &[&counter]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Rejected votes by reason.
    pub async fn refused(&self) -> BTreeMap<String, i64> {
        let rows = self.kit.owner().await.query("SELECT reason, votes FROM rejections", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

/// A topic, as third-party clients see it.
pub struct Topic {
    pub servers: String,
    pub name: String,
}

impl Topic {
    /// `address`: `kafka://host:port,…`
    pub fn on(address: &str, name: &str) -> Topic {
        Topic { servers: address.strip_prefix("kafka://").unwrap().to_owned(), name: name.to_owned() }
    }

    /// In the form the program accepts.
    pub fn address(&self) -> String {
        format!("kafka://{}/{}", self.servers, self.name)
    }

    pub fn config(&self, settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        settings.iter().for_each(|(name, value)| {
            config.set(*name, *value);
        });
        config
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config(&[]).create().unwrap()
    }

    /// Creates the topic by hand, with settings that the program would not use.
    pub async fn make(&self, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            topic = topic.set(name, value);
        }
        let made = self.admin().create_topics([&topic], &options()).await.unwrap();
        made.into_iter().for_each(|made| drop(made.unwrap()));
    }

    /// Deletes the topic and waits until no broker has it any more.
    pub async fn delete(&self) {
        let deleted = self.admin().delete_topics(&[&self.name], &options()).await.unwrap();
        deleted.into_iter().for_each(|deleted| drop(deleted.unwrap()));
    }

    pub async fn raise_partitions(&self, partitions: usize) {
        let raised = self.admin().create_partitions([&NewPartitions::new(&self.name, partitions)], &options()).await;
        raised.unwrap().into_iter().for_each(|raised| drop(raised.unwrap()));
    }

    /// Deletes the records below these offsets.
    pub async fn delete_records(&self, before: &[(i32, i64)]) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in before {
            list.add_partition_offset(&self.name, *partition, Offset::Offset(*offset)).unwrap();
        }
        for element in self.admin().delete_records(&list, &options()).await.unwrap().elements() {
            element.error().unwrap();
        }
    }

    pub async fn settings(&self) -> BTreeMap<String, String> {
        let found = self.admin().describe_configs(&[ResourceSpecifier::Topic(&self.name)], &options()).await.unwrap();
        let found = found.into_iter().next().unwrap().unwrap();
        found.entries.into_iter().map(|entry| (entry.name, entry.value.unwrap_or_default())).collect()
    }

    /// The number of replicas of each partition.
    pub fn copies(&self) -> Vec<usize> {
        let client: BaseConsumer = self.config(&[]).create().unwrap();
        let metadata = client.fetch_metadata(Some(&self.name), PATIENCE).unwrap();
        metadata.topics()[0].partitions().iter().map(|partition| partition.replicas().len()).collect()
    }

    /// First offset and end offset of a partition, including uncommitted records.
    pub fn offsets(&self, partition: i32) -> (i64, i64) {
        let client: BaseConsumer = self.config(&[("isolation.level", "read_uncommitted")]).create().unwrap();
        client.fetch_watermarks(&self.name, partition, PATIENCE).unwrap()
    }

    /// The offsets that a group has committed.
    pub fn group_offsets(&self, group: &str, partitions: i32) -> BTreeMap<i32, i64> {
        let client: BaseConsumer = self.config(&[("group.id", group)]).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.name, 0, partitions - 1);
        let found = client.committed_offsets(list, PATIENCE).unwrap();
        let offset = |offset: Offset| offset.to_raw().unwrap_or(-1);
        found.elements().iter().map(|element| (element.partition(), offset(element.offset()))).collect()
    }

    /// Appends records in order, each to the given partition.
    pub async fn append<'a>(&self, records: impl IntoIterator<Item = Raw<'a>>) {
        let producer: FutureProducer = self.config(&[("acks", "all")]).create().unwrap();
        for (partition, key, value) in records {
            let mut record = FutureRecord::to(&self.name).partition(partition);
            (record.key, record.payload) = (key, value);
            producer.send(record, PATIENCE).await.unwrap_or_else(|(error, _)| panic!("{error}"));
        }
    }

    /// When the records were appended, in milliseconds since 1970 UTC.
    pub async fn append_times(&self, partitions: u32) -> Vec<i64> {
        let log = KafkaLog::open_existing(&self.address().parse().unwrap(), &KafkaSettings::default()).await.unwrap();
        let ends: BTreeMap<u32, u64> = (0..partitions).map(|it| (it, log.offsets(it).unwrap().end)).collect();
        let mut reader = log.reader(&(0..partitions).map(|partition| (partition, 0)).collect::<Vec<_>>()).unwrap();
        let mut next = BTreeMap::new();
        let (mut times, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        while ends.iter().any(|(partition, end)| next.get(partition).unwrap_or(&0) < end) {
            assert!(Instant::now() < deadline, "timed out reading the log");
            let Some(batch) = reader.fetch(Duration::from_millis(100)).unwrap() else { continue };
            times.extend(batch.records().map(|record| record.appended_at_ms));
            next.insert(batch.partition, batch.next_offset);
        }
        times
    }

    /// Appends votes to the partitions they belong to.
    pub async fn append_votes(&self, votes: &[Ballot], partitions: u32) {
        let records = votes.iter().map(|vote| {
            (
                partition_of(vote.voter.as_bytes(), partitions) as i32,
                Some(vote.voter.as_bytes()),
                Some(vote.value.as_bytes()),
            )
        });
        self.append(records).await;
    }
}

/// Partition, key and value.
pub type Raw<'a> = (i32, Option<&'a [u8]>, Option<&'a [u8]>);

pub fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)))
}

/// A vote for the built-in election, key and value.
pub struct Ballot {
    pub voter: String,
    pub value: String,
}

/// The vote of the n-th voter for a choice.
pub fn ballot(number: u32, choice: &str) -> Ballot {
    let voter = format!("0b5e55ed-0000-4000-8000-{number:012x}");
    let value = format!(
        r#"{{"election":"pres-2027","voter":"{voter}","region":"75","choice":"{choice}","channel":"booth","cast_at":"2027-04-11T08:31:12.345Z"}}"#
    );
    Ballot { voter, value }
}

pub fn ballots(numbers: std::ops::Range<u32>) -> Vec<Ballot> {
    numbers.map(|number| ballot(number, "C03")).collect()
}

/// Waits until the count has received this many votes.
pub fn until_received(page: Page, votes: u64) {
    page.until("/api/v1/accounting", |_, body| received(body) >= votes);
}

fn received(body: &str) -> u64 {
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    body["total"]["received"].as_u64().unwrap_or(0)
}

/// A metric's value, summed over its labels; none if it is absent.
pub fn metric(page: Page, name: &str) -> Option<f64> {
    let (status, text) = page.ask("/metrics");
    assert_eq!(status, 200, "{text}");
    let values = text.lines().filter_map(|line| {
        let (label, value) = line.rsplit_once(' ')?;
        (label.split('{').next() == Some(name)).then(|| value.parse::<f64>().unwrap())
    });
    values.reduce(|sum, value| sum + value)
}
