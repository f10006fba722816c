//! Decides whether a record counts as a vote, and if not, why: a second implementation of the contract and the
//! elections' rules.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use jiff::civil::DateTime;
use scrutin_contract::election::Election;
use scrutin_contract::record::Record;
use scrutin_contract::vote::Reason;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// A longer message is malformed.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The elections that a counter counts.
pub(super) struct Rulebook {
    pub partitions: u32,
    pub elections: Vec<ElectionRules>,
    by_id: HashMap<String, usize>,
    /// Width of the rejection buckets: the smallest of the elections' widths, or a minute if there are none.
    pub rejection_bucket_ms: i64,
}

pub(super) struct ElectionRules {
    pub id: String,
    opens_at_ms: i64,
    closes_at_ms: i64,
    bucket_ms: i64,
    pub regions: Names,
    pub choices: Names,
    pub channels: Names,
    /// The regions of choices that do not stand everywhere.
    only_in: HashMap<usize, HashSet<usize>>,
}

/// Names and their numbers.
#[derive(Default)]
pub(super) struct Names {
    pub list: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Names {
    fn add(&mut self, name: &str) -> usize {
        *self.numbers.entry(name.to_owned()).or_insert_with(|| {
            self.list.push(name.to_owned());
            self.list.len() - 1
        })
    }

    pub fn number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }
}

/// A vote that counts unless its voter has already voted. Election, region, choice and channel are numbers.
pub(super) struct Ballot {
    pub election: usize,
    pub region: usize,
    pub choice: usize,
    pub channel: usize,
    pub bucket_ms: i64,
    pub voter: u128,
}

impl Rulebook {
    pub fn new(elections: &[Election], partitions: u32) -> Rulebook {
        let narrowest = elections.iter().map(|election| election.bucket_seconds).min().unwrap_or(60);
        Rulebook {
            partitions,
            elections: elections.iter().map(ElectionRules::new).collect(),
            by_id: elections.iter().enumerate().map(|(number, election)| (election.id.clone(), number)).collect(),
            rejection_bucket_ms: i64::from(narrowest) * 1000,
        }
    }

    pub fn number(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// Applies every check except whether the voter has already voted, in the order of the reasons.
    pub fn judge(&self, partition: u32, record: &Record<'_>) -> Result<Ballot, Reason> {
        let vote = record.value.and_then(read).ok_or(Reason::Malformed)?;
        if record.key != Some(vote.voter_text.as_bytes()) || home_of(&vote.voter_text, self.partitions) != partition {
            return Err(Reason::Misrouted);
        }
        let election = self.number(&vote.election).ok_or(Reason::UnknownElection)?;
        let rules = &self.elections[election];
        let region = rules.regions.number(&vote.region).ok_or(Reason::UnknownRegion)?;
        let choice = rules.choices.number(&vote.choice).ok_or(Reason::UnknownChoice)?;
        if rules.only_in.get(&choice).is_some_and(|regions| !regions.contains(&region)) {
            return Err(Reason::UnknownChoice);
        }
        let channel = rules.channels.number(&vote.channel).ok_or(Reason::UnknownChannel)?;
        if vote.cast_at_ms < rules.opens_at_ms {
            return Err(Reason::NotOpen);
        }
        if vote.cast_at_ms >= rules.closes_at_ms {
            return Err(Reason::Closed);
        }
        let bucket_ms = vote.cast_at_ms.div_euclid(rules.bucket_ms) * rules.bucket_ms;
        Ok(Ballot { election, region, choice, channel, bucket_ms, voter: vote.voter })
    }
}

impl ElectionRules {
    fn new(election: &Election) -> ElectionRules {
        let mut rules = ElectionRules {
            id: election.id.clone(),
            opens_at_ms: election.opens_at_ms,
            closes_at_ms: election.closes_at_ms,
            bucket_ms: i64::from(election.bucket_seconds) * 1000,
            regions: Names::default(),
            choices: Names::default(),
            channels: Names::default(),
            only_in: HashMap::new(),
        };
        for region in &election.regions {
            rules.regions.add(&region.code);
        }
        for channel in &election.channels {
            rules.channels.add(channel);
        }
        for always in ["BLANK", "NULL"] {
            rules.choices.add(always);
        }
        for choice in &election.choices {
            let number = rules.choices.add(&choice.code);
            if let Some(region) = &choice.region {
                rules.only_in.entry(number).or_default().extend(rules.regions.number(region));
            }
        }
        rules
    }
}

struct Vote<'a> {
    election: Cow<'a, str>,
    voter_text: Cow<'a, str>,
    voter: u128,
    region: Cow<'a, str>,
    choice: Cow<'a, str>,
    channel: Cow<'a, str>,
    cast_at_ms: i64,
}

/// Reads a message; `None` if it is malformed.
fn read(message: &[u8]) -> Option<Vote<'_>> {
    if message.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    // Check all of it, including what is skipped below.
    let message = std::str::from_utf8(message).ok()?;
    let Fields([election, voter, region, choice, channel, cast_at]) = serde_json::from_str(message).ok()?;
    Some(Vote {
        voter: read_voter(&voter)?,
        cast_at_ms: read_time(&cast_at)?,
        election,
        voter_text: voter,
        region,
        choice,
        channel,
    })
}

const FIELDS: [&str; 6] = ["election", "voter", "region", "choice", "channel", "cast_at"];

/// The six fields of an object. Each must be present once and be a string; other fields are ignored.
struct Fields<'a>([Cow<'a, str>; 6]);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vote")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Fields<'de>, A::Error> {
                let mut found: [Option<Cow<'de, str>>; 6] = Default::default();
                while let Some(Text(name)) = object.next_key()? {
                    match FIELDS.iter().position(|field| *field == name) {
                        None => drop(object.next_value::<IgnoredAny>()?),
                        Some(place) if found[place].is_some() => return Err(A::Error::custom("twice")),
                        Some(place) => found[place] = Some(object.next_value::<Text<'de>>()?.0),
                    }
                }
                match found {
                    [Some(a), Some(b), Some(c), Some(d), Some(e), Some(f)] => Ok(Fields([a, b, c, d, e, f])),
                    _ => Err(A::Error::custom("missing")),
                }
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A string, borrowed if it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText;
        impl<'de> Visitor<'de> for AnyText {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(AnyText)
    }
}

/// Reads a UUID: groups of 8, 4, 4, 4 and 12 lower-case hexadecimal digits.
fn read_voter(text: &str) -> Option<u128> {
    if text.len() != 36 {
        return None;
    }
    let mut voter = 0;
    for (place, byte) in text.bytes().enumerate() {
        let digit = match byte {
            b'-' if matches!(place, 8 | 13 | 18 | 23) => continue,
            _ if matches!(place, 8 | 13 | 18 | 23) => return None,
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        voter = voter << 4 | u128::from(digit);
    }
    Some(voter)
}

/// Reads `2027-04-11T08:31:12.345Z`, and no other form, as milliseconds since 1970 UTC.
fn read_time(text: &str) -> Option<i64> {
    const FORM: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
    const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    let bytes = text.as_bytes();
    let fits = |(form, byte): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    // jiff would read a leap second as the second before it.
    if bytes.len() != FORM.len() || !FORM.iter().zip(bytes).all(fits) || &bytes[17..19] == b"60" {
        return None;
    }
    let time: DateTime = text[..23].parse().ok()?;
    i64::try_from(time.duration_since(EPOCH).as_millis()).ok()
}

/// The partition that Kafka's default partitioner assigns to a key.
fn home_of(key: &str, partitions: u32) -> u32 {
    (murmur2(key.as_bytes()) & 0x7fff_ffff) % partitions
}

/// 32-bit MurmurHash2 as in Kafka's `Utils.murmur2`, after Austin Appleby's description.
fn murmur2(bytes: &[u8]) -> u32 {
    let multiplier = 0x5bd1_e995_u32;
    let mut hash = 0x9747_b28c_u32 ^ bytes.len() as u32;
    let mut at = 0;
    while at + 4 <= bytes.len() {
        let mut word = 0;
        for place in (0..4).rev() {
            word = (word << 8) | u32::from(bytes[at + place]);
        }
        word = word.wrapping_mul(multiplier);
        word ^= word >> 24;
        word = word.wrapping_mul(multiplier);
        hash = hash.wrapping_mul(multiplier);
        hash ^= word;
        at += 4;
    }
    if at < bytes.len() {
        for place in (at..bytes.len()).rev() {
            hash ^= u32::from(bytes[place]) << (8 * (place - at));
        }
        hash = hash.wrapping_mul(multiplier);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(multiplier);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests;
