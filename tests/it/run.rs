//! Runs the real program as users do: arguments, files, settings and signals in; text, exit codes and responses out.
//!
//! Tests wait for output or responses, never for a fixed time. What does not arrive within [`PATIENCE`] fails the test
//! and shows all output of the program so far.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::kit::Kit;

/// Far longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Where the program runs: its own working folder, and optionally a database.
pub struct Place {
    folder: tempfile::TempDir,
    url: Option<String>,
}

impl Place {
    /// Without a `DATABASE_URL`.
    pub fn bare() -> Place {
        Place { folder: tempfile::tempdir().unwrap(), url: None }
    }

    pub fn of(kit: &Kit) -> Place {
        Place { url: Some(kit.url().to_owned()), ..Place::bare() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, creating its parent folders.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// The program with the words of `line` as arguments, without the settings of the user who runs the tests.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scrutin"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SCRUTIN_") || name == "DATABASE_URL" {
                command.env_remove(name);
            }
        }
        command.args(line.split_whitespace()).current_dir(self.folder.path()).env("SCRUTIN_LISTEN", "127.0.0.1:0");
        // Polling tests exceed any rate limit.
        command.env("SCRUTIN_REQUESTS_PER_SECOND", "0");
        if let Some(url) = &self.url {
            command.env("DATABASE_URL", url);
        }
        command
    }

    pub fn start(&self, line: &str) -> Running {
        Running::start(self.command(line))
    }

    /// Runs the program until it exits.
    pub fn run(&self, line: &str) -> Done {
        self.start(line).end()
    }

    /// Runs until exit, which must be successful; returns stdout.
    pub fn ok(&self, line: &str) -> String {
        self.run(line).ok()
    }

    /// Runs until exit with this exit code; returns stderr.
    pub fn fails(&self, line: &str, code: i32) -> String {
        self.run(line).fails(code)
    }
}

/// The result of a finished run.
#[derive(Debug)]
pub struct Done {
    /// None: ended by a signal.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self}");
        self.out
    }

    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self}");
        assert!(!self.err.contains("panicked"), "{self}");
        self.err
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\nstdout:\n{}\nstderr:\n{}", self.code, self.out, self.err)
    }
}

#[derive(Default)]
struct Said {
    out: String,
    err: String,
    /// How many of the two streams have ended.
    ended: usize,
}

type Heard = Arc<(Mutex<Said>, Condvar)>;

/// A running process. Killed on drop.
pub struct Running {
    child: Child,
    heard: Heard,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start the program");
        let heard = Heard::default();
        let out = child.stdout.take().map(|out| listen(out, Arc::clone(&heard), |said| &mut said.out));
        let err = child.stderr.take().map(|err| listen(err, Arc::clone(&heard), |said| &mut said.err));
        Running { child, heard, readers: out.into_iter().chain(err).collect() }
    }

    /// Waits until a printed line contains `words`; returns the line.
    #[track_caller]
    pub fn says(&self, words: &str) -> String {
        let (said, changed) = &*self.heard;
        let mut said = said.lock().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = [&said.out, &said.err];
            // The last line may be incomplete.
            let mut lines = all.iter().flat_map(|text| text.split_inclusive('\n')).filter(|line| line.ends_with('\n'));
            if let Some(line) = lines.find(|line| line.contains(words)) {
                return line.trim().to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(said.ended < 2 && !left.is_zero(), "`{words}` was not printed:\n{}\n{}", said.out, said.err);
            said = changed.wait_timeout(said, left).unwrap().0;
        }
    }

    /// The address of the page, once it is printed.
    #[track_caller]
    pub fn page(&self) -> Page {
        let line = self.says("http://localhost:");
        let (_, port) = line.split_once("http://localhost:").unwrap();
        let port: String = port.chars().take_while(char::is_ascii_digit).collect();
        Page(port.parse().unwrap())
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Panics with the program's output if it has exited.
    #[track_caller]
    pub fn must_run(&mut self) {
        if !self.is_running() {
            let (said, _) = &*self.heard;
            let said = said.lock().unwrap();
            panic!("the program has exited by itself:\n{}\n{}", said.out, said.err);
        }
    }

    /// Sends SIGKILL to a process that must still be running, and waits until it is gone.
    #[track_caller]
    pub fn killed(mut self) {
        self.must_run();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGSTOP: the process freezes but keeps its connections; SIGCONT wakes it.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        while !is_stopped(self.child.id()) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Requests a shutdown as Ctrl-C does, and waits for the exit.
    pub fn interrupted(self) -> Done {
        self.signal(Signal::SIGINT);
        self.end()
    }

    /// Waits until the process has exited.
    #[track_caller]
    pub fn end(self) -> Done {
        self.end_within(PATIENCE)
    }

    /// [`Running::end`] with a longer patience.
    #[track_caller]
    pub fn end_within(mut self, patience: Duration) -> Done {
        let (said, changed) = &*self.heard;
        let deadline = Instant::now() + patience;
        let mut said = said.lock().unwrap();
        while said.ended < 2 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the program does not exit:\n{}\n{}", said.out, said.err);
            said = changed.wait_timeout(said, left).unwrap().0;
        }
        let (out, err) = (std::mem::take(&mut said.out), std::mem::take(&mut said.err));
        drop(said);
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        Done { code: self.child.wait().unwrap().code(), out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(pipe: impl Read + Send + 'static, heard: Heard, text: fn(&mut Said) -> &mut String) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = pipe.read_until(b'\n', &mut line).unwrap_or(0);
            let (said, changed) = &*heard;
            let mut said = said.lock().unwrap();
            text(&mut said).push_str(&String::from_utf8_lossy(&line));
            said.ended += usize::from(read == 0);
            changed.notify_all();
            if read == 0 {
                return;
            }
        }
    })
}

/// The process state as the system reports it: `R` running, `S` sleeping, `T` stopped, `Z` zombie; none where there is
/// no /proc.
pub fn process_state(pid: u32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the state is in parentheses and may contain any character.
    text.rsplit_once(") ")?.1.chars().next()
}

/// Whether a killed process has released its files and ports. It may remain a zombie until it is reaped; until its last
/// thread has ended, its files stay open.
pub fn is_gone(pid: u32) -> bool {
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    kill(Pid::from_raw(pid as i32), None).is_err() || process_state(pid) == Some('Z') && threads() <= 1
}

/// Whether SIGSTOP has stopped every thread of a process; until then, one of them may still respond. True where there
/// is no /proc: SIGSTOP takes effect soon enough there.
pub fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        // A thread that has just ended has no state.
        let text = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        text.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}

/// A page served by the program, by its port.
#[derive(Clone, Copy)]
pub struct Page(u16);

impl Page {
    pub fn address(self) -> String {
        format!("127.0.0.1:{}", self.0)
    }

    /// Status and body.
    pub fn ask(self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.0)).expect("connect to the page");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
        (status, body.to_owned())
    }

    pub fn json(self, path: &str) -> Value {
        let (status, body) = self.ask(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// Repeats the request until the answer satisfies the condition.
    pub fn until(self, path: &str, wanted: impl Fn(u16, &str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.ask(path);
            if wanted(status, &body) {
                return;
            }
            assert!(Instant::now() < deadline, "{path}: {status} {body}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The rows of a CSV text, without its header.
pub fn csv_rows(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

/// A file of the real data, or none with a message that the test is skipped.
pub fn real_file(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let path = std::env::var_os("SCRUTIN_TEST_DATA").map_or_else(beside, PathBuf::from).join(name);
    if path.exists() {
        return Some(path);
    }
    // Write to the terminal directly: the output of a passing test is captured.
    let line =
        format!("SKIPPED: {} does not exist; set SCRUTIN_TEST_DATA to the folder that has {name}\n", path.display());
    let _ = std::io::stderr().write_all(line.as_bytes());
    None
}
