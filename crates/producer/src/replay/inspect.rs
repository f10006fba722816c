//! Shows how a file will be read, before anything is counted.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use scrutin_files::FileError;
use scrutin_files::table::{Found, Table, folded};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::finding::Finding;
use super::layout::{Kind, Layout};
use super::places::FIGURES;
use super::settle::settle;
use super::settled::Settled;
use super::{About, BallotFile, facts, rankings};
use crate::simulate::Ballots;

/// How a file is read.
#[derive(Debug, Serialize)]
pub struct Report {
    pub file: String,
    pub bytes: u64,
    pub sha256: String,
    pub kind: Kind,
    pub layout: String,
    /// None if it could not be detected.
    pub written: Option<Found>,
    pub rows: Option<u64>,
    pub rows_passed_over: u64,
    pub columns: Vec<ColumnReport>,
    pub contests: Vec<String>,
    pub contest: Option<String>,
    pub regions: Vec<RegionReport>,
    pub candidates: Vec<CandidateReport>,
    pub sums: Sums,
    pub findings: Vec<Finding>,
    /// The error that stopped the reading.
    pub error: Option<String>,
    pub can_be_counted: bool,
}

#[derive(Debug, Serialize)]
pub struct ColumnReport {
    pub name: String,
    /// None if the column is ignored.
    pub taken_for: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct RegionReport {
    pub code: String,
    pub name: String,
    /// None if unknown.
    pub registered: Option<u64>,
    pub ballots: u64,
}

#[derive(Debug, Serialize)]
pub struct CandidateReport {
    pub code: String,
    pub name: String,
    /// The number of regions with a row.
    pub regions: usize,
    pub votes: u64,
}

#[derive(Debug, Default, Serialize)]
pub struct Sums {
    /// None if unknown.
    pub registered: Option<u64>,
    pub ballots: u64,
    pub valid: u64,
    pub blank: u64,
    pub null: u64,
}

/// The SHA-256 that identifies a version of the file, as `sha256sum` prints it, and the size in bytes.
///
/// # Errors
///
/// If the file cannot be read.
pub fn hash(path: &Path) -> Result<(String, u64), FileError> {
    let unreadable = |source: io::Error| FileError::Unreadable { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let (mut hasher, mut buffer, mut bytes) = (Sha256::new(), vec![0; 1 << 16], 0);
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            read => {
                hasher.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
    Ok((hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), bytes))
}

/// Reads a file as far as possible. Errors in the file are part of the report.
///
/// # Errors
///
/// If the operating system cannot read the file.
pub fn inspect(path: &Path, layout: &Layout, about: &About) -> Result<Report, FileError> {
    let (sha256, bytes) = hash(path)?;
    let mut report = Report {
        file: path.display().to_string(),
        bytes,
        sha256,
        kind: layout.kind,
        layout: layout.name.clone(),
        written: None,
        rows: None,
        rows_passed_over: 0,
        columns: Vec::new(),
        contests: Vec::new(),
        contest: None,
        regions: Vec::new(),
        candidates: Vec::new(),
        sums: Sums::default(),
        findings: Vec::new(),
        error: None,
        can_be_counted: false,
    };
    let read = match layout.kind {
        Kind::Results => report.read_results(path, layout),
        Kind::Rankings => rankings::read(path, layout).map(|settled| report.put(settled)),
        Kind::Ballots => report.read_ballots(path, layout, about),
    };
    if let Err(error) = read {
        report.error = Some(error.to_string());
    }
    report.can_be_counted = report.error.is_none() && !report.findings.iter().any(|finding| finding.is_refused);
    Ok(report)
}

impl Report {
    fn read_results(&mut self, path: &Path, layout: &Layout) -> Result<(), FileError> {
        self.look_at_header(path, layout)?;
        let facts = facts::read(path, layout)?;
        self.columns = columns(layout, &facts.columns, &facts.used);
        (self.rows, self.rows_passed_over) = (Some(facts.rows), facts.passed_over);
        if facts.votes.is_empty() {
            let what = "has no row; expected one for each region and candidate".into();
            return Err(FileError::Whole { path: path.to_owned(), what });
        }
        self.put(settle(&facts, layout));
        Ok(())
    }

    /// Records what can be reported even if the rows cannot be read.
    fn look_at_header(&mut self, path: &Path, layout: &Layout) -> Result<(), FileError> {
        let table = Table::open(path, &layout.file, &layout.wanted())?;
        self.written = Some(table.found().clone());
        self.columns = columns(layout, table.columns(), &vec![false; table.columns().len()]);
        Ok(())
    }

    fn read_ballots(&mut self, path: &Path, layout: &Layout, about: &About) -> Result<(), FileError> {
        self.look_at_header(path, layout)?;
        let file = BallotFile::open(path, layout.clone(), about, [0; 32], 1)?;
        self.rows = Some(file.total());
        let (election, sums) = (file.election(), file.sums());
        let candidates = election.choices.iter().zip(&sums.choices).map(|(choice, votes)| CandidateReport {
            code: choice.code.clone(),
            name: choice.name.clone(),
            regions: election.regions.len(),
            votes: *votes,
        });
        self.candidates = candidates.collect();
        let regions = election.regions.iter().zip(&sums.regions).map(|(region, ballots)| RegionReport {
            code: region.code.clone(),
            name: region.name.clone(),
            registered: None,
            ballots: *ballots,
        });
        self.regions = regions.collect();
        let valid = sums.choices.iter().sum();
        self.sums = Sums { registered: None, ballots: file.total(), valid, blank: sums.blank, null: sums.null };
        self.findings = file.findings().to_vec();
        self.sort();
        Ok(())
    }

    fn put(&mut self, settled: Settled) {
        let Settled { contest, contests, regions, candidates, findings } = settled;
        (self.contest, self.contests, self.findings) = (contest, contests, findings.0);
        let sum = |of: fn(&super::settled::RegionSum) -> u64| regions.iter().map(of).sum();
        self.sums = Sums {
            registered: regions.iter().map(|region| region.registered).sum(),
            ballots: sum(super::settled::RegionSum::cast),
            valid: sum(|region| region.valid),
            blank: sum(|region| region.blank),
            null: sum(|region| region.null),
        };
        let reports = candidates.iter().map(|candidate| CandidateReport {
            code: candidate.code.clone(),
            name: candidate.rows[0].name.clone(),
            regions: candidate.rows.len(),
            votes: candidate.votes(),
        });
        self.candidates = reports.collect();
        let reports = regions.into_iter().map(|region| RegionReport {
            ballots: region.cast(),
            code: region.code,
            name: region.name,
            registered: region.registered,
        });
        self.regions = reports.collect();
        self.sort();
    }

    fn sort(&mut self) {
        self.candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.votes));
    }
}

/// Each column and its interpretation.
fn columns(layout: &Layout, names: &[String], used: &[bool]) -> Vec<ColumnReport> {
    let columns = &layout.columns;
    let figures = [&columns.registered, &columns.abstentions, &columns.blank, &columns.null];
    let mut roles = vec![
        ("region", &columns.region),
        ("region's name", &columns.region_name),
        ("candidate", &columns.choice),
        ("candidate's id", &columns.choice_id),
        ("votes", &columns.votes),
        ("contest", &columns.contest),
        ("part of the votes", &columns.part),
        ("voter", &columns.voter),
        ("channel", &columns.channel),
    ];
    roles.extend(FIGURES.into_iter().zip(figures));
    let alternatives = |name: &str| name.trim_end_matches('?').split('|').map(str::to_owned).collect::<Vec<_>>();
    let role_of = |place: usize, name: &str| {
        let is_named = |known: &String| {
            alternatives(known).iter().any(|known| folded(known) == folded(name) || *known == format!("#{}", place + 1))
        };
        let role = roles.iter().find(|(_, names)| names.0.iter().any(is_named)).map(|(role, _)| (*role).to_owned());
        let is_used = used.get(place).copied().unwrap_or_default();
        let of_group = if layout.wide.is_some() || layout.repeat.is_some() { "candidate" } else { "contest" };
        role.or_else(|| is_used.then(|| of_group.to_owned()))
    };
    let reports = names
        .iter()
        .enumerate()
        .map(|(place, name)| ColumnReport { name: name.clone(), taken_for: role_of(place, name) });
    reports.collect()
}
