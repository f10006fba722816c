//! The vote as the contract defines it (version 1; `schema/vote.v1.schema.json`), and the reasons to reject one.
//!
//! Parses and writes single votes. Knows nothing about elections: the engine checks whether the codes exist.

mod fast;
mod time;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

pub use time::{MILLIS_LEN, format_millis, parse_millis, write_millis};

/// Longer messages are malformed.
pub const VALUE_BYTES_MAX: usize = 4096;

/// The codes that every election has in addition to its own choices. They count as turnout, not as valid votes.
pub const BLANK: &str = "BLANK";
pub const NULL: &str = "NULL";

/// A voter's pseudonym in the poll book: a UUID, compared as 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VoterId(pub u128);

impl VoterId {
    /// Length of the canonical text.
    pub const TEXT_LEN: usize = 36;

    /// Parses the canonical lower-case form only: another spelling would hash to another partition.
    #[inline]
    pub fn parse(text: &[u8]) -> Option<VoterId> {
        let text: &[u8; Self::TEXT_LEN] = text.try_into().ok()?;
        if text[8] != b'-' || text[13] != b'-' || text[18] != b'-' || text[23] != b'-' {
            return None;
        }
        let eight = |at: usize| u64::from_le_bytes(text[at..at + 8].try_into().expect("eight bytes"));
        let four = |at: usize| u64::from(u32::from_le_bytes(text[at..at + 4].try_into().expect("four bytes")));
        let groups = [eight(0), four(9) | four(14) << 32, four(19) | four(24) << 32, eight(28)];
        let mut id: u128 = 0;
        for group in groups {
            id = id << 32 | u128::from(hex_value(group)?);
        }
        Some(VoterId(id))
    }

    /// The canonical text.
    #[inline]
    pub fn text(self) -> [u8; Self::TEXT_LEN] {
        let mut text = [b'-'; Self::TEXT_LEN];
        let bytes = self.0.to_be_bytes();
        let places = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
        for (byte, place) in bytes.into_iter().zip(places) {
            text[place..place + 2].copy_from_slice(&HEX_PAIR[byte as usize]);
        }
        text
    }
}

impl fmt::Display for VoterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().iter().try_for_each(|byte| write!(f, "{}", *byte as char))
    }
}

/// Parses eight lower-case hexadecimal digits, the first in the lowest byte.
#[inline(always)]
fn hex_value(digits: u64) -> Option<u32> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // The high bit of each byte says whether the digit is between `least` and `most`.
    let within = |least: u8, most: u8| {
        let at_least = digits + ONES * u64::from(0x80 - least);
        let above = digits + ONES * u64::from(0x7f - most);
        at_least & !above
    };
    if digits & (ONES << 7) != 0 || (within(b'0', b'9') | within(b'a', b'f')) & (ONES << 7) != ONES << 7 {
        return None;
    }
    let values = (digits & (ONES * 0x0f)) + 9 * (digits >> 6 & ONES);
    let pairs = (values << 4 | values >> 8) & 0x00ff_00ff_00ff_00ff;
    let quads = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    Some(((quads | quads >> 16) as u32).swap_bytes())
}

const HEX_PAIR: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

/// A well-formed vote. Its codes need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote<'a> {
    pub election: Cow<'a, str>,
    pub voter: VoterId,
    pub region: Cow<'a, str>,
    pub choice: Cow<'a, str>,
    pub channel: Cow<'a, str>,
    /// When it was cast, in milliseconds since 1970 UTC.
    pub cast_at_ms: i64,
}

/// The value of a record is not a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Vote<'a> {
    /// Parses a record's value. Same result as [`Vote::parse_any`], but faster for the usual form.
    ///
    /// # Errors
    ///
    /// If the value is not a vote.
    #[inline]
    pub fn parse(value: &'a [u8]) -> Result<Vote<'a>, Malformed> {
        match fast::parse(value) {
            Some(vote) if value.len() <= VALUE_BYTES_MAX => Ok(vote),
            _ => Vote::parse_any(value),
        }
    }

    /// Parses a record's value exactly as the contract defines it: a JSON object (RFC 8259, UTF-8, no byte order mark)
    /// with each of the six fields once, as a string; other fields are ignored.
    ///
    /// # Errors
    ///
    /// If the value is not a vote.
    pub fn parse_any(value: &'a [u8]) -> Result<Vote<'a>, Malformed> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            election: Cow<'a, str>,
            #[serde(borrow)]
            voter: Cow<'a, str>,
            #[serde(borrow)]
            region: Cow<'a, str>,
            #[serde(borrow)]
            choice: Cow<'a, str>,
            #[serde(borrow)]
            channel: Cow<'a, str>,
            #[serde(borrow)]
            cast_at: Cow<'a, str>,
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(Malformed);
        }
        // The whole text must be UTF-8: serde_json does not check strings that it skips.
        let text = std::str::from_utf8(value).map_err(|_| Malformed)?;
        // serde would also accept an array for a struct, which the contract does not allow.
        if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
            return Err(Malformed);
        }
        let fields: Fields<'a> = serde_json::from_str(text).map_err(|_| Malformed)?;
        Ok(Vote {
            voter: VoterId::parse(fields.voter.as_bytes()).ok_or(Malformed)?,
            cast_at_ms: parse_millis(fields.cast_at.as_bytes()).ok_or(Malformed)?,
            election: fields.election,
            region: fields.region,
            choice: fields.choice,
            channel: fields.channel,
        })
    }

    /// Appends the vote in the contract's canonical form.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"election\":");
        write_json_string(&self.election, out);
        out.extend_from_slice(b",\"voter\":\"");
        out.extend_from_slice(&self.voter.text());
        out.extend_from_slice(b"\",\"region\":");
        write_json_string(&self.region, out);
        out.extend_from_slice(b",\"choice\":");
        write_json_string(&self.choice, out);
        out.extend_from_slice(b",\"channel\":");
        write_json_string(&self.channel, out);
        out.extend_from_slice(b",\"cast_at\":\"");
        write_millis(self.cast_at_ms, out);
        out.extend_from_slice(b"\"}");
    }
}

/// Appends the text as a JSON string, including the quotes.
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is always written to memory");
}

/// Why a vote is rejected, in the order in which the reasons apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// Not a vote as the contract defines it, or a null value.
    Malformed,
    /// The key is not the voter, or the partition is not the one that the key belongs to.
    Misrouted,
    UnknownElection,
    UnknownRegion,
    /// No such choice, or it does not stand in that region.
    UnknownChoice,
    UnknownChannel,
    /// Cast before the opening.
    NotOpen,
    /// Cast at or after the closing.
    Closed,
    /// A vote of this voter in this election has already been counted.
    AlreadyVoted,
}

impl Reason {
    pub const ALL: [Reason; 9] = [
        Reason::Malformed,
        Reason::Misrouted,
        Reason::UnknownElection,
        Reason::UnknownRegion,
        Reason::UnknownChoice,
        Reason::UnknownChannel,
        Reason::NotOpen,
        Reason::Closed,
        Reason::AlreadyVoted,
    ];

    pub const fn code(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::Misrouted => "misrouted",
            Reason::UnknownElection => "unknown_election",
            Reason::UnknownRegion => "unknown_region",
            Reason::UnknownChoice => "unknown_choice",
            Reason::UnknownChannel => "unknown_channel",
            Reason::NotOpen => "not_open",
            Reason::Closed => "closed",
            Reason::AlreadyVoted => "already_voted",
        }
    }

    /// Explains the reason to someone whose vote was rejected.
    pub const fn explanation(self) -> &'static str {
        match self {
            Reason::Malformed => "not a vote according to schema/vote.v1.schema.json, or longer than 4096 bytes",
            Reason::Misrouted => {
                "the key is not the voter's id, or the partition is not the one that Kafka's default partitioner \
                 assigns to the key (murmur2); librdkafka's own default is CRC32, so kcat and Python's client need \
                 partitioner=murmur2_random"
            }
            Reason::UnknownElection => "no election with that id existed when the count began",
            Reason::UnknownRegion => "the election has no region with that code",
            Reason::UnknownChoice => "the election has no choice with that code, or it does not stand in that region",
            Reason::UnknownChannel => "the election has no channel with that name",
            Reason::NotOpen => "cast before the election opened",
            Reason::Closed => "cast at or after the election's closing time",
            Reason::AlreadyVoted => "an earlier vote of this voter in this election was counted",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Reason, String> {
        Reason::ALL
            .into_iter()
            .find(|reason| reason.code() == text)
            .ok_or_else(|| format!("no such reason; expected one of {}", Reason::ALL.map(Reason::code).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_voter_id_is_read_as_it_is_written(id in any::<u128>()) {
            let text = VoterId(id).text();
            prop_assert_eq!(VoterId::parse(&text), Some(VoterId(id)));
            let plain = format!("{id:032x}");
            let groups = [&plain[..8], &plain[8..12], &plain[12..16], &plain[16..20], &plain[20..]];
            prop_assert_eq!(std::str::from_utf8(&text).unwrap(), groups.join("-"));
        }

        #[test]
        fn a_wrong_byte_makes_a_voter_id_invalid(id in any::<u128>(), place in 0..36_usize, byte in any::<u8>()) {
            let mut text = VoterId(id).text();
            text[place] = byte;
            let is_dash = [8, 13, 18, 23].contains(&place);
            let good = if is_dash { byte == b'-' } else { b"0123456789abcdef".contains(&byte) };
            prop_assert_eq!(VoterId::parse(&text).is_some(), good);
        }
    }
}
