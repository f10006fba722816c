//! Checks what the generator promises against an independent count.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use scrutin_contract::election::{Choice, Election, Region};
use scrutin_contract::partitioner::partition_of;
use scrutin_contract::record::RecordBuffer;
use scrutin_contract::truth::Truth;
use scrutin_log::{EmbeddedLog, VoteLog};

use super::ballots::{Ballots, Source};
use super::cells::Cells;
use super::schedule::{Schedule, WAITING_MAX};
use super::*;

const HOUR_MS: i64 = 3_600_000;

/// Three regions with registered voters in proportion 5:3:1, three choices that stand everywhere and two that do not.
pub fn small_election(voters: u64) -> Election {
    let region = |code: &str, registered| Region {
        code: code.into(),
        name: format!("Region {code}"),
        registered: Some(registered),
        expected_turnout: None,
        point: None,
        tile: None,
    };
    let choice = |code: &str, region: Option<&str>| Choice {
        code: code.into(),
        name: format!("Choice {code}"),
        color: "#123456".into(),
        region: region.map(str::to_owned),
    };
    let election = Election {
        id: "small-2030".into(),
        title: "Small".into(),
        opens_at_ms: 1_900_000_000_000,
        closes_at_ms: 1_900_000_000_000 + 12 * HOUR_MS,
        time_zone: "UTC".into(),
        channels: vec!["booth".into(), "online".into(), "post".into()],
        bucket_seconds: 60,
        expected_turnout: None,
        regions: vec![region("R\"1", 5), region("R2", 3), region("Ré3", 1)],
        choices: vec![
            choice("A", None),
            choice("L2", Some("R2")),
            choice("B", None),
            choice("L1", Some("R\"1")),
            choice("C", None),
        ],
    };
    scaled(&election, voters)
}

fn small_plan(voters: u64, seed: u64) -> Plan {
    Plan::draw(small_election(voters), seed).unwrap()
}

/// Runs on a log to the end.
fn run_on(log: &dyn VoteLog, plan: &Plan, faults: &FaultRates, threads: usize) -> anyhow::Result<Truth> {
    let (progress, stop) = (SendProgress::default(), AtomicBool::new(false));
    let delivery = Delivery { log, speed: Speed::Max, threads, progress: &progress, stop: &stop };
    let truth = run(plan, faults, &delivery)?.expect("nobody stopped it");
    assert!(progress.done.load(Ordering::Relaxed));
    let in_log = progress.resumed.load(Ordering::Relaxed) + progress.appended.load(Ordering::Relaxed);
    assert_eq!(in_log, truth.records);
    Ok(truth)
}

type Field = Option<Vec<u8>>;

/// All records of a log: key and value, by partition.
fn records(log: &dyn VoteLog) -> Vec<Vec<(Field, Field)>> {
    let read = |partition| {
        let end = log.offsets(partition).unwrap().end;
        let mut reader = log.reader(&[(partition, 0)]).unwrap();
        let mut records = Vec::new();
        while (records.len() as u64) < end {
            let batch = reader.fetch(Duration::from_secs(10)).unwrap().expect("the records are there");
            let owned = |field: Option<&[u8]>| field.map(<[u8]>::to_vec);
            records.extend(batch.records().map(|record| (owned(record.key), owned(record.value))));
        }
        records
    };
    (0..log.partitions()).map(read).collect()
}

/// A naive count: straight from the contract, with the standard library and serde_json.
#[derive(Debug, Default, PartialEq)]
struct Count {
    tally: BTreeMap<(String, String, String), u64>,
    timeline: BTreeMap<(i64, String, String), u64>,
    rejected: BTreeMap<String, u64>,
}

impl Count {
    fn of(election: &Election, log: &dyn VoteLog) -> Count {
        let mut count = Count::default();
        for (partition, records) in records(log).into_iter().enumerate() {
            let mut voted = HashSet::new();
            for (key, value) in records {
                if let Err(reason) = count.judge(
                    election,
                    (partition as u32, log.partitions()),
                    key.as_deref(),
                    value.as_deref(),
                    &mut voted,
                ) {
                    *count.rejected.entry(reason.into()).or_default() += 1;
                }
            }
        }
        count
    }

    fn judge(
        &mut self,
        election: &Election,
        (partition, partitions): (u32, u32),
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        voted: &mut HashSet<String>,
    ) -> Result<(), &'static str> {
        let value = value.filter(|value| value.len() <= 4096).ok_or("malformed")?;
        let fields: Fields = serde_json::from_slice(value).map_err(|_| "malformed")?;
        std::str::from_utf8(value).map_err(|_| "malformed")?;
        let plain = |byte: u8| byte == b'-' || byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if fields.voter.len() != 36 || !fields.voter.bytes().all(plain) {
            return Err("malformed");
        }
        let cast_at: jiff::Timestamp = fields.cast_at.parse().map_err(|_| "malformed")?;
        let cast_at = cast_at.as_millisecond();
        if key != Some(fields.voter.as_bytes()) || partition_of(fields.voter.as_bytes(), partitions) != partition {
            return Err("misrouted");
        }
        if fields.election != election.id {
            return Err("unknown_election");
        }
        if !election.regions.iter().any(|region| region.code == fields.region) {
            return Err("unknown_region");
        }
        let stands = |choice: &Choice| {
            choice.code == fields.choice && choice.region.as_ref().is_none_or(|only| *only == fields.region)
        };
        if !(fields.choice == "BLANK" || fields.choice == "NULL" || election.choices.iter().any(stands)) {
            return Err("unknown_choice");
        }
        if !election.channels.contains(&fields.channel) {
            return Err("unknown_channel");
        }
        if cast_at < election.opens_at_ms {
            return Err("not_open");
        }
        if cast_at >= election.closes_at_ms {
            return Err("closed");
        }
        if !voted.insert(fields.voter) {
            return Err("already_voted");
        }
        let width = i64::from(election.bucket_seconds) * 1000;
        let bucket = cast_at.div_euclid(width) * width;
        *self.timeline.entry((bucket, fields.region.clone(), fields.choice.clone())).or_default() += 1;
        *self.tally.entry((fields.region, fields.choice, fields.channel)).or_default() += 1;
        Ok(())
    }

    fn expected(truth: &Truth) -> Count {
        let own = str::to_owned;
        Count {
            tally: truth.tally_rows().map(|(r, c, ch, votes)| ((own(r), own(c), own(ch)), votes)).collect(),
            timeline: truth.timeline_rows().map(|(at, r, c, votes)| ((at, own(r), own(c)), votes)).collect(),
            rejected: truth.rejected.clone(),
        }
    }
}

#[derive(serde::Deserialize)]
struct Fields {
    election: String,
    voter: String,
    region: String,
    choice: String,
    channel: String,
    cast_at: String,
}

fn log_in(dir: &Path, partitions: u32) -> EmbeddedLog {
    EmbeddedLog::open(dir, partitions).unwrap()
}

fn fault_rates() -> impl Strategy<Value = FaultRates> {
    prop::array::uniform11(prop_oneof![Just(0.0), 0.0..0.09_f64]).prop_map(|rates| {
        let [redelivery, double_vote, malformed, misrouted, unknown_election, unknown_region, ..] = rates;
        let [.., unknown_choice, unknown_channel, too_early, too_late, delay] = rates;
        FaultRates {
            redelivery,
            double_vote,
            malformed,
            misrouted,
            unknown_election,
            unknown_region,
            unknown_choice,
            unknown_channel,
            too_early,
            too_late,
            delay,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_truth_is_what_a_naive_count_finds(
        seed: u64, voters in 0_u64..6000, partitions in 1_u32..6, threads in 1_usize..5, faults in fault_rates(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let log = log_in(dir.path(), partitions);
        let plan = small_plan(voters, seed);
        let truth = run_on(&log, &plan, &faults, threads).unwrap();
        prop_assert_eq!(Count::of(plan.election(), &log), Count::expected(&truth));
        prop_assert_eq!(truth.counted, plan.total());
        for (cell, by_channel) in truth.tally.iter().enumerate() {
            prop_assert_eq!(by_channel.iter().sum::<u64>(), u64::from(plan.ballots()[cell]));
        }
        let path = dir.path().join("truth.json");
        truth.write(&path).unwrap();
        prop_assert_eq!(Truth::read(&path).unwrap(), truth);
    }

    #[test]
    fn threads_and_interruptions_change_nothing(
        seed: u64, voters in 0_u64..3000, threads in 1_usize..5, cuts in prop::collection::vec(0.0..1.0_f64, 3),
        unheard: [bool; 3],
    ) {
        let faults = FaultRates { redelivery: 0.1, delay: 0.1, malformed: 0.1, misrouted: 0.1, too_late: 0.02, ..FaultRates::none() };
        let plan = small_plan(voters, seed);
        let dir = tempfile::tempdir().unwrap();
        let whole = log_in(&dir.path().join("whole"), 3);
        let truth = run_on(&whole, &plan, &faults, 1).unwrap();
        let all = records(&whole);
        let again = log_in(&dir.path().join("again"), 3);
        prop_assert_eq!(&run_on(&again, &plan, &faults, threads).unwrap(), &truth);
        prop_assert_eq!(&records(&again), &all);
        // A killed run leaves a beginning in each partition, not all equally long.
        let cut = log_in(&dir.path().join("cut"), 3);
        let mut buffers: Vec<(u32, RecordBuffer)> = Vec::new();
        for (partition, records) in all.iter().enumerate() {
            let mut buffer = RecordBuffer::default();
            let kept = (records.len() as f64 * cuts[partition]).round() as usize;
            records[..kept].iter().for_each(|(key, value)| buffer.push(key.as_deref(), value.as_deref()));
            buffers.push((partition as u32, buffer));
        }
        cut.writer(&[0, 1, 2]).unwrap().append(&mut buffers).unwrap();
        // Its last batch may be in the log without an acknowledgement.
        for partition in (0..3).filter(|partition| unheard[*partition]) {
            std::fs::write(dir.path().join(format!("cut/{partition}/durable")), 0_u64.to_le_bytes()).unwrap();
        }
        prop_assert_eq!(&run_on(&cut, &plan, &faults, threads).unwrap(), &truth);
        prop_assert_eq!(&records(&cut), &all);
        // Once more: nothing is left to add.
        prop_assert_eq!(&run_on(&cut, &plan, &faults, threads).unwrap(), &truth);
        prop_assert_eq!(&records(&cut), &all);
    }

    #[test]
    fn all_ballots_are_cast_once_in_the_day_in_order(seed: u64, voters in 0_u64..50_000, day_ms in 1_i64..50_000_000) {
        let mut election = small_election(voters);
        election.closes_at_ms = election.opens_at_ms + day_ms;
        let plan = Plan::draw(election, seed).unwrap();
        let mut source = Ballots::start(&plan).unwrap();
        let mut cast = vec![0; plan.cells().len()];
        let (mut voters, mut last_ms) = (HashSet::new(), plan.election().opens_at_ms);
        while let Some(ballot) = source.next().unwrap() {
            cast[ballot.cell as usize] += 1;
            prop_assert!(ballot.cast_at_ms >= last_ms && ballot.cast_at_ms < plan.election().closes_at_ms);
            last_ms = ballot.cast_at_ms;
            prop_assert!(voters.insert(ballot.voter));
        }
        prop_assert_eq!(cast.as_slice(), plan.ballots());
    }

    #[test]
    fn a_drawn_result_is_believable(seed: u64) {
        let plan = small_plan(1_000_000, seed);
        let sum = |wanted: &dyn Fn(&str, &str) -> bool| -> u64 {
            let cells = (0..plan.cells().len() as u32).filter(|cell| {
                let (region, choice) = plan.cells().codes(*cell);
                wanted(region, choice)
            });
            cells.map(|cell| u64::from(plan.ballots()[cell as usize])).sum()
        };
        for region in &plan.election().regions {
            let turnout = sum(&|at, _| at == region.code) as f64 / region.registered.unwrap() as f64;
            prop_assert!((0.649..=0.821).contains(&turnout), "{}", turnout);
        }
        let (blank, null) = (sum(&|_, choice| choice == "BLANK"), sum(&|_, choice| choice == "NULL"));
        prop_assert!((0.008..0.022).contains(&(blank as f64 / plan.total() as f64)));
        prop_assert!((0.003..0.011).contains(&(null as f64 / plan.total() as f64)));
    }

    #[test]
    fn scaling_gives_exactly_that_many_voters(voters in 0_u64..100_000_000) {
        prop_assert_eq!(scaled(&Election::built_in(), voters).registered(), Some(voters));
        prop_assert_eq!(small_election(voters).registered(), Some(voters));
    }
}

/// Every kind of fault alone gives its reason and no other, and loses none of the ballots.
#[test]
fn each_fault_has_its_reason() {
    let none = FaultRates::none();
    let rate = 0.2;
    for (faults, reason) in [
        (FaultRates { redelivery: rate, ..none }, Some("already_voted")),
        (FaultRates { double_vote: rate, ..none }, Some("already_voted")),
        (FaultRates { malformed: rate, ..none }, Some("malformed")),
        (FaultRates { misrouted: rate, ..none }, Some("misrouted")),
        (FaultRates { unknown_election: rate, ..none }, Some("unknown_election")),
        (FaultRates { unknown_region: rate, ..none }, Some("unknown_region")),
        (FaultRates { unknown_choice: rate, ..none }, Some("unknown_choice")),
        (FaultRates { unknown_channel: rate, ..none }, Some("unknown_channel")),
        (FaultRates { too_early: rate, ..none }, Some("not_open")),
        (FaultRates { too_late: rate, ..none }, Some("closed")),
        (FaultRates { delay: rate, ..none }, None),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let log = log_in(dir.path(), 3);
        let plan = small_plan(5000, 3);
        let truth = run_on(&log, &plan, &faults, 2).unwrap();
        let count = Count::of(plan.election(), &log);
        assert_eq!(count, Count::expected(&truth), "{faults:?}");
        assert_eq!(count.tally.values().sum::<u64>(), plan.total(), "{faults:?}");
        assert_eq!(count.rejected.keys().map(String::as_str).collect::<Vec<_>>(), Vec::from_iter(reason), "{faults:?}");
        let rejected: u64 = count.rejected.values().sum();
        let expected = if reason.is_some() { plan.total() as f64 * rate } else { 0.0 };
        assert!((rejected as f64 - expected).abs() <= expected / 5.0, "{rejected} for {expected}: {faults:?}");
    }
}

#[test]
fn one_late_vote_is_cast_exactly_at_the_closing() {
    let plan = small_plan(5000, 3);
    let mut schedule = Schedule::new(&plan, &FaultRates { too_late: 0.01, ..FaultRates::none() }).unwrap();
    let mut late = Vec::new();
    while let Some(event) = schedule.next().unwrap() {
        late.extend((event.cast_at_ms >= plan.election().closes_at_ms).then_some(event.cast_at_ms));
    }
    assert!(late.len() > 10 && late.contains(&plan.election().closes_at_ms), "{late:?}");
}

#[test]
fn a_delayed_ballot_counts_even_if_it_arrives_after_the_day() {
    let plan = small_plan(5000, 3);
    let mut schedule = Schedule::new(&plan, &FaultRates { delay: 0.3, ..FaultRates::none() }).unwrap();
    let (mut after_hours, mut after_the_day) = (0, 0);
    while let Some(event) = schedule.next().unwrap() {
        assert!(event.rejected.is_none() && event.cast_at_ms < plan.election().closes_at_ms);
        after_hours += u32::from(event.arrives_at_ms - event.cast_at_ms > HOUR_MS);
        after_the_day += u32::from(event.arrives_at_ms > plan.election().closes_at_ms);
    }
    assert!(after_hours > 100 && after_the_day > 10, "{after_hours}, {after_the_day}");
}

#[test]
fn a_log_of_another_run_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(dir.path(), 2);
    run_on(&log, &small_plan(1000, 1), &FaultRates::none(), 2).unwrap();
    let before = records(&log);
    let error = run_on(&log, &small_plan(1500, 2), &FaultRates::none(), 2).unwrap_err().to_string();
    assert!(error.contains("holds votes of another run"), "{error}");
    let error = run_on(&log, &small_plan(0, 1), &FaultRates::none(), 2).unwrap_err().to_string();
    assert!(error.contains("holds more than the 0 records that this run has"), "{error}");
    assert_eq!(records(&log), before);
}

#[test]
fn a_paced_run_stops_on_request_and_resumes_later() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(dir.path(), 2);
    let plan = small_plan(20_000, 5);
    let faults = FaultRates { redelivery: 0.01, delay: 0.05, ..FaultRates::none() };
    let (progress, stop) = (SendProgress::default(), AtomicBool::new(false));
    // At this pace, a day of twelve hours would take 43 seconds.
    let paced = Delivery { log: &log, speed: Speed::Times(1000.0), threads: 2, progress: &progress, stop: &stop };
    let stopped = std::thread::scope(|scope| {
        let run = scope.spawn(|| run(&plan, &faults, &paced));
        while progress.appended.load(Ordering::Relaxed) < 100 {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        run.join().unwrap()
    });
    assert_eq!(stopped.unwrap(), None);
    assert!(!progress.done.load(Ordering::Relaxed));
    let held: u64 = (0..2).map(|partition| log.offsets(partition).unwrap().end).sum();
    assert_eq!(held, progress.appended.load(Ordering::Relaxed));
    assert!(held < plan.total());
    let truth = run_on(&log, &plan, &faults, 1).unwrap();
    let whole = log_in(&dir.path().join("whole"), 2);
    assert_eq!(run_on(&whole, &plan, &faults, 1).unwrap(), truth);
    assert_eq!(records(&log), records(&whole));
}

#[test]
fn pace_changes_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let mut election = small_election(3000);
    election.closes_at_ms = election.opens_at_ms + 2000;
    let plan = Plan::draw(election, 5).unwrap();
    let (progress, stop) = (SendProgress::default(), AtomicBool::new(false));
    let (paced, fast) = (log_in(&dir.path().join("paced"), 2), log_in(&dir.path().join("fast"), 2));
    let delivery = Delivery { log: &paced, speed: Speed::Times(10.0), threads: 2, progress: &progress, stop: &stop };
    let truth = run(&plan, &FaultRates::demo(), &delivery).unwrap().unwrap();
    assert_eq!(run_on(&fast, &plan, &FaultRates::demo(), 1).unwrap(), truth);
    assert_eq!(records(&paced), records(&fast));
    assert_eq!(progress.day_ppm.load(Ordering::Relaxed), 1_000_000);
}

#[test]
fn wrong_rates_and_speeds_are_refused() {
    let none = FaultRates::none();
    let error = FaultRates { malformed: 1.5, ..none }.check().unwrap_err();
    assert_eq!(error, "the rate of Malformed is 1.5; expected 0 to 1");
    let error = FaultRates { malformed: 0.6, delay: 0.6, ..none }.check().unwrap_err();
    assert_eq!(error, "the fault rates sum to 1.2; expected at most 1, as a ballot has one fault");
    assert!(FaultRates { delay: f64::NAN, ..none }.check().is_err());
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(dir.path(), 1);
    let (progress, stop) = (SendProgress::default(), AtomicBool::new(false));
    let delivery = Delivery { log: &log, speed: Speed::Times(0.0), threads: 1, progress: &progress, stop: &stop };
    let error = run(&small_plan(10, 1), &none, &delivery).unwrap_err().to_string();
    assert_eq!(error, "speed 0; expected a number above 0, or max");
}

/// The queue is bounded even if every ballot of a large election is delayed, and the truth accounts for it.
#[test]
fn the_queue_of_waiting_records_is_bounded() {
    let plan = small_plan(1_000_000, 1);
    let mut schedule = Schedule::new(&plan, &FaultRates { delay: 1.0, ..FaultRates::none() }).unwrap();
    let (mut ahead, mut most) = (0_i64, 0_i64);
    let mut records = 0;
    while let Some(event) = schedule.next().unwrap() {
        records += 1;
        ahead += if event.arrives_at_ms == event.cast_at_ms { 0 } else { -1 };
        most = most.max(-ahead);
    }
    assert_eq!(records, plan.total());
    assert!(most > WAITING_MAX as i64, "the bound was never reached");
}

/// The demo's day is close in the end, and the lead changes before.
#[test]
fn the_built_in_election_is_worth_watching() {
    for seed in 0..24 {
        let plan = Plan::draw(scaled(&Election::built_in(), 200_000), seed).unwrap();
        let front = plan.front();
        let mut source = Ballots::start(&plan).unwrap();
        let mut votes = vec![0_i64; plan.cells().choices().len()];
        let (mut leader, mut changes, mut cast) = (None, 0, 0_u64);
        while let Some(ballot) = source.next().unwrap() {
            cast += 1;
            votes[plan.cells().cell(ballot.cell).choice as usize] += 1;
            // Sampled now and then, as a viewer would.
            if cast.is_multiple_of(2000) {
                let now = (0..votes.len()).max_by_key(|place| votes[*place]);
                changes += u32::from(leader.is_some() && leader != now);
                leader = now;
            }
        }
        let valid: i64 = votes[..votes.len() - 2].iter().sum();
        let margin = (votes[front[0] as usize] - votes[front[1] as usize]) as f64 / valid as f64;
        assert!((0.0..0.01).contains(&margin), "seed {seed}: {margin}");
        assert!(changes >= 2, "seed {seed}: the lead changes {changes} times");
        let turnout = plan.total() as f64 / 200_000.0;
        assert!((0.68..0.79).contains(&turnout), "seed {seed}: {turnout}");
    }
}

#[test]
fn counts_must_fit_the_election() {
    let election = small_election(10);
    let cells = Cells::of(&election).unwrap();
    assert_eq!((cells.len(), cells.codes(3)), (17, ("R\"1", "C")));
    assert!(Plan::new(election, vec![0; 16], 1).unwrap_err().contains("16 counts for 17 pairs"));
}
