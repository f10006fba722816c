//! What a count of the generated records must come to.
//!
//! Kept by the generator from what it decided, never from the bytes it wrote. Memory: the cells, and one
//! pair of numbers for every timeline cell that is not empty.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::ballots::Ballots;
use super::schedule::Event;
use crate::csv_file::FileError;
use crate::vote::Reason;

/// The expected count of a whole run, as it lies in the ground-truth file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    pub election: String,
    pub seed: u64,
    /// Records in all: `counted` plus the sum of `rejected`.
    pub records: u64,
    pub counted: u64,
    /// Refused votes by reason; a reason without any is left out.
    pub rejected: BTreeMap<String, u64>,
    pub bucket_seconds: u32,
    pub channels: Vec<String>,
    /// Codes of region and choice; the rows of `tally` and the numbers in `timeline` stand for these.
    pub cells: Vec<(String, String)>,
    /// Counted votes: by cell, in it by channel.
    pub tally: Vec<Vec<u64>>,
    /// In order of time; buckets without a vote are left out.
    pub timeline: Vec<Bucket>,
}

/// The counted votes that were cast in one bucket of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Start of the bucket, in milliseconds since 1970 UTC; a whole multiple of its width.
    pub start_ms: i64,
    /// Cell and votes, in order of cells, those with a vote only.
    pub votes: Vec<(u32, u64)>,
}

impl Truth {
    /// The tally row by row: region, choice, channel, votes; those with a vote only.
    pub fn tally_rows(&self) -> impl Iterator<Item = (&str, &str, &str, u64)> {
        self.cells.iter().zip(&self.tally).flat_map(move |((region, choice), votes)| {
            let by_channel = self.channels.iter().zip(votes).filter(|(_, votes)| **votes > 0);
            by_channel.map(move |(channel, votes)| (region.as_str(), choice.as_str(), channel.as_str(), *votes))
        })
    }

    /// The timeline row by row: start of the bucket in milliseconds, region, choice, votes.
    pub fn timeline_rows(&self) -> impl Iterator<Item = (i64, &str, &str, u64)> {
        self.timeline.iter().flat_map(move |bucket| {
            bucket.votes.iter().map(move |&(cell, votes)| {
                let (region, choice) = &self.cells[cell as usize];
                (bucket.start_ms, region.as_str(), choice.as_str(), votes)
            })
        })
    }

    /// Writes the file, whole or not at all.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        let draft = Path::new(&draft);
        let written = (|| -> anyhow::Result<()> {
            let mut out = BufWriter::new(fs::File::create(draft)?);
            serde_json::to_writer(&mut out, self)?;
            out.write_all(b"\n")?;
            out.into_inner().map_err(|error| error.into_error())?.sync_all()?;
            fs::rename(draft, path)?;
            Ok(())
        })();
        written.with_context(|| format!("write the ground truth to {}", path.display()))
    }

    /// Reads the file, and checks that it is consistent in itself.
    pub fn read(path: &Path) -> Result<Truth, FileError> {
        let text = fs::read(path).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })?;
        let whole = |what| FileError::Whole { path: path.to_owned(), what };
        let truth: Truth = serde_json::from_slice(&text)
            .map_err(|error| whole(format!("expected a ground-truth file of simulate or replay, but {error}")))?;
        truth.check().map_err(|what| whole(format!("the ground truth is damaged: {what}")))?;
        Ok(truth)
    }

    fn check(&self) -> Result<(), String> {
        if self.tally.len() != self.cells.len() || self.tally.iter().any(|row| row.len() != self.channels.len()) {
            return Err("`tally` does not fit `cells` and `channels`".into());
        }
        if self.timeline.iter().flat_map(|bucket| &bucket.votes).any(|(cell, _)| *cell as usize >= self.cells.len()) {
            return Err("`timeline` names a cell that is not in `cells`".into());
        }
        let tallied: u64 = self.tally.iter().flatten().sum();
        let timed: u64 = self.timeline.iter().flat_map(|bucket| &bucket.votes).map(|(_, votes)| votes).sum();
        let rejected: u64 = self.rejected.values().sum();
        if tallied != self.counted || timed != self.counted || self.counted + rejected != self.records {
            return Err(format!(
                "{} records, {} counted, {rejected} rejected, {tallied} in the tally, {timed} in the timeline",
                self.records, self.counted
            ));
        }
        Ok(())
    }
}

/// Adds up the truth, event by event.
pub struct TruthCount {
    channels: usize,
    bucket_ms: i64,
    /// By cell and channel.
    tally: Vec<u64>,
    rejected: [u64; Reason::ALL.len()],
    /// Start of the bucket that most ballots are in now, and its votes by cell.
    bucket: i64,
    votes: Vec<u64>,
    /// The buckets before.
    past: BTreeMap<i64, Vec<(u32, u64)>>,
    /// Votes in other buckets than that of their time; by bucket and cell.
    strays: HashMap<(i64, u32), u64>,
}

impl TruthCount {
    pub fn new<B: Ballots>(ballots: &B) -> TruthCount {
        let election = ballots.election();
        let bucket_ms = i64::from(election.bucket_seconds) * 1000;
        TruthCount {
            channels: election.channels.len(),
            bucket_ms,
            tally: vec![0; ballots.cells().len() * election.channels.len()],
            rejected: [0; Reason::ALL.len()],
            bucket: election.opens_at_ms - election.opens_at_ms.rem_euclid(bucket_ms),
            votes: vec![0; ballots.cells().len()],
            past: BTreeMap::new(),
            strays: HashMap::new(),
        }
    }

    #[inline]
    pub fn add(&mut self, event: &Event) {
        if let Some(reason) = event.refused {
            self.rejected[reason as usize] += 1;
            return;
        }
        self.tally[event.cell as usize * self.channels + event.channel as usize] += 1;
        let into_bucket = event.cast_at_ms.wrapping_sub(self.bucket) as u64;
        if into_bucket < self.bucket_ms as u64 {
            self.votes[event.cell as usize] += 1;
        } else {
            self.add_elsewhere(event);
        }
    }

    #[cold]
    fn add_elsewhere(&mut self, event: &Event) {
        let bucket = event.cast_at_ms - event.cast_at_ms.rem_euclid(self.bucket_ms);
        if bucket > self.bucket {
            self.close_bucket();
            self.bucket = bucket;
            self.votes[event.cell as usize] += 1;
        } else {
            *self.strays.entry((bucket, event.cell)).or_default() += 1;
        }
    }

    fn close_bucket(&mut self) {
        let votes = self.votes.iter_mut().enumerate().filter(|(_, votes)| **votes > 0);
        let votes: Vec<(u32, u64)> = votes.map(|(cell, votes)| (cell as u32, std::mem::take(votes))).collect();
        if !votes.is_empty() {
            self.past.insert(self.bucket, votes);
        }
    }

    pub fn finish<B: Ballots>(mut self, ballots: &B) -> Truth {
        self.close_bucket();
        let mut strays: Vec<((i64, u32), u64)> = self.strays.into_iter().collect();
        strays.sort_unstable();
        for ((bucket, cell), votes) in strays {
            let row = self.past.entry(bucket).or_default();
            match row.binary_search_by_key(&cell, |(cell, _)| *cell) {
                Ok(place) => row[place].1 += votes,
                Err(place) => row.insert(place, (cell, votes)),
            }
        }
        let (election, cells) = (ballots.election(), ballots.cells());
        let counted = self.tally.iter().sum();
        let rejected = Reason::ALL.into_iter().map(|reason| (reason.code().to_owned(), self.rejected[reason as usize]));
        Truth {
            election: election.id.clone(),
            seed: ballots.seed(),
            records: counted + self.rejected.iter().sum::<u64>(),
            counted,
            rejected: rejected.filter(|(_, votes)| *votes > 0).collect(),
            bucket_seconds: election.bucket_seconds,
            channels: election.channels.clone(),
            cells: (0..cells.len() as u32)
                .map(|cell| cells.codes(cell))
                .map(|(region, choice)| (region.to_owned(), choice.to_owned()))
                .collect(),
            tally: self.tally.chunks(self.channels).map(<[u64]>::to_vec).collect(),
            timeline: self.past.into_iter().map(|(start_ms, votes)| Bucket { start_ms, votes }).collect(),
        }
    }
}
