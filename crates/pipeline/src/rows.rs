//! Turns the engine's changes into the rows that a commit writes.

use scrutin_engine::{Changes, PartitionChange, Rules};
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
        for &cell in &election.cells_by_code {
            let (region, choice) = election.codes_of(cell);
            for &channel in &election.channels_by_code {
                let votes = changes.totals.votes(place, cell, channel);
                if votes > 0 {
                    let channel = &election.channels[channel];
                    rows.tally.push(TallyRow { election: &election.id, region, choice, channel, votes });
                }
            }
        }
        for (bucket_ms, votes) in changes.totals.timeline(place) {
            for &cell in election.cells_by_code.iter().filter(|cell| votes[**cell as usize] > 0) {
                let (region, choice) = election.codes_of(cell);
                let votes = votes[cell as usize].into();
                rows.timeline.push(TimelineRow { election: &election.id, bucket_ms, region, choice, votes });
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
