//! The vote log: a permanent, ordered record of the votes to be counted.
//!
//! One interface, several backends. A log has a fixed number of partitions. Offsets within a partition only grow, and
//! some may have no record (gaps). Nothing here knows what a vote is.

pub mod embedded;
pub mod kafka;
mod membership;

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use scrutin_contract::record::{Batch, RecordBuffer};

pub use embedded::EmbeddedLog;
pub use kafka::KafkaLog;
use kafka::{KafkaAddress, KafkaSettings};
pub use membership::{Alone, Membership};

/// What went wrong with a log, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: String, source: std::io::Error },
    /// The stored bytes are corrupt.
    #[error("the log at {path} is damaged at byte {position}: {what}")]
    Damaged { path: String, position: u64, what: String },
    /// The log cannot be used as requested; the text says what to do.
    #[error("{0}")]
    Unusable(String),
    /// Records that have not been counted are gone from the log.
    #[error(
        "partition {partition} of the log starts at offset {start}, but the count has only reached {wanted}: \
         {} votes are gone from the log and cannot be counted",
        start - wanted
    )]
    Truncated { partition: u32, wanted: u64, start: u64 },
    /// The number of partitions decides which one a voter's votes are in.
    #[error(
        "the log at {log} has {found} partitions but had {had}: a voter's votes may lie in two of them now, and no \
         count of it can be trusted; move the votes to a new log"
    )]
    Repartitioned { log: String, had: u32, found: u32 },
    /// The log does not answer. A retry may succeed.
    #[error("the log at {log} does not answer: {why}")]
    Away { log: String, why: String },
    /// The log answers, but not with the records. A retry may succeed; if none ever does, an operator has to look.
    #[error("partition {partition} of the log at {log} cannot be read at offset {offset}: {why}")]
    Unreadable { log: String, partition: u32, offset: u64, why: String },
}

impl LogError {
    /// Whether a retry may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, LogError::Away { .. } | LogError::Unreadable { .. })
    }
}

pub type Result<T> = std::result::Result<T, LogError>;

/// Partitions of a new log, unless another number is requested.
pub const PARTITIONS: u32 = 4;

/// Checks that an existing log has the requested number of partitions.
fn check_asked(log: &dyn VoteLog, asked: u32) -> Result<()> {
    match log.partitions() {
        found if found == asked => Ok(()),
        found => Err(LogError::Unusable(format!(
            "the log at {} has {found} partitions, not {asked}; the number cannot change once the log exists",
            log.name()
        ))),
    }
}

/// A log of votes.
///
/// # Errors
///
/// Every method that returns [`Result`] fails if the log cannot be reached, is damaged, or cannot be used as requested;
/// see [`LogError`].
pub trait VoteLog: Send + Sync {
    /// The number of partitions; it never changes.
    fn partitions(&self) -> u32;

    /// From the offset of the first record to the offset past the last durable one.
    fn offsets(&self, partition: u32) -> Result<Range<u64>>;

    /// Restores what a power cut took from the log's record of its own end. The caller knows that records up to `end`
    /// were once in the log; call [`offsets`](VoteLog::offsets) afterwards to see whether they still are.
    fn recover(&self, _partition: u32, _end: u64) -> Result<()> {
        Ok(())
    }

    /// The offset from which an open transaction holds records back, if there is one.
    fn held_back(&self, _partition: u32) -> Result<Option<u64>> {
        Ok(None)
    }

    /// A reader of the given partitions, each from the given offset.
    fn reader(&self, from: &[(u32, u64)]) -> Result<Box<dyn LogReader>>;

    /// A writer for the given partitions. A partition of an embedded log has one writer at a time. Opening the writer
    /// settles what the partition holds after a crash, so read its offsets afterwards.
    fn writer(&self, partitions: &[u32]) -> Result<Box<dyn LogWriter>>;

    /// Joins a group of processes, which share out the partitions.
    fn join(&self, _group: &str) -> Result<Box<dyn Membership>> {
        Ok(Box::new(Alone::new(self.partitions())))
    }

    /// Checks that this is still the log that was opened: not deleted, not replaced by another of the same name, and
    /// with the same number of partitions.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Where the records are stored, for code that reads them without [`reader`](VoteLog::reader).
    fn home(&self) -> Home<'_>;

    /// The name for messages: a path or an address.
    fn name(&self) -> String;

    /// A unique id, independent of the name: a log that is deleted and created again gets a new one.
    fn id(&self) -> String;
}

/// Where the records of a log are stored.
pub enum Home<'a> {
    /// The folder of an embedded log.
    Folder(&'a Path),
    Topic {
        address: &'a KafkaAddress,
        settings: &'a KafkaSettings,
    },
}

/// Reads partitions of a log.
pub trait LogReader: Send {
    /// The next records of one of the partitions, in offset order, or `None` if none arrive within `wait`.
    ///
    /// # Errors
    ///
    /// Fails if the records cannot be read. Then open a new reader at the position of this one.
    fn fetch(&mut self, wait: Duration) -> Result<Option<Batch>>;

    /// Takes back a batch that is no longer needed, to reuse its buffers.
    fn recycle(&mut self, _batch: Batch) {}
}

/// Appends to partitions of a log.
pub trait LogWriter: Send {
    /// Appends the records and leaves the buffers empty. The records are durable after the next
    /// [`flush`](LogWriter::flush).
    ///
    /// # Errors
    ///
    /// Fails if some records could not be appended. The log may then hold the first records of each partition; open a
    /// new writer to see how many.
    fn append(&mut self, buffers: &mut [(u32, RecordBuffer)]) -> Result<()>;

    /// Waits until everything appended is durable. The default is for logs whose `append` is already durable.
    ///
    /// # Errors
    ///
    /// Fails if the log did not accept some of the records.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
