//! A log in a folder on this machine.
//!
//! ```text
//! DIR/log.json                       format, identity and number of partitions
//! DIR/<partition>/<offset>.log       a segment, named by the offset of its first record
//! DIR/<partition>/durable            the offset past the last durable record
//! DIR/<partition>/lock               held by the partition's writer
//! ```
//!
//! Only the user who created the log can read it. Processes that share a log, in containers too, run as one user or get
//! access through the folder's mode.
//!
//! A segment is a run of checksummed, compressed batches (`batch.rs`). The writer makes each batch durable before it
//! advances `durable`, and readers, in this process or another, stop there. So a vote that can be counted is never
//! lost, whatever stops the writer or the machine. After a power cut `durable` may hold an earlier value; the next
//! writer, or a caller that knows of a later end, scans the segment and advances it.

mod batch;
mod reader;
mod segment;
mod writer;

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use scrutin_files::private;
use serde::{Deserialize, Serialize};

use super::{Home, LogError, LogReader, LogWriter, Result, VoteLog};

/// How batches are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    Plain,
    #[default]
    Lz4,
}

/// A log in a folder.
#[derive(Clone, Debug)]
pub struct EmbeddedLog {
    dir: PathBuf,
    id: String,
    partitions: u32,
    codec: Codec,
    /// A writer starts a new segment once the current one has this many bytes.
    segment_bytes: u64,
}

const FORMAT: u32 = 1;
const SEGMENT_BYTES: u64 = 256 << 20;
const PARTITIONS_MAX: u32 = 1024;

#[derive(Serialize, Deserialize)]
struct Meta {
    format: u32,
    /// Random, to distinguish this log from every other.
    id: String,
    partitions: u32,
}

impl EmbeddedLog {
    /// Opens the log in a folder, or creates an empty one there. The number of partitions is fixed at creation.
    ///
    /// # Errors
    ///
    /// Fails if an existing log has another number of partitions, or if the folder cannot be read or written.
    pub fn open(dir: &Path, partitions: u32) -> Result<EmbeddedLog> {
        if dir.join("log.json").exists() {
            let log = EmbeddedLog::open_existing(dir)?;
            super::check_asked(&log, partitions)?;
            return Ok(log);
        }
        if partitions == 0 || partitions > PARTITIONS_MAX {
            return Err(LogError::Unusable(format!("{partitions} partitions; expected 1 to {PARTITIONS_MAX}")));
        }
        for partition in 0..partitions {
            let folder = dir.join(partition.to_string());
            private::create_folder(&folder).map_err(|e| io_error("make the folder", &folder, e))?;
        }
        let meta = serde_json::to_vec(&Meta { format: FORMAT, id: new_id()?, partitions }).expect("plain numbers");
        let (path, draft) = (dir.join("log.json"), dir.join("log.json.new"));
        segment::write_whole(&draft, &meta)?;
        fs::rename(&draft, &path).map_err(|e| io_error("write", &path, e))?;
        segment::sync_folder(dir)?;
        EmbeddedLog::open_existing(dir)
    }

    /// Opens an existing log.
    ///
    /// # Errors
    ///
    /// Fails if there is no log in the folder, or if it is damaged or has another format.
    pub fn open_existing(dir: &Path) -> Result<EmbeddedLog> {
        let path = dir.join("log.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LogError::Unusable(format!(
                    "there is no log at {}; `scrutin setup` makes one",
                    dir.display()
                )));
            }
            Err(error) => return Err(io_error("read", &path, error)),
        };
        let meta: Meta = serde_json::from_slice(&text).map_err(|error| LogError::Damaged {
            path: path.display().to_string(),
            position: 0,
            what: format!("expected format, id and partitions ({error})"),
        })?;
        if meta.format != FORMAT {
            return Err(LogError::Unusable(format!(
                "the log at {} has format {}, but this program reads format {FORMAT}; use the version that wrote it",
                dir.display(),
                meta.format
            )));
        }
        if meta.partitions == 0 || meta.partitions > PARTITIONS_MAX {
            return Err(LogError::Damaged {
                path: path.display().to_string(),
                position: 0,
                what: format!("{} partitions; expected 1 to {PARTITIONS_MAX}", meta.partitions),
            });
        }
        Ok(EmbeddedLog {
            dir: dir.to_owned(),
            id: meta.id,
            partitions: meta.partitions,
            codec: Codec::default(),
            segment_bytes: SEGMENT_BYTES,
        })
    }

    /// Sets how writers store batches. Readers read both codecs.
    pub fn with_codec(self, codec: Codec) -> EmbeddedLog {
        EmbeddedLog { codec, ..self }
    }

    /// Sets the size at which writers start a new segment.
    pub fn with_segment_bytes(self, segment_bytes: u64) -> EmbeddedLog {
        EmbeddedLog { segment_bytes, ..self }
    }

    fn folder(&self, partition: u32) -> Result<PathBuf> {
        if partition >= self.partitions {
            return Err(LogError::Unusable(format!(
                "no partition {partition} in the log at {}, which has {}",
                self.dir.display(),
                self.partitions
            )));
        }
        Ok(self.dir.join(partition.to_string()))
    }
}

impl VoteLog for EmbeddedLog {
    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn offsets(&self, partition: u32) -> Result<Range<u64>> {
        let folder = self.folder(partition)?;
        let first = segment::list(&folder)?.first().copied().unwrap_or(0);
        Ok(first..segment::read_durable(&folder)?.max(first))
    }

    /// The file `durable` is not synced, as that would cost each append a second sync. So after a power cut it may be
    /// behind the segments, which are synced.
    fn recover(&self, partition: u32, end: u64) -> Result<()> {
        writer::recover(self, partition, end)
    }

    fn reader(&self, from: &[(u32, u64)]) -> Result<Box<dyn LogReader>> {
        Ok(Box::new(reader::Reader::open(self, from)?))
    }

    fn writer(&self, partitions: &[u32]) -> Result<Box<dyn LogWriter>> {
        Ok(Box::new(writer::Writer::open(self, partitions)?))
    }

    fn home(&self) -> Home<'_> {
        Home::Folder(&self.dir)
    }

    fn name(&self) -> String {
        self.dir.display().to_string()
    }

    fn id(&self) -> String {
        format!("embedded {}", self.id)
    }
}

fn new_id() -> Result<String> {
    let number = getrandom::u64()
        .map_err(|error| LogError::Unusable(format!("cannot get random numbers from the system: {error}")))?;
    Ok(format!("{number:016x}"))
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> LogError {
    LogError::Io { action, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests;
