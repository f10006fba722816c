//! Real Kafka brokers, started by `tools/kafka`: one shared by all tests of a process that only need a log, or a test's
//! own brokers that it may kill and pause. They are stopped when the process ends, however it ends.
//!
//! `SCRUTIN_TEST_KAFKA` gives the address of a broker to share instead.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kit::guarded_by;
use crate::proxy::Proxy;
use crate::run::{PATIENCE, is_gone, is_stopped};

/// The brokers of one cluster. On drop, they are killed and their data is deleted.
pub struct Broker {
    address: String,
    /// None: an external broker, not ours to stop.
    own: Option<Own>,
}

struct Own {
    folder: PathBuf,
    _guard: ChildStdin,
}

impl Broker {
    /// The broker shared by all tests. It must not be killed.
    pub fn shared() -> &'static Broker {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| match std::env::var("SCRUTIN_TEST_KAFKA") {
            Ok(address) => Broker { address: address.trim_end_matches('/').to_owned(), own: None },
            Err(_) => Broker::start(1),
        })
    }

    pub fn start(nodes: u32) -> Broker {
        Broker::up(&["--nodes", &nodes.to_string()])
    }

    /// A broker that also listens with TLS and passwords; see [`Broker::secure_address`].
    pub fn secure() -> Broker {
        Broker::up(&["--secure"])
    }

    /// A broker whose clients reach it through a proxy if they connect at `kafka://127.0.0.1:` and the proxy's port.
    pub fn proxied() -> (Broker, Proxy) {
        let proxy = Proxy::to_be_told();
        let broker = Broker::up(&["--advertise", &proxy.port().to_string()]);
        proxy.pass_on_to(broker.read("node-1/proxied-port").trim().parse().unwrap());
        (broker, proxy)
    }

    fn up(options: &[&str]) -> Broker {
        let (folder, guard) = guarded_by(r#""$1" down --dir "$0" --delete"#, &[&tool()]);
        let address = run("up", &folder, options);
        Broker { address, own: Some(Own { folder, _guard: guard }) }
    }

    /// `kafka://127.0.0.1:PORT,…`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The address of a topic, in the form the program accepts.
    pub fn log(&self, topic: &str) -> String {
        format!("{}/{topic}", self.address)
    }

    /// A unique name for a topic or a group.
    pub fn topic(&self) -> String {
        format!("test-{:016x}", fastrand::u64(..))
    }

    /// `kafka://localhost:PORT` of a [`Broker::secure`].
    pub fn secure_address(&self) -> String {
        self.read("secure-address").trim().to_owned()
    }

    /// The file with the login settings of a [`Broker::secure`], for `scram` or `plain`.
    pub fn properties(&self, way: &str) -> PathBuf {
        self.folder().join(format!("{way}.properties"))
    }

    /// Sends SIGKILL and waits until the node is gone. Nodes count from 1.
    pub fn kill(&self, node: u32) {
        let pid = self.pid(node);
        kill(pid, Signal::SIGKILL).unwrap();
        until("a killed broker is gone", || is_gone(pid.as_raw() as u32));
    }

    /// SIGSTOP: the node keeps its connections but does not respond.
    pub fn pause(&self, node: u32) {
        let pid = self.pid(node);
        kill(pid, Signal::SIGSTOP).unwrap();
        until("a broker is paused", || is_stopped(pid.as_raw() as u32));
    }

    pub fn resume(&self, node: u32) {
        kill(self.pid(node), Signal::SIGCONT).unwrap();
    }

    /// Restarts a killed node with its data at its address, and waits until it answers.
    pub fn start_node(&self, node: u32) {
        let address = run("up", self.folder(), &["--only", &node.to_string()]);
        assert_eq!(address, self.address);
    }

    fn pid(&self, node: u32) -> Pid {
        Pid::from_raw(self.read(&format!("node-{node}/pid")).trim().parse().unwrap())
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn folder(&self) -> &Path {
        &self.own.as_ref().expect("not the shared broker").folder
    }
}

impl Drop for Broker {
    /// The guard would also do it, but slightly later, when the next test may have started.
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            let _ = command("down", &own.folder, &["--delete"]).status();
        }
    }
}

fn tool() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/kafka")
}

fn command(name: &str, folder: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(tool());
    command.arg(name).arg("--dir").arg(folder).args(options).stdin(Stdio::null());
    command
}

fn run(name: &str, folder: &Path, options: &[&str]) -> String {
    let done = command(name, folder, options).output().expect("run tools/kafka");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "tools/kafka {name} {}: {}\n{said}", options.join(" "), done.status);
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The port of the first node.
fn port_of(address: &str) -> u16 {
    let first = address.split(',').next().unwrap();
    first.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// The nodes that the broker at that port reports: `127.0.0.1:PORT`, sorted. The request is built by hand:
/// <https://kafka.apache.org/protocol.html#The_Messages_Metadata>, version 1.
fn nodes_at(port: u16) -> std::io::Result<Vec<String>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Length, key 3, version 1, correlation 7, client "kit", no topics.
    stream.write_all(&[0, 0, 0, 17, 0, 3, 0, 1, 0, 0, 0, 7, 0, 3, b'k', b'i', b't', 0, 0, 0, 0])?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    let mut rest = answer.as_slice();
    let mut take = |len: usize| {
        let (part, after) = rest.split_at(len);
        rest = after;
        part
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    assert_eq!(number(take(4)), 7, "the answer has another correlation id");
    let count = number(take(4));
    let mut nodes: Vec<String> = (0..count)
        .map(|_| {
            take(4);
            let len = number(take(2));
            let host = String::from_utf8_lossy(take(len)).into_owned();
            let port = number(take(4));
            assert_eq!(take(2), [0xff, 0xff], "a rack is set");
            format!("{host}:{port}")
        })
        .collect();
    nodes.sort();
    Ok(nodes)
}

fn sorted(address: &str) -> Vec<String> {
    let mut nodes: Vec<String> = address.strip_prefix("kafka://").unwrap().split(',').map(str::to_owned).collect();
    nodes.sort();
    nodes
}

#[test]
fn a_broker_that_was_paused_or_killed_comes_back_at_its_address() {
    let broker = Broker::start(3);
    let port = port_of(broker.address());
    broker.pause(1);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| nodes_at(port));
        broker.resume(1);
        assert_eq!(asked.join().unwrap().unwrap(), sorted(broker.address()));
    });
    broker.kill(1);
    nodes_at(port).expect_err("the broker still answers");
    broker.start_node(1);
    assert_eq!(nodes_at(port).unwrap(), sorted(broker.address()));
}

#[test]
fn a_broker_ends_with_the_process_that_started_it() {
    let (folder, guard) = guarded_by(r#""$1" down --dir "$0" --delete"#, &[&tool()]);
    let address = run("up", &folder, &[]);
    nodes_at(port_of(&address)).unwrap();
    drop(guard); // as if the process had ended
    until("the folder is deleted", || !folder.exists());
    nodes_at(port_of(&address)).expect_err("the broker still answers");
}

#[test]
fn a_stopped_broker_starts_again_at_its_address() {
    let broker = Broker::start(1);
    let pid = broker.pid(1);
    run("down", broker.folder(), &[]);
    assert!(is_gone(pid.as_raw() as u32));
    nodes_at(port_of(broker.address())).expect_err("the broker still answers");
    assert_eq!(run("up", broker.folder(), &[]), broker.address());
    nodes_at(port_of(broker.address())).unwrap();
}

#[test]
fn clients_that_connect_through_the_proxy_stay_on_it() {
    let (broker, proxy) = Broker::proxied();
    let through = [format!("127.0.0.1:{}", proxy.port())];
    assert_eq!(nodes_at(proxy.port()).unwrap(), through);
    assert_eq!(nodes_at(port_of(broker.address())).unwrap(), sorted(broker.address()), "others bypass it");

    let mut before = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
    proxy.cut();
    assert!(!matches!(before.read(&mut [0]), Ok(1..)), "the connection is still open");
    nodes_at(proxy.port()).expect_err("the proxy still forwards");
    proxy.heal();
    assert_eq!(nodes_at(proxy.port()).unwrap(), through);

    proxy.stall();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| nodes_at(proxy.port()));
        proxy.heal();
        assert_eq!(asked.join().unwrap().unwrap(), through);
    });
}

#[test]
fn login_files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let broker = Broker::secure();
    let address = broker.secure_address();
    assert!(address.starts_with("kafka://localhost:"), "{address}");
    TcpStream::connect(("localhost", port_of(&address))).unwrap();
    for (way, mechanism) in [("scram", "SCRAM-SHA-512"), ("plain", "PLAIN")] {
        let path = broker.properties(way);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("sasl.mechanism={mechanism}\n")), "{text}");
    }
}

#[test]
fn the_shared_broker_is_shared() {
    assert_eq!(Broker::shared().address(), Broker::shared().address());
    nodes_at(port_of(Broker::shared().address())).unwrap();
    assert_ne!(Broker::shared().topic(), Broker::shared().topic());
}
