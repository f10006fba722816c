//! Official results by region: a file of counts becomes an election and a plan of ballots.
//!
//! One row for each region and candidate, with the columns `region_code`, `candidate` and `votes`, and if there are
//! such `region_name`, `registered`, `abstentions`, `blank`, `null` (the region's, the same on each of its rows)
//! and `candidate_id`. Other columns are ignored; an empty figure is none.
//!
//! Holds one row of the file per candidate and region in memory, and no ballot.

use std::collections::HashMap;
use std::path::Path;

use super::codes::Codes;
use super::{About, color_by_votes};
use crate::csv_file::{Column, CsvFile, FileError};
use crate::election::{Choice, Election, Region, check_code};
use crate::simulate::Plan;
use crate::simulate::cells::Cells;
use crate::vote::{BLANK, NULL};

/// Reads a file of results. Every cell of the plan has exactly the file's figure.
///
/// A candidate's code is the `candidate_id`, which stands in its region only, or one made from the name. One who
/// is in all regions (by the same id and name, and if there are several regions) stands everywhere.
pub fn read(path: &Path, about: &About, seed: u64) -> Result<Plan, FileError> {
    let results = Results::read(path)?;
    results.check_turnout()?;
    let whole = |what| FileError::Whole { path: path.to_owned(), what };
    let candidates = results.candidates();
    let election = results.election(about, &candidates);
    election.check().map_err(whole)?;
    let mut votes: HashMap<(usize, &str), u64> = HashMap::new();
    for candidate in &candidates {
        votes.extend(candidate.rows.iter().map(|row| ((row.region, candidate.code.as_str()), row.votes)));
    }
    let cells = Cells::of(&election).map_err(whole)?;
    let ballots = (0..cells.len() as u32).map(|cell| {
        let region = cells.cell(cell).region as usize;
        let figure = match cells.codes(cell).1 {
            BLANK => results.regions[region].figures[BLANK_AT],
            NULL => results.regions[region].figures[NULL_AT],
            choice => votes.get(&(region, choice)).copied(),
        };
        // A figure beyond 32 bits was refused with its line.
        figure.unwrap_or(0) as u32
    });
    let ballots = ballots.collect();
    Plan::new(election, ballots, seed).map_err(whole)
}

/// Figures of a region, by place in [`RegionRow::figures`].
const FIGURES: [&str; 4] = ["registered", "abstentions", "blank", "null"];
const REGISTERED_AT: usize = 0;
const ABSTENTIONS_AT: usize = 1;
const BLANK_AT: usize = 2;
const NULL_AT: usize = 3;

struct Results<'a> {
    path: &'a Path,
    regions: Vec<RegionRow>,
    candidates: Vec<CandidateRow>,
}

struct RegionRow {
    code: String,
    name: String,
    figures: [Option<u64>; 4],
    /// Votes for all candidates.
    valid: u64,
    line: u64,
}

struct CandidateRow {
    region: usize,
    id: Option<String>,
    name: String,
    votes: u64,
}

/// A code, and all rows that it is on.
struct Candidate<'a> {
    code: String,
    rows: Vec<&'a CandidateRow>,
    everywhere: bool,
}

impl<'a> Results<'a> {
    fn read(path: &'a Path) -> Result<Results<'a>, FileError> {
        let mut file = CsvFile::open(path)?;
        let (code, candidate, votes) = (file.column("region_code")?, file.column("candidate")?, file.column("votes")?);
        let (name, id) = (file.optional_column("region_name"), file.optional_column("candidate_id"));
        let figures = FIGURES.map(|name| file.optional_column(name));
        let mut results = Results { path, regions: Vec::new(), candidates: Vec::new() };
        let mut region_of: HashMap<String, usize> = HashMap::new();
        let mut lines: HashMap<(usize, String), u64> = HashMap::new();
        while file.next_row()? {
            let code_text = file.required(code)?;
            check_code(code_text).map_err(|what| file.error(code, what))?;
            let region = match region_of.get(code_text) {
                Some(region) => *region,
                None => {
                    region_of.insert(code_text.to_owned(), results.regions.len());
                    results.regions.push(RegionRow::read(&file, code, name, figures)?);
                    results.regions.len() - 1
                }
            };
            let row = &mut results.regions[region];
            row.check_same(&file, name, figures)?;
            let candidate_name = file.required(candidate)?.to_owned();
            let id_text = id.map(|column| (column, file.text(column))).filter(|(_, text)| !text.is_empty());
            if let Some((column, text)) = id_text {
                check_code(text).map_err(|what| file.error(column, what))?;
                if text == BLANK || text == NULL {
                    return Err(file.error(column, format!("`{text}` means no candidate; expected another id")));
                }
            } else if let Some(column) = id {
                return Err(file.error(column, "is empty; expected an id on every row, or no such column"));
            }
            let id_text = id_text.map(|(_, text)| text.to_owned());
            let known_as = id_text.clone().unwrap_or_else(|| candidate_name.clone());
            if let Some(first) = lines.insert((region, known_as.clone()), file.line()) {
                let hint = match id {
                    Some(_) => "expected each id once a region",
                    None => "if they are two people, add a column `candidate_id` that tells them apart",
                };
                let column = id.unwrap_or(candidate);
                let what = format!("`{known_as}` stands in region `{}` on line {first} already; {hint}", row.code);
                return Err(file.error(column, what));
            }
            let votes = figure(&file, votes)?.unwrap_or(0);
            row.valid += votes;
            results.candidates.push(CandidateRow { region, id: id_text, name: candidate_name, votes });
        }
        if results.candidates.is_empty() {
            return Err(file.whole_error("has no row; expected one for each region and candidate"));
        }
        Ok(results)
    }

    /// Who voted must be among the registered, and be those who did not stay away.
    fn check_turnout(&self) -> Result<(), FileError> {
        for region in &self.regions {
            let cast = region.cast();
            let parts = format!(
                "blank {} + null {} + votes {} = {cast}",
                region.figures[BLANK_AT].unwrap_or(0),
                region.figures[NULL_AT].unwrap_or(0),
                region.valid
            );
            let error = |what: String| {
                let what = format!("region `{}`: {what}", region.code);
                Err(FileError::At { path: self.path.to_owned(), line: region.line, column: None, what })
            };
            let Some(registered) = region.figures[REGISTERED_AT] else { continue };
            if cast > registered {
                return error(format!("{parts} ballots of {registered} registered; expected no more than those"));
            }
            let Some(abstentions) = region.figures[ABSTENTIONS_AT] else { continue };
            match registered.checked_sub(abstentions) {
                None => {
                    return error(format!("{abstentions} abstentions of {registered} registered; expected no more"));
                }
                Some(voted) if voted != cast => {
                    return error(format!(
                        "registered {registered} − abstentions {abstentions} = {voted}, but {parts}; expected the same"
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        let mut candidates: Vec<Candidate<'_>> = Vec::new();
        let mut place_of: HashMap<&str, usize> = HashMap::new();
        let mut codes = Codes::default();
        for row in &self.candidates {
            let place = *place_of.entry(row.id.as_deref().unwrap_or(&row.name)).or_insert_with(|| {
                let code = row.id.clone().unwrap_or_else(|| codes.give(&row.name, "candidate"));
                candidates.push(Candidate { code, rows: Vec::new(), everywhere: false });
                candidates.len() - 1
            });
            candidates[place].rows.push(row);
        }
        let regions = self.regions.len();
        for candidate in &mut candidates {
            let first = candidate.rows[0];
            // A region has each of them once, so as many rows as regions are all regions.
            candidate.everywhere = candidate.rows.len() == regions
                && (first.id.is_none() || regions > 1)
                && candidate.rows.iter().all(|row| row.name == first.name);
        }
        candidates
    }

    fn election(&self, about: &About, candidates: &[Candidate<'_>]) -> Election {
        let mut choices: Vec<Choice> = Vec::new();
        let mut votes: Vec<u64> = Vec::new();
        for candidate in candidates {
            let mut add = |row: &CandidateRow, region, row_votes| {
                let (code, name) = (candidate.code.clone(), row.name.clone());
                choices.push(Choice { code, name, color: String::new(), region });
                votes.push(row_votes);
            };
            if candidate.everywhere {
                add(candidate.rows[0], None, candidate.rows.iter().map(|row| row.votes).sum());
            } else {
                candidate.rows.iter().for_each(|row| add(row, Some(self.regions[row.region].code.clone()), row.votes));
            }
        }
        let regions = self.regions.iter().map(|region| Region {
            code: region.code.clone(),
            name: region.name.clone(),
            registered: region.figures[REGISTERED_AT].unwrap_or(region.cast()),
            expected_turnout: None,
            point: None,
            tile: None,
        });
        let regions = regions.collect();
        color_by_votes(&mut choices, &votes);
        about.election(self.path, regions, choices)
    }
}

impl RegionRow {
    /// From the first row of a region.
    fn read(
        file: &CsvFile,
        code: Column,
        name: Option<Column>,
        figures: [Option<Column>; 4],
    ) -> Result<RegionRow, FileError> {
        let code = file.text(code).to_owned();
        let name = name.map(|column| file.text(column)).filter(|name| !name.is_empty()).unwrap_or(&code).to_owned();
        let mut row = RegionRow { name, code, figures: [None; 4], valid: 0, line: file.line() };
        for (value, column) in row.figures.iter_mut().zip(figures) {
            *value = column.map(|column| figure(file, column)).transpose()?.flatten();
        }
        Ok(row)
    }

    /// The further rows of a region must say the same of it.
    fn check_same(&self, file: &CsvFile, name: Option<Column>, figures: [Option<Column>; 4]) -> Result<(), FileError> {
        let show = |value: Option<u64>| value.map_or("nothing".to_owned(), |value| value.to_string());
        for (first, column) in self.figures.iter().zip(figures) {
            let Some(column) = column else { continue };
            let value = figure(file, column)?;
            if value != *first {
                let (value, first, line) = (show(value), show(*first), self.line);
                let what = format!("found {value}, expected {first} as on line {line} for region `{}`", self.code);
                return Err(file.error(column, what));
            }
        }
        match name.map(|column| (column, file.text(column))) {
            Some((column, name)) if !name.is_empty() && name != self.name => {
                let (first, line) = (&self.name, self.line);
                let what = format!("found `{name}`, expected `{first}` as on line {line} for region `{}`", self.code);
                Err(file.error(column, what))
            }
            _ => Ok(()),
        }
    }

    /// Ballots in all.
    fn cast(&self) -> u64 {
        self.valid + self.figures[BLANK_AT].unwrap_or(0) + self.figures[NULL_AT].unwrap_or(0)
    }
}

/// A figure, if there is one.
fn figure(file: &CsvFile, column: Column) -> Result<Option<u64>, FileError> {
    match file.number::<u64>(column, "a whole number of zero or more")? {
        Some(number) if number > u64::from(u32::MAX) => {
            Err(file.error(column, format!("found {number}, expected at most {}", u32::MAX)))
        }
        number => Ok(number),
    }
}
