//! Real votes: official results taken apart into ballots, and files of real ballots.
//!
//! Both bring their own election and go the way of simulated votes ([`run`](crate::simulate::run)); the tallies
//! come out equal to the source.

pub mod ballots;
mod codes;
pub mod results;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use ballots::{BallotColumns, BallotFile};

use crate::election::{Choice, Election, Region, default_color};

/// What a file of votes does not say of its election.
#[derive(Clone, Debug)]
pub struct About {
    /// None: made from the file's name.
    pub id: Option<String>,
    /// None: the file's name without its ending.
    pub title: Option<String>,
    /// Milliseconds since 1970 UTC.
    pub opens_at_ms: i64,
    pub closes_at_ms: i64,
    /// An IANA name.
    pub time_zone: String,
    /// At least one; those of the file where it says.
    pub channels: Vec<String>,
    pub bucket_seconds: u32,
}

/// The id of an election that a file brings, made from the file's name.
pub fn election_id(path: &Path) -> String {
    codes::Codes::default().give(stem(path).as_ref(), "election")
}

/// The file's name without its endings.
fn stem(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let file = file.strip_suffix(".gz").unwrap_or(&file);
    file.strip_suffix(".csv").unwrap_or(file).to_owned()
}

impl About {
    fn election(&self, path: &Path, regions: Vec<Region>, choices: Vec<Choice>) -> Election {
        Election {
            id: self.id.clone().unwrap_or_else(|| election_id(path)),
            title: self.title.clone().unwrap_or_else(|| stem(path)),
            opens_at_ms: self.opens_at_ms,
            closes_at_ms: self.closes_at_ms,
            time_zone: self.time_zone.clone(),
            channels: self.channels.clone(),
            bucket_seconds: self.bucket_seconds,
            expected_turnout: None,
            regions,
            choices,
        }
    }
}

/// Gives the choices their colours in the order of their votes.
fn color_by_votes(choices: &mut [Choice], votes: &[u64]) {
    let mut order: Vec<usize> = (0..choices.len()).collect();
    order.sort_by_key(|&place| std::cmp::Reverse(votes[place]));
    order.into_iter().enumerate().for_each(|(rank, place)| choices[place].color = default_color(rank));
}
