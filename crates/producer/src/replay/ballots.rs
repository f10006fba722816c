//! Files of real ballots: one row per ballot, in the order of the file, spread evenly over the voting day.
//!
//! The file is read twice: first to learn its regions, choices and channels, then to send its rows. The first pass
//! keeps the voters' ids, 16 bytes per ballot plus the table's overhead, to find duplicates; the second keeps only the
//! duplicates.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use scrutin_contract::election::{CHANNELS_MAX, Choice, Election, Region, check_code};
use scrutin_contract::vote::VoterId;
use scrutin_files::FileError;

use super::ballot_columns::{BallotTable, Mark};
use super::codes::Codes;
use super::finding::{Finding, Findings};
use super::layout::{Layout, Marks, Spelling};
use super::words::{self, Word, composed, spelling};
use super::{About, color_by_votes};
use crate::simulate::Ballots;
use crate::simulate::ballots::{Attempt, Ballot, Source};
use crate::simulate::cells::Cells;
use crate::simulate::channel_mix::ChannelMix;
use crate::simulate::random::{derive, mix};

/// A file of real ballots, and its election.
#[derive(Debug)]
pub struct BallotFile {
    path: PathBuf,
    layout: Layout,
    key: [u8; 32],
    seed: u64,
    election: Election,
    cells: Cells,
    /// Indices by the text in the file.
    region_of: HashMap<String, u32>,
    meaning_of: HashMap<String, Meaning>,
    channel_of: HashMap<String, u32>,
    rows: u64,
    /// Voters with more than one row.
    repeated: HashSet<VoterId>,
    findings: Vec<Finding>,
    sums: BallotSums,
}

/// Ballots by content.
#[derive(Clone, Debug, Default)]
pub struct BallotSums {
    /// By index of the choice.
    pub choices: Vec<u64>,
    /// By index of the region.
    pub regions: Vec<u64>,
    pub blank: u64,
    pub null: u64,
}

/// The meaning of a text in the choice column.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meaning {
    Choice(u32),
    Blank,
    Null,
}

/// Names in order of appearance, with an index for each.
#[derive(Debug, Default)]
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

/// The meanings of texts in the choice column, learnt on first sight.
struct Meanings<'a> {
    layout: &'a Layout,
    choices: Names,
    of_text: HashMap<String, Meaning>,
    spellings: HashMap<String, (u32, u64)>,
    findings: Findings,
    blank: u64,
    null: u64,
}

impl Meanings<'_> {
    fn learn(&mut self, text: &str, line: u64, column: &str) -> Meaning {
        if let Some(meaning) = self.of_text.get(text) {
            return *meaning;
        }
        let meaning = self.new_text(text, line, column);
        self.of_text.insert(text.to_owned(), meaning);
        meaning
    }

    fn new_text(&mut self, text: &str, line: u64, column: &str) -> Meaning {
        let mut tell = |what: &str| {
            self.findings.note_at(line, Some(column), format!("`{}` is read as {what}", text.replace('\n', "` and `")))
        };
        if text.contains('\n') {
            tell("a spoilt ballot: more than one choice");
            return Meaning::Null;
        }
        if self.layout.answers.marks != Some(Marks::Choices) {
            match words::of_choice(text) {
                Some(Word::Blank) => {
                    tell("a blank ballot; --marks choices reads it as a candidate");
                    return Meaning::Blank;
                }
                Some(Word::Null) => {
                    tell("a spoilt ballot; --marks choices reads it as a candidate");
                    return Meaning::Null;
                }
                _ => {}
            }
        }
        self.new_name(&composed(text), line, column)
    }

    /// A name that may be another spelling of a known one.
    fn new_name(&mut self, name: &str, line: u64, column: &str) -> Meaning {
        if let Some((place, first_line)) = self.spellings.get(&spelling(name)).copied() {
            let first = &self.choices.names[place as usize];
            if first == name {
                return Meaning::Choice(place);
            }
            let pair = format!("`{name}` and `{first}` (line {first_line}) differ only in case or spaces");
            match self.layout.answers.spelling {
                None => {
                    let what = format!("{pair}; --spelling join treats them as one, --spelling apart as two");
                    self.findings.refuse(line, Some(column), what);
                }
                Some(Spelling::Apart) => {}
                Some(Spelling::Join) => {
                    self.findings.note_at(line, Some(column), format!("{pair}, and are treated as one"));
                    return Meaning::Choice(place);
                }
            }
        }
        let place = self.choices.place(name);
        self.spellings.entry(spelling(name)).or_insert((place, line));
        Meaning::Choice(place)
    }

    fn count(&mut self, meaning: Meaning) {
        match meaning {
            Meaning::Choice(place) => self.choices.counts[place as usize] += 1,
            Meaning::Blank => self.blank += 1,
            Meaning::Null => self.null += 1,
        }
    }
}

/// The voter's pseudonym.
fn voter(opened: &BallotTable, key: &[u8; 32]) -> Result<VoterId, FileError> {
    let digest = blake3::keyed_hash(key, opened.voter()?.as_bytes());
    let (id, _) = digest.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
    Ok(VoterId(u128::from_be_bytes(*id)))
}

impl BallotFile {
    /// Reads the whole file. `key` is the secret that turns the file's voter ids into pseudonyms.
    ///
    /// A ballot is blank if the choice is empty or a word such as `undervote`, or if the blank column says `blank`,
    /// `true`, `yes` or `1`. It is spoilt if the choice is a word such as `overvote` or has two names, or if that
    /// column says `null`, `spoilt`, `invalid` or `overvote`. It is a vote if that column says `vote`, `false`, `no`,
    /// `0` or nothing. The number of registered voters is unknown.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, something in it is refused, or the blank column has any other word.
    pub fn open(path: &Path, layout: Layout, about: &About, key: [u8; 32], seed: u64) -> Result<BallotFile, FileError> {
        let mut opened = BallotTable::open(path, &layout)?;
        let (mut regions, mut channels) = (Names::default(), Names::default());
        let column = opened.choice_name();
        let mut meanings = Meanings {
            layout: &layout,
            choices: Names::default(),
            of_text: HashMap::new(),
            spellings: HashMap::new(),
            findings: Findings::default(),
            blank: 0,
            null: 0,
        };
        for name in opened.marked_names() {
            meanings.learn(name, 1, &column);
        }
        let (mut seen, mut repeated, mut rows, mut not_asked) = (HashSet::new(), HashSet::new(), 0, 0_u64);
        while opened.next_row()? {
            let Some(mark) = opened.mark()? else {
                not_asked += 1;
                continue;
            };
            rows += 1;
            let voter = voter(&opened, &key)?;
            if !seen.insert(voter) {
                repeated.insert(voter);
            }
            let region = regions.place(&opened.region()?);
            regions.counts[region as usize] += 1;
            let meaning = match mark {
                Mark::Vote(text) => meanings.learn(text, opened.line(), &column),
                Mark::Blank => Meaning::Blank,
                Mark::Null => Meaning::Null,
            };
            meanings.count(meaning);
            if let Some(channel) = opened.channel()? {
                check_code(channel).map_err(|what| opened.channel_error(what))?;
                if channels.place(channel) as usize >= CHANNELS_MAX {
                    let what = format!("`{channel}` exceeds the limit of {CHANNELS_MAX} channels; expected fewer");
                    return Err(opened.channel_error(what));
                }
            }
        }
        if let Some(error) = meanings.findings.error(path) {
            return Err(error);
        }
        let Meanings { choices, of_text, mut findings, blank, null, .. } = meanings;
        if not_asked > 0 {
            findings.note(format!("omitted ballots without this contest: {not_asked}"));
        }
        if !repeated.is_empty() {
            findings.note(format!("{} voters have more than one row; only the first of each counts", repeated.len()));
        }
        findings.note("the number of registered voters is not given; it is shown as unknown, without turnout".into());
        let whole = |what| FileError::Whole { path: path.to_owned(), what };
        if choices.names.is_empty() {
            return Err(whole("has no vote for any choice; expected one row per ballot".into()));
        }
        let mut election = about.election(path, region_list(&regions), choice_list(&choices));
        if opened.has_channel() {
            election.channels = channels.names;
        }
        election.check().map_err(whole)?;
        Ok(BallotFile {
            path: path.to_owned(),
            layout,
            key,
            seed,
            cells: Cells::of(&election).map_err(whole)?,
            election,
            region_of: regions.place_of,
            meaning_of: of_text,
            channel_of: channels.place_of,
            rows,
            repeated,
            findings: findings.0,
            sums: BallotSums { choices: choices.counts, regions: regions.counts, blank, null },
        })
    }

    /// The findings of the first pass.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub fn sums(&self) -> &BallotSums {
        &self.sums
    }
}

/// The regions. A value that is a valid code is used as the code.
fn region_list(regions: &Names) -> Vec<Region> {
    let mut codes = Codes::default();
    regions.names.iter().filter(|name| check_code(name).is_ok()).for_each(|name| codes.reserve(name));
    let list = regions.names.iter().map(|name| Region {
        code: if check_code(name).is_ok() { name.clone() } else { codes.give(name, "region") },
        name: name.clone(),
        registered: None,
        expected_turnout: None,
        point: None,
        tile: None,
    });
    list.collect()
}

fn choice_list(choices: &Names) -> Vec<Choice> {
    let mut codes = Codes::default();
    let list = choices.names.iter().map(|name| Choice {
        code: codes.give(name, "choice"),
        name: name.clone(),
        color: String::new(),
        region: None,
    });
    let mut list: Vec<Choice> = list.collect();
    color_by_votes(&mut list, &choices.counts);
    list
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
            opened: BallotTable::open(&self.path, &self.layout)?,
            channels: ChannelMix::new(self.election.channels.len()),
            salt_seed: derive(self.seed, "ballot"),
            number: 0,
            seen: HashSet::new(),
        })
    }
}

/// Iterates over the rows of a file.
pub struct Rows<'a> {
    ballots: &'a BallotFile,
    opened: BallotTable,
    channels: ChannelMix,
    salt_seed: u64,
    /// Rows so far.
    number: u64,
    /// Repeated voters who have already come once.
    seen: HashSet<VoterId>,
}

impl Rows<'_> {
    /// The file differs from when it was opened.
    fn changed(&self) -> FileError {
        self.opened.whole_error("changed while it was being read; do not modify it until the replay is complete")
    }
}

impl Source for Rows<'_> {
    fn next(&mut self) -> Result<Option<Ballot>, FileError> {
        let (ballots, number) = (self.ballots, self.number);
        loop {
            if !self.opened.next_row()? {
                return if number == ballots.rows { Ok(None) } else { Err(self.changed()) };
            }
            if self.opened.is_asked() {
                break;
            }
        }
        if number == ballots.rows {
            return Err(self.changed());
        }
        self.number += 1;
        let opened = &self.opened;
        let voter = voter(opened, &ballots.key)?;
        let salt = mix(self.salt_seed ^ number);
        let region: Cow<'_, str> = opened.region()?;
        let region = ballots.region_of.get(&*region).copied();
        let valid = ballots.cells.choices().len() as u32 - 2;
        let meaning = match opened.mark()? {
            Some(Mark::Vote(text)) => ballots.meaning_of.get(text).copied(),
            Some(Mark::Blank) | None => Some(Meaning::Blank),
            Some(Mark::Null) => Some(Meaning::Null),
        };
        let choice = meaning.map(|meaning| match meaning {
            Meaning::Choice(place) => place,
            Meaning::Blank => valid,
            Meaning::Null => valid + 1,
        });
        let of_day = (u128::from(number) << 32) / u128::from(ballots.rows);
        let channel = match opened.channel()? {
            Some(channel) => ballots.channel_of.get(channel).copied(),
            None => {
                self.channels.set_time(of_day as u64);
                Some(self.channels.pick(salt as u32))
            }
        };
        let (Some(region), Some(choice), Some(channel)) = (region, choice, channel) else { return Err(self.changed()) };
        let attempt = if !ballots.repeated.contains(&voter) {
            Attempt::Once
        } else if self.seen.insert(voter) {
            Attempt::First
        } else {
            Attempt::Repeated
        };
        let length = (ballots.election.closes_at_ms - ballots.election.opens_at_ms) as u128;
        Ok(Some(Ballot {
            voter,
            // Every choice stands in every region, in the same order.
            cell: ballots.cells.of_region(region).start + choice,
            channel,
            cast_at_ms: ballots.election.opens_at_ms + (length * u128::from(number) / u128::from(ballots.rows)) as i64,
            salt,
            attempt,
        }))
    }
}
