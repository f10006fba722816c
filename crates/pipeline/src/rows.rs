//! Turns the engine's changes into the rows that a commit writes.

use scrutin_engine::{Cell, Changes, PartitionChange, Rules};
use scrutin_store::commit::CommitRows;
use scrutin_store::rows::{PollBookRow, PositionRow, RejectedRecordRow, RejectionRow, TallyRow, TimelineRow};

/// The rows of each table in order of their keys.
pub(super) fn rows_of<'a>(rules: &'a Rules, changes: &'a Changes) -> CommitRows<'a> {
    let mut rows = CommitRows::default();
    for (&partition, change) in &changes.partitions {
        let &PartitionChange { next_offset, gaps, counted, rejected, ref voters } = change;
        rows.positions.push(PositionRow { partition, next_offset, gaps, counted, rejected });
        for (election, voters) in rules.elections.iter().zip(voters).filter(|(_, voters)| !voters.is_empty()) {
            rows.poll_book.push(PollBookRow { election: &election.id, partition, next_offset, voters });
        }
    }
    for (place, election) in rules.elections.iter().enumerate() {
        let regions =
            || election.regions_by_code.iter().map(|&it| (&*election.region_codes[it], election.cells_of(it)));
        for (region, cells) in regions() {
            for &channel in &election.channels_by_code {
                let votes = |cell| changes.totals.votes(place, cell as Cell, channel);
                if cells.clone().any(|cell| votes(cell) > 0) {
                    let (channel, votes) = (&election.channels[channel], cells.clone().map(votes).collect());
                    rows.tally.push(TallyRow { election: &election.id, region, channel, votes });
                }
            }
        }
        for (bucket_ms, votes) in changes.totals.timeline(place) {
            for (region, cells) in regions() {
                let votes = &votes[cells];
                if votes.iter().any(|votes| *votes > 0) {
                    let votes = votes.iter().copied().map(u64::from).collect();
                    rows.timeline.push(TimelineRow { election: &election.id, bucket_ms, region, votes });
                }
            }
        }
    }
    let rejections = changes.totals.rejections.iter();
    rows.rejections =
        rejections.map(|(&(reason, bucket_ms), &votes)| RejectionRow { reason, bucket_ms, votes }).collect();
    rows.rejections.sort_unstable_by_key(|row| (row.reason.code(), row.bucket_ms));
    let rejected_records = changes.totals.rejected_records.iter().map(|kept| RejectedRecordRow {
        partition: kept.partition,
        offset: kept.offset,
        reason: kept.reason,
        appended_at_ms: kept.appended_at_ms,
        key: kept.key.as_deref(),
        value: kept.value.as_deref(),
        value_bytes: kept.value_bytes,
    });
    rows.rejected_records = rejected_records.collect();
    rows
}
