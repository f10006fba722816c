//! The ground-truth file: what a count of generated votes must come to.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

use scrutin_files::FileError;
use serde::{Deserialize, Serialize};

/// The expected count of a whole run, as stored in the ground-truth file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    pub election: String,
    pub seed: u64,
    /// Total number of records: `counted` plus the sum of `rejected`.
    pub records: u64,
    pub counted: u64,
    /// Rejected votes by reason; reasons without any are omitted.
    pub rejected: BTreeMap<String, u64>,
    pub bucket_seconds: u32,
    pub channels: Vec<String>,
    /// Region and choice of each cell; `tally` and `timeline` refer to cells by index.
    pub cells: Vec<(String, String)>,
    /// Counted votes per cell and, within it, per channel.
    pub tally: Vec<Vec<u64>>,
    /// In chronological order; buckets without a vote are omitted.
    pub timeline: Vec<Bucket>,
}

/// The counted votes that were cast in one bucket of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Start of the bucket, in milliseconds since 1970 UTC; a multiple of the bucket's width.
    pub start_ms: i64,
    /// Cell and votes, in order of cells; cells without a vote are omitted.
    pub votes: Vec<(u32, u64)>,
}

impl Truth {
    /// The tally row by row: region, choice, channel, votes. Rows without a vote are omitted.
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

    /// Writes the file atomically.
    ///
    /// # Errors
    /// If the file cannot be created, written or renamed.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        let draft = Path::new(&draft);
        let mut out = BufWriter::new(fs::File::create(draft)?);
        serde_json::to_writer(&mut out, self)?;
        out.write_all(b"\n")?;
        out.into_inner().map_err(|error| error.into_error())?.sync_all()?;
        fs::rename(draft, path)
    }

    /// Reads the file, and checks that it is consistent in itself.
    /// Reads the file and checks that it is consistent.
    /// # Errors
    /// If the file cannot be read, is not a ground-truth file, or does not add up.
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
