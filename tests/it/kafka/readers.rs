//! Our own client and librdkafka on the same topic.

use std::time::{Duration, Instant};

use rdkafka::admin::{AlterConfig, ResourceSpecifier};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use scrutin_contract::record::Record;
use scrutin_log::kafka::{KafkaSettings, NewTopic};
use scrutin_log::{KafkaLog, VoteLog};

use super::{Topic, options};
use crate::broker::Broker;
use crate::run::PATIENCE;

/// Offset, append time, key and value.
type Read = (u64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

fn owned(record: Record<'_>) -> Read {
    (record.offset, record.appended_at_ms, record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec))
}

/// The records of partition 0 from an offset on, in batches as they come, each with the offset behind it.
fn read(log: &KafkaLog, from: u64) -> Vec<(Vec<Read>, u64)> {
    let (end, mut next) = (log.offsets(0).unwrap().end, from);
    let (mut reader, mut batches) = (log.reader(&[(0, from)]).unwrap(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while next < end {
        assert!(Instant::now() < deadline, "read up to {next}");
        if let Some(batch) = reader.fetch(Duration::from_millis(100)).unwrap() {
            assert!(batch.next_offset > next, "{next} is followed by {}", batch.next_offset);
            next = batch.next_offset;
            batches.push((batch.records().map(owned).collect(), next));
            reader.recycle(batch);
        }
    }
    batches
}

/// The records of all batches. A record's offset is below the next offset of its batch, and not below that of the one
/// before.
fn records(batches: Vec<(Vec<Read>, u64)>) -> Vec<Read> {
    let (mut all, mut next) = (Vec::new(), 0);
    for (records, next_offset) in batches {
        assert!(records.iter().all(|(offset, ..)| (next..next_offset).contains(offset)));
        next = next_offset;
        all.extend(records);
    }
    all
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread")]
async fn both_clients_read_the_same_records() {
    let broker = Broker::secure();
    let new = NewTopic { partitions: Some(1), ..NewTopic::default() };
    let log = KafkaLog::open(&broker.log("votes").parse().unwrap(), &KafkaSettings::default(), &new).await.unwrap();
    let secure = KafkaSettings::read(&broker.properties("scram")).unwrap();
    let secure = format!("{}/votes", broker.secure_address()).parse().map(|address| (address, secure)).unwrap();
    let secure = KafkaLog::open_existing(&secure.0, &secure.1).await.unwrap();

    let topic = Topic::on(broker.address(), "votes");
    let mut sent = 0;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let name = format!("writer-{codec}");
        let settings = [("compression.type", codec), ("transactional.id", &name), ("linger.ms", "20")];
        let producer: BaseProducer = topic.config(&settings).create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        for is_committed in [true, false, true] {
            producer.begin_transaction().unwrap();
            for number in 0..700_u32 {
                let (key, value) = (format!("{codec} {number}"), number.to_string().repeat(number as usize % 90));
                let record = BaseRecord::<[u8], [u8]>::to("votes").partition(0);
                let record = if number % 50 == 1 { record } else { record.key(key.as_bytes()) };
                let record = if number % 50 == 2 { record } else { record.payload(value.as_bytes()) };
                producer.send(record).unwrap_or_else(|(error, _)| panic!("{error}"));
            }
            // One that does not fit into a batch with others.
            let large = vec![b'x'; 900_000];
            producer
                .send(BaseRecord::to("votes").partition(0).key("large").payload(&large))
                .unwrap_or_else(|_| panic!());
            producer.flush(PATIENCE).unwrap();
            match is_committed {
                true => producer.commit_transaction(PATIENCE).unwrap(),
                false => producer.abort_transaction(PATIENCE).unwrap(),
            }
            sent += 701 * usize::from(is_committed);
        }
    }
    let ours = read(&log, 0);
    let found = records(ours);
    assert_eq!(found.len(), sent);
    assert!(found == records(read(&secure, 0)), "librdkafka reads other records");
    // From within a batch, and from an aborted record.
    for from in [1, 350, 900, found[sent / 2].0] {
        let expected = &found[found.partition_point(|(offset, ..)| *offset < from)..];
        assert!(records(read(&log, from)) == expected, "other records from offset {from}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_are_read_after_the_broker_has_compacted_them() {
    let broker = Broker::shared();
    let (votes, totals) = (broker.topic(), Topic::on(broker.address(), &broker.topic()));
    let log = broker.log(&votes).parse().unwrap();
    let log = KafkaLog::open(&log, &KafkaSettings::default(), &NewTopic::default()).await.unwrap();
    // Brokers compact all segments but the last; a round fills more than one.
    let settings = [("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.01")];
    totals.make(1, &settings).await;
    let log = log.totals(&totals.name).await.unwrap();
    let mut written = 0_usize;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Each round replaces all of the round before.
        let value = [written.to_string().as_bytes(), &[b'.'; 3000]].concat();
        let keys: Vec<String> = (0..400).map(|key| key.to_string()).collect();
        totals.append(keys.iter().map(|key| (0, Some(key.as_bytes()), Some(&*value)))).await;
        written += 400;
        let found = records(read(&log, 0));
        let last: Vec<&Read> = found.iter().rev().take(400).collect();
        assert!(last.iter().all(|(_, _, _, found)| found.as_deref() == Some(&*value)), "the last totals are there");
        if found.len() < written {
            break;
        }
        assert!(Instant::now() < deadline, "nothing was compacted");
    }

    // In a topic of votes, such gaps are errors, even if the topic is no longer compacted.
    let settings = ["cleanup.policy=delete", "retention.ms=-1", "retention.bytes=-1"];
    let settings =
        settings.into_iter().chain(["message.timestamp.type=LogAppendTime", "unclean.leader.election.enable=false"]);
    let config = settings.fold(AlterConfig::new(ResourceSpecifier::Topic(&totals.name)), |config, setting| {
        let (name, value) = setting.split_once('=').unwrap();
        config.set(name, value)
    });
    totals
        .admin()
        .alter_configs([&config], &options())
        .await
        .unwrap()
        .into_iter()
        .for_each(|altered| drop(altered.unwrap()));
    let log = KafkaLog::open_existing(&totals.address().parse().unwrap(), &KafkaSettings::default()).await.unwrap();
    let mut reader = log.reader(&[(0, 0)]).unwrap();
    let error = loop {
        match reader.fetch(Duration::from_millis(100)) {
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
        assert!(Instant::now() < deadline, "no gap is noticed");
    };
    assert!(error.contains("the log has no record at offset ") && error.contains(" and gives no reason"), "{error}");
}
