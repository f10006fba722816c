//! A private PostgreSQL for users who have no server of their own. It uses the binaries installed on the machine, keeps
//! its cluster in the data folder, and listens only on a Unix socket.
//!
//! Starts, adopts and stops the server. Does not know what it stores, and installs nothing.
//!
//! The data folder holds the cluster in `postgres/` (or `postgres.place`, which names its location elsewhere),
//! `postgres.password` (mode 0600), `postgres.log`, and two lock files. A process holds `postgres.lock` while it starts
//! or stops the server. All processes that use the server share `postgres.users`, so that the last one stops it.

mod files;
mod install;
mod place;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scrutin_files::private;
use scrutin_store::{Database, Role, StoreError};
use tokio_postgres::error::SqlState;

use files::{lock, log_path, open_log, password, shell_quoted, tail};
use install::Installation;
use place::Place;

/// Name of the database and its owner.
const NAME: &str = "scrutin";

/// Only part of the socket's name; the server does not listen on a network.
const PORT: u16 = 5432;

/// Crash recovery reads up to about `max_wal_size` of WAL, which takes minutes on a slow disk.
const START_WAIT: Duration = Duration::from_secs(600);
const STOP_WAIT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(20);

/// Written once to the cluster's own postgresql.conf, so that users can change them.
const SETTINGS: &str = "
# Scrutin's own, for a single busy writer.
listen_addresses = ''
fsync = on
synchronous_commit = on
shared_buffers = 256MB
max_wal_size = 4GB
checkpoint_timeout = 15min
wal_level = minimal
max_wal_senders = 0
jit = off
autovacuum = on
log_checkpoints = off
log_line_prefix = '%m '
timezone = 'UTC'
log_timezone = 'UTC'
";

#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No binaries, or none that can read the data; the text says how to install them.
    #[error("{0}")]
    NotInstalled(String),
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    /// The server or its set-up failed; the text includes its last log lines.
    #[error("{what}\n{}", log_lines(lines))]
    Failed { what: String, lines: String },
    /// Something that the user has to fix; the text says what.
    #[error("{0}")]
    Unusable(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

type Result<T> = std::result::Result<T, PostgresError>;

fn log_lines(lines: &str) -> String {
    if lines.trim().is_empty() {
        "PostgreSQL printed nothing.".into()
    } else {
        format!("PostgreSQL's output:\n{lines}")
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("delete", path)(error)),
        _ => Ok(()),
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PostgresError {
    move |source| PostgresError::Io { action, path: path.to_owned(), source }
}

/// A running server that this process uses. If no other process uses the server, dropping this asks it to stop without
/// waiting; [`Cluster::stop`] waits.
pub struct Cluster {
    folder: PathBuf,
    socket_dir: PathBuf,
    data_dir: PathBuf,
    password: String,
    pid: Pid,
    child: Option<Child>,
    /// A lock shared by all processes that use the server.
    users: Option<File>,
}

impl Cluster {
    /// Creates the cluster in the data folder if there is none and starts its server unless it is running. Returns once
    /// the server accepts connections and the database exists. Needs a Tokio runtime.
    ///
    /// # Errors
    ///
    /// If PostgreSQL is not installed, the folder cannot be used, or the server does not start.
    pub async fn start(data_dir: &Path) -> Result<Cluster> {
        std::fs::create_dir_all(data_dir).map_err(io("create", data_dir))?;
        let data_dir = data_dir.canonicalize().map_err(io("open", data_dir))?;
        let _gate = lock(&data_dir).await?;
        let place = Place::find(&data_dir)?;
        let password = password(&data_dir, &place)?;
        if !place.is_made() {
            let newest = install::newest(None)?;
            let (place, password) = (place.clone(), password.clone());
            tokio::task::spawn_blocking(move || init(&newest, &place, &password))
                .await
                .expect("init does not panic")?;
        }
        let users_path = data_dir.join("postgres.users");
        let users = private::lock_file(&users_path).map_err(io("create", &users_path))?;
        users.lock_shared().map_err(io("lock", &users_path))?;

        let mut cluster = Cluster {
            socket_dir: place.socket_dir()?,
            folder: place.folder.clone(),
            data_dir,
            password,
            pid: Pid::from_raw(0),
            child: None,
            users: Some(users),
        };
        match running(&cluster.folder)? {
            Some(found) => {
                cluster.pid = found.pid;
                cluster.socket_dir = found.socket_dir;
                if cluster.ready(0).await?.is_none() {
                    cluster.launch(&place).await?; // It was shutting down.
                }
            }
            None => cluster.launch(&place).await?,
        }
        cluster.create_database().await?;
        Ok(cluster)
    }

    /// The cluster's database, as its owner.
    pub fn database(&self) -> Database {
        self.database_named(NAME)
    }

    /// Another database on this server, which need not exist.
    pub fn database_named(&self, name: &str) -> Database {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.socket_dir).port(PORT).user(NAME).password(&self.password).dbname(name);
        Database::of(config)
    }

    /// The address in the form of `DATABASE_URL`, including the password.
    pub fn url(&self) -> String {
        self.url_named(NAME)
    }

    pub fn url_named(&self, name: &str) -> String {
        use std::os::unix::ffi::OsStrExt;
        let host: String = self.socket_dir.as_os_str().as_bytes().iter().map(|byte| format!("%{byte:02X}")).collect();
        format!("postgresql://{NAME}:{}@{host}:{PORT}/{name}", self.password)
    }

    /// A shell command that opens this database in psql, reading the password from its file.
    pub fn psql_command(&self) -> String {
        format!(
            "PGPASSWORD=\"$(cat {})\" psql -h {} -p {PORT} -U {NAME} {NAME}",
            shell_quoted(&self.data_dir.join("postgres.password")),
            shell_quoted(&self.socket_dir)
        )
    }

    /// The cluster's folder: in the data folder, unless the server's account cannot access it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Process id of the server.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Stops the server, closing its connections, and waits until it is gone. Leaves it running if others use it.
    ///
    /// # Errors
    ///
    /// If the server does not stop in time, or another process keeps the lock.
    pub async fn stop(mut self) -> Result<()> {
        let _gate = lock(&self.data_dir).await?;
        if !self.leave() {
            return Ok(());
        }
        let deadline = Instant::now() + STOP_WAIT;
        while self.is_alive() {
            if Instant::now() > deadline {
                return Err(PostgresError::Unusable(format!(
                    "PostgreSQL in {} did not stop within {} s; see {}",
                    self.folder.display(),
                    STOP_WAIT.as_secs(),
                    log_path(&self.data_dir).display()
                )));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Stops the server of a data folder and deletes its cluster, password and log.
    ///
    /// # Errors
    ///
    /// If another process uses the server, or a file cannot be deleted.
    pub async fn remove(data_dir: &Path) -> Result<()> {
        if !data_dir.exists() {
            return Ok(());
        }
        let data_dir = data_dir.canonicalize().map_err(io("open", data_dir))?;
        let _gate = lock(&data_dir).await?;
        let users_path = data_dir.join("postgres.users");
        let users = private::lock_file(&users_path).map_err(io("create", &users_path))?;
        if users.try_lock().is_err() {
            let what =
                format!("another process is using PostgreSQL in {}; stop that process first", data_dir.display());
            return Err(PostgresError::Unusable(what));
        }
        if let Some(folder) = place::existing(&data_dir)? {
            if let Some(found) = running(&folder)? {
                let _ = kill(found.pid, Signal::SIGQUIT);
                while found.is_alive(&folder) {
                    tokio::time::sleep(POLL).await;
                }
            }
            place::remove(&folder)?;
        }
        for name in ["postgres.place", "postgres.password", "postgres.log", "postgres.log.old"] {
            remove_if_there(&data_dir.join(name))?;
        }
        Ok(())
    }

    /// Starts the server and waits until it accepts connections.
    async fn launch(&mut self, place: &Place) -> Result<()> {
        let installation = install::newest(Some(place.major()?))?;
        self.socket_dir = place.socket_dir()?;
        let log_path = log_path(&self.data_dir);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            // A killed server leaves its pid file and its socket's lock file behind.
            running(&self.folder)?;
            remove_if_there(&self.socket_dir.join(format!(".s.PGSQL.{PORT}.lock")))?;
            let mut log = open_log(&log_path)?;
            let logged = log.seek(SeekFrom::End(0)).map_err(io("read", &log_path))?;
            let clone = || log.try_clone().map_err(io("write", &log_path));
            let mut command = place.command(&installation.binary("postgres"));
            command.arg("-D").arg(&self.folder).arg("-k").arg(&self.socket_dir).args(["-p", &PORT.to_string()]);
            command.stdin(Stdio::null()).stdout(clone()?).stderr(clone()?);
            // Keep Ctrl-C in the terminal from reaching the server: it must outlive our last commit.
            command.process_group(0);
            let child = command.spawn().map_err(io("run", &installation.binary("postgres")))?;
            self.pid = Pid::from_raw(child.id() as i32);
            self.child = Some(child);
            if self.ready(logged).await?.is_some() {
                tracing::info!(folder = %self.folder.display(), version = %installation.version, "started PostgreSQL");
                return Ok(());
            }
            // The children of a killed server take a moment to exit.
            let lines = tail(&log_path, logged);
            if !lines.contains("pre-existing shared memory block") || Instant::now() > deadline {
                let what = format!("PostgreSQL {} did not start in {}", installation.version, self.folder.display());
                return Err(PostgresError::Failed { what, lines });
            }
            tokio::time::sleep(POLL * 5).await;
        }
    }

    /// Waits until the server accepts a connection; `None` if it exited instead.
    async fn ready(&mut self, logged: u64) -> Result<Option<()>> {
        let database = self.database_named("postgres");
        let started = Instant::now();
        let mut last_logged = started;
        loop {
            match database.connect(Role::Owner).await {
                Ok(_) => return Ok(Some(())),
                Err(error) if error.is_transient() => {}
                Err(error) if error.code() == Some(&SqlState::INVALID_PASSWORD) => {
                    return Err(PostgresError::Unusable(format!(
                        "the password in {} does not match the cluster in {}; restore it, or start over with --fresh",
                        self.data_dir.join("postgres.password").display(),
                        self.folder.display()
                    )));
                }
                Err(error) => return Err(error.into()),
            }
            if !self.is_alive() {
                return Ok(None);
            }
            if started.elapsed() > START_WAIT {
                let what = format!(
                    "PostgreSQL in {} did not become ready within {} s",
                    self.folder.display(),
                    START_WAIT.as_secs()
                );
                return Err(PostgresError::Failed { what, lines: tail(&log_path(&self.data_dir), logged) });
            }
            if last_logged.elapsed() > Duration::from_secs(5) {
                last_logged = Instant::now();
                tracing::info!(seconds = started.elapsed().as_secs(), "waiting for PostgreSQL to become ready");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn create_database(&self) -> Result<()> {
        let client = self.database_named("postgres").connect(Role::Owner).await?;
        let query = "SELECT 1 FROM pg_database WHERE datname = $1";
        let found = client.query_opt(query, &[&NAME]).await.map_err(StoreError::during("look for the database"))?;
        if found.is_none() {
            let create = format!("CREATE DATABASE {NAME}");
            client.batch_execute(&create).await.map_err(StoreError::during("create the database"))?;
        }
        Ok(())
    }

    fn is_alive(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => Running { pid: self.pid, socket_dir: PathBuf::new() }.is_alive(&self.folder),
        }
    }

    /// Releases this process's use of the server. If it was the last user, asks the server to stop (fast shutdown:
    /// connections are closed, transactions rolled back). Returns whether it did.
    fn leave(&mut self) -> bool {
        let Some(users) = self.users.take() else { return false };
        let last = users.unlock().is_ok() && users.try_lock().is_ok();
        last && self.is_alive() && kill(self.pid, Signal::SIGINT).is_ok()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A server running in a folder, according to its pid file.
struct Running {
    pid: Pid,
    socket_dir: PathBuf,
}

impl Running {
    /// Whether the process exists and is this folder's server: after a reboot, another process may have its pid.
    fn is_alive(&self, folder: &Path) -> bool {
        place::command_line(self.pid.as_raw()).is_some_and(|line| line.contains(&*folder.to_string_lossy()))
    }
}

/// Finds the server running in a folder. Deletes a stale pid file, because PostgreSQL would take any process with that
/// pid for the server.
fn running(folder: &Path) -> Result<Option<Running>> {
    let path = folder.join("postmaster.pid");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io("read", &path)(error)),
    };
    let lines: Vec<&str> = text.lines().collect();
    let pid = lines.first().and_then(|line| line.trim().parse().ok()).filter(|pid| *pid > 0);
    let socket_dir = PathBuf::from(lines.get(4).copied().unwrap_or_default());
    let found = pid.map(|pid| Running { pid: Pid::from_raw(pid), socket_dir });
    match found.filter(|found| found.is_alive(folder)) {
        Some(found) => Ok(Some(found)),
        None => {
            std::fs::remove_file(&path).map_err(io("delete", &path))?;
            Ok(None)
        }
    }
}

/// Creates a cluster. It gets its final name once it is complete, so an interrupted run leaves no partial cluster.
fn init(installation: &Installation, place: &Place, password: &str) -> Result<()> {
    let new = place.prepare_new()?;
    let password_file = place.temporary_file(password)?;
    let program = installation.binary("initdb");
    let mut command = place.command(&program);
    command.arg("-D").arg(&new).args(["-U", NAME, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]);
    command.arg("--no-instructions").arg(format!("--pwfile={}", password_file.display()));
    let output = command.stdin(Stdio::null()).output();
    let removed = std::fs::remove_file(&password_file);
    let output = output.map_err(io("run", &program))?;
    removed.map_err(io("delete", &password_file))?;
    if !output.status.success() {
        let lines = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        let what = format!("{} could not create a cluster in {}", program.display(), new.display());
        return Err(PostgresError::Failed { what, lines });
    }
    let settings = new.join("postgresql.conf");
    let mut file = std::fs::OpenOptions::new().append(true).open(&settings).map_err(io("open", &settings))?;
    file.write_all(SETTINGS.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write", &settings))?;
    place.finish_new(&new)
}

/// A command without the environment variables that redirect PostgreSQL's tools.
fn clean_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").current_dir("/");
    command
}
