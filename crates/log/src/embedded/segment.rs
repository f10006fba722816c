//! The files of a partition's folder: segments, and the `durable` mark.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use scrutin_files::private;

use super::batch::{self, HEADER_BYTES, Header};
use super::io_error;
use crate::{LogError, Result};

pub(super) fn path(folder: &Path, base_offset: u64) -> PathBuf {
    folder.join(format!("{base_offset:020}.log"))
}

/// The base offsets of the segments, in order.
pub(super) fn list(folder: &Path) -> Result<Vec<u64>> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| io_error("read", folder, e))? {
        let name = entry.map_err(|e| io_error("read", folder, e))?.file_name();
        let base: Option<u64> = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok());
        bases.extend(base);
    }
    bases.sort_unstable();
    Ok(bases)
}

/// The offset past the last durable record; 0 if there is none.
pub(super) fn read_durable(folder: &Path) -> Result<u64> {
    let path = folder.join("durable");
    match File::open(&path) {
        Ok(file) => durable_of(&file, &path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(io_error("read", &path, error)),
    }
}

/// Eight bytes, written and read in one call. A file truncated by a power cut counts as 0.
pub(super) fn durable_of(file: &File, path: &Path) -> Result<u64> {
    let mut bytes = [0; 8];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(u64::from_le_bytes(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        Err(error) => Err(io_error("read", path, error)),
    }
}

/// What a scan of a segment found.
pub(super) struct Scan {
    /// Bytes of complete, undamaged batches.
    pub bytes: u64,
    pub end_offset: u64,
    pub last_append_ms: i64,
    /// Why the scan stopped before the end of the file.
    pub damage: Option<String>,
}

/// Reads a segment from its start up to the first thing that is not the next batch, complete and undamaged.
pub(super) fn scan(file: &File, path: &Path, base_offset: u64) -> Result<Scan> {
    let len = file.metadata().map_err(|e| io_error("read", path, e))?.len();
    let mut scan = Scan { bytes: 0, end_offset: base_offset, last_append_ms: i64::MIN, damage: None };
    let mut body = Vec::new();
    while scan.bytes < len {
        match read_batch(file, scan.bytes, scan.end_offset, &mut body) {
            Ok(Some(header)) => {
                scan.bytes += (HEADER_BYTES + header.body_bytes) as u64;
                scan.end_offset = header.end_offset();
                scan.last_append_ms = header.appended_at_ms;
            }
            Ok(None) => scan.damage = Some("a batch is truncated".into()),
            Err(ReadError::Damaged(what)) => scan.damage = Some(what),
            Err(ReadError::Io(error)) => return Err(io_error("read", path, error)),
        }
        if scan.damage.is_some() {
            break;
        }
    }
    Ok(scan)
}

pub(super) enum ReadError {
    Io(io::Error),
    Damaged(String),
}

/// Reads the batch at `position`, which must begin with `base_offset`; `None` if the file ends before the batch does.
pub(super) fn read_batch(
    file: &File,
    position: u64,
    base_offset: u64,
    body: &mut Vec<u8>,
) -> std::result::Result<Option<Header>, ReadError> {
    let mut bytes = [0; HEADER_BYTES];
    if !read_whole(file, &mut bytes, position)? {
        return Ok(None);
    }
    let header = Header::parse(&bytes).map_err(|what| ReadError::Damaged(what.into()))?;
    body.resize(header.body_bytes, 0);
    if !read_whole(file, body, position + HEADER_BYTES as u64)? {
        return Ok(None);
    }
    if !batch::checksum_holds(&bytes, body) {
        return Err(ReadError::Damaged("a batch has a wrong checksum".into()));
    }
    if header.base_offset != base_offset {
        let what = format!("found offset {}, expected {base_offset}", header.base_offset);
        return Err(ReadError::Damaged(what));
    }
    Ok(Some(header))
}

/// False if the file ends first.
fn read_whole(file: &File, bytes: &mut [u8], position: u64) -> std::result::Result<bool, ReadError> {
    match file.read_exact_at(bytes, position) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(ReadError::Io(error)),
    }
}

/// Writes a small file and makes it durable.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = private::options().create(true).truncate(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| io_error("write", path, e))
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|e| io_error("sync", folder, e))
}

pub(super) fn damaged(path: &Path, position: u64, what: impl Into<String>) -> LogError {
    LogError::Damaged { path: path.display().to_string(), position, what: what.into() }
}
