//! The vote log: where votes wait to be counted, in order, for ever.
//!
//! One interface, several homes. A log has a fixed number of partitions; the records of a partition have
//! offsets that only grow (some may be without a record: gaps). Nothing here knows what a vote is.

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

/// Whose fault it is, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: String, source: std::io::Error },
    /// The stored bytes are not what was written.
    #[error("the log at {path} is damaged at byte {position}: {what}")]
    Damaged { path: String, position: u64, what: String },
    /// The log cannot be used as asked; the text says what to do.
    #[error("{0}")]
    Unusable(String),
    /// Records that have not been counted are gone from the log.
    #[error(
        "partition {partition} of the log starts at offset {start}, but the count stands at {wanted}: \
         {} votes are gone from the log and cannot be counted",
        start - wanted
    )]
    Truncated { partition: u32, wanted: u64, start: u64 },
    /// Which partition a voter's votes are in depends on how many there are.
    #[error(
        "the log at {log} has {found} partitions, and had {had}: a voter's votes may lie in two of them now, and no count \
         of it can be trusted; move the votes to a new log"
    )]
    Repartitioned { log: String, had: u32, found: u32 },
    /// It does not answer; it may, later.
    #[error("the log at {log} does not answer: {why}")]
    Away { log: String, why: String },
    /// It answers, but not with the records. It may, later; one that never does needs somebody to look.
    #[error("partition {partition} of the log at {log} cannot be read at offset {offset}: {why}")]
    Unreadable { log: String, partition: u32, offset: u64, why: String },
}

impl LogError {
    /// Whether waiting may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, LogError::Away { .. } | LogError::Unreadable { .. })
    }
}

pub type Result<T> = std::result::Result<T, LogError>;

/// Partitions of a log that is made anew, where nothing else is asked for.
pub const PARTITIONS: u32 = 4;

/// Makes sure that a log that was there before has as many partitions as are asked for now.
fn check_asked(log: &dyn VoteLog, asked: u32) -> Result<()> {
    match log.partitions() {
        found if found == asked => Ok(()),
        found => Err(LogError::Unusable(format!(
            "the log at {} has {found} partitions, not {asked}; the number is fixed once votes may be in it",
            log.name()
        ))),
    }
}

/// A log of votes.
pub trait VoteLog: Send + Sync {
    /// The number of partitions; it never changes.
    fn partitions(&self) -> u32;

    /// Offsets of the first record and past the last durable record of a partition.
    fn offsets(&self, partition: u32) -> Result<Range<u64>>;

    /// Makes good what a power cut took from the log's own knowledge of its end: somebody knows that records up to `end`
    /// were in it once. Whether they are there still, [`offsets`](VoteLog::offsets) says afterwards.
    fn recover(&self, _partition: u32, _end: u64) -> Result<()> {
        Ok(())
    }

    /// From which offset on an open transaction holds records of a partition back, if one does.
    fn held_back(&self, _partition: u32) -> Result<Option<u64>> {
        Ok(None)
    }

    /// A reader of the given partitions, each from the offset given.
    fn reader(&self, from: &[(u32, u64)]) -> Result<Box<dyn LogReader>>;

    /// A writer of the given partitions. A partition of an embedded log has one writer at a time, and opening it settles
    /// what the partition holds after a crash: read its offsets afterwards.
    fn writer(&self, partitions: &[u32]) -> Result<Box<dyn LogWriter>>;

    /// Takes an assignment of partitions, beside the other processes that have joined the same group.
    fn join(&self, _group: &str) -> Result<Box<dyn Membership>> {
        Ok(Box::new(Alone::new(self.partitions())))
    }

    /// Whether it is still the log that was opened: not deleted, not another of the same name, with as many partitions.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Where its records lie, for whoever reads them without [`reader`](VoteLog::reader).
    fn home(&self) -> Home<'_>;

    /// What to call it in messages: a path or an address.
    fn name(&self) -> String;

    /// What tells it from every other log, whatever their names: one that is deleted and made again is another.
    fn id(&self) -> String;
}

/// Where the records of a log lie.
pub enum Home<'a> {
    /// Of an embedded log.
    Folder(&'a Path),
    Topic {
        address: &'a KafkaAddress,
        settings: &'a KafkaSettings,
    },
}

pub trait LogReader: Send {
    /// The next records of one of the partitions, in offset order, or `None` if none came within `wait`. After an error
    /// open a new reader where this one stood.
    fn fetch(&mut self, wait: Duration) -> Result<Option<Batch>>;

    /// Takes the buffers of a batch that is done with, to use them again.
    fn recycle(&mut self, _batch: Batch) {}
}

pub trait LogWriter: Send {
    /// Appends the records, which are durable by the time of the next [`flush`](LogWriter::flush). The buffers are left
    /// empty. After an error some records may be in the log, of each partition the first ones; open a new writer to see
    /// how many.
    fn append(&mut self, buffers: &mut [(u32, RecordBuffer)]) -> Result<()>;

    /// Returns when all that was appended is durable. A log that makes it so at once has nothing to do.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
