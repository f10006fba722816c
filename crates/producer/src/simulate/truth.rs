//! What a count of the generated records must come to.
//!
//! Derived from the generator's decisions, never from the bytes it wrote. Memory: the cells, and one pair of numbers
//! for every timeline cell that is not empty.

use std::collections::{BTreeMap, HashMap};

use scrutin_contract::truth::{Bucket, Truth};
use scrutin_contract::vote::Reason;

use super::ballots::Ballots;
use super::schedule::Event;

/// Accumulates the truth, event by event.
pub struct TruthCount {
    channels: usize,
    bucket_ms: i64,
    /// By cell and channel.
    tally: Vec<u64>,
    rejected: [u64; Reason::ALL.len()],
    /// The start of the bucket that most ballots currently fall into, and its votes by cell.
    bucket: i64,
    votes: Vec<u64>,
    /// Earlier buckets.
    past: BTreeMap<i64, Vec<(u32, u64)>>,
    /// Votes that fall into other buckets than the current one; by bucket and cell.
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
        if let Some(reason) = event.rejected {
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
