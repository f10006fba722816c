//! Files of real ballots: one row a ballot, in the order of the file, spread evenly over the voting day.
//!
//! The file is read twice: once to learn its regions, choices and channels, and again to send its rows. The
//! first time the voters' ids are kept, 16 bytes a ballot and more for the table, to find those that come
//! twice; after that only those are.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::codes::Codes;
use super::{About, color_by_votes};
use crate::csv_file::{Column, CsvFile, FileError};
use crate::election::{CHANNELS_MAX, Choice, Election, Region, check_code};
use crate::simulate::Ballots;
use crate::simulate::ballots::{Ballot, ChannelMix, Source, Standing};
use crate::simulate::cells::Cells;
use crate::simulate::random::{derive, mix};
use crate::vote::VoterId;

/// The names of the columns that say what is needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BallotColumns {
    pub voter: String,
    pub region: String,
    /// The candidate's name; empty for a blank ballot.
    pub choice: String,
    /// Says which ballots are blank or spoilt; see [`BallotFile::open`].
    pub blank: Option<String>,
    /// A channel on every row.
    pub channel: Option<String>,
}

/// A file of real ballots, and the election that it brings.
#[derive(Debug)]
pub struct BallotFile {
    path: PathBuf,
    columns: BallotColumns,
    key: [u8; 32],
    seed: u64,
    election: Election,
    cells: Cells,
    /// Places by the text in the file.
    region_of: HashMap<String, u32>,
    choice_of: HashMap<String, u32>,
    channel_of: HashMap<String, u32>,
    rows: u64,
    /// Voters with more than one row.
    repeated: HashSet<VoterId>,
}

/// What a row says.
enum Mark<'a> {
    Vote(&'a str),
    Blank,
    Null,
}

/// The columns of an open file.
struct Opened {
    file: CsvFile,
    voter: Column,
    region: Column,
    choice: Column,
    blank: Option<Column>,
    channel: Option<Column>,
}

impl Opened {
    fn open(path: &Path, columns: &BallotColumns) -> Result<Opened, FileError> {
        let file = CsvFile::open(path)?;
        let optional = |name: &Option<String>| name.as_ref().map(|name| file.column(name)).transpose();
        Ok(Opened {
            voter: file.column(&columns.voter)?,
            region: file.column(&columns.region)?,
            choice: file.column(&columns.choice)?,
            blank: optional(&columns.blank)?,
            channel: optional(&columns.channel)?,
            file,
        })
    }

    fn voter(&self, key: &[u8; 32]) -> Result<VoterId, FileError> {
        let digest = blake3::keyed_hash(key, self.file.required(self.voter)?.as_bytes());
        let (id, _) = digest.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
        Ok(VoterId(u128::from_be_bytes(*id)))
    }

    fn mark(&self) -> Result<Mark<'_>, FileError> {
        let choice = self.file.text(self.choice);
        let vote = if choice.is_empty() { Mark::Blank } else { Mark::Vote(choice) };
        let Some(column) = self.blank else { return Ok(vote) };
        let text = self.file.text(column);
        let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
        if is(&["", "vote", "false", "no", "0"]) {
            Ok(vote)
        } else if is(&["blank", "true", "yes", "1"]) {
            Ok(Mark::Blank)
        } else if is(&["null", "spoilt", "invalid", "overvote"]) {
            Ok(Mark::Null)
        } else {
            let what = format!(
                "found `{text}`, expected blank, true, yes or 1 (a blank ballot), null, spoilt, invalid or overvote \
                 (a spoilt one), vote, false, no, 0 or nothing (a vote)"
            );
            Err(self.file.error(column, what))
        }
    }
}

/// Names as they appear, with a code for each.
#[derive(Default)]
struct Names {
    place_of: HashMap<String, u32>,
    names: Vec<String>,
    counts: Vec<u64>,
}

impl Names {
    fn place(&mut self, name: &str) -> u32 {
        if let Some(place) = self.place_of.get(name) {
            return *place;
        }
        let place = self.names.len() as u32;
        self.place_of.insert(name.to_owned(), place);
        self.names.push(name.to_owned());
        self.counts.push(0);
        place
    }
}

impl BallotFile {
    /// Reads the file through. `key` is the secret that turns the file's voter ids into pseudonyms.
    ///
    /// A row is blank where the choice is empty or the blank column says `blank`, `true`, `yes` or `1`; spoilt
    /// where that says `null`, `spoilt`, `invalid` or `overvote`; a vote where it says `vote`, `false`, `no`,
    /// `0` or nothing; and any other word in it is an error. A region has as many registered voters as ballots.
    pub fn open(
        path: &Path,
        columns: BallotColumns,
        about: &About,
        key: [u8; 32],
        seed: u64,
    ) -> Result<BallotFile, FileError> {
        let mut opened = Opened::open(path, &columns)?;
        let (mut regions, mut choices, mut channels) = (Names::default(), Names::default(), Names::default());
        let (mut seen, mut repeated, mut rows) = (HashSet::new(), HashSet::new(), 0);
        while opened.file.next_row()? {
            rows += 1;
            let voter = opened.voter(&key)?;
            if !seen.insert(voter) {
                repeated.insert(voter);
            }
            let region = regions.place(opened.file.required(opened.region)?);
            regions.counts[region as usize] += 1;
            if let Mark::Vote(choice) = opened.mark()? {
                let choice = choices.place(choice);
                choices.counts[choice as usize] += 1;
            }
            if let Some(column) = opened.channel {
                let channel = opened.file.required(column)?;
                check_code(channel).map_err(|what| opened.file.error(column, what))?;
                if channels.place(channel) as usize >= CHANNELS_MAX {
                    let what = format!("`{channel}` is one more channel than {CHANNELS_MAX}; expected fewer");
                    return Err(opened.file.error(column, what));
                }
            }
        }
        let whole = |what| FileError::Whole { path: path.to_owned(), what };
        if choices.names.is_empty() {
            return Err(whole("has no vote for anybody; expected one row a ballot".into()));
        }
        let mut codes = Codes::default();
        // A value that can be a code is one.
        regions.names.iter().filter(|name| check_code(name).is_ok()).for_each(|name| codes.reserve(name));
        let region_list = regions.names.iter().zip(&regions.counts).map(|(name, ballots)| Region {
            code: if check_code(name).is_ok() { name.clone() } else { codes.give(name, "region") },
            name: name.clone(),
            registered: *ballots,
            expected_turnout: None,
            point: None,
            tile: None,
        });
        let region_list: Vec<Region> = region_list.collect();
        let mut codes = Codes::default();
        let choice_list = choices.names.iter().map(|name| Choice {
            code: codes.give(name, "choice"),
            name: name.clone(),
            color: String::new(),
            region: None,
        });
        let mut choice_list: Vec<Choice> = choice_list.collect();
        color_by_votes(&mut choice_list, &choices.counts);
        let mut election = about.election(path, region_list, choice_list);
        if opened.channel.is_some() {
            election.channels = channels.names;
        }
        election.check().map_err(whole)?;
        Ok(BallotFile {
            path: path.to_owned(),
            columns,
            key,
            seed,
            cells: Cells::of(&election).map_err(whole)?,
            election,
            region_of: regions.place_of,
            choice_of: choices.place_of,
            channel_of: channels.place_of,
            rows,
            repeated,
        })
    }
}

impl Ballots for BallotFile {
    type Source<'a> = Rows<'a>;

    fn election(&self) -> &Election {
        &self.election
    }

    fn cells(&self) -> &Cells {
        &self.cells
    }

    fn total(&self) -> u64 {
        self.rows
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn start(&self) -> Result<Rows<'_>, FileError> {
        Ok(Rows {
            ballots: self,
            opened: Opened::open(&self.path, &self.columns)?,
            channels: ChannelMix::new(self.election.channels.len()),
            salt_seed: derive(self.seed, "ballot"),
            number: 0,
            seen: HashSet::new(),
        })
    }
}

/// Goes through the rows of a file.
pub struct Rows<'a> {
    ballots: &'a BallotFile,
    opened: Opened,
    channels: ChannelMix,
    salt_seed: u64,
    /// Rows so far.
    number: u64,
    /// Those of the repeated voters who have come once.
    seen: HashSet<VoterId>,
}

impl Rows<'_> {
    /// The file is not what it was when it was opened.
    fn changed(&self) -> FileError {
        self.opened.file.whole_error("has changed while it was read; leave it as it is until all of it is replayed")
    }
}

impl Source for Rows<'_> {
    fn next(&mut self) -> Result<Option<Ballot>, FileError> {
        let (ballots, number) = (self.ballots, self.number);
        if !self.opened.file.next_row()? {
            return if number == ballots.rows { Ok(None) } else { Err(self.changed()) };
        }
        if number == ballots.rows {
            return Err(self.changed());
        }
        self.number += 1;
        let opened = &self.opened;
        let voter = opened.voter(&ballots.key)?;
        let salt = mix(self.salt_seed ^ number);
        let region = ballots.region_of.get(opened.file.required(opened.region)?).copied();
        let valid = ballots.cells.choices().len() as u32 - 2;
        let choice = match opened.mark()? {
            Mark::Vote(name) => ballots.choice_of.get(name).copied(),
            Mark::Blank => Some(valid),
            Mark::Null => Some(valid + 1),
        };
        let of_day = (u128::from(number) << 32) / u128::from(ballots.rows);
        let channel = match opened.channel {
            Some(column) => ballots.channel_of.get(opened.file.text(column)).copied(),
            None => {
                self.channels.set_time(of_day as u64);
                Some(self.channels.pick(salt as u32))
            }
        };
        let (Some(region), Some(choice), Some(channel)) = (region, choice, channel) else { return Err(self.changed()) };
        let standing = if !ballots.repeated.contains(&voter) {
            Standing::Once
        } else if self.seen.insert(voter) {
            Standing::First
        } else {
            Standing::Repeated
        };
        let length = (ballots.election.closes_at_ms - ballots.election.opens_at_ms) as u128;
        Ok(Some(Ballot {
            voter,
            // Every choice stands in every region, in the same order.
            cell: ballots.cells.of_region(region).start + choice,
            channel,
            cast_at_ms: ballots.election.opens_at_ms + (length * u128::from(number) / u128::from(ballots.rows)) as i64,
            salt,
            standing,
        }))
    }
}
