//! The rows that a commit writes, as plain structs and as columns for the statements.

use std::time::SystemTime;

use scrutin_contract::vote::{Reason, VoterId};

use super::time::time;

/// How far a commit moves a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionRow {
    pub partition: u32,
    /// The offset of the next record to be counted.
    pub next_offset: u64,
    /// Gaps, records counted and records rejected since the last commit.
    pub gaps: u64,
    pub counted: u64,
    pub rejected: u64,
}

/// Votes for a choice in a region, by channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TallyRow<'a> {
    pub election: &'a str,
    pub region: &'a str,
    pub choice: &'a str,
    pub channel: &'a str,
    pub votes: u64,
}

/// Votes for a choice in a region, by the time they were cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineRow<'a> {
    pub election: &'a str,
    /// Start of the bucket, in milliseconds since 1970 UTC.
    pub bucket_ms: i64,
    pub region: &'a str,
    pub choice: &'a str,
    pub votes: u64,
}

/// Rejected votes, by append time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectionRow {
    pub reason: Reason,
    /// Start of the bucket, in milliseconds since 1970 UTC.
    pub bucket_ms: i64,
    pub votes: u64,
}

/// A rejected record, kept for inspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectedRecordRow<'a> {
    pub partition: u32,
    pub offset: u64,
    pub reason: Reason,
    /// In milliseconds since 1970 UTC.
    pub appended_at_ms: i64,
    pub key: Option<&'a [u8]>,
    /// The part of the value that is kept.
    pub value: Option<&'a [u8]>,
    /// Length of the full value.
    pub value_bytes: Option<usize>,
}

/// Voters of a partition who have voted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollBookRow<'a> {
    pub election: &'a str,
    pub partition: u32,
    /// The partition's position after this commit; unique among the partition's rows.
    pub next_offset: u64,
    pub voters: &'a [VoterId],
}

#[derive(Debug, Default)]
pub(super) struct TallyColumns<'a> {
    pub elections: Vec<&'a str>,
    pub regions: Vec<&'a str>,
    pub choices: Vec<&'a str>,
    pub channels: Vec<&'a str>,
    pub votes: Vec<i64>,
}

impl<'a> TallyColumns<'a> {
    pub fn of(rows: &[TallyRow<'a>]) -> TallyColumns<'a> {
        let mut columns = TallyColumns::default();
        for row in rows {
            columns.elections.push(row.election);
            columns.regions.push(row.region);
            columns.choices.push(row.choice);
            columns.channels.push(row.channel);
            columns.votes.push(row.votes as i64);
        }
        columns
    }
}

#[derive(Debug, Default)]
pub(super) struct TimelineColumns<'a> {
    pub elections: Vec<&'a str>,
    pub buckets: Vec<SystemTime>,
    pub regions: Vec<&'a str>,
    pub choices: Vec<&'a str>,
    pub votes: Vec<i64>,
}

impl<'a> TimelineColumns<'a> {
    pub fn push(&mut self, row: &TimelineRow<'a>) {
        self.elections.push(row.election);
        self.buckets.push(time(row.bucket_ms));
        self.regions.push(row.region);
        self.choices.push(row.choice);
        self.votes.push(row.votes as i64);
    }
}

#[derive(Debug, Default)]
pub(super) struct RejectionColumns {
    pub reasons: Vec<&'static str>,
    pub buckets: Vec<SystemTime>,
    pub votes: Vec<i64>,
}

impl RejectionColumns {
    pub fn of(rows: &[RejectionRow]) -> RejectionColumns {
        let mut columns = RejectionColumns::default();
        for row in rows {
            columns.reasons.push(row.reason.code());
            columns.buckets.push(time(row.bucket_ms));
            columns.votes.push(row.votes as i64);
        }
        columns
    }
}
