//! Results of a file, as they are counted.

use super::finding::Findings;

/// Results, ready to be counted.
pub struct Settled {
    pub contest: Option<String>,
    pub contests: Vec<String>,
    pub regions: Vec<RegionSum>,
    pub candidates: Vec<Candidate>,
    pub findings: Findings,
}

pub struct RegionSum {
    pub code: String,
    pub name: String,
    /// None if unknown.
    pub registered: Option<u64>,
    pub abstentions: Option<u64>,
    pub blank: u64,
    pub null: u64,
    pub valid: u64,
    pub line: u64,
}

impl RegionSum {
    /// The total number of ballots.
    pub fn cast(&self) -> u64 {
        self.valid + self.blank + self.null
    }
}

/// A person, or anything else that can be voted for.
pub struct Candidate {
    pub code: String,
    pub rows: Vec<CandidateRow>,
    pub is_everywhere: bool,
}

pub struct CandidateRow {
    pub region: usize,
    pub name: String,
    pub votes: u64,
}

impl Candidate {
    pub fn votes(&self) -> u64 {
        self.rows.iter().map(|row| row.votes).sum()
    }
}
