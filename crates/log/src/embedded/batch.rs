//! The bytes of a batch: a header, then the records as [`RecordBuffer`] packs them, optionally compressed.
//!
//! | bytes | what (little-endian) |
//! |---|---|
//! | 0..4 | magic `SCB1` |
//! | 4..8 | CRC-32 (IEEE) of everything after it, body included |
//! | 8..12 | length of the body |
//! | 12..16 | length of the body when decompressed |
//! | 16..20 | number of records |
//! | 20 | codec: 0 plain, 1 LZ4 block |
//! | 21..24 | zero |
//! | 24..32 | offset of the first record |
//! | 32..40 | append time, milliseconds since 1970 UTC |

use scrutin_contract::record::{Batch, RecordBuffer};

use super::Codec;

pub(super) const HEADER_BYTES: usize = 40;
const MAGIC: [u8; 4] = *b"SCB1";

/// Longer batches are never written, and count as damage when read.
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
    /// Parses a header; the error says what is wrong with it.
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

/// Whether the checksum matches header and body.
pub(super) fn checksum_holds(header: &[u8; HEADER_BYTES], body: &[u8]) -> bool {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[8..]);
    hasher.update(body);
    hasher.finalize().to_le_bytes() == header[4..8]
}

/// Packs the records into `out`, header first.
pub(super) fn encode(records: &RecordBuffer, base_offset: u64, appended_at_ms: i64, codec: Codec, out: &mut Vec<u8>) {
    let plain = records.packed();
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
    out[16..20].copy_from_slice(&(records.len() as u32).to_le_bytes());
    out[20] = (stored == Codec::Lz4) as u8;
    out[24..32].copy_from_slice(&base_offset.to_le_bytes());
    out[32..40].copy_from_slice(&appended_at_ms.to_le_bytes());
    let crc = crc32fast::hash(&out[8..]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Unpacks a body with a valid checksum into `batch`, leaving out records before `from`.
/// The error says where the body contradicts the header.
pub(super) fn decode(header: &Header, body: &mut Vec<u8>, from: u64, batch: &mut Batch) -> Result<(), String> {
    let packed = batch.bytes_mut();
    match header.codec {
        0 => std::mem::swap(packed, body),
        1 => {
            packed.resize(header.plain_bytes, 0);
            let len = lz4_flex::block::decompress_into(body, packed).map_err(|error| error.to_string())?;
            packed.truncate(len);
        }
        other => return Err(format!("unknown codec {other}")),
    }
    if packed.len() != header.plain_bytes {
        return Err(format!("{} bytes of records instead of {}", packed.len(), header.plain_bytes));
    }
    batch.find_packed(header.base_offset, header.count, header.appended_at_ms, from)?;
    batch.next_offset = header.end_offset();
    Ok(())
}
