//! Kills the program at random moments and at every step around a commit, over and over. In the end the tables must
//! match the truth, row by row.
//!
//! The steps are found on the wire: the program reaches PostgreSQL through a proxy that kills it when a given message
//! passes, either before the message is delivered or before its answer is.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scrutin_audit::{self as audit, TruthScore};
use scrutin_contract::truth::Truth;
use scrutin_log::EmbeddedLog;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;

use crate::kit::Kit;

/// A fraction of the ballots with every kind of fault.
const FAULTS: [&str; 11] = [
    "redelivery=0.01",
    "double_vote=0.01",
    "malformed=0.005",
    "misrouted=0.005",
    "unknown_election=0.002",
    "unknown_region=0.002",
    "unknown_choice=0.002",
    "unknown_channel=0.002",
    "too_early=0.002",
    "too_late=0.002",
    "delay=0.02",
];

struct Program {
    folder: TempDir,
    url: String,
    voters: u64,
    day: &'static str,
    seed: u64,
}

impl Program {
    /// A demo that exits once everything is counted and audited.
    fn demo(&self, speed: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scrutin"));
        command.args(["demo", "--exit", "--listen", "127.0.0.1:0", "--day", self.day]);
        command.args(["--speed", speed, "--voters", &self.voters.to_string(), "--seed", &self.seed.to_string()]);
        for fault in FAULTS {
            command.args(["--fault", fault]);
        }
        command.arg("--data-dir").arg(self.folder.path()).env("DATABASE_URL", &self.url);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("start the program")
    }

    /// Runs the rest of the demo at full speed; panics with its output unless it succeeds.
    async fn finish(&self) {
        let child = self.demo("max");
        let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "seed {}: {:?}\n{said}", self.seed, output.status);
    }
}

/// Asserts that the tables match both the generator's truth and the log, row by row.
async fn check(kit: &Kit, program: &Program) {
    let log = EmbeddedLog::open_existing(&program.folder.path().join("log")).unwrap();
    let truth = Truth::read(&program.folder.path().join("truth.json")).unwrap();
    for (kind, count) in &truth.rejected {
        assert!(*count > 0, "the run has no {kind}");
    }
    assert_eq!(truth.rejected.len(), 9, "{:?}", truth.rejected);
    let report = audit::run(&log, kit.db(), "native", Some(&truth), &|_, _| {}).unwrap();
    assert!(report.is_clean(), "seed {}:\n{report}", program.seed);
    assert!(matches!(report.truth, Some(TruthScore::Scored(_))), "seed {}: the run is not complete", program.seed);
}

/// Kills one process and waits until it is gone.
#[derive(Clone, Default)]
struct Victim(Arc<Mutex<Option<Child>>>);

impl Victim {
    fn set(&self, child: Child) {
        *self.0.lock().unwrap() = Some(child);
    }

    /// Sends SIGKILL and waits until the process is gone. If it had already exited, returns its output as the error.
    fn kill(&self) -> Result<(), String> {
        let mut child = self.0.lock().unwrap().take().expect("there is no process to kill");
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        match ended {
            None => Ok(()),
            Some(status) => Err(format!("it ended by itself, {status}:\n{said}")),
        }
    }

    /// Returns once the process has exited by itself.
    async fn ended(&self) {
        loop {
            if let Some(child) = self.0.lock().unwrap().as_mut()
                && child.try_wait().unwrap().is_some()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The message at which to kill the program.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// A substring of a statement, or of the text of a prepared statement.
    statement: &'static str,
    /// Kill before the message is delivered, or after it was executed but before the program sees the answer.
    delivered: bool,
    /// Which commit, counted from the first.
    commit: u32,
}

/// Every statement of a commit, in order.
const STATEMENTS: [&str; 9] = [
    "BEGIN",
    "FOR UPDATE",
    "UPDATE position",
    "INSERT INTO tally",
    "INSERT INTO timeline",
    "INSERT INTO rejection",
    "INSERT INTO rejected_vote",
    "COPY poll_book",
    "COMMIT",
];

/// A proxy between the program and PostgreSQL that can kill the program.
struct Proxy {
    port: u16,
    plan: Arc<Mutex<Option<Step>>>,
    /// Notified when the step was reached and the program is gone.
    kills: mpsc::Receiver<Result<(), String>>,
}

impl Proxy {
    async fn start(server: PathBuf, victim: Victim) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan = Arc::new(Mutex::new(None));
        let (met, kills) = mpsc::channel(1);
        let proxy = Proxy { port, plan: Arc::clone(&plan), kills };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let session = Session { plan: Arc::clone(&plan), met: met.clone(), victim: victim.clone() };
                let server = UnixStream::connect(&server).await.unwrap();
                tokio::spawn(session.run(client, server));
            }
        });
        proxy
    }
}

struct Session {
    plan: Arc<Mutex<Option<Step>>>,
    met: mpsc::Sender<Result<(), String>>,
    victim: Victim,
}

impl Session {
    async fn run(self, client: TcpStream, server: UnixStream) {
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let hold = Arc::new(tokio::sync::Semaphore::new(1));
        tokio::select! {
            _ = self.forward(from_client, to_server, Arc::clone(&hold)) => {}
            _ = back(from_server, to_client, hold) => {}
        }
    }

    /// Forwards the program's messages one by one and watches for the step.
    async fn forward(
        &self,
        mut from: OwnedReadHalf,
        mut to: tokio::net::unix::OwnedWriteHalf,
        hold: Arc<tokio::sync::Semaphore>,
    ) -> std::io::Result<()> {
        let mut texts = std::collections::HashMap::new();
        let mut commits = 0;
        let mut is_first = true;
        loop {
            let message = match read_message(&mut from, is_first).await? {
                Some(message) => message,
                None => return Ok(()),
            };
            is_first = false;
            let text = statement_of(&message, &mut texts);
            commits += u32::from(text.starts_with("BEGIN") || text.starts_with("START TRANSACTION"));
            let step = *self.plan.lock().unwrap();
            let is_step = step.is_some_and(|step| {
                let begins = step.statement == "BEGIN" && text.starts_with("START TRANSACTION");
                commits >= step.commit && (text.contains(step.statement) || begins)
            });
            if let Some(step) = step.filter(|_| is_step) {
                self.plan.lock().unwrap().take();
                if step.delivered {
                    // Hold back the answers; PostgreSQL executes the statement, then the program is killed.
                    let _held = hold.acquire().await;
                    to.write_all(&message).await?;
                    to.write_all(&[b'S', 0, 0, 0, 4]).await?;
                    self.met.send(self.victim.kill()).await.expect("the test is waiting");
                    // Keep the connection open until everything was executed: `back` drains the answers.
                    let _ = tokio::time::timeout(Duration::from_secs(1), std::future::pending::<()>()).await;
                } else {
                    self.met.send(self.victim.kill()).await.expect("the test is waiting");
                }
                return Ok(());
            }
            to.write_all(&message).await?;
        }
    }
}

/// Forwards PostgreSQL's answers, unless they are held back.
async fn back(
    mut from: tokio::net::unix::OwnedReadHalf,
    mut to: OwnedWriteHalf,
    hold: Arc<tokio::sync::Semaphore>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        let _free = hold.acquire().await;
        to.write_all(&buffer[..len]).await?;
    }
}

/// A frontend message: a type byte, except for the first message, then a length that includes itself.
pub async fn read_message(from: &mut OwnedReadHalf, is_first: bool) -> std::io::Result<Option<Vec<u8>>> {
    let mut message = vec![0; if is_first { 4 } else { 5 }];
    match from.read_exact(&mut message).await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let length = message[message.len() - 4..].try_into().unwrap();
    let start = message.len();
    message.resize(start + u32::from_be_bytes(length) as usize - 4, 0);
    from.read_exact(&mut message[start..]).await?;
    Ok(Some(message))
}

/// The statement that a message belongs to: the text of the query, or of the prepared statement being bound.
pub fn statement_of(message: &[u8], texts: &mut std::collections::HashMap<Vec<u8>, String>) -> String {
    let body = &message[5.min(message.len())..];
    let mut fields = body.split(|byte| *byte == 0);
    match message.first() {
        Some(b'Q') => String::from_utf8_lossy(body).into_owned(),
        Some(b'P') => {
            let name = fields.next().unwrap_or_default().to_vec();
            let text = String::from_utf8_lossy(fields.next().unwrap_or_default()).trim().to_owned();
            texts.insert(name, text);
            String::new()
        }
        Some(b'B') => {
            fields.next();
            texts.get(fields.next().unwrap_or_default()).cloned().unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// The socket folder and the remaining parts of an address whose `host` is a percent-encoded path.
pub fn socket_of(url: &str) -> PathBuf {
    let host = url.split_once('@').unwrap().1.split_once(":5432").unwrap().0;
    let bytes = host.split('%').skip(1).map(|hex| u8::from_str_radix(&hex[..2], 16).unwrap()).collect();
    Path::new(&String::from_utf8(bytes).unwrap()).join(".s.PGSQL.5432")
}

/// The same database through a local TCP port.
pub fn through(url: &str, port: u16) -> String {
    let (user, rest) = url.split_once('@').unwrap();
    let name = rest.rsplit_once('/').unwrap().1;
    format!("{user}@127.0.0.1:{port}/{name}")
}

async fn stage(voters: u64, day: &'static str, seed: u64) -> (Kit, Program, Proxy, Victim) {
    let kit = Kit::new().await;
    let victim = Victim::default();
    let proxy = Proxy::start(socket_of(kit.url()), victim.clone()).await;
    let url = through(kit.url(), proxy.port);
    let program = Program { folder: TempDir::new().unwrap(), url, voters, day, seed };
    (kit, program, proxy, victim)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_step_of_a_commit_it_counts_every_vote_once() {
    if std::env::var("SCRUTIN_TEST_DATABASE_URL").is_ok() {
        eprintln!("SKIPPED killed_at_every_step_of_a_commit: needs the kit's own PostgreSQL");
        return;
    }
    let (kit, program, mut proxy, victim) = stage(800_000, "300s", 41).await;
    let mut kills = 0;
    for commit in [1, 4] {
        for statement in STATEMENTS {
            for delivered in [false, true] {
                let step = Step { statement, delivered, commit };
                *proxy.plan.lock().unwrap() = Some(step);
                victim.set(program.demo("1"));
                tokio::select! {
                    killed = proxy.kills.recv() => killed.unwrap().unwrap_or_else(|said| panic!("{step:?}: {said}")),
                    () = victim.ended() => panic!("{step:?} was not reached: {}", victim.kill().unwrap_err()),
                }
                kills += 1;
            }
        }
    }
    println!("killed {kills} times around commits");
    program.finish().await;
    check(&kit, &program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_it_counts_every_vote_once() {
    killed_at_random_moments(40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn soak_killed_at_random_moments_it_counts_every_vote_once() {
    killed_at_random_moments(400).await;
}

async fn killed_at_random_moments(times: u32) {
    let kit = Kit::new().await;
    let seed = std::env::var("SCRUTIN_CRASH_SEED").ok().map_or(7, |text| text.parse().expect("a seed"));
    let program =
        Program { folder: TempDir::new().unwrap(), url: kit.url().to_owned(), voters: 800_000, day: "600s", seed };
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kills = 0;
    while kills < times {
        let victim = Victim::default();
        victim.set(program.demo("1"));
        // Random moments are the point here; there is nothing to wait for.
        tokio::time::sleep(Duration::from_millis(random.u64(10..500))).await;
        victim.kill().unwrap_or_else(|said| panic!("seed {seed}, after {kills} kills: {said}"));
        kills += 1;
    }
    println!("killed {kills} times at random, seed {seed}");
    program.finish().await;
    check(&kit, &program).await;
}
