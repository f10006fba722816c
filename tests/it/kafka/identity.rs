//! A position is only valid in the log it was counted from.

use nix::sys::signal::Signal;

use super::{Stage, ballots, until_received};
use crate::run::{Done, Running};

/// Waits for a count that has to stop by itself, and checks its message.
#[track_caller]
fn stopped(count: Running, words: &[&str]) {
    let done: Done = count.end();
    for word in words {
        assert!(done.err.contains(word), "no `{word}` in the message: {done}");
    }
    done.fails(4);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_added_after_the_first_vote_stop_every_count() {
    let stage = Stage::new().await;
    stage.place.ok("setup");
    stage.topic.append_votes(&ballots(0..40), 4).await;
    let count = stage.place.start("count --serve");
    until_received(count.page(), 40);

    stage.topic.raise_partitions(5).await;
    let words = ["a voter's votes may lie in two", "no count of it can be trusted; move the votes to a new log"];
    stopped(count, &words);
    for line in ["count --drain", "setup"] {
        let refused = stage.place.fails(line, 4);
        let counted = format!(
            "counter `native` cannot continue: the log at {} has 5 partitions, but had 4 when it was counted; ",
            stage.topic.address()
        );
        assert!(refused.contains(&counted) && words.iter().all(|word| refused.contains(word)), "{line}: {refused}");
    }
    assert_eq!(stage.figure("SELECT received FROM accounting").await, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_and_recreated_topic_is_another_log() {
    let stage = Stage::new().await;
    stage.place.ok("setup --partitions 1");
    stage.topic.append_votes(&ballots(0..10), 1).await;
    stage.place.ok("count --drain");
    stage.topic.delete().await;
    assert!(stage.place.fails("count --drain", 4).contains("`scrutin setup` makes it"));
    stage.place.ok("setup --partitions 1");
    stage.topic.append_votes(&ballots(0..20), 1).await;
    let refused = stage.place.fails("count --drain", 4);
    let words = format!("counter `native` has counted another log than the one at {}", stage.topic.address());
    assert!(refused.contains(&words) && refused.contains("use another counter name"), "{refused}");
    assert_eq!(stage.figure("SELECT received FROM accounting").await, 10);
    let audit = stage.place.fails("audit", 4);
    assert!(audit.contains(&words) && audit.contains("audit it against its own log"), "{audit}");
    stage.place.ok("count --drain --counter anew");
    stage.place.ok("audit --counter anew");
    // `native` has counted all ten votes of the old topic; the new topic's end offset adds no lag.
    let status = stage.place.ok("status");
    let (anew, native) = status.split_at(status.find("counter     native").unwrap());
    assert!(native.contains("it counts another log; these are the last end offsets it recorded there"), "{status}");
    assert!(!anew.contains("another log"), "{status}");
    for counter in ["anew", "native"] {
        assert_eq!(stage.figure(&format!("SELECT sum(lag)::bigint FROM lag WHERE counter = '{counter}'")).await, 0);
    }
}

/// Left alone, the client would continue in the new topic at the old topic's offset.
#[tokio::test(flavor = "multi_thread")]
async fn recreating_the_topic_stops_a_running_count() {
    let stage = Stage::new().await;
    stage.place.ok("setup --partitions 1");
    stage.topic.append_votes(&ballots(0..10), 1).await;
    let count = stage.place.start("count --serve");
    until_received(count.page(), 10);
    // While frozen it misses the deletion: it sees the old topic, then the new one.
    count.signal(Signal::SIGSTOP);
    stage.topic.delete().await;
    stage.place.ok("setup --partitions 1");
    stage.topic.append_votes(&ballots(100..140), 1).await;
    count.signal(Signal::SIGCONT);
    stopped(count, &["was deleted and created again: it is another log; use another counter name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_deleted_before_they_were_counted_stop_the_count() {
    let stage = Stage::new().await;
    stage.place.ok("setup --partitions 1");
    stage.topic.append_votes(&ballots(0..10), 1).await;
    stage.place.ok("count --drain");
    stage.topic.append_votes(&ballots(10..30), 1).await;

    // Votes that are already counted may be deleted.
    stage.topic.delete_records(&[(0, 5)]).await;
    let count = stage.place.start("count --serve");
    until_received(count.page(), 30);
    // While frozen it holds at most one response of the broker.
    count.signal(Signal::SIGSTOP);
    stage.topic.append_votes(&ballots(30..31), 1).await;
    stage.topic.append_votes(&ballots(31..50), 1).await;
    stage.topic.delete_records(&[(0, 45)]).await;
    count.signal(Signal::SIGCONT);
    stopped(
        count,
        &[
            "partition 0 of the log starts at offset 45, but the count has only reached 3",
            "votes are gone from the log",
        ],
    );

    let next = stage.positions("native").await[&0];
    assert!((30..45).contains(&next), "{next}");
    assert_eq!(stage.figure("SELECT received FROM accounting").await, next, "nothing is skipped");
    let refused = stage.place.fails("count --drain", 4);
    let words = format!(
        "partition 0 of the log starts at offset 45, but the count has only reached {next}: {} votes are gone from the \
         log and cannot be counted",
        45 - next
    );
    assert!(refused.contains(&words), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_count_starts_where_the_log_starts_and_says_so() {
    let stage = Stage::new().await;
    stage.place.ok("setup --partitions 2");
    stage.topic.append_votes(&ballots(0..30), 2).await;
    let (_, end) = stage.topic.offsets(1);
    stage.topic.delete_records(&[(1, 4)]).await;
    let done = stage.place.run("count --drain");
    let warning = format!("partition 1 of the log at {} starts at offset 4", stage.topic.address());
    assert!(
        done.err.contains(&warning) && done.err.contains("the votes before it are gone and are not in this count"),
        "{done}"
    );
    done.ok();
    assert_eq!(stage.figure("SELECT first_offset FROM accounting_by_partition WHERE partition = 1").await, 4);
    assert_eq!(stage.figure("SELECT received FROM accounting_by_partition WHERE partition = 1").await, end - 4);
    assert!(stage.place.ok("audit").contains("26 records recounted, 26 counted"));
    let done = stage.place.run("count --drain");
    assert!(!done.err.contains("starts at offset"), "the warning is given once: {done}");
    done.ok();

    // A closed stderr does not end the count.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = stage.place.command("count --drain --counter unheard").stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(stage.figure("SELECT received FROM accounting WHERE counter = 'unheard'").await, 26);
}
