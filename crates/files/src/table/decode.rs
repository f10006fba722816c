//! Decodes text to UTF-8.

use std::io::{self, Read};

use encoding_rs::{Decoder, DecoderResult, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::form::Encoding;

/// The encoding that a byte order mark indicates, and the length of the mark.
pub fn of_mark(head: &[u8]) -> Option<(Encoding, usize)> {
    match head {
        [0xef, 0xbb, 0xbf, ..] => Some((Encoding::Utf8, 3)),
        [0xff, 0xfe, ..] => Some((Encoding::Utf16Le, 2)),
        [0xfe, 0xff, ..] => Some((Encoding::Utf16Be, 2)),
        _ => None,
    }
}

/// Whether text without a byte order mark looks like UTF-16: ASCII text then has 0 as every second byte.
pub fn is_unmarked_utf16(head: &[u8]) -> Option<Encoding> {
    let zeros = |at: usize| head.iter().skip(at).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd, half) = (zeros(0), zeros(1), head.len() / 2);
    match () {
        () if half > 0 && odd > half / 2 && even < half / 8 => Some(Encoding::Utf16Le),
        () if half > 0 && even > half / 2 && odd < half / 8 => Some(Encoding::Utf16Be),
        () => None,
    }
}

/// Whether the text has non-ASCII characters and is valid UTF-8. (The last character may be cut off.)
pub fn is_certainly_utf8(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && head.len() - error.valid_up_to() < 4,
    };
    valid && !head.is_ascii()
}

/// Decodes text in any encoding to UTF-8.
pub fn decoded(input: Box<dyn Read + Send>, encoding: Encoding) -> Box<dyn Read + Send> {
    let decoder = match encoding {
        Encoding::Utf8 => return input,
        Encoding::Latin1 => return Box::new(Latin1 { input, rest: None }),
        Encoding::Utf16Le => UTF_16LE.new_decoder_without_bom_handling(),
        Encoding::Utf16Be => UTF_16BE.new_decoder_without_bom_handling(),
        Encoding::Windows1252 => WINDOWS_1252.new_decoder_without_bom_handling(),
    };
    Box::new(Decoding { input, decoder, bytes: vec![0; 1 << 15], start: 0, end: 0, is_end: false, is_done: false })
}

struct Decoding {
    input: Box<dyn Read + Send>,
    decoder: Decoder,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    is_end: bool,
    is_done: bool,
}

impl Read for Decoding {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.len() < 4 || self.is_done {
            return self.read_little(into);
        }
        loop {
            if self.start == self.end && !self.is_end {
                (self.start, self.end) = (0, self.input.read(&mut self.bytes)?);
                self.is_end = self.end == 0;
            }
            let bytes = &self.bytes[self.start..self.end];
            let (result, read, written) = self.decoder.decode_to_utf8_without_replacement(bytes, into, self.is_end);
            self.start += read;
            match result {
                DecoderResult::Malformed(..) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "is not valid UTF-16"));
                }
                DecoderResult::InputEmpty => self.is_done = self.is_end,
                DecoderResult::OutputFull => {}
            }
            if written > 0 || self.is_done {
                return Ok(written);
            }
        }
    }
}

impl Decoding {
    /// Handles buffers too small for some characters.
    fn read_little(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() || self.is_done {
            return Ok(0);
        }
        Err(io::Error::other("a buffer of at least four bytes is needed"))
    }
}

/// In Latin-1, each byte is the code point of its character.
struct Latin1 {
    input: Box<dyn Read + Send>,
    /// The second byte of a character that did not fit.
    rest: Option<u8>,
}

impl Read for Latin1 {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut written = 0;
        if let (Some(rest), false) = (self.rest, into.is_empty()) {
            (into[0], self.rest, written) = (rest, None, 1);
        }
        let mut bytes = vec![0; (into.len() - written).div_ceil(2).min(1 << 15)];
        let read = if bytes.is_empty() { 0 } else { self.input.read(&mut bytes)? };
        for byte in &bytes[..read] {
            let mut letter = [0; 2];
            for utf8 in char::from(*byte).encode_utf8(&mut letter).bytes() {
                match into.get_mut(written) {
                    Some(place) => (*place, written) = (utf8, written + 1),
                    None => self.rest = Some(utf8),
                }
            }
        }
        Ok(written)
    }
}
