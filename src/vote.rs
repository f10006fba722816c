//! The vote, as the contract has it (version 1; `schema/vote.v1.schema.json`), and why one is refused.
//!
//! Parses and writes single votes. Knows no election: whether the codes exist is the engine's to say.

mod fast;
mod time;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

pub use time::{MILLIS_LEN, format_millis, parse_millis, write_millis};

/// A longer message is malformed.
pub const VALUE_BYTES_MAX: usize = 4096;

/// The codes every election has besides its candidates': turnout, but not valid votes.
pub const BLANK: &str = "BLANK";
pub const NULL: &str = "NULL";

/// A voter's pseudonym on the roll: a UUID, compared as 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VoterId(pub u128);

impl VoterId {
    /// Length of the canonical text.
    pub const TEXT_LEN: usize = 36;

    /// Reads the canonical lower-case form only: another spelling would hash to another partition.
    pub fn parse(text: &[u8]) -> Option<VoterId> {
        let text: &[u8; Self::TEXT_LEN] = text.try_into().ok()?;
        if text[8] != b'-' || text[13] != b'-' || text[18] != b'-' || text[23] != b'-' {
            return None;
        }
        let mut id: u128 = 0;
        let mut invalid = 0;
        for group in [0..8, 9..13, 14..18, 19..23, 24..36] {
            for &byte in &text[group] {
                let digit = HEX_VALUE[byte as usize];
                invalid |= digit;
                id = id << 4 | u128::from(digit & 0x0f);
            }
        }
        (invalid & 0x80 == 0).then_some(VoterId(id))
    }

    /// The canonical text.
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

const HEX_VALUE: [u8; 256] = {
    let mut table = [0x80; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
};

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
    /// Reads a record's value. Gives what [`Vote::parse_any`] gives, sooner where the form is the usual one.
    pub fn parse(value: &'a [u8]) -> Result<Vote<'a>, Malformed> {
        match fast::parse(value) {
            Some(vote) if value.len() <= VALUE_BYTES_MAX => Ok(vote),
            _ => Vote::parse_any(value),
        }
    }

    /// Reads a record's value by the letter of the contract: a JSON object (RFC 8259, UTF-8, no byte order
    /// mark) with each of the six fields once, as a string; other fields are ignored.
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
        // The whole text must be UTF-8: serde_json does not look into strings that it skips.
        let text = std::str::from_utf8(value).map_err(|_| Malformed)?;
        // A struct may also be read from an array, which the contract does not allow.
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

    /// Appends the vote as the contract writes it.
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

/// Appends the text as a JSON string, quotes included.
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is always written to memory");
}

/// Why a vote is refused, in the order in which the reasons apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// Not a vote by the contract; a null value too.
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
    /// A vote of this voter in this election has been counted.
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
            .ok_or_else(|| format!("no such reason; one of {}", Reason::ALL.map(Reason::code).join(", ")))
    }
}
