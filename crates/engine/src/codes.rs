//! Maps codes to numbers, many million times a second.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// A fixed set of codes, numbered in the order given.
#[derive(Debug)]
pub(super) struct Codes {
    codes: Vec<Box<str>>,
    /// Open addressing with linear probing, at most a quarter full. A slot holds a number plus one, or 0 if it is
    /// empty.
    slots: Box<[u32]>,
    mask: u64,
}

impl Codes {
    /// # Panics
    /// If a code occurs twice.
    pub fn new<'a>(codes: impl IntoIterator<Item = &'a str>) -> Codes {
        let codes: Vec<Box<str>> = codes.into_iter().map(Box::from).collect();
        let len = (codes.len() * 4).next_power_of_two().max(8);
        let mut index = Codes { codes: Vec::new(), slots: vec![0; len].into(), mask: len as u64 - 1 };
        for code in codes {
            assert!(index.find(&code).is_none(), "duplicate code {code}");
            let mut slot = hash(code.as_bytes()) & index.mask;
            while index.slots[slot as usize] != 0 {
                slot = (slot + 1) & index.mask;
            }
            index.codes.push(code);
            index.slots[slot as usize] = index.codes.len() as u32;
        }
        index
    }

    #[inline]
    pub fn find(&self, code: &str) -> Option<usize> {
        let mut slot = hash(code.as_bytes()) & self.mask;
        loop {
            let place = self.slots[slot as usize].checked_sub(1)? as usize;
            if *self.codes[place] == *code {
                return Some(place);
            }
            slot = (slot + 1) & self.mask;
        }
    }
}

/// Hashes a text's length and its first and last eight bytes; of longer texts, all bytes in words of eight.
/// Needs no seed, since those who cast votes cannot choose what is in the table.
#[inline]
fn hash(bytes: &[u8]) -> u64 {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let half = |at: usize| u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")));
    let len = bytes.len();
    let (first, last) = match len {
        0 => (0, 0),
        1..=3 => (u64::from(bytes[0]), u64::from(bytes[len / 2]) << 8 | u64::from(bytes[len - 1])),
        4..=8 => (half(0), half(len - 4)),
        _ => ((0..(len - 1) / 8).fold(0, |state, at| mix(state, word(at * 8))), word(len - 8)),
    };
    mix(first ^ len as u64, last)
}

#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd6e8_feb8_6659_fd93);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_its_codes_and_no_others(codes in proptest::collection::hash_set(".{0,20}", 0..50), other in ".{0,20}") {
            let codes: Vec<String> = codes.into_iter().collect();
            let index = Codes::new(codes.iter().map(String::as_str));
            for (place, code) in codes.iter().enumerate() {
                prop_assert_eq!(index.find(code), Some(place));
            }
            prop_assert_eq!(index.find(&other), codes.iter().position(|code| *code == other));
        }
    }
}
