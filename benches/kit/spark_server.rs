//! A Spark Connect server for the bench.

use std::path::PathBuf;

use scrutin_spark_connect::SparkAddress;

use super::cost::peak_memory_mb;
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

    /// The processes that run the tasks: in a cluster, those that its workers have started.
    pub fn executors(&self) -> Vec<u32> {
        let is_worker = |number: &u32| self.0.path(&format!("worker-{number}")).is_dir();
        let workers: Vec<u32> =
            (1..).take_while(is_worker).map(|number| self.0.pid(&format!("worker-{number}/pid"))).collect();
        if workers.is_empty() {
            return vec![self.pid()];
        }
        // Any thread of a worker may have started its executor.
        let threads = workers.into_iter().flat_map(|worker| {
            std::fs::read_dir(format!("/proc/{worker}/task")).expect("the worker runs").map(|it| it.expect("a thread"))
        });
        let children = threads.flat_map(|thread| {
            let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            children.split_whitespace().map(|pid| pid.parse().expect("a pid is a number")).collect::<Vec<u32>>()
        });
        // An ended process that nobody has waited for has no memory.
        children.filter(|pid| peak_memory_mb(*pid).is_some()).collect()
    }
}
