//! The native count: records in, changes out.
//!
//! Pure: no clock, no sockets, no disk, nothing asynchronous; building without the standard library enforces that. It
//! cannot fail: every record is counted or rejected with a reason. The results go into [`Changes`], which the pipeline
//! commits.
//!
//! Invariants, asserted at the end of every batch:
//! * records in = counted + rejected;
//! * a voter is in a partition's poll book if and only if exactly one vote of theirs from there has been counted.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod changes;
mod codes;
mod poll_book;
mod rules;

pub use changes::{Changes, PartitionChange, RejectedRecord};
pub use poll_book::PollBook;
pub use rules::{CELLS_MAX, Cell, ElectionRules, Rules};

use alloc::sync::Arc;
use alloc::vec::Vec;

use scrutin_contract::partitioner::partition_of;
use scrutin_contract::record::{Batch, Record};
use scrutin_contract::vote::{Reason, Vote, VoterId};

/// How many rejected records of each reason are kept as evidence in each partition. Their count stays exact beyond
/// that.
pub const EVIDENCE_MAX: u32 = 1000;

/// How much of a rejected record's key and value is kept, in bytes.
pub const EVIDENCE_BYTES_MAX: usize = 4096;

/// Records judged before the first of them is marked in the poll book, so that prefetched memory has time to arrive.
const GROUP: usize = 64;

/// Counts the votes of some partitions.
pub struct Engine {
    rules: Arc<Rules>,
    partitions: Vec<Partition>,
    group: Vec<Ballot>,
}

/// The state of a partition's count.
pub struct Partition {
    pub partition: u32,
    /// The offset of the next record to be counted.
    pub next_offset: u64,
    /// Evidence kept so far, by reason.
    pub rejected_records: [u32; Reason::ALL.len()],
    /// Who has voted, by election.
    pub poll_books: Vec<PollBook>,
}

/// A vote that counts unless its voter has already voted.
struct Ballot {
    /// Index of the record in its batch.
    place: usize,
    election: usize,
    voter: VoterId,
    cell: Cell,
    channel: usize,
    bucket_ms: i64,
    hash: u64,
}

impl Engine {
    pub fn new(rules: Arc<Rules>, partitions: Vec<Partition>) -> Engine {
        for partition in &partitions {
            assert_eq!(partition.poll_books.len(), rules.elections.len(), "a poll book for every election");
        }
        Engine { rules, partitions, group: Vec::with_capacity(GROUP) }
    }

    /// The state of the partitions, to continue from.
    pub fn into_partitions(self) -> Vec<Partition> {
        self.partitions
    }

    /// The number of voters in all poll books.
    pub fn voters(&self) -> u64 {
        self.partitions.iter().flat_map(|partition| &partition.poll_books).map(|poll_book| poll_book.len() as u64).sum()
    }

    /// Counts the next batch of one of the partitions and adds the results to `changes`.
    ///
    /// # Panics
    /// If the batch is of a partition that this engine does not have, or begins before the partition's next offset.
    pub fn apply(&mut self, batch: &Batch, changes: &mut Changes) {
        let rules = Arc::clone(&self.rules);
        let found = self.partitions.iter_mut().find(|partition| partition.partition == batch.partition);
        let partition = found.expect("the batch is of one of this engine's partitions");
        let Changes { partitions: changed, totals } = changes;
        let change = changed.entry(partition.partition).or_default();
        change.voters.resize_with(rules.elections.len(), Vec::new);
        let mut counted = 0;
        let mut rejected = 0;
        let mut from = partition.next_offset;

        let mut records = batch.records().enumerate();
        loop {
            self.group.clear();
            let mut in_group = 0;
            for (place, record) in records.by_ref().take(GROUP) {
                in_group += 1;
                assert!(record.offset >= from, "offsets of a partition only grow");
                from = record.offset + 1;
                match judge(&rules, partition.partition, &record) {
                    Ok(mut ballot) => {
                        let poll_book = &partition.poll_books[ballot.election];
                        ballot.place = place;
                        ballot.hash = poll_book.hash(ballot.voter);
                        poll_book.prefetch(ballot.hash);
                        self.group.push(ballot);
                    }
                    Err(reason) => {
                        rejected += 1;
                        totals.reject(&rules, partition, &record, reason);
                    }
                }
            }
            if in_group == 0 {
                break;
            }
            for ballot in &self.group {
                if partition.poll_books[ballot.election].insert_hashed(ballot.voter, ballot.hash) {
                    counted += 1;
                    change.voters[ballot.election].push(ballot.voter);
                    totals.count(ballot.election, ballot.cell, ballot.channel, ballot.bucket_ms);
                } else {
                    rejected += 1;
                    totals.reject(&rules, partition, &batch.record(ballot.place), Reason::AlreadyVoted);
                }
            }
        }

        let received = batch.len() as u64;
        assert_eq!(received, counted + rejected, "every record is counted or rejected");
        assert!(batch.next_offset >= from, "a batch reaches past its records");
        change.next_offset = batch.next_offset;
        change.gaps += batch.next_offset - partition.next_offset - received;
        change.counted += counted;
        change.rejected += rejected;
        partition.next_offset = batch.next_offset;
        totals.append_times(batch);
    }
}

/// All checks except [`Reason::AlreadyVoted`], in the order of [`Reason`].
#[inline(always)]
fn judge(rules: &Rules, partition: u32, record: &Record<'_>) -> Result<Ballot, Reason> {
    let vote = record.value.and_then(|value| Vote::parse(value).ok()).ok_or(Reason::Malformed)?;
    let key = record.key.unwrap_or_default();
    if VoterId::parse(key) != Some(vote.voter) || partition_of(key, rules.partitions) != partition {
        return Err(Reason::Misrouted);
    }
    let election = rules.election(&vote.election).ok_or(Reason::UnknownElection)?;
    let election_rules = &rules.elections[election];
    let region = election_rules.region(&vote.region).ok_or(Reason::UnknownRegion)?;
    let cell = election_rules.cell(region, &vote.choice).ok_or(Reason::UnknownChoice)?;
    let channel = election_rules.channel(&vote.channel).ok_or(Reason::UnknownChannel)?;
    if vote.cast_at_ms < election_rules.opens_at_ms {
        return Err(Reason::NotOpen);
    }
    if vote.cast_at_ms >= election_rules.closes_at_ms {
        return Err(Reason::Closed);
    }
    let bucket_ms = election_rules.bucket(vote.cast_at_ms);
    Ok(Ballot { place: 0, election, voter: vote.voter, cell, channel, bucket_ms, hash: 0 })
}

#[cfg(test)]
mod tests;
