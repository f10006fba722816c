//! Assembles the running totals that Spark writes to the tallies topic into consistent states.
//!
//! A Spark batch writes its totals one by one, and may write them again after a crash; the topic keeps the last of
//! each. What has been read may therefore end in the middle of a batch. Two properties identify a consistent state: all
//! totals of a batch carry the same time, and over all partitions, the records received equal those counted and
//! rejected. Totals only grow, so the larger of two totals of a group is the later one. It does not matter how often a
//! total is read, in which order, or from which of several runs of the query.

use std::collections::{BTreeMap, HashMap, HashSet};

use scrutin_contract::vote::Reason;
use scrutin_store::rows::{RejectionRow, TallyRow, TimelineRow};
use scrutin_store::totals::{Reached, TotalRows};
use serde::Deserialize;

/// The group that a total belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Group {
    Tally {
        election: String,
        region: String,
        choice: String,
        channel: String,
    },
    Timeline {
        election: String,
        bucket_ms: i64,
        region: String,
        choice: String,
    },
    /// By append time. The outcome `received` covers all records.
    Outcome {
        outcome: String,
        appended_at_ms: i64,
    },
    Position {
        outcome: String,
        partition: u32,
    },
}

const RECEIVED: &str = "received";
const COUNTED: &str = "counted";

#[derive(Deserialize)]
struct Key {
    count: String,
    #[serde(flatten)]
    group: Group,
}

#[derive(Deserialize)]
struct Value {
    votes: u64,
    next_offset: Option<u64>,
    batch_at_ms: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Total {
    votes: u64,
    /// Only for positions.
    next_offset: u64,
}

impl Total {
    fn raise(&mut self, other: Total) -> bool {
        let before = *self;
        self.votes = self.votes.max(other.votes);
        self.next_offset = self.next_offset.max(other.next_offset);
        *self != before
    }
}

/// The totals of one count.
#[derive(Debug)]
pub struct RunningTotals {
    count: String,
    /// Totals of finished batches.
    settled: HashMap<Group, Total>,
    /// Settled but not yet committed.
    changed: HashSet<Group>,
    /// Totals of batches that may be unfinished, by batch time.
    coming: BTreeMap<i64, HashMap<Group, Total>>,
}

impl RunningTotals {
    /// `count` is the id in the key of each of the count's totals.
    pub fn new(count: &str) -> RunningTotals {
        RunningTotals {
            count: count.to_owned(),
            settled: HashMap::new(),
            changed: HashSet::new(),
            coming: BTreeMap::new(),
        }
    }

    /// Adds a record of the topic. Ignores records of other counts.
    ///
    /// # Errors
    ///
    /// If the record is not a total; the error says why.
    pub fn take(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), String> {
        let key: Key = serde_json::from_slice(key.unwrap_or_default()).map_err(|error| format!("its key: {error}"))?;
        if key.count != self.count {
            return Ok(());
        }
        let value: Value =
            serde_json::from_slice(value.unwrap_or_default()).map_err(|error| format!("its value: {error}"))?;
        let total = Total { votes: value.votes, next_offset: value.next_offset.unwrap_or(0) };
        self.coming.entry(value.batch_at_ms).or_default().entry(key.group).or_default().raise(total);
        Ok(())
    }

    /// Settles all batches that reach no further than these offsets, and all earlier batches.
    pub fn settle_until(&mut self, ends: &BTreeMap<u32, u64>) {
        let is_done = |totals: &HashMap<Group, Total>| {
            let mut positions = totals
                .iter()
                .filter_map(|(group, total)| match group {
                    Group::Position { outcome, partition } if outcome == RECEIVED => {
                        Some(ends.get(partition).is_some_and(|end| total.next_offset <= *end))
                    }
                    _ => None,
                })
                .peekable();
            // Every batch moves a position. If none has been read yet, the batch is incomplete.
            positions.peek().is_some() && positions.all(|is_done| is_done)
        };
        let last = self.coming.iter().rev().find(|(_, totals)| is_done(totals)).map(|(at, _)| *at);
        if let Some(last) = last {
            let later = self.coming.split_off(&(last + 1));
            self.settle_all();
            self.coming = later;
        }
    }

    /// Settles everything. To be called when no batch is running.
    pub fn settle_all(&mut self) {
        for (group, total) in std::mem::take(&mut self.coming).into_values().flatten() {
            if self.settled.entry(group.clone()).or_default().raise(total) {
                self.changed.insert(group);
            }
        }
    }

    /// Marks all totals as uncommitted, because the tables have lost some.
    pub fn commit_again(&mut self) {
        self.changed = self.settled.keys().cloned().collect();
    }

    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// How far each partition has been counted; only partitions with records.
    pub fn reached(&self) -> BTreeMap<u32, Reached> {
        let mut reached: BTreeMap<u32, Reached> = BTreeMap::new();
        for (group, total) in &self.settled {
            if let Group::Position { outcome, partition } = group {
                let found = reached.entry(*partition).or_default();
                match outcome.as_str() {
                    RECEIVED => (found.received, found.next_offset) = (total.votes, total.next_offset),
                    COUNTED => found.counted = total.votes,
                    _ => {}
                }
            }
        }
        reached
    }

    /// Whether the settled totals are the state after a batch, that is, whether all sums over the same votes agree.
    pub fn adds_up(&self) -> bool {
        let (mut tallied, mut in_timeline) = (0, 0);
        // For each outcome, the sums by partition and by append time.
        let mut outcomes: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        let mut kept_by_partition: BTreeMap<u32, u64> = BTreeMap::new();
        let mut kept_by_time: BTreeMap<i64, u64> = BTreeMap::new();
        for (group, total) in &self.settled {
            match group {
                Group::Tally { .. } => tallied += total.votes,
                Group::Timeline { .. } => in_timeline += total.votes,
                Group::Position { outcome, partition } => {
                    outcomes.entry(outcome).or_default().0 += total.votes;
                    if outcome != RECEIVED {
                        *kept_by_partition.entry(*partition).or_default() += total.votes;
                    }
                }
                Group::Outcome { outcome, appended_at_ms } => {
                    outcomes.entry(outcome).or_default().1 += total.votes;
                    if outcome != RECEIVED {
                        *kept_by_time.entry(*appended_at_ms).or_default() += total.votes;
                    }
                }
            }
        }
        let counted = outcomes.get(COUNTED).map_or(0, |(votes, _)| *votes);
        let received_in = |group: Group| self.settled.get(&group).map_or(0, |total| total.votes);
        let outcome = || RECEIVED.to_owned();
        tallied == counted
            && in_timeline == counted
            && outcomes.values().all(|(by_partition, by_time)| by_partition == by_time)
            && kept_by_partition
                .iter()
                .all(|(&partition, kept)| received_in(Group::Position { outcome: outcome(), partition }) >= *kept)
            && kept_by_time.iter().all(|(&appended_at_ms, kept)| {
                received_in(Group::Outcome { outcome: outcome(), appended_at_ms }) >= *kept
            })
    }

    /// The settled but uncommitted totals, in the order of the groups. Rejections are ordered by reason and append
    /// time, and include `already_voted`.
    pub fn changes(&self) -> TotalRows<'_> {
        let mut rows = TotalRows::default();
        let mut times = HashSet::new();
        let mut changed: Vec<&Group> = self.changed.iter().collect();
        changed.sort_unstable();
        for group in changed {
            let votes = self.settled[group].votes;
            match group {
                Group::Tally { election, region, choice, channel } => {
                    rows.tally.push(TallyRow { election, region, choice, channel, votes });
                }
                Group::Timeline { election, bucket_ms, region, choice } => {
                    rows.timeline.push(TimelineRow { election, bucket_ms: *bucket_ms, region, choice, votes });
                }
                Group::Position { .. } => {}
                Group::Outcome { outcome, appended_at_ms } => {
                    times.insert(*appended_at_ms);
                    if let Ok(reason) = outcome.parse() {
                        rows.rejections.push(RejectionRow { reason, bucket_ms: *appended_at_ms, votes });
                    }
                }
            }
        }
        let votes = |outcome: &str, appended_at_ms| {
            let group = Group::Outcome { outcome: outcome.to_owned(), appended_at_ms };
            self.settled.get(&group).map_or(0, |total| total.votes)
        };
        for bucket_ms in times {
            let others = Reason::ALL.iter().map(|reason| votes(reason.code(), bucket_ms)).sum::<u64>()
                + votes(COUNTED, bucket_ms);
            let already_voted = votes(RECEIVED, bucket_ms).saturating_sub(others);
            if already_voted > 0 {
                rows.rejections.push(RejectionRow { reason: Reason::AlreadyVoted, bucket_ms, votes: already_voted });
            }
        }
        rows.rejections.sort_unstable_by_key(|row| (row.reason, row.bucket_ms));
        rows
    }

    /// Marks all changes as committed.
    pub fn committed(&mut self) {
        self.changed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of one vote in each of two partitions; the second voter has voted before.
    fn batch(at: i64, votes: u64) -> Vec<(String, String)> {
        let row = |key: &str, votes: u64, rest: String| {
            (format!(r#"{{"count":"c",{key}}}"#), format!(r#"{{"votes":{votes},"batch_at_ms":{at}{rest}}}"#))
        };
        let next = |offset: u64| format!(r#","next_offset":{offset}"#);
        vec![
            row(r#""kind":"tally","election":"e","region":"r","choice":"c","channel":"b""#, votes, String::new()),
            row(r#""kind":"timeline","election":"e","region":"r","choice":"c","bucket_ms":0"#, votes, String::new()),
            row(r#""kind":"outcome","outcome":"counted","appended_at_ms":0"#, votes, String::new()),
            row(r#""kind":"outcome","outcome":"received","appended_at_ms":0"#, votes * 2, String::new()),
            row(r#""kind":"position","outcome":"counted","partition":0"#, votes, next(votes)),
            row(r#""kind":"position","outcome":"received","partition":0"#, votes, next(votes)),
            row(r#""kind":"position","outcome":"received","partition":1"#, votes, next(votes)),
        ]
    }

    fn already_voted(votes: u64) -> RejectionRow {
        RejectionRow { reason: Reason::AlreadyVoted, bucket_ms: 0, votes }
    }

    fn take(totals: &mut RunningTotals, rows: &[(String, String)]) {
        for (key, value) in rows {
            totals.take(Some(key.as_bytes()), Some(value.as_bytes())).unwrap();
        }
    }

    #[test]
    fn only_whole_batches_add_up() {
        let mut totals = RunningTotals::new("c");
        take(&mut totals, &batch(5, 1));
        take(&mut totals, &batch(6, 2)[..3]);
        totals.settle_until(&[(0, 1), (1, 1)].into());
        assert!(totals.adds_up() && totals.has_changed());
        assert_eq!(totals.reached()[&0], Reached { next_offset: 1, received: 1, counted: 1 });
        assert_eq!(totals.reached()[&1], Reached { next_offset: 1, received: 1, counted: 0 });
        let changes = totals.changes();
        assert_eq!((changes.tally[0].votes, changes.timeline[0].votes), (1, 1));
        assert_eq!(changes.rejections, [already_voted(1)]);
        totals.committed();

        // Half of the next batch does not add up. All of it does, even if it is repeated along with the previous batch.
        totals.settle_all();
        assert!(!totals.adds_up());
        take(&mut totals, &batch(6, 2));
        take(&mut totals, &batch(5, 1));
        take(&mut totals, &batch(6, 2)[..4]);
        totals.settle_until(&[(0, 2), (1, 2)].into());
        assert!(totals.adds_up());
        assert_eq!(totals.changes().rejections, [already_voted(2)]);
    }

    #[test]
    fn batches_beyond_the_offsets_wait() {
        let mut totals = RunningTotals::new("c");
        take(&mut totals, &batch(6, 2));
        totals.settle_until(&[(0, 1), (1, 2)].into());
        assert!(!totals.has_changed());
        totals.settle_until(&[(0, 2)].into());
        assert!(!totals.has_changed(), "nothing is known of the other partition");
        totals.settle_until(&[(0, 2), (1, 2)].into());
        assert!(totals.has_changed());
    }

    #[test]
    fn other_counts_are_ignored_and_bad_records_are_errors() {
        let mut totals = RunningTotals::new("another");
        take(&mut totals, &batch(5, 1));
        totals.settle_all();
        assert!(!totals.has_changed());
        assert!(totals.take(None, None).unwrap_err().starts_with("its key"));
        let key = br#"{"count":"another","kind":"position","outcome":"received","partition":0}"#;
        assert!(totals.take(Some(key), Some(b"{}")).unwrap_err().starts_with("its value"));
    }
}
