//! A broker of the bench's own, by `tools/kafka`.

use std::path::Path;
use std::process::Command;

use scrutin::log::KafkaLog;
use scrutin::log::kafka::{KafkaAddress, KafkaSettings, NewTopic};

use super::{PARTITIONS, folder_bytes, is_bench};

/// What the reports say of it.
pub const KAFKA: &str = "4.4.0, one broker, -Xmx1g, on the same machine";

pub struct Broker {
    folder: tempfile::TempDir,
    address: String,
}

impl Broker {
    pub fn start() -> Broker {
        let folder = tempfile::Builder::new().prefix("scrutin-bench-kafka-").tempdir().expect("make a folder");
        let mut command = tool("up", folder.path());
        if is_bench() {
            command.env("KAFKA_JVM_OPTS", "-Xmx1g");
        }
        let done = command.output().expect("run tools/kafka");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let address = String::from_utf8(done.stdout).expect("an address is text").trim().to_owned();
        Broker { folder, address }
    }

    /// A new topic, whose producers compress like that.
    pub async fn log(&self, folder: &Path, codec: &str) -> KafkaLog {
        let topic = folder.file_name().expect("a folder has a name").to_string_lossy();
        let address: KafkaAddress = format!("{}/{topic}", self.address).parse().expect("it is an address");
        let file = folder.join("kafka.properties");
        std::fs::write(&file, format!("compression.type={codec}\n")).expect("write the settings");
        let settings = KafkaSettings::read(&file).expect("read the settings");
        let new = NewTopic { partitions: Some(PARTITIONS), ..NewTopic::default() };
        KafkaLog::open(&address, &settings, &new).await.expect("make the topic")
    }

    /// On its disk.
    pub fn bytes(&self) -> u64 {
        folder_bytes(&self.folder.path().join("node-1/data"))
    }

    pub fn pid(&self) -> u32 {
        let pid = std::fs::read_to_string(self.folder.path().join("node-1/pid")).expect("the broker has a pid");
        pid.trim().parse().expect("a pid is a number")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = tool("down", self.folder.path()).arg("--delete").status();
    }
}

fn tool(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/kafka"));
    command.arg(name).arg("--dir").arg(folder);
    command
}
