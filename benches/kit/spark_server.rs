//! A Spark Connect server for the bench.

use std::path::PathBuf;

use scrutin_spark_connect::SparkAddress;

use super::tool::Tool;

pub struct SparkServer(Tool);

impl SparkServer {
    /// Starts a server with these options of `tools/spark up`.
    pub fn start(options: &[&str]) -> SparkServer {
        SparkServer(Tool::up("spark", options, ("SPARK_JVM_OPTS", "-XX:+UseParallelGC")))
    }

    pub fn address(&self) -> SparkAddress {
        self.0.address.parse().expect("the address is valid")
    }

    /// A folder for a new checkpoint.
    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.0.path("checkpoints").join(name)
    }

    pub fn pid(&self) -> u32 {
        self.0.pid("pid")
    }
}
