//! A Spark Connect server of the bench's own.

use std::path::PathBuf;

use scrutin_spark_connect::SparkAddress;

use super::tool::Tool;

pub struct SparkServer(Tool);

impl SparkServer {
    /// With these options of `tools/spark up`.
    pub fn start(options: &[&str]) -> SparkServer {
        SparkServer(Tool::up("spark", options, ("SPARK_JVM_OPTS", "-XX:+UseParallelGC")))
    }

    pub fn address(&self) -> SparkAddress {
        self.0.address.parse().expect("it is an address")
    }

    /// A folder for a checkpoint that nobody has.
    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.0.path("checkpoints").join(name)
    }

    pub fn pid(&self) -> u32 {
        self.0.pid("pid")
    }
}
