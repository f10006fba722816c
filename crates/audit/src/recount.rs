//! Recounts one partition from the log.

use std::collections::{BTreeMap, HashMap, HashSet};

use scrutin_contract::record::Record;
use scrutin_contract::vote::Reason;
use scrutin_log::VoteLog;

use super::judge::{Ballot, Rulebook};
use super::snapshot::Position;
use super::{AuditError, Result, read};

/// How many rejected records are kept per reason and partition, and how many bytes of their keys and values.
const KEPT_PER_REASON: u64 = 1000;
const KEPT_BYTES: usize = 4096;

/// Records between two progress reports.
const REPORT_EVERY: u64 = 4096;

/// Everything by number, except the bucket: its start in milliseconds since 1970 UTC, by `cast_at`.
pub(super) type TallyCell = (usize, usize, usize, usize);
pub(super) type Bucket = (usize, i64);
pub(super) type BucketCell = (usize, usize);

/// Totals that are summed over partitions.
#[derive(Default)]
pub(super) struct RecountTotals {
    /// By election, region, choice and channel.
    pub tally: HashMap<TallyCell, u64>,
    /// By election and bucket, then by region and choice. Votes arrive nearly in time order, so only one small inner
    /// map is in use at a time.
    pub timeline: HashMap<Bucket, HashMap<BucketCell, u64>>,
    /// By reason and the start of the append time's bucket, in milliseconds since 1970 UTC.
    pub rejections: BTreeMap<(Reason, i64), u64>,
}

impl RecountTotals {
    pub fn add(&mut self, other: RecountTotals) {
        for (cell, votes) in other.tally {
            *self.tally.entry(cell).or_default() += votes;
        }
        for (bucket, cells) in other.timeline {
            let sums = self.timeline.entry(bucket).or_default();
            for (cell, votes) in cells {
                *sums.entry(cell).or_default() += votes;
            }
        }
        for (key, votes) in other.rejections {
            *self.rejections.entry(key).or_default() += votes;
        }
    }
}

/// The recount of one partition.
pub(super) struct Recount {
    /// The log's current offsets.
    pub log_start: u64,
    pub log_end: u64,
    pub records: u64,
    pub gaps: u64,
    pub counted: u64,
    pub rejected: BTreeMap<Reason, u64>,
    pub totals: RecountTotals,
    /// Who has voted, by election.
    pub poll_books: Vec<HashSet<u128>>,
    /// By offset.
    pub rejected_records: BTreeMap<u64, RejectedRecord>,
}

#[derive(Debug, PartialEq)]
pub(super) struct RejectedRecord {
    pub reason: String,
    /// Microseconds since 1970 UTC.
    pub appended_at_us: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub value_bytes: Option<i64>,
}

/// Recounts the records from a position's first offset to its next offset. `go_on` receives the number of offsets done
/// since its last call; returning false stops the recount, and the result is none.
pub(super) fn partition(
    log: &dyn VoteLog,
    rulebook: &Rulebook,
    position: &Position,
    go_on: &dyn Fn(u64) -> bool,
) -> Result<Option<Recount>> {
    log.recover(position.partition, position.next_offset)?;
    let offsets = log.offsets(position.partition)?;
    if position.first_offset < offsets.start && position.first_offset < position.next_offset {
        return Err(AuditError::Unusable(format!(
            "partition {} of {} starts at offset {}, but the count began at {}: records deleted from the log cannot be \
             recounted",
            position.partition,
            log.name(),
            offsets.start,
            position.first_offset
        )));
    }
    let end = position.next_offset.min(offsets.end);
    // Growing a set of millions costs more than filling it. The position only hints at the final size.
    let voters = position.counted.clamp(0, end.saturating_sub(position.first_offset) as i64) as usize;
    let room = voters / rulebook.elections.len().max(1);
    let mut recount = Recount {
        log_start: offsets.start,
        log_end: offsets.end,
        records: 0,
        gaps: 0,
        counted: 0,
        rejected: BTreeMap::new(),
        totals: RecountTotals::default(),
        poll_books: rulebook.elections.iter().map(|_| HashSet::with_capacity(room)).collect(),
        rejected_records: BTreeMap::new(),
    };
    let mut reported = position.first_offset;
    let all = read::records(log, position.partition, position.first_offset..end, &mut |record| {
        recount.count(rulebook, position.partition, record);
        recount.records += 1;
        if !recount.records.is_multiple_of(REPORT_EVERY) {
            return true;
        }
        let done = record.offset + 1 - reported;
        reported += done;
        go_on(done)
    });
    if !all? || !go_on(end.saturating_sub(reported)) {
        return Ok(None);
    }
    recount.gaps = end.saturating_sub(position.first_offset) - recount.records;
    Ok(Some(recount))
}

impl Recount {
    fn count(&mut self, rulebook: &Rulebook, partition: u32, record: &Record<'_>) {
        let outcome = rulebook.judge(partition, record).and_then(|ballot| {
            let first = self.poll_books[ballot.election].insert(ballot.voter);
            if first { Ok(ballot) } else { Err(Reason::AlreadyVoted) }
        });
        match outcome {
            Ok(Ballot { election, region, choice, channel, bucket_ms, .. }) => {
                self.counted += 1;
                *self.totals.tally.entry((election, region, choice, channel)).or_default() += 1;
                let bucket = self.totals.timeline.entry((election, bucket_ms)).or_default();
                *bucket.entry((region, choice)).or_default() += 1;
            }
            Err(reason) => {
                let so_far = self.rejected.entry(reason).or_default();
                *so_far += 1;
                if *so_far <= KEPT_PER_REASON {
                    self.rejected_records.insert(record.offset, RejectedRecord::of(record, reason));
                }
                let width = rulebook.rejection_bucket_ms;
                let bucket_ms = record.appended_at_ms.div_euclid(width) * width;
                *self.totals.rejections.entry((reason, bucket_ms)).or_default() += 1;
            }
        }
    }
}

impl RejectedRecord {
    fn of(record: &Record<'_>, reason: Reason) -> RejectedRecord {
        let beginning = |bytes: &[u8]| bytes.iter().copied().take(KEPT_BYTES).collect();
        RejectedRecord {
            reason: reason.code().to_owned(),
            appended_at_us: record.appended_at_ms * 1000,
            key: record.key.map(beginning),
            value: record.value.map(beginning),
            value_bytes: record.value.map(|value| value.len() as i64),
        }
    }
}
