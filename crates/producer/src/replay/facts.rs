//! What a file of results says, row by row, before interpretation.

use std::collections::HashMap;
use std::path::Path;

use scrutin_files::FileError;
use scrutin_files::table::{Column, Found, Table};

use super::layout::{Layout, Thousands};
use super::places::{Group, Groups, Places};
use super::words::composed;

pub const REGISTERED_AT: usize = 0;
pub const ABSTENTIONS_AT: usize = 1;
pub const BLANK_AT: usize = 2;
pub const NULL_AT: usize = 3;

/// Everything that a file of results says.
pub struct Facts {
    pub found: Found,
    pub columns: Vec<String>,
    pub used: Vec<bool>,
    /// Names of columns, for messages.
    pub choice_column: Option<String>,
    pub region_column: String,
    pub contest_column: Option<String>,
    pub id_column: Option<String>,
    pub contests: Vec<Contest>,
    pub regions: Vec<RegionFacts>,
    pub texts: Texts,
    pub votes: Vec<VoteFact>,
    pub rows: u64,
    pub passed_over: u64,
    /// The number of names that were not in Unicode's composed form.
    pub recomposed: u64,
    pub has_parts: bool,
}

/// A contest, as the texts in its columns.
pub struct Contest {
    pub parts: Vec<String>,
    pub line: u64,
    pub rows: u64,
}

/// A region in a contest.
#[derive(Clone, Debug)]
pub struct RegionFacts {
    pub contest: usize,
    pub code: String,
    pub name: String,
    pub figures: [Option<u64>; 4],
    pub line: u64,
    /// How many of the columns that form its name are filled.
    pub depth: usize,
}

/// The votes on a row, or in one cell of it.
#[derive(Clone, Copy, Debug)]
pub struct VoteFact {
    pub region: usize,
    /// Index into [`Facts::texts`]; none if nobody is named.
    pub choice: Option<u32>,
    pub id: Option<u32>,
    pub part: Option<u32>,
    pub votes: u64,
    pub line: u64,
}

/// Interned texts.
#[derive(Default)]
pub struct Texts {
    number_of: HashMap<String, u32>,
    list: Vec<String>,
}

impl Texts {
    pub fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.number_of.get(text) {
            return *number;
        }
        let number = self.list.len() as u32;
        self.number_of.insert(text.to_owned(), number);
        self.list.push(text.to_owned());
        number
    }

    pub fn text(&self, number: u32) -> &str {
        &self.list[number as usize]
    }
}

/// Reads a file of results with its layout.
pub fn read(path: &Path, layout: &Layout) -> Result<Facts, FileError> {
    let mut table = Table::open(path, &layout.file, &layout.wanted())?;
    let places = Places::find(&mut table, layout)?;
    let name = |column: Option<&Column>| column.map(|column| table.columns()[column.0].clone());
    let facts = Facts {
        found: table.found().clone(),
        columns: table.columns().to_vec(),
        used: Vec::new(),
        choice_column: name(places.choice.last()),
        region_column: name(places.region.first()).unwrap_or_default(),
        contest_column: name(places.contest.first()),
        id_column: name(places.choice_id.as_ref()),
        contests: Vec::new(),
        regions: Vec::new(),
        texts: Texts::default(),
        votes: Vec::new(),
        rows: 0,
        passed_over: 0,
        recomposed: 0,
        has_parts: places.part.is_some(),
    };
    let mut reading = Reading {
        table,
        places,
        thousands: layout.thousands,
        facts,
        contest_of: HashMap::new(),
        region_of: HashMap::new(),
    };
    while reading.table.next_row()? {
        reading.row()?;
    }
    let Reading { table, mut facts, .. } = reading;
    facts.used = (0..facts.columns.len()).map(|place| table.is_used(Column(place))).collect();
    Ok(facts)
}

struct Reading {
    table: Table,
    places: Places,
    thousands: Option<Thousands>,
    facts: Facts,
    contest_of: HashMap<Vec<String>, usize>,
    region_of: HashMap<(usize, String), usize>,
}

impl Reading {
    fn row(&mut self) -> Result<(), FileError> {
        let Reading { table, places, .. } = self;
        if places.pass_over.iter().any(|(column, is)| is.iter().any(|is| is == table.text(*column))) {
            self.facts.passed_over += 1;
            return Ok(());
        }
        self.facts.rows += 1;
        if !self.places.wide.is_empty() {
            return self.wide_row();
        }
        let parts = self.places.contest.iter().map(|column| composed(self.table.text(*column))).collect();
        let contest = self.contest(parts);
        let region = self.region(contest, self.places.figures)?;
        match self.places.groups.take() {
            Some(groups) => {
                let done = self.groups_row(region, &groups);
                self.places.groups = Some(groups);
                done
            }
            None => self.narrow_row(region),
        }
    }

    fn narrow_row(&mut self, region: usize) -> Result<(), FileError> {
        let name = joined(&self.table, &self.places.choice, " ");
        let id = self.places.choice_id.map(|column| self.table.text(column).to_owned());
        let part = self.places.part.map(|column| self.table.text(column).to_owned());
        let votes = match self.places.votes {
            Some(column) => self.figure(column)?.unwrap_or(0),
            None => 0,
        };
        self.check_id(id.as_deref())?;
        self.push(region, &name, id.as_deref(), part.as_deref(), votes);
        Ok(())
    }

    fn check_id(&self, id: Option<&str>) -> Result<(), FileError> {
        let (Some(id), Some(column)) = (id, self.places.choice_id) else { return Ok(()) };
        if id.is_empty() {
            return Err(self.table.error(column, "is empty; expected an id on every row, or no such column"));
        }
        scrutin_contract::election::check_code(id).map_err(|what| self.table.error(column, what))?;
        if id == scrutin_contract::vote::BLANK || id == scrutin_contract::vote::NULL {
            return Err(self.table.error(column, format!("`{id}` means no candidate; expected another id")));
        }
        Ok(())
    }

    /// An empty cell means that the column's candidate does not stand there.
    fn wide_row(&mut self) -> Result<(), FileError> {
        let parts: Vec<String> = self.places.contest.iter().map(|column| composed(self.table.text(*column))).collect();
        for at in 0..self.places.wide.len() {
            let wide = &self.places.wide[at];
            let (column, choice) = (wide.column, wide.choice.clone());
            let mut figures = wide.figures;
            figures.iter_mut().zip(self.places.figures).for_each(|(own, all)| *own = own.or(all));
            let contest = self.contest(wide.contest.iter().cloned().chain(parts.clone()).collect());
            let region = self.region(contest, figures)?;
            if let Some(votes) = self.figure(column)? {
                self.push(region, &choice, None, None, votes);
            }
        }
        Ok(())
    }

    fn groups_row(&mut self, region: usize, groups: &Groups) -> Result<(), FileError> {
        match groups {
            Groups::Numbered(groups) => groups.iter().try_for_each(|group| self.group(region, group, 0)),
            Groups::Repeated { first, start, width } => {
                let length =
                    (*start..self.table.row_len()).rev().find(|place| !self.table.text(Column(*place)).is_empty());
                let ends = length.map_or(*start, |last| last + 1);
                (0..(ends - start).div_ceil(*width)).try_for_each(|group| self.group(region, first, group * width))
            }
        }
    }

    fn group(&mut self, region: usize, group: &Group, shift: usize) -> Result<(), FileError> {
        let at = |column: &Column| Column(column.0 + shift);
        let name = joined(&self.table, &group.choice.iter().map(at).collect::<Vec<_>>(), " ");
        let votes = match &group.votes {
            Some(column) => self.figure(at(column))?,
            None => None,
        };
        if name.is_empty() && votes.is_none() {
            return Ok(());
        }
        let id =
            group.choice_id.as_ref().map(|column| self.table.text(at(column)).to_owned()).filter(|id| !id.is_empty());
        self.push(region, &name, id.as_deref(), None, votes.unwrap_or(0));
        Ok(())
    }

    fn push(&mut self, region: usize, name: &str, id: Option<&str>, part: Option<&str>, votes: u64) {
        let composed = composed(name);
        self.facts.recomposed += u64::from(composed != name);
        let texts = &mut self.facts.texts;
        let choice = (!composed.is_empty()).then(|| texts.number(&composed));
        let (id, part) = (id.map(|id| texts.number(id)), part.map(|part| texts.number(part)));
        self.facts.votes.push(VoteFact { region, choice, id, part, votes, line: self.table.line() });
    }

    fn contest(&mut self, parts: Vec<String>) -> usize {
        let contests = &mut self.facts.contests;
        let line = self.table.line();
        let contest = *self.contest_of.entry(parts).or_insert_with_key(|parts| {
            contests.push(Contest { parts: parts.clone(), line, rows: 0 });
            contests.len() - 1
        });
        self.facts.contests[contest].rows += 1;
        contest
    }

    fn region(&mut self, contest: usize, figures: [Option<Column>; 4]) -> Result<usize, FileError> {
        let code = composed(&joined(&self.table, &self.places.region, " / "));
        if code.is_empty() {
            self.table.required(self.places.region[0])?;
        }
        if let Some(region) = self.region_of.get(&(contest, code.clone())) {
            let region = *region;
            self.check_same(region, figures)?;
            return Ok(region);
        }
        let depth = self.places.region.iter().filter(|column| !self.table.text(**column).is_empty()).count();
        let name = composed(&joined(&self.table, &self.places.region_name, " / "));
        let name = if name.is_empty() { code.clone() } else { name };
        let mut row =
            RegionFacts { contest, code: code.clone(), name, figures: [None; 4], line: self.table.line(), depth };
        for (value, column) in row.figures.iter_mut().zip(figures) {
            *value = column.map(|column| self.figure(column)).transpose()?.flatten();
        }
        self.facts.regions.push(row);
        self.region_of.insert((contest, code), self.facts.regions.len() - 1);
        Ok(self.facts.regions.len() - 1)
    }

    /// Checks that further rows of a region repeat the same figures and name.
    fn check_same(&self, region: usize, figures: [Option<Column>; 4]) -> Result<(), FileError> {
        let first = &self.facts.regions[region];
        let show = |value: Option<u64>| value.map_or("nothing".to_owned(), |value| value.to_string());
        for (expected, column) in first.figures.iter().zip(figures) {
            let Some(column) = column else { continue };
            let value = self.figure(column)?;
            if value != *expected {
                let (value, expected, line) = (show(value), show(*expected), first.line);
                let what = format!("found {value}, expected {expected} as on line {line} for region `{}`", first.code);
                return Err(self.table.error(column, what));
            }
        }
        let name = composed(&joined(&self.table, &self.places.region_name, " / "));
        match self.places.region_name.first() {
            Some(column) if !name.is_empty() && name != first.name => {
                let (expected, line) = (&first.name, first.line);
                let what =
                    format!("found `{name}`, expected `{expected}` as on line {line} for region `{}`", first.code);
                Err(self.table.error(*column, what))
            }
            _ => Ok(()),
        }
    }

    /// A figure; none if the cell is empty.
    fn figure(&self, column: Column) -> Result<Option<u64>, FileError> {
        let text = self.table.text(column);
        if text.is_empty() {
            return Ok(None);
        }
        match whole_number(text, self.thousands) {
            Some(number) if number > u64::from(u32::MAX) => {
                Err(self.table.error(column, format!("found {number}, expected at most {}", u32::MAX)))
            }
            Some(number) => Ok(Some(number)),
            None => {
                let hint = grouping_of(text)
                    .map_or(String::new(), |word| format!("; if the {word} groups thousands, use --thousands {word}"));
                Err(self.table.error(column, format!("found `{text}`, expected a whole number of zero or more{hint}")))
            }
        }
    }
}

/// Joins the texts of several columns, without empty ones.
fn joined(table: &Table, columns: &[Column], between: &str) -> String {
    let texts = columns.iter().map(|column| table.text(*column)).filter(|text| !text.is_empty());
    texts.collect::<Vec<_>>().join(between)
}

const GROUPINGS: [(Thousands, &str, &str); 4] = [
    (Thousands::Comma, "comma", ","),
    (Thousands::Dot, "dot", "."),
    (Thousands::Space, "space", " \u{a0}\u{202f}\u{2009}"),
    (Thousands::Apostrophe, "apostrophe", "'’"),
];

/// Parses digits, in groups of three if a separator of thousands was declared.
fn whole_number(text: &str, thousands: Option<Thousands>) -> Option<u64> {
    let is_digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    let letters =
        GROUPINGS.iter().find(|(grouping, ..)| Some(*grouping) == thousands).map_or("", |(.., letters)| letters);
    let groups: Vec<&str> = text.split(|letter| letters.contains(letter)).collect();
    let is_grouped = (1..=3).contains(&groups[0].len()) && groups[1..].iter().all(|group| group.len() == 3);
    if !groups.iter().all(is_digits) || groups.len() > 1 && !is_grouped {
        return None;
    }
    groups.concat().parse().ok()
}

/// The apparent separator of thousands in a number.
fn grouping_of(text: &str) -> Option<&'static str> {
    let found = GROUPINGS.iter().find(|(thousands, ..)| whole_number(text, Some(*thousands)).is_some());
    found.map(|(_, word, _)| *word)
}
