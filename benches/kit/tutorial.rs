//! The count as tutorials have it, to compare with: `dropDuplicates` and `groupBy().count()` over the topic.
//!
//! It trusts every record: it does not know the election, when polls are open, or who may vote where, and records that
//! are not votes are a group of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use scrutin_log::KafkaLog;
use scrutin_spark_connect::{OutputMode, Relation, Session, SparkSettings, StreamWrite, Trigger};

use super::read;
use super::spark_server::SparkServer;

/// Counts the whole log, with the server's settings and in batches of `batch_votes`.
pub async fn count(server: &SparkServer, log: &KafkaLog, batch_votes: u64) {
    let (address, batch_votes) = (log.address(), batch_votes.to_string());
    let session = Session::open(&server.address(), &SparkSettings::default()).await.expect("open a session");
    let votes = Relation::stream(
        "kafka",
        [
            ("kafka.bootstrap.servers", address.servers.as_str()),
            ("subscribe", &address.topic),
            ("startingOffsets", "earliest"),
            ("maxOffsetsPerTrigger", &batch_votes),
        ],
    );
    session.create_view("log", votes).await.expect("read the topic");
    let schema = "election STRING, voter STRING, region STRING, choice STRING, channel STRING, cast_at TIMESTAMP";
    let votes = format!("SELECT vote.* FROM (SELECT from_json(CAST(value AS STRING), '{schema}') AS vote FROM log)");
    session.create_view("votes", Relation::sql(votes).deduplicated(&["election", "voter"])).await.expect("parse");
    let counts = "SELECT to_json(struct(election, region, choice)) AS key, CAST(count(*) AS STRING) AS value
                    FROM votes GROUP BY election, region, choice";
    let write = StreamWrite::new("kafka", Relation::sql(counts))
        .option("kafka.bootstrap.servers", &address.servers)
        .option("topic", &counts_topic(log))
        .checkpoint(&server.checkpoint(&counts_topic(log)).display().to_string())
        .output_mode(OutputMode::Update)
        .trigger(Trigger::AvailableNow);
    let query = session.start(write).await.expect("start the query");
    while !query.has_ended_within(Duration::from_secs(1)).await.expect("ask Spark") {}
    assert!(query.failure().await.expect("ask Spark").is_none(), "the query fails");
    session.close().await.expect("close the session");
}

/// The topic of its counts, which is created if it is missing.
pub async fn counts(log: &KafkaLog) -> KafkaLog {
    log.totals(&counts_topic(log)).await.expect("open the topic of the counts")
}

/// The sum of the last count of each group.
pub fn counted(counts: &KafkaLog) -> u64 {
    let mut last: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    read(counts, |_, record| {
        let votes = std::str::from_utf8(record.value.expect("a count")).expect("a count");
        last.insert(record.key.expect("a group").to_vec(), votes.parse().expect("a count"));
    });
    last.values().sum()
}

fn counts_topic(log: &KafkaLog) -> String {
    format!("{}-counts", log.address().topic)
}
