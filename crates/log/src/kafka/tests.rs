use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey;
use scrutin_contract::record::RecordBuffer;

use super::*;

const PARTITIONS: u32 = 4;
const RECORDS: u64 = 3_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// librdkafka's mock broker, which can be told to fail. It knows neither topic ids nor topic settings.
fn mock() -> (MockCluster<'static, DefaultProducerContext>, KafkaLog) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("votes", PARTITIONS as i32, 1).unwrap();
    let address: KafkaAddress = format!("kafka://{}/votes", cluster.bootstrap_servers()).parse().unwrap();
    let mut settings = KafkaSettings::default();
    for name in ["fetch.error.backoff.ms", "retry.backoff.ms", "retry.backoff.max.ms"] {
        settings.properties.insert(name.into(), "10".into());
    }
    let client = settings.client(&address).unwrap();
    let topic = topic::Topic { id: "mock".into(), partitions: PARTITIONS };
    (cluster, KafkaLog::of(&address, &settings, client, topic, Holds::Votes).unwrap())
}

fn buffer(values: impl IntoIterator<Item = Vec<u8>>) -> RecordBuffer {
    let mut buffer = RecordBuffer::default();
    values.into_iter().for_each(|value| buffer.push(Some(b"key"), Some(&value)));
    buffer
}

fn fill(log: &KafkaLog) {
    let mut writer = log.writer(&[]).unwrap();
    for batch in 0..10 {
        let numbers = || (batch * RECORDS / 10..(batch + 1) * RECORDS / 10).map(|n| n.to_string().into_bytes());
        let mut buffers: Vec<_> = (0..PARTITIONS).map(|partition| (partition, buffer(numbers()))).collect();
        writer.append(&mut buffers).unwrap();
        writer.flush().unwrap();
    }
}

/// Reads all partitions as the count does: after a transient error, with a new reader from the same position. Returns
/// the number of errors.
fn read_all(log: &KafkaLog) -> u32 {
    let mut next: BTreeMap<u32, u64> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let (mut errors, deadline) = (0, Instant::now() + PATIENCE);
    while next.values().any(|next| *next < RECORDS) {
        let from: Vec<_> = next.iter().map(|(partition, next)| (*partition, *next)).collect();
        let mut reader = consumer::ConsumerReader::open(log, &from).unwrap();
        while next.values().any(|next| *next < RECORDS) {
            assert!(Instant::now() < deadline, "read up to {next:?}");
            match reader.fetch(Duration::from_millis(50)) {
                Ok(None) => {}
                Ok(Some(batch)) => {
                    let wanted = next.get_mut(&batch.partition).unwrap();
                    for record in batch.records() {
                        assert_eq!(record.offset, *wanted, "partition {}", batch.partition);
                        assert_eq!(record.value, Some(wanted.to_string().as_bytes()));
                        *wanted += 1;
                    }
                    assert_eq!(batch.next_offset, *wanted, "there are no gaps");
                }
                Err(error) => {
                    assert!(error.is_transient(), "{error}");
                    errors += 1;
                    break;
                }
            }
        }
    }
    errors
}

#[test]
fn every_record_is_read_whatever_error_a_fetch_returns() {
    let (cluster, log) = mock();
    fill(&log);
    let ok = Code::RD_KAFKA_RESP_ERR_NO_ERROR;
    let mut errors = 0;
    for code in [
        Code::RD_KAFKA_RESP_ERR_UNKNOWN,
        Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR_INVALID_REQUEST,
        Code::RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT,
    ] {
        for place in 0..4 {
            let mut answers = vec![ok; place];
            answers.push(code);
            cluster.request_errors(RDKafkaApiKey::Fetch, &answers);
            errors += read_all(&log);
            cluster.clear_request_errors(RDKafkaApiKey::Fetch);
        }
    }
    assert!(errors > 0, "the client passes some of them on");
}

#[test]
fn a_record_that_is_refused_among_others_is_an_error() {
    let (_cluster, log) = mock();
    let mut writer = log.writer(&[]).unwrap();
    let values = [b"small".to_vec(), vec![b'x'; 2_000_000], b"behind".to_vec()];
    let error = writer.append(&mut [(0, buffer(values))]).unwrap_err().to_string();
    assert!(error.contains("does not accept the votes") && error.contains("Message size too large"), "{error}");
}

#[test]
fn a_session_timeout_that_brokers_refuse_is_raised() {
    let (cluster, log) = mock();
    cluster.request_errors(RDKafkaApiKey::JoinGroup, &[Code::RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT]);
    let mut member = log.join("scrutin-native").unwrap();
    let deadline = Instant::now() + PATIENCE;
    while member.partitions().is_none_or(|partitions| partitions.len() < PARTITIONS as usize) {
        assert!(Instant::now() < deadline, "has {:?}", member.partitions());
        member.is_change_due(Duration::from_millis(50)).unwrap();
        member.accept().unwrap();
    }
}
