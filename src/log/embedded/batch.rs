//! The bytes of a batch: a header, then the records as [`RecordBuffer`] packs them, maybe compressed.
//!
//! | bytes | what (little-endian) |
//! |---|---|
//! | 0..4 | magic `SCB1` |
//! | 4..8 | CRC-32 (IEEE) of all that follows, body included |
//! | 8..12 | length of the body |
//! | 12..16 | length of the body when decompressed |
//! | 16..20 | number of records |
//! | 20 | codec: 0 plain, 1 LZ4 block |
//! | 21..24 | zero |
//! | 24..32 | offset of the first record |
//! | 32..40 | append time, milliseconds since 1970 UTC |

use super::Codec;
use crate::log::{Batch, Entry, RecordBuffer, Span};

pub(super) const HEADER_BYTES: usize = 40;
const MAGIC: [u8; 4] = *b"SCB1";

/// A longer batch is not written, and taken for damage when read.
pub(super) const BODY_BYTES_MAX: usize = 256 << 20;

#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub body_bytes: usize,
    plain_bytes: usize,
    pub count: u32,
    codec: u8,
    pub base_offset: u64,
    pub appended_at_ms: i64,
}

impl Header {
    /// Reads a header; says what is wrong with it.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Header, &'static str> {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        if bytes[0..4] != MAGIC {
            return Err("no batch begins here");
        }
        let header = Header {
            body_bytes: u32_at(8) as usize,
            plain_bytes: u32_at(12) as usize,
            count: u32_at(16),
            codec: bytes[20],
            base_offset: u64_at(24),
            appended_at_ms: u64_at(32) as i64,
        };
        if header.body_bytes > BODY_BYTES_MAX || header.plain_bytes > BODY_BYTES_MAX {
            return Err("a batch of impossible size");
        }
        Ok(header)
    }

    pub fn end_offset(&self) -> u64 {
        self.base_offset + u64::from(self.count)
    }
}

/// Whether header and body are what was written.
pub(super) fn checksum_holds(header: &[u8; HEADER_BYTES], body: &[u8]) -> bool {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[8..]);
    hasher.update(body);
    hasher.finalize().to_le_bytes() == header[4..8]
}

/// Packs the records into `out`, header first.
pub(super) fn encode(records: &RecordBuffer, base_offset: u64, appended_at_ms: i64, codec: Codec, out: &mut Vec<u8>) {
    let plain = &records.bytes;
    out.clear();
    out.resize(HEADER_BYTES, 0);
    let mut stored = Codec::Plain;
    if codec == Codec::Lz4 {
        out.resize(HEADER_BYTES + lz4_flex::block::get_maximum_output_size(plain.len()), 0);
        let packed = lz4_flex::block::compress_into(plain, &mut out[HEADER_BYTES..]).expect("room for the worst case");
        if packed < plain.len() {
            out.truncate(HEADER_BYTES + packed);
            stored = Codec::Lz4;
        }
    }
    if stored == Codec::Plain {
        out.truncate(HEADER_BYTES);
        out.extend_from_slice(plain);
    }
    let body_bytes = (out.len() - HEADER_BYTES) as u32;
    out[0..4].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&body_bytes.to_le_bytes());
    out[12..16].copy_from_slice(&(plain.len() as u32).to_le_bytes());
    out[16..20].copy_from_slice(&records.count.to_le_bytes());
    out[20] = (stored == Codec::Lz4) as u8;
    out[24..32].copy_from_slice(&base_offset.to_le_bytes());
    out[32..40].copy_from_slice(&appended_at_ms.to_le_bytes());
    let crc = crc32fast::hash(&out[8..]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Unpacks a body whose checksum holds into `batch`, leaving out records before `from`.
/// Says what is wrong where the body is not what a header promises.
pub(super) fn decode(header: &Header, body: &mut Vec<u8>, from: u64, batch: &mut Batch) -> Result<(), String> {
    match header.codec {
        0 => std::mem::swap(&mut batch.bytes, body),
        1 => {
            batch.bytes.resize(header.plain_bytes, 0);
            let len = lz4_flex::block::decompress_into(body, &mut batch.bytes).map_err(|error| error.to_string())?;
            batch.bytes.truncate(len);
        }
        other => return Err(format!("unknown codec {other}")),
    }
    if batch.bytes.len() != header.plain_bytes {
        return Err(format!("{} bytes of records instead of {}", batch.bytes.len(), header.plain_bytes));
    }
    batch.entries.clear();
    batch.entries.reserve(header.count as usize);
    let mut at = 0;
    for place in 0..u64::from(header.count) {
        let key = take_length(&batch.bytes, &mut at).ok_or("a record's length is cut off")?;
        let value = take_length(&batch.bytes, &mut at).ok_or("a record's length is cut off")?;
        let (key, value) = (take_span(&batch.bytes, &mut at, key), take_span(&batch.bytes, &mut at, value));
        let (Some(key), Some(value)) = (key, value) else { return Err("a record is cut off".into()) };
        let offset = header.base_offset + place;
        if offset >= from {
            batch.entries.push(Entry { offset, appended_at_ms: header.appended_at_ms, key, value });
        }
    }
    if at != batch.bytes.len() {
        return Err("bytes follow the last record".into());
    }
    batch.next_offset = header.end_offset();
    Ok(())
}

/// A LEB128 number of at most 32 bits.
#[inline]
fn take_length(bytes: &[u8], at: &mut usize) -> Option<u32> {
    let mut number = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[inline]
fn take_span(bytes: &[u8], at: &mut usize, length: u32) -> Option<Span> {
    let Some(len) = length.checked_sub(1) else { return Some(Span::ABSENT) };
    let start = *at;
    *at = start + len as usize;
    (*at <= bytes.len()).then_some(Span { start: start as u32, len })
}
