//! The reader against scripted brokers. Real ones are in `tests/it/kafka`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, FetchResponse, MetadataResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use super::connection::Request;
use super::*;
use crate::kafka::{KafkaAddress, KafkaSettings, topic};

const TOPIC_ID: Uuid = Uuid::from_u128(0xfbef_fb12_3456_7890_abcd_ef12_34ff_befb);
/// As librdkafka writes it. Kafka's own tools write `-` and `_` for `+` and `/`.
const TOPIC_ID_TEXT: &str = "++/7EjRWeJCrze8SNP+++w";

/// Partitions of the scripted topic; each has these records.
const PARTITIONS: u32 = 2;
const RECORDS: u64 = 50;

/// What a broker does with a Fetch request; the default is to answer it rightly.
enum Act {
    Rightly,
    /// For partition 0; the others' answers are right.
    Error(ResponseError),
    Diverge,
    /// Sends only so many bytes of the answer, and ends the connection.
    BreakOff(usize),
}

/// What the brokers share.
struct Cluster {
    servers: Vec<Server>,
    /// By partition, the broker that leads it, and the epoch.
    leaders: Mutex<BTreeMap<u32, (i32, i32)>>,
    /// For the next Fetch requests for partition 0.
    acts: Mutex<VecDeque<Act>>,
    fetch_version_max: i16,
    /// A broker sends no more of a batch than was asked for, as if it was not the first in the answer.
    cuts: bool,
}

impl Cluster {
    fn start(brokers: usize, change: impl FnOnce(&mut Cluster)) -> Arc<Cluster> {
        let listeners: Vec<_> = (0..brokers).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let server = |listener: &TcpListener| ("127.0.0.1".to_owned(), listener.local_addr().unwrap().port());
        let mut cluster = Cluster {
            servers: listeners.iter().map(server).collect(),
            leaders: Mutex::new((0..PARTITIONS).map(|partition| (partition, (0, 5))).collect()),
            acts: Mutex::default(),
            fetch_version_max: FetchRequest::VERSION,
            cuts: false,
        };
        change(&mut cluster);
        let cluster = Arc::new(cluster);
        for (id, listener) in listeners.into_iter().enumerate() {
            let cluster = Arc::clone(&cluster);
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let cluster = Arc::clone(&cluster);
                    thread::spawn(move || cluster.serve(id as i32, stream.unwrap()));
                }
            });
        }
        cluster
    }

    /// Until the client ends the connection.
    fn serve(&self, broker: i32, mut stream: TcpStream) {
        let mut size = [0; 4];
        while stream.read_exact(&mut size).is_ok() {
            let mut request = vec![0; u32::from_be_bytes(size) as usize];
            stream.read_exact(&mut request).unwrap();
            let mut request = Bytes::from(request);
            let (key, version) =
                (i16::from_be_bytes([request[0], request[1]]), i16::from_be_bytes([request[2], request[3]]));
            let key = ApiKey::try_from(key).unwrap();
            let header = RequestHeader::decode(&mut request, key.request_header_version(version)).unwrap();
            let mut act = Act::Rightly;
            let answer = match key {
                ApiKey::ApiVersions => encoded(&header, &self.versions(), version),
                ApiKey::Metadata => encoded(&header, &self.metadata(), version),
                ApiKey::Fetch => {
                    let request = FetchRequest::decode(&mut request, version).unwrap();
                    if request.topics[0].partitions.iter().any(|wanted| wanted.partition == 0) {
                        act = self.acts.lock().unwrap().pop_front().unwrap_or(Act::Rightly);
                    }
                    encoded(&header, &self.fetched(broker, &request, &act), version)
                }
                key => panic!("nobody asks for {key:?}"),
            };
            if let Act::BreakOff(bytes) = act {
                stream.write_all(&answer[..bytes.min(answer.len())]).unwrap();
                stream.shutdown(Shutdown::Both).unwrap();
                return;
            }
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    }

    fn versions(&self) -> ApiVersionsResponse {
        let version = |key: ApiKey, max| ApiVersion::default().with_api_key(key as i16).with_max_version(max);
        let (fetch, metadata) = (self.fetch_version_max, 12);
        ApiVersionsResponse::default()
            .with_api_keys(vec![version(ApiKey::Fetch, fetch), version(ApiKey::Metadata, metadata)])
    }

    fn metadata(&self) -> MetadataResponse {
        let brokers = self.servers.iter().zip(0..).map(|((host, port), id)| {
            let host = host.clone().into();
            MetadataResponseBroker::default().with_node_id(BrokerId(id)).with_host(host).with_port(i32::from(*port))
        });
        let partitions = self.leaders.lock().unwrap().clone().into_iter().map(|(partition, (leader, epoch))| {
            MetadataResponsePartition::default()
                .with_partition_index(partition as i32)
                .with_leader_id(BrokerId(leader))
                .with_leader_epoch(epoch)
        });
        let topic = MetadataResponseTopic::default().with_topic_id(TOPIC_ID).with_partitions(partitions.collect());
        MetadataResponse::default().with_brokers(brokers.collect()).with_topics(vec![topic])
    }

    fn fetched(&self, broker: i32, request: &FetchRequest, act: &Act) -> FetchResponse {
        assert_eq!(request.isolation_level, 1, "committed records only");
        let topic = &request.topics[0];
        let leaders = self.leaders.lock().unwrap().clone();
        let partitions = topic.partitions.iter().map(|wanted| {
            let partition = wanted.partition as u32;
            let data = PartitionData::default().with_partition_index(wanted.partition);
            let code = match (leaders[&partition], act) {
                ((leader, _), _) if leader != broker => ResponseError::NotLeaderOrFollower.code(),
                ((_, epoch), _) if wanted.current_leader_epoch < epoch => ResponseError::FencedLeaderEpoch.code(),
                (_, Act::Error(error)) if partition == 0 => error.code(),
                _ => 0,
            };
            if code != 0 {
                return data.with_error_code(code);
            }
            if matches!(act, Act::Diverge) && partition == 0 {
                assert_eq!(wanted.last_fetched_epoch, 5, "the epoch of the last record that was read");
                return data.with_diverging_epoch(EpochEndOffset::default().with_epoch(4).with_end_offset(9));
            }
            let mut records = batches(wanted.fetch_offset as u64..RECORDS);
            if self.cuts {
                records.truncate(wanted.partition_max_bytes as usize);
            }
            data.with_records(Some(records.freeze()))
        });
        let topic =
            FetchableTopicResponse::default().with_topic_id(topic.topic_id).with_partitions(partitions.collect());
        FetchResponse::default().with_responses(vec![topic])
    }

    /// Lets another broker lead a partition.
    fn elect(&self, partition: u32, leader: (i32, i32)) {
        self.leaders.lock().unwrap().insert(partition, leader);
    }

    fn log(&self) -> KafkaLog {
        let servers: Vec<String> = self.servers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        let address: KafkaAddress = format!("kafka://{}/votes", servers.join(",")).parse().unwrap();
        let settings = KafkaSettings::default();
        let client = settings.client(&address).unwrap();
        let topic = topic::Topic { id: TOPIC_ID_TEXT.into(), partitions: PARTITIONS };
        KafkaLog::of(&address, &settings, client, topic, Holds::Votes).unwrap()
    }

    fn reader(&self) -> FetchReader {
        let from: Vec<_> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
        FetchReader::open(&self.log(), &from).unwrap().expect("the brokers are new enough")
    }
}

fn encoded<M: Encodable + HeaderVersion>(request: &RequestHeader, answer: &M, version: i16) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    bytes.put_u32(0);
    let header = ResponseHeader::default().with_correlation_id(request.correlation_id);
    header.encode(&mut bytes, M::header_version(version)).unwrap();
    answer.encode(&mut bytes, version).unwrap();
    let size = bytes.len() as u32 - 4;
    bytes[..4].copy_from_slice(&size.to_be_bytes());
    bytes.to_vec()
}

/// Batches of up to ten records each.
fn batches(offsets: Range<u64>) -> BytesMut {
    let record = |offset: u64| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 5,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::LogAppend,
        offset: offset as i64,
        sequence: offset as i32,
        timestamp: 0,
        key: None,
        value: Some(offset.to_string().into()),
        headers: [].into_iter().collect(),
    };
    let mut bytes = BytesMut::new();
    for offset in offsets.clone().step_by(10) {
        let records: Vec<Record> = (offset..offsets.end.min(offset + 10)).map(record).collect();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
    }
    bytes
}

/// Reads until all partitions are read. The records come in order, each once.
fn read_all(reader: &mut FetchReader) -> Result<()> {
    let mut next: BTreeMap<u32, u64> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    while next.values().any(|next| *next < RECORDS) {
        assert!(Instant::now() < deadline, "read up to {next:?}");
        let Some(batch) = reader.fetch(Duration::from_millis(50))? else { continue };
        let wanted = next.get_mut(&batch.partition).unwrap();
        for record in batch.records() {
            assert_eq!((record.offset, record.value), (*wanted, Some(wanted.to_string().as_bytes())));
            *wanted += 1;
        }
        assert_eq!(batch.next_offset, *wanted);
        reader.recycle(batch);
    }
    Ok(())
}

#[test]
fn partitions_of_several_brokers_are_read() {
    let cluster = Cluster::start(2, |_| {});
    cluster.elect(1, (1, 5));
    read_all(&mut cluster.reader()).unwrap();
}

#[test]
fn a_partition_is_read_on_from_its_new_leader() {
    let cluster = Cluster::start(2, |_| {});
    let mut reader = cluster.reader();
    // It learns of the new leader from the old one's refusal.
    cluster.elect(0, (1, 6));
    read_all(&mut reader).unwrap();
}

#[test]
fn a_leader_that_was_elected_again_is_followed() {
    let cluster = Cluster::start(1, |_| {});
    let mut reader = cluster.reader();
    cluster.elect(0, (0, 6));
    read_all(&mut reader).unwrap();
}

#[test]
fn every_record_is_read_whatever_goes_wrong_for_a_moment() {
    let cluster = Cluster::start(1, |_| {});
    let right = batches(0..RECORDS).len();
    let break_off = [0, 3, 4, 10, 100, right, 2 * right].map(Act::BreakOff);
    let errors = [
        ResponseError::UnknownServerError,
        ResponseError::KafkaStorageError,
        ResponseError::ReplicaNotAvailable,
        ResponseError::UnknownLeaderEpoch,
        ResponseError::UnknownTopicId,
        ResponseError::OffsetNotAvailable,
    ];
    for act in break_off.into_iter().chain(errors.map(Act::Error)) {
        cluster.acts.lock().unwrap().push_back(act);
        read_all(&mut cluster.reader()).unwrap();
        assert!(cluster.acts.lock().unwrap().is_empty());
    }
}

#[test]
fn trouble_that_lasts_is_an_error() {
    for (error, expected) in [
        (ResponseError::KafkaStorageError, "cannot be read at offset 0: the broker's error is KafkaStorageError"),
        (ResponseError::UnknownTopicId, "there is no topic `votes`"),
    ] {
        let cluster = Cluster::start(1, |_| {});
        let mut reader = cluster.reader();
        reader.trouble_max = Duration::from_millis(300);
        cluster.acts.lock().unwrap().extend((0..1000).map(|_| Act::Error(error)));
        let said = read_all(&mut reader).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn brokers_that_are_gone_are_named() {
    let cluster = Cluster::start(1, |_| {});
    let mut log = cluster.log();
    log.address.servers = "127.0.0.1:1".into();
    let error = FetchReader::open(&log, &[(0, 0)]).map(|_| ()).unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("127.0.0.1:1: Connection refused"), "{error}");
}

#[test]
fn corrupt_and_forbidden_records_are_errors_at_once() {
    for (error, expected) in [
        (ResponseError::CorruptMessage, "the stored bytes are corrupt"),
        (ResponseError::TopicAuthorizationFailed, "reading it is not allowed without a login"),
    ] {
        let cluster = Cluster::start(1, |_| {});
        cluster.acts.lock().unwrap().push_back(Act::Error(error));
        let error = read_all(&mut cluster.reader()).unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_log_that_lost_records_stops_the_count() {
    let cluster = Cluster::start(1, |_| {});
    let mut reader = cluster.reader();
    cluster.acts.lock().unwrap().extend([Act::Rightly, Act::Diverge]);
    read_all(&mut reader).unwrap();
    let error = loop {
        match reader.fetch(Duration::from_millis(50)) {
            Ok(batch) => assert!(batch.is_none()),
            Err(error) => break error,
        }
    };
    assert!(!error.is_transient(), "{error}");
    assert!(error.to_string().contains("ends at offset 9, but was read up to 50 before"), "{error}");
}

#[test]
fn a_batch_larger_than_what_was_asked_for_is_asked_for_again() {
    let cluster = Cluster::start(1, |cluster| cluster.cuts = true);
    let mut reader = cluster.reader();
    for partition in reader.partitions.values_mut() {
        partition.bytes = 10;
    }
    read_all(&mut reader).unwrap();
}

#[test]
fn brokers_without_topic_ids_are_left_to_librdkafka() {
    let cluster = Cluster::start(1, |cluster| cluster.fetch_version_max = 12);
    assert!(FetchReader::open(&cluster.log(), &[(0, 0)]).unwrap().is_none());
}
