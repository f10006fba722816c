//! Official results by region: turns a file of counts into an election and a plan of ballots.
//!
//! [`super::facts`] reads the rows, [`super::settle`] turns them into results. Memory holds one row of the file per
//! candidate and region, and no ballots.

use std::collections::HashMap;
use std::path::Path;

use scrutin_contract::election::{Choice, Election, Region};
use scrutin_contract::vote::{BLANK, NULL};
use scrutin_files::FileError;

use super::finding::Finding;
use super::layout::{Kind, Layout};
use super::settle::settle;
use super::settled::Settled;
use super::{About, color_by_votes, facts, rankings};
use crate::simulate::Plan;
use crate::simulate::cells::Cells;

/// Reads a file of results into a plan whose cells match the file exactly. Also returns the findings.
///
/// A candidate's code is the id, which is valid only in its region, or is derived from the name. A candidate who is in
/// all regions (with the same id and name, and if there are several regions) stands everywhere.
///
/// # Errors
///
/// If the file cannot be read, or something in it is refused.
pub fn read(path: &Path, layout: &Layout, about: &About, seed: u64) -> Result<(Plan, Vec<Finding>), FileError> {
    let settled = settled(path, layout)?;
    if let Some(error) = settled.findings.error(path) {
        return Err(error);
    }
    let whole = |what| FileError::Whole { path: path.to_owned(), what };
    let election = election(path, &settled, about);
    election.check().map_err(whole)?;
    let cells = Cells::of(&election).map_err(whole)?;
    let ballots = ballots(&settled, &cells);
    let plan = Plan::new(election, ballots, seed).map_err(whole)?;
    Ok((plan, settled.findings.0))
}

/// Reads a file of results as far as possible.
///
/// # Errors
///
/// If the file cannot be read or has no rows.
pub fn settled(path: &Path, layout: &Layout) -> Result<Settled, FileError> {
    if layout.kind == Kind::Rankings {
        return rankings::read(path, layout);
    }
    let facts = facts::read(path, layout)?;
    if facts.votes.is_empty() {
        return Err(FileError::Whole {
            path: path.to_owned(),
            what: "has no row; expected one for each region and candidate".into(),
        });
    }
    Ok(settle(&facts, layout))
}

fn ballots(settled: &Settled, cells: &Cells) -> Vec<u32> {
    let mut votes: HashMap<(usize, &str), u64> = HashMap::new();
    for candidate in &settled.candidates {
        votes.extend(candidate.rows.iter().map(|row| ((row.region, candidate.code.as_str()), row.votes)));
    }
    let ballots = (0..cells.len() as u32).map(|cell| {
        let region = cells.cell(cell).region as usize;
        let figure = match cells.codes(cell).1 {
            BLANK => Some(settled.regions[region].blank),
            NULL => Some(settled.regions[region].null),
            choice => votes.get(&(region, choice)).copied(),
        };
        // Sums beyond 32 bits exceed any election; single figures beyond that were refused with their line.
        u32::try_from(figure.unwrap_or(0)).unwrap_or(u32::MAX)
    });
    ballots.collect()
}

fn election(path: &Path, settled: &Settled, about: &About) -> Election {
    let mut choices: Vec<Choice> = Vec::new();
    let mut votes: Vec<u64> = Vec::new();
    for candidate in &settled.candidates {
        // A person has one colour in all regions.
        let sum = candidate.votes();
        let mut add = |name: &str, region| {
            choices.push(Choice { code: candidate.code.clone(), name: name.to_owned(), color: String::new(), region });
            votes.push(sum);
        };
        if candidate.is_everywhere {
            add(&candidate.rows[0].name, None);
        } else {
            candidate.rows.iter().for_each(|row| add(&row.name, Some(settled.regions[row.region].code.clone())));
        }
    }
    let regions = settled.regions.iter().map(|region| Region {
        code: region.code.clone(),
        name: region.name.clone(),
        registered: region.registered,
        expected_turnout: None,
        point: None,
        tile: None,
    });
    let regions = regions.collect();
    color_by_votes(&mut choices, &votes);
    about.election(path, regions, choices)
}
