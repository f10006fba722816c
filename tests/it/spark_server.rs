//! A real Spark Connect server, started by `tools/spark`: one shared by all tests of a process, or a test's own server
//! that it may kill and pause. It is stopped when the process ends, however it ends.
//!
//! `SCRUTIN_TEST_SPARK` gives the address of a server to share instead.

use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scrutin_spark_connect::{Session, SparkAddress, SparkSettings};

use crate::kit::guarded_by;
use crate::run::{is_gone, is_stopped};
use crate::turns::{Turn, Turns};

/// A server. On drop, it is killed and its files are deleted.
pub struct Spark {
    address: String,
    /// None: an external server, not ours to stop.
    own: Option<Own>,
}

struct Own {
    folder: PathBuf,
    _guard: ChildStdin,
    _turn: Option<Turn>,
}

/// Limits how many tests run a server of their own, which is heavy.
static OWN: Turns = Turns::of(2);

impl Spark {
    /// The server shared by all tests. It must not be killed.
    ///
    /// It ends each response stream after a second or a few kilobytes instead of two minutes, so that longer requests
    /// have to reattach.
    pub fn shared() -> &'static Spark {
        static SHARED: OnceLock<Spark> = OnceLock::new();
        SHARED.get_or_init(|| match std::env::var("SCRUTIN_TEST_SPARK") {
            Ok(address) => Spark { address, own: None },
            Err(_) => {
                let options = [
                    ["--conf", "spark.connect.execute.reattachable.senderMaxStreamDuration=1s"],
                    ["--conf", "spark.connect.execute.reattachable.senderMaxStreamSize=4k"],
                    ["--conf", "spark.connect.grpc.arrow.maxBatchSize=4k"],
                ];
                Spark::up(options.as_flattened(), None)
            }
        })
    }

    /// A server with these settings in addition to those of `tools/spark`.
    pub fn start(settings: &[&str]) -> Spark {
        let options: Vec<&str> = settings.iter().flat_map(|setting| ["--conf", setting]).collect();
        Spark::start_with(&options)
    }

    /// A standalone cluster with this many workers of one core each.
    pub fn cluster(workers: u32) -> Spark {
        Spark::start_with(&["--workers", &workers.to_string(), "--cores", "1", "--memory", "512m"])
    }

    /// A server with these options of `tools/spark up`.
    pub fn start_with(options: &[&str]) -> Spark {
        Spark::up(options, Some(OWN.take()))
    }

    fn up(options: &[&str], turn: Option<Turn>) -> Spark {
        let (folder, guard) = guarded_by(r#""$1" down --dir "$0" --delete"#, &[&tool()]);
        let address = run("up", &folder, options);
        Spark { address, own: Some(Own { folder, _guard: guard, _turn: turn }) }
    }

    pub fn address(&self) -> SparkAddress {
        self.address.parse().unwrap_or_else(|error| panic!("{}: {error}", self.address))
    }

    pub async fn session(&self) -> Session {
        Session::open(&self.address(), &SparkSettings::default()).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sends SIGKILL and waits until the server no longer listens.
    pub fn kill(&self) {
        let pid = self.signal("pid", Signal::SIGKILL);
        while !is_gone(pid.as_raw() as u32) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends SIGKILL to a worker of a cluster, counted from 1. Its executors exit by themselves.
    pub fn kill_worker(&self, worker: u32) {
        self.signal(&format!("worker-{worker}/pid"), Signal::SIGKILL);
    }

    /// SIGSTOP: the server keeps its connections but does not respond.
    pub fn pause(&self) {
        let pid = self.signal("pid", Signal::SIGSTOP);
        while !is_stopped(pid.as_raw() as u32) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn resume(&self) {
        self.signal("pid", Signal::SIGCONT);
    }

    /// Restarts a killed server at its address with its checkpoints, and waits until it answers.
    pub fn start_again(&self) {
        assert_eq!(run("up", self.folder(), &[]), self.address);
    }

    #[cfg(feature = "tls")]
    /// Its output since the last start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("server.log")).unwrap()
    }

    fn signal(&self, file: &str, signal: Signal) -> Pid {
        let pid = std::fs::read_to_string(self.folder().join(file)).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap());
        kill(pid, signal).unwrap();
        pid
    }

    fn folder(&self) -> &Path {
        &self.own.as_ref().expect("not the shared server").folder
    }
}

impl Drop for Spark {
    /// The guard would also do it, but slightly later, when the next test may have started.
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            let _ = command("down", &own.folder, &["--delete"]).status();
        }
    }
}

fn tool() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/spark")
}

fn command(name: &str, folder: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(tool());
    command.arg(name).arg("--dir").arg(folder).args(options).stdin(Stdio::null());
    command
}

fn run(name: &str, folder: &Path, options: &[&str]) -> String {
    let done = command(name, folder, options).output().expect("run tools/spark");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "tools/spark {name} {}: {}\n{said}", options.join(" "), done.status);
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}
