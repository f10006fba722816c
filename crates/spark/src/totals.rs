//! Assembles the running totals that Spark writes to the tallies topic into consistent states.
//!
//! A record's key is the count's id, the kind of the total, and three numbers that mean what [`Group`] says; its value is
//! the number of votes, an offset and the batch's time: `0f1e2d3c4b5a6978 4 17 3 1` and `4711 90210 1807430400000`.
//!
//! A Spark batch writes its totals one by one, and may write them again after a crash; the topic keeps the last of
//! each. What has been read may therefore end in the middle of a batch. Two properties identify a consistent state: all
//! totals of a batch carry the same time, and all sums over the same votes agree. Totals only grow, so the larger of two
//! totals of a group is the later one. It does not matter how often a total is read, in which order, or from which of
//! several runs of the query.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use scrutin_contract::vote::Reason;
use scrutin_store::rows::{RejectionRow, TallyRow, TimelineRow};
use scrutin_store::totals::{Reached, TotalRows};

use super::codes::{Codes, outcome, reason};

/// The kinds of totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Received,
    Position,
    Outcome,
    Rejected,
    Tally,
    Timeline,
}

impl Kind {
    pub const ALL: [Kind; 6] =
        [Kind::Received, Kind::Position, Kind::Outcome, Kind::Rejected, Kind::Tally, Kind::Timeline];

    /// Its name in the SQL.
    pub const fn code(self) -> &'static str {
        match self {
            Kind::Received => "received",
            Kind::Position => "position",
            Kind::Outcome => "outcome",
            Kind::Rejected => "rejected",
            Kind::Tally => "tally",
            Kind::Timeline => "timeline",
        }
    }

    /// Its number in keys.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

/// The group that a total belongs to. Regions, choices, channels and outcomes are numbered as in [`Codes`]; times are in
/// milliseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// All records of a partition, by append time.
    Received {
        partition: u32,
        appended_ms: i64,
    },
    /// All records of a partition.
    Position {
        partition: u32,
    },
    /// Records of a partition with an outcome, by append time.
    Outcome {
        outcome: u32,
        partition: u32,
        appended_ms: i64,
    },
    /// All rejected records with an outcome.
    Rejected {
        outcome: u32,
    },
    Tally {
        region: u32,
        choice: u32,
        channel: u32,
    },
    Timeline {
        region: u32,
        choice: u32,
        bucket_ms: i64,
    },
}

const COUNTED: u32 = outcome(None);

impl Group {
    /// The group of a key without the count's id; none if there is no such kind, or a number does not fit it.
    fn parse(text: &str) -> Option<Group> {
        let [kind, a, b, c] = fields(text)?;
        let (kind, a, b): (u32, u32, u32) = (kind.parse().ok()?, a.parse().ok()?, b.parse().ok()?);
        Some(match Kind::ALL.into_iter().find(|it| it.number() == kind)? {
            Kind::Received => Group::Received { partition: b, appended_ms: c.parse().ok()? },
            Kind::Position => Group::Position { partition: b },
            Kind::Outcome => Group::Outcome { outcome: a, partition: b, appended_ms: c.parse().ok()? },
            Kind::Rejected => Group::Rejected { outcome: a },
            Kind::Tally => Group::Tally { region: a, choice: b, channel: c.parse().ok()? },
            Kind::Timeline => Group::Timeline { region: a, choice: b, bucket_ms: c.parse().ok()? },
        })
    }
}

/// The fields of a text, separated by spaces; none if it has another number of them.
fn fields<const N: usize>(text: &str) -> Option<[&str; N]> {
    let mut fields = text.split(' ');
    let mut found = [""; N];
    for field in &mut found {
        *field = fields.next()?;
    }
    fields.next().is_none().then_some(found)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Total {
    votes: u64,
    /// The offset after the last record.
    next_offset: u64,
}

impl Total {
    /// The total of a value, and its batch's time.
    fn parse(text: &str) -> Option<(Total, i64)> {
        let [votes, next_offset, batch_at_ms] = fields(text)?;
        let total = Total { votes: votes.parse().ok()?, next_offset: next_offset.parse().ok()? };
        Some((total, batch_at_ms.parse().ok()?))
    }

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
    codes: Codes,
    /// Totals of finished batches: those of tally and timeline, which may be very many, and the others.
    cells: HashMap<Group, Total>,
    ledger: BTreeMap<Group, Total>,
    /// Sums over `cells`.
    tallied: u64,
    in_timeline: u64,
    /// Settled but not yet committed.
    changed: HashSet<Group>,
    /// Totals of batches that may be unfinished, by batch time.
    coming: BTreeMap<i64, HashMap<Group, Total>>,
}

impl RunningTotals {
    /// `count` is the id in the key of each of the count's totals.
    pub fn new(count: &str, codes: Codes) -> RunningTotals {
        RunningTotals {
            count: count.to_owned(),
            codes,
            cells: HashMap::new(),
            ledger: BTreeMap::new(),
            tallied: 0,
            in_timeline: 0,
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
        let key = text("key", key)?;
        let Some(group) = key.strip_prefix(&self.count).and_then(|rest| rest.strip_prefix(' ')) else {
            return Ok(());
        };
        let group = Group::parse(group).filter(|group| self.knows(group));
        let group = group.ok_or_else(|| format!("its key `{}` names no group of this count", key.escape_debug()))?;
        let value = text("value", value)?;
        let (total, batch_at_ms) =
            Total::parse(value).ok_or_else(|| format!("its value `{}` is not three numbers", value.escape_debug()))?;
        self.coming.entry(batch_at_ms).or_default().entry(group).or_default().raise(total);
        Ok(())
    }

    fn knows(&self, group: &Group) -> bool {
        match *group {
            Group::Received { .. } | Group::Position { .. } => true,
            Group::Outcome { outcome, .. } => outcome == COUNTED || reason(outcome).is_some(),
            Group::Rejected { outcome } => reason(outcome).is_some(),
            Group::Tally { region, choice, channel } => {
                self.codes.is_on_ballot(region, choice) && self.codes.channel(region, channel).is_some()
            }
            Group::Timeline { region, choice, .. } => self.codes.is_on_ballot(region, choice),
        }
    }

    /// Settles all batches that reach no further than these offsets, and all earlier batches.
    pub fn settle_until(&mut self, ends: &BTreeMap<u32, u64>) {
        let is_done = |totals: &HashMap<Group, Total>| {
            let mut positions = totals
                .iter()
                .filter_map(|(group, total)| match group {
                    Group::Position { partition } => {
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
            if self.settle(group, total) {
                self.changed.insert(group);
            }
        }
    }

    /// Returns whether this changes the group's total.
    fn settle(&mut self, group: Group, total: Total) -> bool {
        let (settled, sum) = match group {
            Group::Tally { .. } => (self.cells.entry(group).or_default(), Some(&mut self.tallied)),
            Group::Timeline { .. } => (self.cells.entry(group).or_default(), Some(&mut self.in_timeline)),
            _ => (self.ledger.entry(group).or_default(), None),
        };
        let before = settled.votes;
        let has_changed = settled.raise(total);
        if let Some(sum) = sum {
            *sum += settled.votes - before;
        }
        has_changed
    }

    /// Marks all totals as uncommitted, because the tables have lost some.
    pub fn commit_again(&mut self) {
        self.changed = self.cells.keys().chain(self.ledger.keys()).copied().collect();
    }

    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// How far each partition has been counted; only partitions with records.
    pub fn reached(&self) -> BTreeMap<u32, Reached> {
        let mut reached: BTreeMap<u32, Reached> = BTreeMap::new();
        for (group, total) in &self.ledger {
            match *group {
                Group::Position { partition } => {
                    let found = reached.entry(partition).or_default();
                    (found.received, found.next_offset) = (total.votes, total.next_offset);
                }
                Group::Outcome { outcome: COUNTED, partition, .. } => {
                    reached.entry(partition).or_default().counted += total.votes;
                }
                _ => {}
            }
        }
        reached
    }

    /// Rows of state that these totals need in Spark: a row for each of them, and one for each claim.
    pub fn state_rows(&self) -> u64 {
        let claims = self.ledger.iter().map(|(group, total)| match group {
            Group::Outcome { .. } => total.votes,
            _ => 0,
        });
        (self.cells.len() + self.ledger.len()) as u64 + claims.sum::<u64>()
    }

    /// Whether the settled totals are the state after a batch, that is, whether all sums over the same votes agree.
    pub fn adds_up(&self) -> bool {
        // Each sum twice: from the totals by partition and append time, and from the others.
        let mut outcomes: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let mut partitions: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        // Of each partition and append time, the records received, and those of all outcomes.
        let mut times: HashMap<(u32, i64), (u64, u64)> = HashMap::new();
        for (group, total) in &self.ledger {
            match *group {
                Group::Rejected { outcome } => outcomes.entry(outcome).or_default().1 += total.votes,
                Group::Position { partition } => partitions.entry(partition).or_default().1 += total.votes,
                Group::Received { partition, appended_ms } => {
                    partitions.entry(partition).or_default().0 += total.votes;
                    times.entry((partition, appended_ms)).or_default().0 += total.votes;
                }
                Group::Outcome { outcome, partition, appended_ms } => {
                    outcomes.entry(outcome).or_default().0 += total.votes;
                    times.entry((partition, appended_ms)).or_default().1 += total.votes;
                }
                Group::Tally { .. } | Group::Timeline { .. } => {}
            }
        }
        let counted = outcomes.remove(&COUNTED).map_or(0, |(votes, _)| votes);
        self.tallied == counted
            && self.in_timeline == counted
            && outcomes.values().chain(partitions.values()).all(|(one, other)| one == other)
            && times.values().all(|(received, kept)| received >= kept)
    }

    /// The settled but uncommitted totals, in order of their keys, in rows as the tables have them. Rejections include
    /// `already_voted`.
    pub fn changes(&self) -> TotalRows<'_> {
        let (mut tally, mut timeline, mut times) = (BTreeSet::new(), BTreeSet::new(), HashSet::new());
        for group in &self.changed {
            match *group {
                Group::Tally { region, channel, .. } => {
                    tally.insert((region, channel));
                }
                Group::Timeline { region, bucket_ms, .. } => {
                    timeline.insert((bucket_ms, region));
                }
                Group::Received { appended_ms, .. } | Group::Outcome { appended_ms, .. } => {
                    times.insert(appended_ms);
                }
                Group::Position { .. } | Group::Rejected { .. } => {}
            }
        }
        let tally = tally.into_iter().map(|(region, channel)| {
            let (election, code) = self.codes.region(region).expect(KNOWN);
            let votes = self.votes(region, |choice| Group::Tally { region, choice, channel });
            TallyRow { election, region: code, channel: self.codes.channel(region, channel).expect(KNOWN), votes }
        });
        let timeline = timeline.into_iter().map(|(bucket_ms, region)| {
            let (election, code) = self.codes.region(region).expect(KNOWN);
            let votes = self.votes(region, |choice| Group::Timeline { region, choice, bucket_ms });
            TimelineRow { election, bucket_ms, region: code, votes }
        });
        TotalRows { tally: tally.collect(), timeline: timeline.collect(), rejections: self.rejections(&times) }
    }

    /// The votes of each choice on a region's ballot, whether changed or not.
    fn votes(&self, region: u32, group: impl Fn(u32) -> Group) -> Vec<u64> {
        let ballot = self.codes.ballot(region).expect(KNOWN).iter();
        ballot.map(|choice| self.cells.get(&group(*choice)).map_or(0, |total| total.votes)).collect()
    }

    /// The rejected votes of these append times.
    fn rejections(&self, times: &HashSet<i64>) -> Vec<RejectionRow> {
        let mut rejections: BTreeMap<(Reason, i64), u64> = BTreeMap::new();
        // Groups are ordered: all that was received comes before its outcomes.
        for (group, total) in &self.ledger {
            match *group {
                Group::Received { appended_ms, .. } if times.contains(&appended_ms) => {
                    *rejections.entry((Reason::AlreadyVoted, appended_ms)).or_default() += total.votes;
                }
                Group::Outcome { outcome, appended_ms, .. } if times.contains(&appended_ms) => {
                    let already_voted = rejections.entry((Reason::AlreadyVoted, appended_ms)).or_default();
                    *already_voted = already_voted.saturating_sub(total.votes);
                    if let Some(reason) = reason(outcome) {
                        *rejections.entry((reason, appended_ms)).or_default() += total.votes;
                    }
                }
                _ => {}
            }
        }
        let row = |((reason, bucket_ms), votes)| RejectionRow { reason, bucket_ms, votes };
        rejections.into_iter().filter(|(_, votes)| *votes > 0).map(row).collect()
    }

    /// Marks all changes as committed.
    pub fn committed(&mut self) {
        self.changed.clear();
    }
}

const KNOWN: &str = "take checks it";

fn text<'a>(name: &str, bytes: Option<&'a [u8]>) -> Result<&'a str, String> {
    let bytes = bytes.ok_or_else(|| format!("it has no {name}"))?;
    str::from_utf8(bytes).map_err(|_| format!("its {name} is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of one vote in each of two partitions; the second voter has voted before.
    fn batch(at: i64, votes: u64) -> Vec<(String, String)> {
        let row = |kind: Kind, numbers: &str, votes: u64| {
            (format!("c {} {numbers}", kind.number()), format!("{votes} {} {at}", votes.min(2)))
        };
        vec![
            row(Kind::Tally, "0 0 1", votes),
            row(Kind::Timeline, "0 0 0", votes),
            row(Kind::Outcome, "0 0 0", votes),
            row(Kind::Received, "0 0 0", votes),
            row(Kind::Received, "0 1 0", votes),
            row(Kind::Position, "0 0 0", votes),
            row(Kind::Position, "0 1 0", votes),
        ]
    }

    fn totals(count: &str) -> RunningTotals {
        RunningTotals::new(count, Codes::of(&[scrutin_contract::election::Election::built_in()]))
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
        let mut totals = totals("c");
        take(&mut totals, &batch(5, 1));
        take(&mut totals, &batch(6, 2)[..3]);
        totals.settle_until(&[(0, 1), (1, 1)].into());
        assert!(totals.adds_up() && totals.has_changed());
        assert_eq!(totals.reached()[&0], Reached { next_offset: 1, received: 1, counted: 1 });
        assert_eq!(totals.reached()[&1], Reached { next_offset: 1, received: 1, counted: 0 });
        let changes = totals.changes();
        assert_eq!((changes.tally[0].votes[0], changes.timeline[0].votes[0]), (1, 1));
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
        assert_eq!(totals.state_rows(), 7 + 2);
    }

    #[test]
    fn no_total_of_a_batch_can_be_missing() {
        let mut whole = batch(6, 2);
        // A vote that is rejected in the first partition.
        whole[3].1 = "3 2 6".into();
        whole[5].1 = "3 2 6".into();
        let malformed = outcome(Some(Reason::Malformed));
        whole.push((format!("c {} {malformed} 0 0", Kind::Outcome.number()), "1 2 6".into()));
        whole.push((format!("c {} {malformed} 0 0", Kind::Rejected.number()), "1 2 6".into()));
        for missing in 0..=whole.len() {
            let mut totals = totals("c");
            let rows: Vec<_> =
                whole.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, it)| it.clone()).collect();
            take(&mut totals, &rows);
            totals.settle_all();
            assert_eq!(totals.adds_up(), missing == whole.len(), "{missing}");
        }
    }

    #[test]
    fn batches_beyond_the_offsets_wait() {
        let mut totals = totals("c");
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
        let mut totals = totals("another");
        take(&mut totals, &batch(5, 1));
        totals.settle_all();
        assert!(!totals.has_changed());
        let mut error = |key: &str, value: &str| totals.take(Some(key.as_bytes()), Some(value.as_bytes())).unwrap_err();
        for unknown in [
            "1 0 0",
            "1 0 0 0 0",
            "1 0 x 0",
            "-1 0 0 0",
            "6 0 0 0",
            "4 0 0 0",
            "4 0 12 1",
            "4 107 0 1",
            "4 0 0 4294967297",
            "5 107 0 0",
            "2 10 0 0",
            "3 10 0 0",
            "3 0 0 0",
        ] {
            let said = format!("its key `another {unknown}` names no group of this count");
            assert_eq!(error(&format!("another {unknown}"), "1 1 1"), said);
        }
        for wrong in ["1 1", "1 1 1 1", "-1 1 1", ""] {
            assert_eq!(error("another 1 0 0 0", wrong), format!("its value `{wrong}` is not three numbers"));
        }
        assert_eq!(totals.take(None, None).unwrap_err(), "it has no key");
        assert_eq!(totals.take(Some(b"\xff"), None).unwrap_err(), "its key is not text");
        assert_eq!(totals.take(Some(b"another 1 0 0 0"), None).unwrap_err(), "it has no value");
    }
}
