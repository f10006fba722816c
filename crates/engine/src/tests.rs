use std::collections::{BTreeMap, HashSet};

use expect_test::{Expect, expect};
use proptest::prelude::*;
use scrutin_contract::election::{Choice, Election, Region};
use scrutin_contract::vote::{format_millis, parse_millis};
use serde_json::{Value, json};

use super::*;

const PARTITIONS: u32 = 2;
const OPENS: &str = "2027-04-11T08:00:00.000Z";
const CLOSES: &str = "2027-04-11T20:00:00.000Z";

/// Two regions; `a` and `b` are on every ballot, `c` only in north, `d` in both by a row each.
fn election(id: &str) -> Election {
    let region = |code: &str| Region {
        code: code.into(),
        name: code.into(),
        registered: Some(10),
        expected_turnout: None,
        point: None,
        tile: None,
    };
    let choice = |code: &str, region: Option<&str>| Choice {
        code: code.into(),
        name: code.into(),
        color: "#000000".into(),
        region: region.map(str::to_owned),
    };
    Election {
        id: id.into(),
        title: id.into(),
        opens_at_ms: parse_millis(OPENS.as_bytes()).unwrap(),
        closes_at_ms: parse_millis(CLOSES.as_bytes()).unwrap(),
        time_zone: "UTC".into(),
        channels: vec!["booth".into(), "post".into()],
        bucket_seconds: 60,
        expected_turnout: None,
        regions: vec![region("north"), region("south")],
        choices: vec![
            choice("a", None),
            choice("c", Some("north")),
            choice("b", None),
            choice("d", Some("north")),
            choice("d", Some("south")),
        ],
    }
}

fn engine(partitions: &[u32]) -> (Engine, Changes) {
    let rules = Arc::new(Rules::new(&[election("e1"), election("e2")], PARTITIONS).unwrap());
    let changes = Changes::new(&rules);
    let partition = |partition: &u32| Partition {
        partition: *partition,
        next_offset: 0,
        rejected_records: [0; 9],
        poll_books: vec![PollBook::new([3, 5]), PollBook::new([3, 5])],
    };
    (Engine::new(rules.clone(), partitions.iter().map(partition).collect()), changes)
}

type Sums = BTreeMap<String, u64>;

fn sums(rules: &Rules, changes: &Changes) -> Sums {
    let mut sums = Sums::new();
    for (election, election_rules) in rules.elections.iter().enumerate() {
        for cell in 0..election_rules.cells() as Cell {
            let (region, choice) = election_rules.codes_of(cell);
            for (channel, code) in election_rules.channels.iter().enumerate() {
                let votes = changes.totals.votes(election, cell, channel);
                if votes > 0 {
                    sums.insert(format!("{} {region} {choice} {code}", election_rules.id), votes);
                }
            }
        }
        for (bucket_ms, row) in changes.totals.timeline(election) {
            for (cell, votes) in row.iter().enumerate().filter(|(_, votes)| **votes > 0) {
                let (region, choice) = election_rules.codes_of(cell as Cell);
                let minute = &format_millis(bucket_ms)[11..16];
                sums.insert(format!("{} {minute} {region} {choice}", election_rules.id), u64::from(*votes));
            }
        }
    }
    for ((reason, _), votes) in &changes.totals.rejections {
        *sums.entry(reason.to_string()).or_default() += votes;
    }
    sums
}

#[test]
fn cells_are_in_the_order_of_the_ballots() {
    let election = election("e1");
    let rules = Rules::new(std::slice::from_ref(&election), PARTITIONS).unwrap();
    let rules = &rules.elections[0];
    for (region, ballot) in election.ballots().iter().enumerate() {
        let cells = rules.cells_of(region).map(|cell| rules.codes_of(cell as Cell));
        let expected: Vec<_> = ballot.iter().map(|choice| (&*election.regions[region].code, *choice)).collect();
        assert_eq!(cells.collect::<Vec<_>>(), expected);
    }
    assert_eq!(election.ballots(), [vec!["BLANK", "NULL", "a", "b", "c", "d"], vec!["BLANK", "NULL", "a", "b", "d"]]);
}

/// A voter whose key belongs to partition 0.
fn voter(number: u64) -> String {
    let ids = (0..).map(|n| VoterId(u128::from(number) << 64 | n).to_string());
    ids.into_iter().find(|id| partition_of(id.as_bytes(), PARTITIONS) == 0).unwrap()
}

fn vote(number: u64, region: &str, choice: &str) -> Value {
    json!({"election": "e1", "voter": voter(number), "region": region, "choice": choice, "channel": "booth",
           "cast_at": "2027-04-11T08:31:12.345Z"})
}

fn count(votes: &[Value]) -> String {
    let (mut engine, mut changes) = engine(&[0]);
    let mut batch = Batch::default();
    for (offset, value) in votes.iter().enumerate() {
        let (key, value) = (value["voter"].as_str().unwrap_or_default().to_owned(), value.to_string());
        let offset = offset as u64;
        batch.push(Record { offset, appended_at_ms: 0, key: Some(key.as_bytes()), value: Some(value.as_bytes()) });
    }
    engine.apply(&batch, &mut changes);
    let all = sums(&engine.rules, &changes);
    // Leaves out the timeline, whose keys contain a time; the property test below covers it.
    all.iter().filter(|(key, _)| !key.contains(':')).map(|(key, votes)| format!("{key}={votes}\n")).collect()
}

fn check(votes: &[Value], expected: Expect) {
    expected.assert_eq(&count(votes));
}

fn with(mut vote: Value, field: &str, value: impl Into<Value>) -> Value {
    vote[field] = value.into();
    vote
}

#[test]
fn the_first_vote_counts_whatever_comes_later() {
    check(
        &[vote(1, "north", "a"), vote(2, "south", "b"), vote(1, "south", "b"), vote(1, "north", "a")],
        expect![[r#"
            already_voted=2
            e1 north a booth=1
            e1 south b booth=1
        "#]],
    );
}

#[test]
fn only_a_counted_vote_uses_up_the_voters_vote() {
    check(
        &[
            vote(1, "north", "nobody"),
            with(vote(1, "north", "a"), "cast_at", CLOSES),
            with(vote(1, "north", "a"), "channel", "pigeon"),
            vote(1, "north", "a"),
        ],
        expect![[r#"
            closed=1
            e1 north a booth=1
            unknown_channel=1
            unknown_choice=1
        "#]],
    );
}

#[test]
fn a_vote_in_one_election_is_no_vote_in_another() {
    check(
        &[
            vote(1, "north", "a"),
            with(vote(1, "north", "a"), "election", "e2"),
            with(vote(1, "north", "a"), "election", "e3"),
        ],
        expect![[r#"
            e1 north a booth=1
            e2 north a booth=1
            unknown_election=1
        "#]],
    );
}

#[test]
fn a_choice_counts_only_where_it_is_on_the_ballot() {
    check(
        &[
            vote(1, "north", "c"),
            vote(2, "south", "c"),
            vote(3, "north", "d"),
            vote(4, "south", "d"),
            vote(5, "south", "BLANK"),
            vote(6, "north", "NULL"),
            vote(7, "west", "a"),
        ],
        expect![[r#"
            e1 north NULL booth=1
            e1 north c booth=1
            e1 north d booth=1
            e1 south BLANK booth=1
            e1 south d booth=1
            unknown_choice=1
            unknown_region=1
        "#]],
    );
}

#[test]
fn the_day_begins_at_its_opening_and_ends_before_its_closing() {
    check(
        &[
            with(vote(1, "north", "a"), "cast_at", "2027-04-11T07:59:59.999Z"),
            with(vote(2, "north", "a"), "cast_at", OPENS),
            with(vote(3, "north", "a"), "cast_at", "2027-04-11T19:59:59.999Z"),
            with(vote(4, "north", "a"), "cast_at", CLOSES),
        ],
        expect![[r#"
            closed=1
            e1 north a booth=2
            not_open=1
        "#]],
    );
}

/// The contract in its plainest form.
#[derive(Default)]
struct Naive {
    voted: HashSet<(String, String)>,
    sums: Sums,
}

impl Naive {
    fn judge(&mut self, partition: u32, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<[String; 2], &'static str> {
        let value: Value = serde_json::from_slice(value.ok_or("malformed")?).map_err(|_| "malformed")?;
        let field = |name: &str| value[name].as_str().map(str::to_owned).ok_or("malformed");
        let names = ["election", "voter", "region", "choice", "channel", "cast_at"];
        let [election, voter, region, choice, channel, cast_at] = names.map(field);
        let (election, voter, region) = (election?, voter?, region?);
        let (choice, channel, cast_at) = (choice?, channel?, cast_at?);
        VoterId::parse(voter.as_bytes()).ok_or("malformed")?;
        parse_millis(cast_at.as_bytes()).ok_or("malformed")?;
        if key != Some(voter.as_bytes()) || partition_of(voter.as_bytes(), PARTITIONS) != partition {
            return Err("misrouted");
        }
        let known = |list: &[&str], code: &str| list.contains(&code);
        let is_on_ballot = match choice.as_str() {
            "a" | "b" | "d" | "BLANK" | "NULL" => true,
            "c" => region == "north",
            _ => false,
        };
        let checks = [
            (known(&["e1", "e2"], &election), "unknown_election"),
            (known(&["north", "south"], &region), "unknown_region"),
            (is_on_ballot, "unknown_choice"),
            (known(&["booth", "post"], &channel), "unknown_channel"),
            (cast_at.as_str() >= OPENS, "not_open"),
            (cast_at.as_str() < CLOSES, "closed"),
        ];
        if let Some((_, reason)) = checks.into_iter().find(|(holds, _)| !holds) {
            return Err(reason);
        }
        if !self.voted.insert((election.clone(), voter)) {
            return Err("already_voted");
        }
        let minute = &cast_at[11..16];
        Ok([format!("{election} {region} {choice} {channel}"), format!("{election} {minute} {region} {choice}")])
    }

    fn count(&mut self, partition: u32, key: Option<&[u8]>, value: Option<&[u8]>) {
        match self.judge(partition, key, value) {
            Ok(keys) => keys.into_iter().for_each(|key| *self.sums.entry(key).or_default() += 1),
            Err(reason) => *self.sums.entry(reason.into()).or_default() += 1,
        }
    }
}

fn any_vote() -> impl Strategy<Value = (u32, Option<Vec<u8>>, Option<Vec<u8>>)> {
    let code = |codes: &'static [&'static str]| proptest::sample::select(codes);
    (
        (code(&["e1", "e1", "e2", "e9"]), 0_u64..30, code(&["north", "south", "north", "west"])),
        code(&["a", "b", "c", "d", "BLANK", "NULL", "a", "b", "x"]),
        code(&["booth", "post", "booth", "pigeon"]),
        code(&[
            OPENS,
            CLOSES,
            "2027-04-11T07:59:59.999Z",
            "2027-04-11T12:00:59.999Z",
            "2027-04-11T12:01:00.000Z",
            "soon",
        ]),
        0_u32..40,
        0..PARTITIONS,
    )
        .prop_map(|((election, number, region), choice, channel, cast_at, harm, stray)| {
            let voter = VoterId(u128::from(number) * 0x1234_5678_9abc_def1).to_string();
            let mut key = Some(voter.clone().into_bytes());
            let mut partition = partition_of(voter.as_bytes(), PARTITIONS);
            let vote = json!({"voter": voter, "election": election, "region": region, "choice": choice,
                              "channel": channel, "cast_at": cast_at});
            let mut value = Some(vote.to_string().into_bytes());
            match harm {
                0 => value = None,
                1 => value = value.map(|text| text[..text.len() - 3].to_vec()),
                2 => key = None,
                3 => key = Some(b"somebody else".to_vec()),
                4 => partition = stray,
                _ => {}
            }
            (partition, key, value)
        })
}

proptest! {
    /// However the log is split into batches and the changes are merged, with or without gaps.
    #[test]
    fn counts_what_the_contract_says(
        votes in proptest::collection::vec(any_vote(), 0..400),
        cut in 1_usize..150,
        gap in 0_u64..3,
    ) {
        let mut naive = Naive::default();
        let (mut engine, mut changes) = engine(&[0, 1]);
        let mut merged = Changes::new(&engine.rules);
        for partition in 0..PARTITIONS {
            let own: Vec<_> = votes.iter().filter(|(p, ..)| *p == partition).collect();
            let mut offset = 0;
            for chunk in own.chunks(cut) {
                let mut batch = Batch::new(partition);
                for (_, key, value) in chunk {
                    naive.count(partition, key.as_deref(), value.as_deref());
                    batch.push(Record { offset, appended_at_ms: 1234, key: key.as_deref(), value: value.as_deref() });
                    offset += 1 + gap;
                }
                batch.next_offset = offset;
                engine.apply(&batch, &mut changes);
            }
            prop_assert_eq!(changes.partitions.get(&partition).map_or(0, |p| p.gaps), own.len() as u64 * gap);
            merged.take_in(&mut changes);
            prop_assert!(changes.is_empty() && sums(&engine.rules, &changes).is_empty());
        }
        prop_assert_eq!(merged.received(), votes.len() as u64);
        let counted: u64 = merged.partitions.values().map(|p| p.counted).sum();
        prop_assert_eq!(counted, naive.voted.len() as u64);
        prop_assert_eq!(engine.voters(), counted);
        prop_assert_eq!(sums(&engine.rules, &merged), naive.sums);
        merged.clear();
        prop_assert!(merged.is_empty() && sums(&engine.rules, &merged).is_empty());
    }
}

#[test]
fn evidence_is_the_first_of_each_reason_and_partition() {
    let (mut engine, mut changes) = engine(&[0]);
    let mut batch = Batch::default();
    let long = vec![b'x'; 10_000];
    for offset in 0..u64::from(EVIDENCE_MAX) + 500 {
        batch.push(Record { offset, appended_at_ms: 5, key: None, value: (offset % 2 == 0).then_some(&long[..]) });
    }
    engine.apply(&batch, &mut changes);
    let kept: Vec<u64> = changes.totals.rejected_records.iter().map(|kept| kept.offset).collect();
    assert_eq!(kept, (0..u64::from(EVIDENCE_MAX)).collect::<Vec<_>>());
    let first = &changes.totals.rejected_records[0];
    assert_eq!((first.value.as_ref().unwrap().len(), first.value_bytes), (EVIDENCE_BYTES_MAX, Some(10_000)));
    let second = &changes.totals.rejected_records[1];
    assert_eq!((second.key.as_ref(), second.value.as_ref(), second.value_bytes), (None, None, None));
    assert_eq!(changes.received(), u64::from(EVIDENCE_MAX) + 500);
}
