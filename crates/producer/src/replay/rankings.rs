//! Wards of Scottish councils: how often each ranking of the candidates was cast. Only first choices are counted.
//!
//! The first line has the numbers of candidates and seats. Each following line has a count and a ranking of candidates'
//! numbers. Then come the candidates in order of their numbers, and the ward.

use std::path::Path;

use scrutin_files::FileError;
use scrutin_files::table::{Input, Row};

use super::codes::Codes;
use super::finding::Findings;
use super::layout::Layout;
use super::settled::{Candidate, CandidateRow, RegionSum, Settled};

/// Whether the first rows are a line of two numbers followed by rankings.
pub fn fits(rows: &[(u64, Vec<String>)]) -> bool {
    let numbers = |row: &[String]| -> Option<Vec<u64>> {
        row.iter().filter(|text| !text.is_empty()).map(|text| text.parse().ok()).collect()
    };
    let Some(head) = rows.first().and_then(|(_, row)| numbers(row)) else { return false };
    let is_ranking = |row: &Vec<String>| {
        numbers(row).is_some_and(|row| row.len() > 1 && row[1..].iter().all(|number| (1..=head[0]).contains(number)))
    };
    head.len() == 2 && head[1] <= head[0] && rows.get(1).is_some_and(|(_, row)| is_ranking(row))
}

/// Reads a ward as a single region.
pub fn read(path: &Path, layout: &Layout) -> Result<Settled, FileError> {
    let mut rows = Input::open(path, &layout.file)?.rows(&layout.file);
    let mut row = Row::default();
    let mut next = |row: &mut Row| rows.next(row).map_err(|error| error.at(path, &[]));
    let error = |row: &Row, what: String| FileError::At { path: path.to_owned(), line: row.line(), column: None, what };
    let number = |row: &Row, place: usize| {
        let text = row.text(place);
        text.parse::<u64>().map_err(|_| error(row, format!("found `{text}`, expected a whole number")))
    };
    if !next(&mut row)? {
        return Err(FileError::Whole {
            path: path.to_owned(),
            what: "is empty; expected a line with the number of candidates".into(),
        });
    }
    let count = number(&row, 0)?;
    if !(1..=1000).contains(&count) {
        return Err(error(&row, format!("found {count} candidates, expected 1 to 1000")));
    }
    let mut votes = vec![0; count as usize];
    loop {
        if !next(&mut row)? {
            return Err(FileError::Whole {
                path: path.to_owned(),
                what: format!("ends before its {count} candidates"),
            });
        }
        if row.text(0).parse::<u64>().is_err() {
            break;
        }
        let (ballots, first) = (number(&row, 0)?, number(&row, 1)?);
        match usize::try_from(first).ok().and_then(|first| votes.get_mut(first.wrapping_sub(1))) {
            Some(votes) => *votes += ballots,
            None => return Err(error(&row, format!("found candidate {first}, expected 1 to {count}"))),
        }
    }
    let mut codes = Codes::default();
    let mut candidates = Vec::new();
    for (place, votes) in votes.iter().enumerate() {
        let (label, name) = (row.text(0), row.text(1));
        if name.is_empty() || label != format!("Candidate {}", place + 1) {
            let what = format!("found `{label}`, expected `Candidate {}` and a name", place + 1);
            return Err(error(&row, what));
        }
        let rows = vec![CandidateRow { region: 0, name: name.to_owned(), votes: *votes }];
        candidates.push(Candidate { code: codes.give(name, "candidate"), rows, is_everywhere: true });
        if !next(&mut row)? {
            return Err(FileError::Whole { path: path.to_owned(), what: "ends before the ward's name".into() });
        }
    }
    let ward = row.text(0).to_owned();
    let region = RegionSum {
        code: codes.give(&ward, "ward"),
        name: ward.clone(),
        registered: None,
        abstentions: None,
        blank: 0,
        null: 0,
        valid: votes.iter().sum(),
        line: row.line(),
    };
    let mut findings = Findings::default();
    findings.note("only first choices are counted".into());
    findings.note("the number of registered voters is not given; it is shown as unknown, without turnout".into());
    Ok(Settled { contest: Some(ward), contests: Vec::new(), regions: vec![region], candidates, findings })
}
