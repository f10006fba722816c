//! Real votes: from official results, split into ballots, and from files of real ballots.
//!
//! Both bring their own election and are sent like simulated votes ([`run`](crate::simulate::run)); the resulting
//! tallies equal the source.

mod ballot_columns;
pub mod ballots;
mod candidates;
mod codes;
mod contests;
pub mod detect;
mod facts;
pub mod finding;
pub mod inspect;
pub mod layout;
mod places;
mod rankings;
mod regions;
pub mod results;
mod settle;
mod settled;
mod settling;
mod totals;
mod words;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod publishers;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;

pub use ballots::BallotFile;
pub use finding::Finding;
pub use layout::Layout;

use scrutin_contract::election::{Choice, Election, Region, default_color};

/// What a file of votes does not say about its election.
#[derive(Clone, Debug)]
pub struct About {
    /// If none, derived from the file's name.
    pub id: Option<String>,
    /// If none, the file's name without its extension.
    pub title: Option<String>,
    /// Milliseconds since 1970 UTC.
    pub opens_at_ms: i64,
    pub closes_at_ms: i64,
    /// An IANA name.
    pub time_zone: String,
    /// At least one. A file that has channels overrides these.
    pub channels: Vec<String>,
    pub bucket_seconds: u32,
}

/// The id of a file's election, derived from the file's name.
pub fn election_id(path: &Path) -> String {
    codes::Codes::default().give(stem(path).as_ref(), "election")
}

/// The file's name without its extensions.
fn stem(path: &Path) -> String {
    const ENDINGS: [&str; 8] = [".gz", ".zip", ".csv", ".tsv", ".txt", ".xlsx", ".ods", ".tab"];
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let mut stem: &str = &file;
    while let Some(shorter) = ENDINGS.iter().find_map(|end| stem.strip_suffix(end)).filter(|stem| !stem.is_empty()) {
        stem = shorter;
    }
    stem.to_owned()
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

/// Assigns colours in order of votes. A person who stands in several regions has one colour.
fn color_by_votes(choices: &mut [Choice], votes: &[u64]) {
    let mut order: Vec<usize> = (0..choices.len()).collect();
    order.sort_by_key(|&place| std::cmp::Reverse(votes[place]));
    let mut color_of: HashMap<(String, String), String> = HashMap::new();
    for place in order {
        let rank = color_of.len();
        let choice = &mut choices[place];
        let color = color_of.entry((choice.code.clone(), choice.name.clone())).or_insert_with(|| default_color(rank));
        choice.color.clone_from(color);
    }
}
