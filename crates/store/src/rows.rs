//! The rows that a commit writes, as plain structs and as columns for the statements.

use std::fmt::Write as _;
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

/// Votes in a region through a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TallyRow<'a> {
    pub election: &'a str,
    pub region: &'a str,
    pub channel: &'a str,
    /// A number for each choice on the region's ballot, in the order of
    /// [`Election::ballots`](scrutin_contract::election::Election::ballots).
    pub votes: Vec<u64>,
}

/// Votes in a region by the time they were cast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineRow<'a> {
    pub election: &'a str,
    /// Start of the bucket, in milliseconds since 1970 UTC.
    pub bucket_ms: i64,
    pub region: &'a str,
    /// As in [`TallyRow::votes`].
    pub votes: Vec<u64>,
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
    pub channels: Vec<&'a str>,
    pub votes: Vec<String>,
}

impl<'a> TallyColumns<'a> {
    pub fn of(rows: &[TallyRow<'a>]) -> TallyColumns<'a> {
        let mut columns = TallyColumns::default();
        for row in rows {
            columns.elections.push(row.election);
            columns.regions.push(row.region);
            columns.channels.push(row.channel);
            columns.votes.push(array(&row.votes));
        }
        columns
    }

    /// The statement that writes these columns for a counter. `update` is what it sets in a row that exists.
    pub fn upsert(update: &str) -> String {
        format!(
            "INSERT INTO tally AS t (counter, election, region, channel, votes)
             SELECT $1, election, region, channel, votes::bigint[]
               FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS n (election, region, channel, votes)
                 ON CONFLICT (counter, election, region, channel) DO UPDATE SET {update}"
        )
    }
}

#[derive(Debug, Default)]
pub(super) struct TimelineColumns<'a> {
    pub elections: Vec<&'a str>,
    pub buckets: Vec<SystemTime>,
    pub regions: Vec<&'a str>,
    pub votes: Vec<String>,
}

impl<'a> TimelineColumns<'a> {
    pub fn of(rows: &[TimelineRow<'a>]) -> TimelineColumns<'a> {
        let mut columns = TimelineColumns::default();
        for row in rows {
            columns.elections.push(row.election);
            columns.buckets.push(time(row.bucket_ms));
            columns.regions.push(row.region);
            columns.votes.push(array(&row.votes));
        }
        columns
    }

    /// As [`TallyColumns::upsert`].
    pub fn upsert(update: &str) -> String {
        format!(
            "INSERT INTO timeline AS t (counter, election, bucket, region, votes)
             SELECT $1, election, bucket, region, votes::bigint[]
               FROM unnest($2::text[], $3::timestamptz[], $4::text[], $5::text[]) AS n (election, bucket, region, votes)
                 ON CONFLICT (counter, election, bucket, region) DO UPDATE SET {update}"
        )
    }
}

/// PostgreSQL's text form of an array. A column of arrays is sent as their texts, because `unnest` would take an array of
/// arrays apart to single numbers.
fn array(numbers: &[u64]) -> String {
    let mut text = String::with_capacity(2 + 3 * numbers.len());
    for number in numbers {
        text.push(if text.is_empty() { '{' } else { ',' });
        write!(text, "{number}").expect("writing to a string cannot fail");
    }
    text.push('}');
    text
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
