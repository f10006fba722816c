//! What a count of generated votes must come to, as it lies in the ground-truth file.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

use scrutin_files::FileError;
use serde::{Deserialize, Serialize};

/// The expected count of a whole run, as it lies in the ground-truth file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    pub election: String,
    pub seed: u64,
    /// Records in all: `counted` plus the sum of `rejected`.
    pub records: u64,
    pub counted: u64,
    /// Rejected votes by reason; a reason without any is left out.
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
    ///
    /// # Errors
    /// Where the folder takes no file.
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
    ///
    /// # Errors
    /// Where it cannot be read, is no such file, or does not add up.
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
