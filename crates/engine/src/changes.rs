//! What a run of records changes in the tables: sums, which can be merged in any order.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use hashbrown::HashMap;

use scrutin_contract::record::{Batch, Record};
use scrutin_contract::vote::{Reason, VoterId};

use super::rules::{Cell, Rules};
use super::{EVIDENCE_BYTES_MAX, EVIDENCE_MAX, Partition};

/// Changes to be committed together.
#[derive(Debug)]
pub struct Changes {
    pub partitions: BTreeMap<u32, PartitionChange>,
    pub totals: Totals,
}

/// The progress of a partition.
#[derive(Debug, Default)]
pub struct PartitionChange {
    pub next_offset: u64,
    pub gaps: u64,
    pub counted: u64,
    pub rejected: u64,
    /// Voters newly marked in the poll book, by election.
    pub voters: Vec<Vec<VoterId>>,
}

/// Sums over all partitions.
#[derive(Debug)]
pub struct Totals {
    /// By election.
    elections: Vec<ElectionTotals>,
    pub rejections: BTreeMap<(Reason, i64), u64>,
    pub rejected_records: Vec<RejectedRecord>,
    rejected_bytes: usize,
    /// Append times in milliseconds since 1970 UTC, with the number of records of each.
    pub appended: Vec<(i64, u64)>,
}

#[derive(Debug)]
struct ElectionTotals {
    cells: usize,
    channels: usize,
    /// Votes by cell and channel.
    tally: Vec<u32>,
    rows: Vec<TimelineRow>,
    /// From a bucket to its row.
    row_of: HashMap<i64, usize>,
    last_row: usize,
    spare: Vec<Vec<u32>>,
}

#[derive(Debug)]
struct TimelineRow {
    bucket_ms: i64,
    /// Votes by cell.
    votes: Vec<u32>,
}

/// A rejected record, kept for inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    pub partition: u32,
    pub offset: u64,
    pub reason: Reason,
    pub appended_at_ms: i64,
    /// The first [`EVIDENCE_BYTES_MAX`] bytes.
    pub key: Option<Vec<u8>>,
    /// The first [`EVIDENCE_BYTES_MAX`] bytes.
    pub value: Option<Vec<u8>>,
    /// Length of the whole value.
    pub value_bytes: Option<usize>,
}

impl RejectedRecord {
    /// Bytes in memory.
    fn size(&self) -> usize {
        let bytes = [&self.key, &self.value].into_iter().flatten().map(Vec::len).sum::<usize>();
        size_of::<RejectedRecord>() + bytes
    }
}

impl Changes {
    pub fn new(rules: &Rules) -> Changes {
        let elections = rules.elections.iter().map(|election| ElectionTotals {
            cells: election.cells(),
            channels: election.channels.len(),
            tally: vec![0; election.cells() * election.channels.len()],
            rows: Vec::new(),
            row_of: HashMap::new(),
            last_row: 0,
            spare: Vec::new(),
        });
        Changes {
            partitions: BTreeMap::new(),
            totals: Totals {
                elections: elections.collect(),
                rejections: BTreeMap::new(),
                rejected_records: Vec::new(),
                rejected_bytes: 0,
                appended: Vec::new(),
            },
        }
    }

    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Records counted or rejected.
    pub fn received(&self) -> u64 {
        self.partitions.values().map(|change| change.counted + change.rejected).sum()
    }

    /// Approximate size in memory, in bytes.
    pub fn size(&self) -> usize {
        let rows = self.totals.elections.iter().map(|totals| totals.rows.len() * totals.cells * 4);
        let voters = self.partitions.values().flat_map(|change| &change.voters).map(|voters| voters.len() * 16);
        rows.sum::<usize>() + voters.sum::<usize>() + self.totals.rejected_bytes
    }

    /// Merges the changes of other partitions and leaves `other` empty; its memory is kept for reuse.
    pub fn take_in(&mut self, other: &mut Changes) {
        self.partitions.append(&mut other.partitions);
        self.totals.take_in(&mut other.totals);
    }

    /// Clears everything but keeps the memory.
    pub fn clear(&mut self) {
        self.partitions.clear();
        for totals in &mut self.totals.elections {
            totals.tally.fill(0);
            totals.clear_rows();
        }
        self.totals.rejections.clear();
        self.totals.rejected_records.clear();
        self.totals.rejected_bytes = 0;
        self.totals.appended.clear();
    }
}

impl Totals {
    #[inline(always)]
    pub(super) fn count(&mut self, election: usize, cell: Cell, channel: usize, bucket_ms: i64) {
        let totals = &mut self.elections[election];
        totals.tally[cell as usize * totals.channels + channel] += 1;
        totals.row(bucket_ms)[cell as usize] += 1;
    }

    #[cold]
    pub(super) fn reject(&mut self, rules: &Rules, partition: &mut Partition, record: &Record<'_>, reason: Reason) {
        let bucket_ms = record.appended_at_ms - record.appended_at_ms.rem_euclid(rules.rejection_bucket_ms);
        *self.rejections.entry((reason, bucket_ms)).or_default() += 1;
        let kept = &mut partition.rejected_records[reason as usize];
        if *kept < EVIDENCE_MAX {
            *kept += 1;
            let head = |field: &[u8]| field[..field.len().min(EVIDENCE_BYTES_MAX)].to_vec();
            let rejected_record = RejectedRecord {
                partition: partition.partition,
                offset: record.offset,
                reason,
                appended_at_ms: record.appended_at_ms,
                key: record.key.map(head),
                value: record.value.map(head),
                value_bytes: record.value.map(<[u8]>::len),
            };
            self.rejected_bytes += rejected_record.size();
            self.rejected_records.push(rejected_record);
        }
    }

    pub(super) fn append_times(&mut self, batch: &Batch) {
        for record in batch.records() {
            match self.appended.last_mut() {
                Some((time, records)) if *time == record.appended_at_ms => *records += 1,
                _ => self.appended.push((record.appended_at_ms, 1)),
            }
        }
    }

    /// Votes of a cell cast through a channel.
    pub fn votes(&self, election: usize, cell: Cell, channel: usize) -> u64 {
        let totals = &self.elections[election];
        u64::from(totals.tally[cell as usize * totals.channels + channel])
    }

    /// Buckets with votes in order of time, each with its votes by cell.
    pub fn timeline(&self, election: usize) -> impl Iterator<Item = (i64, &[u32])> {
        let mut rows: Vec<&TimelineRow> = self.elections[election].rows.iter().collect();
        rows.sort_unstable_by_key(|row| row.bucket_ms);
        rows.into_iter().map(|row| (row.bucket_ms, row.votes.as_slice()))
    }

    fn take_in(&mut self, other: &mut Totals) {
        for (ours, theirs) in self.elections.iter_mut().zip(&mut other.elections) {
            add(&mut ours.tally, &theirs.tally);
            theirs.tally.fill(0);
            for row in &theirs.rows {
                add(ours.row(row.bucket_ms), &row.votes);
            }
            theirs.clear_rows();
        }
        for (key, votes) in core::mem::take(&mut other.rejections) {
            *self.rejections.entry(key).or_default() += votes;
        }
        self.rejected_records.append(&mut other.rejected_records);
        self.rejected_bytes += core::mem::take(&mut other.rejected_bytes);
        self.appended.append(&mut other.appended);
    }
}

fn add(sums: &mut [u32], numbers: &[u32]) {
    sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
}

impl ElectionTotals {
    /// The votes of a bucket. Votes arrive nearly in order of time, so it is usually the last one used.
    #[inline(always)]
    fn row(&mut self, bucket_ms: i64) -> &mut [u32] {
        if self.rows.get(self.last_row).is_none_or(|row| row.bucket_ms != bucket_ms) {
            self.last_row = self.find_row(bucket_ms);
        }
        &mut self.rows[self.last_row].votes
    }

    fn find_row(&mut self, bucket_ms: i64) -> usize {
        *self.row_of.entry(bucket_ms).or_insert_with(|| {
            let votes = self.spare.pop().unwrap_or_else(|| vec![0; self.cells]);
            self.rows.push(TimelineRow { bucket_ms, votes });
            self.rows.len() - 1
        })
    }

    fn clear_rows(&mut self) {
        self.row_of.clear();
        for mut row in self.rows.drain(..) {
            row.votes.fill(0);
            self.spare.push(row.votes);
        }
    }
}
