//! Reads the record batches of a Fetch answer.
//!
//! Format: <https://kafka.apache.org/documentation/#recordbatch>. Only version 2, which brokers have written since 0.11.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::{Buf, Bytes};
use scrutin_contract::record::Batch;

use super::compression::decompress;

/// A batch is passed on once it has this many records or bytes.
const RECORDS: usize = 4096;
const BYTES: usize = 1 << 20;

const HEADER_BYTES: usize = 61;
/// The checksum covers everything from here.
const CHECKED_FROM: usize = 21;

const COMPRESSION: i16 = 0b111;
const HAS_APPEND_TIME: i16 = 1 << 3;
const IS_TRANSACTIONAL: i16 = 1 << 4;
const IS_CONTROL: i16 = 1 << 5;

/// The type of a marker that ends an aborted transaction, in its key.
const ABORT: i16 = 0;

/// Why records cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BatchError {
    #[error("{what}")]
    Corrupt { offset: u64, what: String },
    /// No record, no marker and no aborted record has this offset.
    #[error("the log has no record at offset {offset} and gives no reason")]
    Missing { offset: u64 },
}

type Result<T> = std::result::Result<T, BatchError>;

/// A batch's header.
struct Header {
    base_offset: u64,
    /// The offset after the batch, which may have lost records to compaction.
    end: u64,
    /// Of the whole batch.
    bytes: usize,
    leader_epoch: i32,
    checksum: u32,
    attributes: i16,
    first_timestamp_ms: i64,
    max_timestamp_ms: i64,
    producer: i64,
    records: u32,
}

impl Header {
    /// `None` if not even the header is complete.
    fn read(bytes: &[u8]) -> Result<Option<Header>> {
        let Some(mut fields) = bytes.get(..HEADER_BYTES) else { return Ok(None) };
        let base_offset = fields.get_i64();
        let length = fields.get_i32();
        let leader_epoch = fields.get_i32();
        let magic = fields.get_i8();
        let checksum = fields.get_u32();
        let attributes = fields.get_i16();
        let last_offset_delta = fields.get_i32();
        let first_timestamp_ms = fields.get_i64();
        let max_timestamp_ms = fields.get_i64();
        let producer = fields.get_i64();
        let _producer_epoch_and_sequence = (fields.get_i16(), fields.get_i32());
        let records = fields.get_i32();

        let corrupt = |what: String| BatchError::Corrupt { offset: base_offset.max(0) as u64, what };
        if magic != 2 {
            return Err(corrupt(format!("a batch has an unknown format (magic {magic})")));
        }
        let whole = usize::try_from(length).ok().and_then(|length| length.checked_add(12));
        let base = u64::try_from(base_offset).ok();
        let delta = u64::try_from(last_offset_delta).ok();
        match (whole.filter(|whole| *whole >= HEADER_BYTES), base, delta, u32::try_from(records).ok()) {
            (Some(bytes), Some(base_offset), Some(delta), Some(records)) => Ok(Some(Header {
                base_offset,
                end: base_offset + delta + 1,
                bytes,
                leader_epoch,
                checksum,
                attributes,
                first_timestamp_ms,
                max_timestamp_ms,
                producer,
                records,
            })),
            _ => Err(corrupt("a batch's header has a negative or too small number".into())),
        }
    }

    fn corrupt(&self, what: impl Into<String>) -> BatchError {
        BatchError::Corrupt { offset: self.base_offset, what: what.into() }
    }
}

/// How far the batches of an answer reach.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// The offset after the last complete batch, and the epoch of the leader that wrote it.
    pub end: Option<(u64, i32)>,
    /// The size in bytes of the incomplete batch at the end; if even its header is incomplete, the size of a header.
    pub cut: Option<usize>,
}

impl Reach {
    pub fn of(mut batches: &[u8]) -> Result<Reach> {
        let mut reach = Reach::default();
        while !batches.is_empty() {
            match Header::read(batches)? {
                Some(header) if header.bytes <= batches.len() => {
                    reach.end = Some((header.end, header.leader_epoch));
                    batches.advance(header.bytes);
                }
                Some(header) => return Ok(Reach { cut: Some(header.bytes), ..reach }),
                None => return Ok(Reach { cut: Some(HEADER_BYTES), ..reach }),
            }
        }
        Ok(reach)
    }
}

/// The batches of one partition in an answer, read one after the other.
pub(super) struct RecordBatches {
    pub partition: u32,
    batches: Bytes,
    /// The offset of the next record to read.
    next_offset: u64,
    /// Whether a batch begins there. The first one to be read may begin earlier.
    is_aligned: bool,
    /// The first offset and the producer of each aborted transaction, the last one first.
    aborted: Vec<(u64, i64)>,
    /// The producers whose transaction at this place was aborted.
    aborting: BTreeSet<i64>,
    /// Whether any offset may be without a record, as in a compacted topic.
    is_compacted: bool,
}

impl RecordBatches {
    /// `next_offset`: of the next record to read. `aborted`: first offset and producer of each aborted transaction.
    pub fn new(partition: u32, next_offset: u64, batches: Bytes, mut aborted: Vec<(u64, i64)>) -> RecordBatches {
        aborted.sort_unstable_by(|a, b| b.cmp(a));
        RecordBatches {
            partition,
            batches,
            next_offset,
            is_aligned: false,
            aborted,
            aborting: BTreeSet::new(),
            is_compacted: false,
        }
    }

    /// The batch before has been read.
    pub fn aligned(self, is_aligned: bool) -> RecordBatches {
        RecordBatches { is_aligned, ..self }
    }

    pub fn compacted(self, is_compacted: bool) -> RecordBatches {
        RecordBatches { is_compacted, ..self }
    }

    /// Adds the records of the next batches, up to a few thousand. Returns whether that was anything, be it gaps only.
    /// After an error, `batch` has the records before it.
    pub fn read(&mut self, batch: &mut Batch) -> Result<bool> {
        let start = self.next_offset;
        while batch.len() < RECORDS && batch.bytes_mut().len() < BYTES {
            let Some(header) = Header::read(&self.batches)? else { break };
            if header.bytes > self.batches.len() {
                break;
            }
            let bytes = self.batches.split_to(header.bytes);
            let known = batch.len();
            let read = self.read_one(&header, &bytes, batch);
            if let Err(error) = read {
                batch.truncate(known, self.next_offset);
                return Err(error);
            }
            self.next_offset = self.next_offset.max(header.end);
            self.is_aligned = true;
            batch.next_offset = self.next_offset;
        }
        Ok(self.next_offset > start)
    }

    fn read_one(&mut self, header: &Header, bytes: &[u8], batch: &mut Batch) -> Result<()> {
        if crc32c::crc32c(&bytes[CHECKED_FROM..]) != header.checksum {
            return Err(header.corrupt("a batch does not match its checksum"));
        }
        // The checksum does not cover a batch's offset.
        if header.base_offset < self.next_offset && self.is_aligned {
            return Err(header.corrupt("a batch begins before the end of the one before it"));
        }
        self.check_gap(self.next_offset..header.base_offset)?;
        while let Some((_, producer)) = self.aborted.pop_if(|(first, _)| *first < header.end) {
            self.aborting.insert(producer);
        }
        if header.attributes & IS_CONTROL != 0 {
            // A commit says nothing about the producer's next transaction, which may be aborted.
            if marker(header, bytes)? == Some(ABORT) {
                self.aborting.remove(&header.producer);
            }
            return Ok(());
        }
        if header.attributes & IS_TRANSACTIONAL != 0 && self.aborting.contains(&header.producer) {
            return Ok(());
        }
        let buffer = batch.bytes_mut();
        let start = buffer.len();
        decompress(header.attributes & COMPRESSION, &bytes[HEADER_BYTES..], buffer)
            .map_err(|what| header.corrupt(what))?;
        // Taken out, so that records can be added while it is read.
        let buffer = std::mem::take(buffer);
        let found = self.index(header, &buffer, start, batch);
        *batch.bytes_mut() = buffer;
        found
    }

    /// Adds the records that lie in `buffer` from `start`.
    fn index(&self, header: &Header, buffer: &[u8], start: usize, batch: &mut Batch) -> Result<()> {
        let mut at = start;
        let mut next = header.base_offset;
        for _ in 0..header.records {
            let record = record(buffer, &mut at).ok_or_else(|| header.corrupt("a record is cut off"))?;
            let offset = header.base_offset.saturating_add_signed(record.offset_delta);
            if !(next..header.end).contains(&offset) {
                return Err(header.corrupt("the offsets of a batch's records do not ascend"));
            }
            self.check_gap(next..offset)?;
            next = offset + 1;
            // A batch may begin before the offset that was asked for.
            if offset >= self.next_offset {
                let appended_at_ms = match header.attributes & HAS_APPEND_TIME {
                    0 => header.first_timestamp_ms.wrapping_add(record.timestamp_delta_ms),
                    _ => header.max_timestamp_ms,
                };
                batch.push_at(offset, appended_at_ms, record.key, record.value);
            }
        }
        if at != buffer.len() {
            return Err(header.corrupt("bytes follow a batch's last record"));
        }
        self.check_gap(next..header.end)
    }

    /// Checks that none of these offsets, which have no record, should have one.
    fn check_gap(&self, offsets: Range<u64>) -> Result<()> {
        let offset = offsets.start.max(self.next_offset);
        match offset < offsets.end && !self.is_compacted {
            true => Err(BatchError::Missing { offset }),
            false => Ok(()),
        }
    }
}

/// The type of a marker; `None` if its key is no marker's.
fn marker(header: &Header, bytes: &[u8]) -> Result<Option<i16>> {
    let mut at = HEADER_BYTES;
    let found = record(bytes, &mut at).ok_or_else(|| header.corrupt("a marker is cut off"))?;
    // The key has the version, then the type.
    let mut key = found.key.map_or(&[][..], |key| &bytes[key]);
    let version = key.try_get_i16().ok();
    Ok(version.and_then(|_| key.try_get_i16().ok()))
}

/// A record, with its fields' places in the bytes it was found in.
struct Record {
    timestamp_delta_ms: i64,
    offset_delta: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
}

/// The record at `at`, which moves behind it. `None` if it is cut off.
#[inline]
fn record(bytes: &[u8], at: &mut usize) -> Option<Record> {
    let length = usize::try_from(varint(bytes, at)?).ok()?;
    let end = at.checked_add(length).filter(|end| *end <= bytes.len())?;
    let bytes = &bytes[..end];
    let _attributes = bytes.get(*at)?;
    *at += 1;
    let timestamp_delta_ms = varint(bytes, at)?;
    let offset_delta = varint(bytes, at)?;
    let key = field(bytes, at)?;
    let value = field(bytes, at)?;
    // The rest is headers.
    *at = end;
    Some(Record { timestamp_delta_ms, offset_delta, key, value })
}

/// A field after its length, which is negative for one that is absent. `None` if the bytes end before the field does.
#[inline]
#[expect(clippy::option_option, reason = "an absent field is not a cut one")]
fn field(bytes: &[u8], at: &mut usize) -> Option<Option<Range<usize>>> {
    let Ok(length) = usize::try_from(varint(bytes, at)?) else { return Some(None) };
    let start = *at;
    *at = start.checked_add(length).filter(|end| *end <= bytes.len())?;
    Some(Some(start..*at))
}

/// A zigzag number of at most 64 bits, seven in a byte.
#[inline]
fn varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((number >> 1) as i64 ^ -((number & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests;
