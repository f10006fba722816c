//! The ways in which a producer may have compressed the records of a batch.

use std::io::Read;

/// Limit on the decompressed records of one batch, in bytes: a few bytes can decompress to more than memory holds.
const BYTES_MAX: usize = 256 << 20;

/// What snappy-java writes first: its magic, its version, and the oldest version that can read it.
const SNAPPY_JAVA: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

/// Appends the decompressed bytes. `codec` is the number in a batch's attributes. The error says what is wrong.
pub(super) fn decompress(codec: i16, bytes: &[u8], into: &mut Vec<u8>) -> Result<(), String> {
    match codec {
        0 => {
            into.extend_from_slice(bytes);
            Ok(())
        }
        1 => read_all(flate2::bufread::MultiGzDecoder::new(bytes), "gzip", into),
        2 => snappy(bytes, into),
        3 => read_all(lz4_flex::frame::FrameDecoder::new(bytes), "LZ4", into),
        4 => zstd::stream::read::Decoder::with_buffer(bytes)
            .map_err(|error| error.to_string())
            .and_then(|decoder| read_all(decoder, "zstd", into)),
        _ => Err(format!("a batch is compressed in an unknown way (codec {codec})")),
    }
}

fn read_all(from: impl Read, name: &str, into: &mut Vec<u8>) -> Result<(), String> {
    let read = from.take(BYTES_MAX as u64 + 1).read_to_end(into);
    match read.map_err(|error| format!("a batch cannot be decompressed ({name}: {error})"))? {
        read if read > BYTES_MAX => Err(too_large()),
        _ => Ok(()),
    }
}

/// Java's producers write blocks, each after its length; others write a single block.
fn snappy(bytes: &[u8], into: &mut Vec<u8>) -> Result<(), String> {
    let Some(mut blocks) = bytes.strip_prefix(SNAPPY_JAVA) else { return snappy_block(bytes, into, BYTES_MAX) };
    let mut room = BYTES_MAX;
    while let Some((length, rest)) = blocks.split_first_chunk() {
        let Some((block, rest)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
        let start = into.len();
        snappy_block(block, into, room)?;
        room -= into.len() - start;
        blocks = rest;
    }
    match blocks {
        [] => Ok(()),
        _ => Err("a batch cannot be decompressed (snappy: a block is cut off)".into()),
    }
}

fn snappy_block(block: &[u8], into: &mut Vec<u8>, room: usize) -> Result<(), String> {
    let failed = |error: snap::Error| format!("a batch cannot be decompressed ({error})");
    let (start, length) = (into.len(), snap::raw::decompress_len(block).map_err(failed)?);
    if length > room {
        return Err(too_large());
    }
    into.resize(start + length, 0);
    let read = snap::raw::Decoder::new().decompress(block, &mut into[start..]).map_err(failed)?;
    into.truncate(start + read);
    Ok(())
}

fn too_large() -> String {
    format!("a batch decompresses to more than {} MiB", BYTES_MAX >> 20)
}
