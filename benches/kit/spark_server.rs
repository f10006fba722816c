//! A Spark Connect server of the bench's own, by `tools/spark`.

use std::path::{Path, PathBuf};
use std::process::Command;

use scrutin::spark::connect::SparkAddress;

use super::is_bench;

pub struct SparkServer {
    folder: tempfile::TempDir,
    pub address: SparkAddress,
}

impl SparkServer {
    /// With these options of `tools/spark up`.
    pub fn start(options: &[&str]) -> SparkServer {
        let folder = tempfile::Builder::new().prefix("scrutin-bench-spark-").tempdir().expect("make a folder");
        let mut command = tool("up", folder.path());
        command.args(options);
        if is_bench() {
            command.env("SPARK_JVM_OPTS", "-XX:+UseParallelGC");
        }
        let done = command.output().expect("run tools/spark");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let address = String::from_utf8(done.stdout).expect("an address is text");
        SparkServer { folder, address: address.trim().parse().expect("it is an address") }
    }

    /// A folder for a checkpoint that nobody has.
    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.folder.path().join("checkpoints").join(name)
    }

    pub fn pid(&self) -> u32 {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).expect("the server has a pid");
        pid.trim().parse().expect("a pid is a number")
    }
}

impl Drop for SparkServer {
    fn drop(&mut self) {
        let _ = tool("down", self.folder.path()).arg("--delete").status();
    }
}

fn tool(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/spark"));
    command.arg(name).arg("--dir").arg(folder);
    command
}
