//! A Kafka broker for the bench.

use std::path::Path;

use scrutin_log::KafkaLog;
use scrutin_log::kafka::{KafkaAddress, KafkaSettings, NewTopic};

use super::tool::Tool;
use super::{PARTITIONS, folder_bytes};

/// The broker's description in the reports.
pub const KAFKA: &str = "4.4.0, one broker, -Xmx1g, on the same machine";

pub struct Broker(Tool);

impl Broker {
    pub fn start() -> Broker {
        Broker(Tool::up("kafka", &[], ("KAFKA_JVM_OPTS", "-Xmx1g")))
    }

    /// A new topic; its producers compress with `codec`.
    pub async fn log(&self, folder: &Path, codec: &str) -> KafkaLog {
        let topic = folder.file_name().expect("a folder has a name").to_string_lossy();
        let address: KafkaAddress = format!("{}/{topic}", self.0.address).parse().expect("the address is valid");
        let file = folder.join("kafka.properties");
        std::fs::write(&file, format!("compression.type={codec}\n")).expect("write the settings");
        let settings = KafkaSettings::read(&file).expect("read the settings");
        let new = NewTopic { partitions: Some(PARTITIONS), ..NewTopic::default() };
        KafkaLog::open(&address, &settings, &new).await.expect("make the topic")
    }

    /// Bytes of the broker's data on disk.
    pub fn bytes(&self) -> u64 {
        folder_bytes(&self.0.path("node-1/data"))
    }

    pub fn pid(&self) -> u32 {
        self.0.pid("node-1/pid")
    }
}
