//! The vote log: where votes wait to be counted, in order, for ever.
//!
//! One interface, several homes. A log has a fixed number of partitions; the records of a partition have
//! offsets that only grow (some may be without a record: gaps). Nothing here knows what a vote is.

pub mod embedded;
pub mod kafka;
mod membership;
pub mod partitioner;

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

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

    /// Takes a share of the partitions, beside the other processes that have joined the same group.
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

/// A record as it lies in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub offset: u64,
    /// The log's own time of the append, in milliseconds since 1970 UTC.
    pub appended_at_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

/// Records of one partition, read together.
#[derive(Debug, Default)]
pub struct Batch {
    pub partition: u32,
    /// The offset that follows the batch, gaps at its end included.
    pub next_offset: u64,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u64,
    appended_at_ms: i64,
    key: Span,
    value: Span,
}

/// A range of `Batch::bytes`; `start == u32::MAX` stands for an absent field.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    const ABSENT: Span = Span { start: u32::MAX, len: 0 };

    fn of(self, bytes: &[u8]) -> Option<&[u8]> {
        (self.start != u32::MAX).then(|| &bytes[self.start as usize..][..self.len as usize])
    }
}

impl Batch {
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        (0..self.entries.len()).map(|place| self.record(place))
    }

    /// The record at a place from 0.
    pub fn record(&self, place: usize) -> Record<'_> {
        let entry = &self.entries[place];
        Record {
            offset: entry.offset,
            appended_at_ms: entry.appended_at_ms,
            key: entry.key.of(&self.bytes),
            value: entry.value.of(&self.bytes),
        }
    }

    /// An empty batch of a partition.
    pub fn new(partition: u32) -> Batch {
        Batch { partition, ..Batch::default() }
    }

    /// Empties it, to be filled with records of that partition.
    pub fn restart(&mut self, partition: u32) {
        self.partition = partition;
        self.next_offset = 0;
        self.bytes.clear();
        self.entries.clear();
    }

    /// Adds a record behind the others.
    pub fn push(&mut self, record: Record<'_>) {
        let mut keep = |field: Option<&[u8]>| match field {
            None => Span::ABSENT,
            Some(field) => {
                let start = self.bytes.len() as u32;
                self.bytes.extend_from_slice(field);
                Span { start, len: field.len() as u32 }
            }
        };
        let (key, value) = (keep(record.key), keep(record.value));
        self.entries.push(Entry { offset: record.offset, appended_at_ms: record.appended_at_ms, key, value });
        self.next_offset = record.offset + 1;
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Records that wait to be appended together, packed as they will lie in the log:
/// for key and value each a LEB128 length plus one (zero: absent), then the two fields' bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordBuffer {
    bytes: Vec<u8>,
    count: u32,
}

impl RecordBuffer {
    pub fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.push_length(key);
        self.push_length(value);
        self.bytes.extend_from_slice(key.unwrap_or_default());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.count += 1;
    }

    /// A record whose value is given in parts, so that it need not be put together elsewhere first.
    #[inline]
    pub fn push_parts<const PARTS: usize>(&mut self, key: &[u8], value: [&[u8]; PARTS]) {
        let value_len: usize = value.iter().map(|part| part.len()).sum();
        self.bytes.reserve(key.len() + value_len + 10);
        self.push_field_length(key.len() + 1);
        self.push_field_length(value_len + 1);
        self.bytes.extend_from_slice(key);
        for part in value {
            self.bytes.extend_from_slice(part);
        }
        self.count += 1;
    }

    fn push_length(&mut self, field: Option<&[u8]>) {
        self.push_field_length(field.map_or(0, |bytes| bytes.len() + 1));
    }

    #[inline]
    fn push_field_length(&mut self, mut rest: usize) {
        while rest >= 0x80 {
            self.bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest as u8);
    }

    /// Key and value of each record, in their order.
    pub fn records(&self) -> impl Iterator<Item = (Option<&[u8]>, Option<&[u8]>)> {
        let mut rest = self.bytes.as_slice();
        std::iter::repeat_with(move || {
            let key_len = take_field_length(&mut rest);
            let value_len = take_field_length(&mut rest);
            (take_field(&mut rest, key_len), take_field(&mut rest, value_len))
        })
        .take(self.count as usize)
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

/// A LEB128 number that was packed by [`RecordBuffer`].
#[inline]
fn take_field_length(rest: &mut &[u8]) -> usize {
    let mut number = 0;
    for (place, byte) in rest.iter().enumerate() {
        number |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            *rest = &rest[place + 1..];
            break;
        }
    }
    number
}

/// A field whose packed length is one more than its own; zero: absent.
#[inline]
fn take_field<'a>(rest: &mut &'a [u8], packed_len: usize) -> Option<&'a [u8]> {
    let len = packed_len.checked_sub(1)?;
    let (field, behind) = rest.split_at(len);
    *rest = behind;
    Some(field)
}

#[cfg(test)]
mod tests;
