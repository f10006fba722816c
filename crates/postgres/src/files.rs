//! The files next to the cluster: password, locks and the server's log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use scrutin_files::private;

use super::place::Place;
use super::{POLL, PostgresError, Result, io};

/// A larger log is renamed at the next start.
const LOG_BYTES_MAX: u64 = 16 << 20;

const LOCK_WAIT: Duration = Duration::from_secs(120);

/// The owner's password, generated once and kept as long as the cluster.
pub(super) fn password(data_dir: &Path, place: &Place) -> Result<String> {
    let path = data_dir.join("postgres.password");
    match std::fs::read_to_string(&path) {
        Ok(text) => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("read", &path)(error)),
        Err(_) if place.is_made() => {
            return Err(PostgresError::Unusable(format!(
                "{} is missing, but the cluster in {} needs it; restore it, or start over with --fresh",
                path.display(),
                place.folder.display()
            )));
        }
        Err(_) => {}
    }
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(|error| io("read", Path::new("the system's random numbers"))(error.into()))?;
    let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let new = data_dir.join("postgres.password.new");
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
    let mut file = file.map_err(io("create", &new))?;
    file.write_all(password.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write", &new))?;
    std::fs::rename(&new, &path).map_err(io("create", &path))?;
    Ok(password)
}

/// Waits for the lock that allows starting or stopping this folder's server.
pub(super) async fn lock(data_dir: &Path) -> Result<File> {
    let path = data_dir.join("postgres.lock");
    let file = private::lock_file(&path).map_err(io("create", &path))?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(PostgresError::Unusable(format!(
                    "another process has been starting or stopping PostgreSQL in {} for {} s; find it, or wait",
                    data_dir.display(),
                    LOCK_WAIT.as_secs()
                )));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(io("lock", &path)(error)),
        }
    }
}

pub(super) fn log_path(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres.log")
}

pub(super) fn open_log(path: &Path) -> Result<File> {
    if std::fs::metadata(path).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
        std::fs::rename(path, path.with_extension("log.old")).map_err(io("rename", path))?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true).mode(0o600).open(path).map_err(io("open", path))
}

/// The last lines of the server's log after a position.
pub(super) fn tail(path: &Path, from: u64) -> String {
    const LINES: usize = 20;
    let mut text = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.take(1 << 20).read_to_end(&mut text)
    });
    if let Err(error) = read {
        return format!("cannot read {}: {error}", path.display());
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

pub(super) fn shell_quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}
