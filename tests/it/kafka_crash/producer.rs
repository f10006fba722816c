//! The producer is killed: it must neither lose a vote nor write one twice.

use std::path::Path;

use scrutin_contract::record::RecordBuffer;
use scrutin_log::EmbeddedLog;

use super::*;
use crate::broker::Broker;
use crate::kit::Kit;

const KILLS: u32 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_killed_at_random_moments_writes_every_vote_once() {
    let (kit, broker) = (Kit::empty().await, Broker::shared());
    let night = Night::begin(&broker.log(&broker.topic()), kit.url()).await;
    let log = night.look().await;
    let counter = night.counter();
    let mut producer = night.producer("1");
    for round in 0..KILLS {
        if round % 5 > 0 {
            let goal = end_of(&log) + night.draw(1..700);
            until("votes are written", async || (end_of(&log) >= goal).then_some(())).await;
        }
        night.moment(150).await;
        night.kill(producer).await;
        producer = night.producer("1");
    }
    night.hurry(producer).await;
    holds_the_stream(&night, &log).await;
    night.check([counter]).await;
}

fn end_of(log: &KafkaLog) -> u64 {
    (0..log.partitions()).map(|partition| log.offsets(partition).unwrap().end).sum()
}

/// Checks that the log equals one that the same simulation writes to a folder undisturbed.
pub(super) async fn holds_the_stream(night: &Night, log: &KafkaLog) {
    let mut setup = night.place.command("setup --no-election --partitions 4 --log quiet");
    setup.env("DATABASE_URL", &night.url);
    let mut simulate = night.place.command(&night.simulate("max").replace("truth.json", "quiet.json"));
    simulate.args(["--log", "quiet"]).env("DATABASE_URL", &night.url);
    let quiet = night.place.path("quiet");
    let log = log.clone();
    tokio::task::spawn_blocking(move || {
        Running::start(setup).end().ok();
        Running::start(simulate).end().ok();
        same_records(&quiet, &log);
    })
    .await
    .unwrap();
    assert!(night.place.read("quiet.json") == night.place.read("truth.json"), "the truth is the same");
}

fn same_records(quiet: &Path, log: &KafkaLog) {
    let quiet = EmbeddedLog::open_existing(quiet).unwrap();
    for partition in 0..log.partitions() {
        let (expected, found) = (records(&quiet, partition), records(log, partition));
        assert_eq!(expected.len(), found.len(), "records in partition {partition}");
        let differs = expected.records().zip(found.records()).position(|(expected, found)| expected != found);
        assert_eq!(differs, None, "the first record of partition {partition} that differs");
    }
}

fn records(log: &dyn VoteLog, partition: u32) -> RecordBuffer {
    let offsets = log.offsets(partition).unwrap();
    let mut reader = log.reader(&[(partition, 0)]).unwrap();
    let mut records = RecordBuffer::default();
    let mut next = 0;
    while next < offsets.end {
        let batch = reader.fetch(PATIENCE).unwrap().expect("the log returns its records");
        for record in batch.records() {
            assert_eq!(record.offset, records.len() as u64, "partition {partition} has no gaps");
            records.push(record.key, record.value);
        }
        next = batch.next_offset;
    }
    records
}
