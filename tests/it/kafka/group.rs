//! Several processes count together, joining and leaving.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Stage, ballots, metric, until_received};
use crate::clock::ShiftedClock;
use crate::run::{PATIENCE, Page, Running};

/// The partitions assigned to a process: those it reports a lag for.
fn assigned(text: &str) -> BTreeSet<u32> {
    let partition = |line: &str| line.strip_prefix("scrutin_lag_votes{partition=\"")?.split('"').next()?.parse().ok();
    text.lines().filter_map(partition).collect()
}

fn until_assigned(page: Page, partitions: usize) -> BTreeSet<u32> {
    page.until("/metrics", |_, text| assigned(text).len() == partitions);
    assigned(&page.ask("/metrics").1)
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_that_come_and_go_share_the_partitions_and_lose_nothing() {
    let stage = Stage::new().await;
    stage.place.ok("setup --voters 300000");
    let first = stage.place.start("count --serve");
    assert_eq!(until_assigned(first.page(), 4), BTreeSet::from([0, 1, 2, 3]));
    let second = stage.place.start("count --serve");
    let shares = [until_assigned(first.page(), 2), until_assigned(second.page(), 2)];
    assert!(shares[0].is_disjoint(&shares[1]), "{shares:?}");

    // Twelve hours of votes in a few seconds.
    let simulate = stage.place.start("simulate --speed 4000");
    until_received(first.page(), 5_000);
    let rebalances = |page| metric(page, "scrutin_rebalances_total").unwrap();
    let before = rebalances(first.page()) + rebalances(second.page());
    let third = stage.place.start("count --serve");
    third.page().until("/metrics", |_, text| (1..=2).contains(&assigned(text).len()));
    third.signal(Signal::SIGTERM);
    third.end().ok();
    assert!(rebalances(first.page()) + rebalances(second.page()) > before);
    let shares = [until_assigned(first.page(), 2), until_assigned(second.page(), 2)];
    assert!(shares[0].is_disjoint(&shares[1]), "{shares:?}");

    simulate.end().ok();
    let records = stage.place.json("scrutin-data/truth.json")["records"].as_u64().unwrap();
    until_received(first.page(), records);
    for page in [first.page(), second.page()] {
        assert!(metric(page, "scrutin_votes_counted_total").unwrap() > 0.0, "each has counted some");
    }
    first.interrupted().ok();
    assert_eq!(until_assigned(second.page(), 4).len(), 4, "its partitions are taken over");
    second.interrupted().ok();
    assert!(stage.figure("SELECT min(epoch) FROM lag").await >= 3);
    stage.place.ok("audit --truth scrutin-data/truth.json");
    assert_eq!(stage.topic.group_offsets("scrutin-native", 4), stage.positions("native").await);
}

/// A process with nothing left to count waits for the other's partitions, and takes them over if the other dies.
#[tokio::test(flavor = "multi_thread")]
async fn counters_that_drain_side_by_side_end_when_the_whole_log_is_counted() {
    let stage = Stage::new().await;
    stage.place.ok("setup --voters 100000");
    stage.place.ok("simulate --speed max");
    let records = stage.place.json("scrutin-data/truth.json")["records"].as_i64().unwrap();
    for (counter, kills) in [("both", false), ("one", true)] {
        let line = format!("count --drain --counter {counter}");
        // The first has all partitions, but cannot commit what it has read yet.
        let mut owner = stage.kit.owner().await;
        let hold = owner.transaction().await.unwrap();
        hold.batch_execute("LOCK TABLE tally IN EXCLUSIVE MODE").await.unwrap();
        let first = stage.place.start(&line);
        until_taken(&stage, counter, 1).await;
        // The second has no partitions at first, and must not conclude that the log is drained.
        let second = stage.place.start(&line);
        until_taken(&stage, counter, 2).await;
        if kills {
            first.killed();
            hold.rollback().await.unwrap();
        } else {
            hold.rollback().await.unwrap();
            assert!(first.end().ok().contains("0 left in the log"));
        }
        let said = second.end().ok();
        assert!(said.contains("0 left in the log"), "{said}");
        let received = "SELECT received FROM accounting WHERE counter = $1";
        let received: i64 = stage.kit.owner().await.query_one(received, &[&counter]).await.unwrap().get(0);
        assert_eq!(received, records, "{counter}");
    }
}

/// Sessions that outlast the test, so no test passes by waiting for one to expire. A test that uses it names its own
/// counter, and so its own group, or other tests would wait too.
const LONG_SESSION: &str = "session.timeout.ms=600000\nmax.poll.interval.ms=600000\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_counter_regains_its_partitions_at_once_when_restarted() {
    let stage = Stage::new().await;
    stage.place.write("kafka.properties", LONG_SESSION);
    stage.place.ok("setup");
    for round in 1..=3 {
        let counter = stage.place.start("count --serve --counter killed --kafka-config kafka.properties");
        stage.topic.append_votes(&ballots(50 * (round - 1)..50 * round), 4).await;
        until_received(counter.page(), (50 * round).into());
        counter.killed();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_counter_hands_over_its_partitions_at_once() {
    let stage = Stage::new().await;
    stage.place.write("kafka.properties", LONG_SESSION);
    stage.place.ok("setup");
    let line = "count --serve --counter stopped --kafka-config kafka.properties";
    let (first, second) = (stage.place.start(line), stage.place.start(line));
    until_assigned(first.page(), 2);
    until_assigned(second.page(), 2);
    first.interrupted().ok();
    until_assigned(second.page(), 4);
    second.interrupted().ok();
}

/// The copy joins the group under the same instance name, and Kafka keeps only the later of the two. With a slow heartbeat
/// the copy hears of the other's return three seconds late, and until then the other's join is pending.
#[tokio::test(flavor = "multi_thread")]
async fn a_counter_with_a_copied_data_folder_keeps_counting_beside_the_copy() {
    let stage = Stage::new().await;
    stage.place.ok("setup");
    stage.place.write("kafka.properties", "session.timeout.ms=30000\nheartbeat.interval.ms=3000\n");
    let line = "count --serve --counter copied --kafka-config kafka.properties";
    let first = stage.place.start(&format!("{line} --data-dir original"));
    until_assigned(first.page(), 4);
    let name = |folder: &str| stage.place.read(&format!("{folder}/kafka-instance-0"));
    stage.place.write("copy/kafka-instance-0", name("original"));
    let second = stage.place.start(&format!("{line} --data-dir copy"));
    first.says("joining again under a new id");
    let shares = [until_assigned(first.page(), 2), until_assigned(second.page(), 2)];
    assert!(shares[0].is_disjoint(&shares[1]), "{shares:?}");
    assert_ne!(name("original"), name("copy"));
    stage.topic.append_votes(&ballots(0..200), 4).await;
    until_received(first.page(), 200);
    for counter in [first, second] {
        assert!(metric(counter.page(), "scrutin_votes_counted_total").unwrap() > 0.0, "each has counted some");
        counter.interrupted().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_timeout_that_the_brokers_refuse_is_reported() {
    let stage = Stage::new().await;
    stage.place.write("kafka.properties", "session.timeout.ms=999\nheartbeat.interval.ms=100\n");
    stage.place.ok("setup");
    let done = stage.place.start("count --kafka-config kafka.properties").end();
    assert_eq!(done.code, Some(4), "{done}");
    assert!(done.err.contains("refuse session.timeout.ms=999; set it to a value between"), "{done}");
}

/// Waits until a partition of the counter has been taken over `times` times.
/// A round has a committer of its own, but the clock is the process's.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_is_remembered_after_a_rebalance() {
    let stage = Stage::new().await;
    stage.place.ok("setup");
    let clock = ShiftedClock::new(&stage.place);
    let line = "count --serve --counter shifted";
    let mut first = stage.place.command(line);
    clock.give_to(&mut first);
    let first = Running::start(first);
    let page = first.page();
    until_assigned(page, 4);
    let count = async |voters: std::ops::Range<u32>| {
        stage.topic.append_votes(&ballots(voters.clone()), 4).await;
        until_received(page, u64::from(voters.end));
    };
    count(0..50).await;
    clock.shift(3600);
    count(50..100).await;
    let second = stage.place.start(line);
    until_assigned(page, 2);
    count(100..200).await;
    let deadline = Instant::now() + PATIENCE;
    while stage.figure("SELECT coalesce(sum(received), 0)::bigint FROM batch").await < 200 {
        assert!(Instant::now() < deadline, "the commits are not recorded");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let wrong = stage.figure("SELECT count(*) FROM batch WHERE latency_ms_p99 > 1000000").await;
    assert_eq!(wrong, 0, "the clock's shift is taken for latency");
    first.interrupted().ok();
    second.interrupted().ok();
}

async fn until_taken(stage: &Stage, counter: &str, times: i64) {
    let deadline = Instant::now() + PATIENCE;
    let sql = format!("SELECT coalesce(max(epoch), 0)::bigint FROM lag WHERE counter = '{counter}'");
    while stage.figure(&sql).await < times {
        assert!(Instant::now() < deadline, "{counter} takes no partition");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_is_named_after_the_counter_and_knows_its_positions() {
    let stage = Stage::new().await;
    stage.place.ok("setup");
    stage.topic.append_votes(&ballots(0..50), 4).await;
    stage.place.ok("count --drain");
    let positions = stage.positions("native").await;
    assert_eq!(positions.values().sum::<i64>(), 50);
    assert_eq!(stage.topic.group_offsets("scrutin-native", 4), positions);
    let nothing: BTreeMap<i32, i64> = (0..4).map(|partition| (partition, -1001)).collect();
    assert_eq!(stage.topic.group_offsets("scrutin-again", 4), nothing);
    stage.place.ok("count --drain --counter again");
    assert_eq!(stage.topic.group_offsets("scrutin-again", 4), positions);
}
