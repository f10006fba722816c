//! Encodes records: plain votes from prepared fragments, and the faulty ones.

use scrutin_contract::election::Election;
use scrutin_contract::partitioner::partition_of;
use scrutin_contract::record::RecordBuffer;
use scrutin_contract::vote::{MILLIS_LEN, VALUE_BYTES_MAX, VoterId, write_json_string, write_millis};

use super::ballots::Ballots;
use super::cells::Cells;
use super::random::{Kind, Random, VoterIds, derive, mix};
use super::schedule::{Event, Form};

/// The fragments of votes for one election; shared by all threads.
pub struct Encoder<'a> {
    election: &'a Election,
    cells: &'a Cells,
    partitions: u32,
    /// `{"election":"…","voter":"`
    head: Vec<u8>,
    /// `","region":"…","choice":"…","channel":`, concatenated for all cells.
    middle: Vec<u8>,
    /// The end of each cell's fragment.
    middle_ends: Vec<usize>,
    /// `"…","cast_at":"`, for each channel.
    channels: Vec<Vec<u8>>,
    /// Voters who do not exist: keys of misrouted votes.
    others: VoterIds,
    /// Codes that the election does not have.
    unknown: Unknown,
    /// Choices that stand in one region only: indices into `election.choices`.
    local: Vec<usize>,
}

struct Unknown {
    election: String,
    region: String,
    choice: String,
    channel: String,
}

/// A record's partition and key.
pub struct Address {
    pub partition: u32,
    pub key: [u8; VoterId::TEXT_LEN],
}

/// A complete record that is not a plain vote.
#[derive(Debug, Default)]
pub struct Odd {
    pub partition: u32,
    key: Option<[u8; VoterId::TEXT_LEN]>,
    value: Vec<u8>,
    value_absent: bool,
}

impl Odd {
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_ref().map(|key| &key[..])
    }

    pub fn value(&self) -> Option<&[u8]> {
        (!self.value_absent).then_some(&self.value)
    }
}

impl<'a> Encoder<'a> {
    pub fn new<B: Ballots>(ballots: &'a B, partitions: u32) -> Encoder<'a> {
        let (election, cells) = (ballots.election(), ballots.cells());
        let mut head = b"{\"election\":".to_vec();
        write_json_string(&election.id, &mut head);
        head.extend_from_slice(b",\"voter\":\"");
        let (mut middle, mut middle_ends) = (Vec::new(), Vec::with_capacity(cells.len()));
        for cell in 0..cells.len() as u32 {
            let (region, choice) = cells.codes(cell);
            middle.extend_from_slice(b"\",\"region\":");
            write_json_string(region, &mut middle);
            middle.extend_from_slice(b",\"choice\":");
            write_json_string(choice, &mut middle);
            middle.extend_from_slice(b",\"channel\":");
            middle_ends.push(middle.len());
        }
        let channel = |code: &String| {
            let mut piece = Vec::new();
            write_json_string(code, &mut piece);
            piece.extend_from_slice(b",\"cast_at\":\"");
            piece
        };
        let unused = |known: &mut dyn FnMut(&str) -> bool, code: &str| {
            let mut code = code.to_owned();
            while known(&code) {
                code.push('x');
            }
            code
        };
        Encoder {
            election,
            cells,
            partitions,
            head,
            middle,
            middle_ends,
            channels: election.channels.iter().map(channel).collect(),
            others: VoterIds::new(derive(ballots.seed(), "somebody else")),
            unknown: Unknown {
                election: unused(&mut |code| code == election.id, "another-election"),
                region: unused(&mut |code| cells.regions().iter().any(|known| known == code), "nowhere"),
                choice: unused(&mut |code| cells.choices().iter().any(|known| known == code), "nobody"),
                channel: unused(&mut |code| election.channels.iter().any(|known| known == code), "rumour"),
            },
            local: (0..election.choices.len()).filter(|&at| election.choices[at].region.is_some()).collect(),
        }
    }

    #[inline]
    pub fn address(&self, voter: VoterId) -> Address {
        let key = voter.text();
        Address { partition: partition_of(&key, self.partitions), key }
    }

    /// Appends the record of a plain event.
    #[inline]
    pub fn push(&self, event: &Event, key: &[u8; VoterId::TEXT_LEN], stamp: &mut Stamp, buffer: &mut RecordBuffer) {
        let parts = [
            &self.head[..],
            key,
            self.middle(event.cell),
            &self.channels[event.channel as usize],
            stamp.text(event.cast_at_ms),
            b"\"}",
        ];
        buffer.push_parts(key, parts);
    }

    #[inline]
    fn middle(&self, cell: u32) -> &[u8] {
        let start = if cell == 0 { 0 } else { self.middle_ends[cell as usize - 1] };
        &self.middle[start..self.middle_ends[cell as usize]]
    }

    /// Encodes an event that is not plain.
    pub fn odd(&self, event: &Event, odd: &mut Odd) {
        let mut random = Random::new(event.salt);
        let Address { partition, key } = self.address(event.voter);
        *odd = Odd { partition, key: Some(key), value: std::mem::take(&mut odd.value), value_absent: false };
        odd.value.clear();
        let (region, choice) = self.cells.codes(event.cell);
        let fields = Fields {
            election: &self.election.id,
            voter: event.voter,
            region,
            choice,
            channel: &self.election.channels[event.channel as usize],
            cast_at_ms: event.cast_at_ms,
        };
        let unknown = &self.unknown;
        match event.form {
            Form::Plain => fields.write(&mut odd.value),
            Form::UnknownElection => Fields { election: &unknown.election, ..fields }.write(&mut odd.value),
            Form::UnknownRegion => Fields { region: &unknown.region, ..fields }.write(&mut odd.value),
            Form::UnknownChoice => {
                let choice = self.choice_from_elsewhere(event.cell, &mut random).unwrap_or(&unknown.choice);
                Fields { choice, ..fields }.write(&mut odd.value);
            }
            Form::UnknownChannel => Fields { channel: &unknown.channel, ..fields }.write(&mut odd.value),
            Form::Misrouted => {
                fields.write(&mut odd.value);
                match random.below(3) {
                    0 if self.partitions > 1 => {
                        let step = 1 + random.below(u64::from(self.partitions) - 1) as u32;
                        odd.partition = (partition + step) % self.partitions;
                    }
                    1 => {
                        odd.key = None;
                        odd.partition = random.below(u64::from(self.partitions)) as u32;
                    }
                    _ => {
                        let other = self.address(self.others.id(Kind::Stranger, mix(event.salt) >> 8));
                        (odd.partition, odd.key) = (other.partition, Some(other.key));
                    }
                }
            }
            Form::Malformed => self.malformed(&fields, &mut random, odd),
        }
    }

    /// A choice that does not stand in this region but in another.
    fn choice_from_elsewhere(&self, cell: u32, random: &mut Random) -> Option<&str> {
        let at = *self.local.get(random.below(self.local.len() as u64) as usize)?;
        let code = self.election.choices[at].code.as_str();
        let stands = self.cells.of_region(self.cells.cell(cell).region).any(|cell| self.cells.codes(cell).1 == code);
        (!stands).then_some(code)
    }

    fn malformed(&self, fields: &Fields<'_>, random: &mut Random, odd: &mut Odd) {
        let out = &mut odd.value;
        let reopen = |out: &mut Vec<u8>, more: &[u8]| {
            out.pop();
            out.extend_from_slice(more);
        };
        match random.below(10) {
            // Truncated.
            0 => {
                fields.write(out);
                out.truncate(random.below(out.len() as u64) as usize);
            }
            // A number where text is required.
            1 => fields.write_with("cast_at", fields.cast_at_ms.to_string().as_bytes(), out),
            2 => fields.write_with("region", b"75", out),
            // A missing field, and a duplicate field.
            3 => fields.write_with("channel", b"", out),
            4 => {
                fields.write(out);
                reopen(out, b",\"choice\":\"BLANK\"}");
            }
            // Noise, too short to be a vote.
            5 => (0..1 + random.below(96)).for_each(|_| out.push(random.draw() as u8)),
            // Invalid UTF-8 in a field that is ignored.
            6 => {
                fields.write(out);
                reopen(out, b",\"note\":\"\xff\xfe\"}");
            }
            // A vote, but too long.
            7 => {
                fields.write(out);
                reopen(out, b",\"note\":\"");
                out.resize(VALUE_BYTES_MAX + random.below(4096) as usize, b'.');
                out.extend_from_slice(b"\"}");
            }
            8 => odd.value_absent = true,
            // The id in upper case, in key and value; bit 61 makes its variant digit a letter.
            _ => {
                let shouting = VoterId(fields.voter.0 | 1 << 61).text().map(|byte| byte.to_ascii_uppercase());
                let mut quoted = vec![b'"'];
                quoted.extend_from_slice(&shouting);
                quoted.push(b'"');
                fields.write_with("voter", &quoted, out);
                odd.key = Some(shouting);
                odd.partition = partition_of(&shouting, self.partitions);
            }
        }
    }
}

/// The fields of the vote that an odd record is based on.
#[derive(Clone, Copy)]
struct Fields<'a> {
    election: &'a str,
    voter: VoterId,
    region: &'a str,
    choice: &'a str,
    channel: &'a str,
    cast_at_ms: i64,
}

impl Fields<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        self.write_with("", b"", out);
    }

    /// Writes the fields with other JSON as one field's value, or without that field if the JSON is empty.
    fn write_with(&self, field: &str, json: &[u8], out: &mut Vec<u8>) {
        let voter = self.voter.to_string();
        let cast_at = scrutin_contract::vote::format_millis(self.cast_at_ms);
        let fields = [
            ("election", self.election),
            ("voter", &voter),
            ("region", self.region),
            ("choice", self.choice),
            ("channel", self.channel),
            ("cast_at", &cast_at),
        ];
        let mut separator = b'{';
        for (name, text) in fields {
            if name == field && json.is_empty() {
                continue;
            }
            out.push(separator);
            separator = b',';
            write_json_string(name, out);
            out.push(b':');
            match name == field {
                true => out.extend_from_slice(json),
                false => write_json_string(text, out),
            }
        }
        out.push(b'}');
    }
}

/// Formats times; reuses the text of the previous one as far as possible.
pub struct Stamp {
    /// The start of the minute in `text`.
    minute_ms: i64,
    text: Vec<u8>,
}

impl Stamp {
    pub fn new() -> Stamp {
        let mut stamp = Stamp { minute_ms: 0, text: Vec::with_capacity(MILLIS_LEN) };
        write_millis(0, &mut stamp.text);
        stamp
    }

    #[inline]
    pub fn text(&mut self, millis: i64) -> &[u8] {
        let into_minute = millis.wrapping_sub(self.minute_ms) as u64;
        if into_minute < 60_000 {
            let (second, milli) = (into_minute as u32 / 1000, into_minute as u32 % 1000);
            let digit = |number: u32| b'0' + (number % 10) as u8;
            self.text[17..19].copy_from_slice(&[digit(second / 10), digit(second)]);
            self.text[20..23].copy_from_slice(&[digit(milli / 100), digit(milli / 10), digit(milli)]);
        } else {
            self.minute_ms = millis - millis.rem_euclid(60_000);
            self.text.clear();
            write_millis(millis, &mut self.text);
        }
        &self.text
    }
}

impl Default for Stamp {
    fn default() -> Stamp {
        Stamp::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use scrutin_contract::vote::format_millis;

    use super::*;

    proptest! {
        #[test]
        fn a_stamp_does_not_depend_on_the_previous_one(times in prop::collection::vec(-90_000_i64..90_000, 1..50)) {
            let mut stamp = Stamp::new();
            for time in times {
                let expected = format_millis(time);
                prop_assert_eq!(stamp.text(time), expected.as_bytes());
            }
        }
    }
}
