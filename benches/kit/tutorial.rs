//! The count as tutorials have it, to compare with: `dropDuplicates` and `groupBy().count()` over the topic.
//!
//! It trusts every record: it does not know the election, when polls are open, or who may vote where, and records that
//! are not votes are a group of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use scrutin_log::{KafkaLog, VoteLog};
use scrutin_spark_connect::{OutputMode, Relation, Session, SparkSettings, StreamWrite, Trigger};

use super::spark_server::SparkServer;

/// Counts the whole log, with the server's settings and in batches of `batch_votes`.
pub async fn count(server: &SparkServer, log: &KafkaLog, batch_votes: &str) {
    let address = log.address();
    let session = Session::open(&server.address(), &SparkSettings::default()).await.expect("open a session");
    let votes = Relation::stream(
        "kafka",
        [
            ("kafka.bootstrap.servers", address.servers.as_str()),
            ("subscribe", &address.topic),
            ("startingOffsets", "earliest"),
            ("maxOffsetsPerTrigger", batch_votes),
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

/// The sum of its counts.
pub async fn counted(log: &KafkaLog) -> u64 {
    let counts = log.totals(&counts_topic(log)).await.expect("open the topic of the counts");
    tokio::task::block_in_place(|| {
        let mut last: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for partition in 0..counts.partitions() {
            let end = counts.offsets(partition).expect("offsets").end;
            let mut reader = counts.reader(&[(partition, 0)]).expect("read the counts");
            let mut next = 0;
            while next < end {
                let Some(batch) = reader.fetch(Duration::from_secs(30)).expect("read the counts") else { continue };
                for record in batch.records() {
                    let votes = std::str::from_utf8(record.value.expect("a count")).expect("a count");
                    last.insert(record.key.expect("a group").to_vec(), votes.parse().expect("a count"));
                }
                next = batch.next_offset;
                reader.recycle(batch);
            }
        }
        last.values().sum()
    })
}

fn counts_topic(log: &KafkaLog) -> String {
    format!("{}-counts", log.address().topic)
}
