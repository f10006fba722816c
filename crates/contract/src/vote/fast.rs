//! Parses the usual form of a vote, an object of plain strings, in one pass.
//!
//! Returns `None` for anything it cannot handle (an escape, a byte that is not plain ASCII, an unknown field). Must
//! never accept anything that [`Vote::parse_any`](super::Vote::parse_any) rejects.

use std::borrow::Cow;

use super::{Vote, VoterId, parse_millis};

#[inline]
pub(super) fn parse(value: &[u8]) -> Option<Vote<'_>> {
    let mut cursor = Cursor { rest: value };
    cursor.skip_space();
    cursor.expect(b'{')?;
    let mut fields: [Option<&str>; 6] = [None; 6];
    for count in 0..6 {
        cursor.skip_space();
        let place = match cursor.string()? {
            "election" => 0,
            "voter" => 1,
            "region" => 2,
            "choice" => 3,
            "channel" => 4,
            "cast_at" => 5,
            _ => return None,
        };
        cursor.skip_space();
        cursor.expect(b':')?;
        cursor.skip_space();
        let text = cursor.string()?;
        if fields[place].replace(text).is_some() {
            return None;
        }
        cursor.skip_space();
        cursor.expect(if count < 5 { b',' } else { b'}' })?;
    }
    cursor.skip_space();
    if !cursor.rest.is_empty() {
        return None;
    }
    let [election, voter, region, choice, channel, cast_at] = fields;
    Some(Vote {
        election: Cow::Borrowed(election?),
        voter: VoterId::parse(voter?.as_bytes())?,
        region: Cow::Borrowed(region?),
        choice: Cow::Borrowed(choice?),
        channel: Cow::Borrowed(channel?),
        cast_at_ms: parse_millis(cast_at?.as_bytes())?,
    })
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    fn skip_space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8) -> Option<()> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        (first == byte).then_some(())
    }

    /// A string of printable ASCII without escapes.
    #[inline(always)]
    fn string(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let len = plain_len(self.rest);
        let (text, rest) = self.rest.split_at(len);
        self.rest = rest;
        self.expect(b'"')?;
        // SAFETY: plain_len counts ASCII bytes only.
        Some(unsafe { std::str::from_utf8_unchecked(text) })
    }
}

/// The number of bytes before the first quote, backslash, control character or non-ASCII byte. Scans eight bytes at a
/// time: `stop` has the high bit of a byte set if the byte is one of these. (A borrow can only set bits above a true
/// stop, so the lowest is right.)
#[inline(always)]
fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let mut len = 0;
    while let Some(word) = bytes.get(len..len + 8) {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
        let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
        let control = word.wrapping_sub(ONES * 0x20);
        let stop = (quote | backslash | control | word) & HIGHS;
        if stop != 0 {
            return len + stop.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    while let Some(byte) = bytes.get(len) {
        if matches!(byte, b'"' | b'\\' | 0..0x20 | 0x80..) {
            break;
        }
        len += 1;
    }
    len
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plain_len_agrees_with_a_naive_scan(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let naive = bytes.iter().take_while(|b| !matches!(b, b'"' | b'\\' | 0..0x20 | 0x80..)).count();
            prop_assert_eq!(plain_len(&bytes), naive);
        }

        #[test]
        fn plain_len_of_text_agrees_with_a_naive_scan(text in "[ -~]{0,40}") {
            let naive = text.bytes().take_while(|b| !matches!(b, b'"' | b'\\')).count();
            prop_assert_eq!(plain_len(text.as_bytes()), naive);
        }
    }
}
