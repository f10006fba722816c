//! Defects of the log itself that the crash tests have found.

use scrutin_contract::record::RecordBuffer;
use scrutin_log::kafka::NewTopic;

use super::*;
use crate::broker::Broker;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_with_an_hour_to_wait_returns_with_the_first_record() {
    let broker = Broker::shared();
    let address = broker.log(&broker.topic()).parse().unwrap();
    let new = NewTopic { partitions: Some(1), ..NewTopic::default() };
    let log = KafkaLog::open(&address, &KafkaSettings::default(), &new).await.unwrap();
    tokio::task::spawn_blocking(move || {
        let mut reader = log.reader(&[(0, 0)]).unwrap();
        let mut buffer = RecordBuffer::default();
        buffer.push(Some(b"key"), Some(b"value"));
        let mut writer = log.writer(&[0]).unwrap();
        writer.append(&mut [(0, buffer)]).unwrap();
        writer.flush().unwrap();
        let batch = reader.fetch(Duration::from_secs(3600)).unwrap().unwrap();
        assert_eq!(batch.len(), 1);
    })
    .await
    .unwrap();
}
