//! Finds a log's offsets without a record, using the audit's reader.

use scrutin_log::VoteLog;

use super::{Result, read};

/// Consecutive offsets without a record: transaction markers and aborted records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub partition: u32,
    pub first_offset: u64,
    /// Inclusive.
    pub last_offset: u64,
}

/// Passes the gaps of a log to `each`, by partition and offset. Reads each partition up to its first open transaction.
///
/// # Errors
///
/// If the log cannot be read.
pub fn gaps(log: &dyn VoteLog, each: &mut dyn FnMut(Gap)) -> Result<()> {
    for partition in 0..log.partitions() {
        let held_back = log.held_back(partition)?;
        let offsets = log.offsets(partition)?;
        let end = held_back.unwrap_or(offsets.end);
        let mut next = offsets.start;
        let mut report = |from: u64, to: u64| {
            if from < to {
                each(Gap { partition, first_offset: from, last_offset: to - 1 });
            }
        };
        read::records(log, partition, offsets.start..end, &mut |record| {
            report(next, record.offset);
            next = record.offset + 1;
            true
        })?;
        report(next, end);
    }
    Ok(())
}
