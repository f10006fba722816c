//! Finds the offsets of a log that have no record, as the audit reads it.

use scrutin_log::VoteLog;

use super::{Result, read};

/// Neighbouring offsets without a record: markers of transactions, and records of those that were aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub partition: u32,
    pub first_offset: u64,
    /// The last one, not the one behind it.
    pub last_offset: u64,
}

/// Reads the log as far as no open transaction holds it back, and hands out its gaps, by partition and offset.
///
/// # Errors
///
/// What of the log cannot be read, or comes out of order.
pub fn gaps(log: &dyn VoteLog, each: &mut dyn FnMut(Gap)) -> Result<()> {
    for partition in 0..log.partitions() {
        let held_back = log.held_back(partition)?;
        let offsets = log.offsets(partition)?;
        let end = held_back.unwrap_or(offsets.end);
        let mut next = offsets.start;
        let mut tell = |from: u64, to: u64| {
            if from < to {
                each(Gap { partition, first_offset: from, last_offset: to - 1 });
            }
        };
        read::records(log, partition, offsets.start..end, &mut |record| {
            tell(next, record.offset);
            next = record.offset + 1;
            true
        })?;
        tell(next, end);
    }
    Ok(())
}
