//! Votes that other programs append in transactions.

use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use scrutin_contract::partitioner::partition_of;

use super::{Ballot, Stage, Topic, ballot, ballots, until_received};
use crate::run::PATIENCE;

/// A producer of another program, which appends in transactions.
struct Transactions<'a> {
    topic: &'a Topic,
    producer: BaseProducer,
}

impl Transactions<'_> {
    fn of(topic: &Topic) -> Transactions<'_> {
        let config = topic.config(&[("transactional.id", &format!("{}-writer", topic.name))]);
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        Transactions { topic, producer }
    }

    /// Begins a transaction with these votes. The broker has them when this returns.
    fn begin(&self, votes: &[Ballot]) {
        self.producer.begin_transaction().unwrap();
        for vote in votes {
            let partition = partition_of(vote.voter.as_bytes(), 1) as i32;
            let record = BaseRecord::to(&self.topic.name).partition(partition).key(&vote.voter).payload(&vote.value);
            self.producer.send(record).unwrap_or_else(|(error, _)| panic!("{error}"));
        }
        self.producer.flush(PATIENCE).unwrap();
    }

    fn commit(&self) {
        self.until_marked(|| self.producer.commit_transaction(PATIENCE).unwrap());
    }

    fn abort(&self) {
        self.until_marked(|| self.producer.abort_transaction(PATIENCE).unwrap());
    }

    /// Waits for the marker: the broker acknowledges the end of a transaction before it writes the marker.
    fn until_marked(&self, end: impl FnOnce()) {
        let ((_, before), deadline) = (self.topic.offsets(0), Instant::now() + PATIENCE);
        end();
        while self.topic.offsets(0).1 <= before {
            assert!(Instant::now() < deadline, "no marker after offset {before}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Waits until a counter's position is `next`.
async fn until_at(stage: &Stage, counter: &str, next: i64) {
    let deadline = Instant::now() + PATIENCE;
    while stage.positions(counter).await.get(&0) != Some(&next) {
        assert!(Instant::now() < deadline, "{counter} does not reach {next}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_votes_do_not_count_and_markers_are_gaps() {
    let stage = Stage::new().await;
    stage.place.ok("setup --partitions 1");
    let others = Transactions::of(&stage.topic);
    others.begin(&ballots(0..5));
    others.commit(); // 5 votes and a marker
    others.begin(&ballots(5..12));
    others.abort(); // 7 aborted votes and a marker
    stage.topic.append_votes(&ballots(5..7), 1).await;
    others.begin(&[ballot(0, "C01"), ballot(20, "C01")]);
    others.commit(); // one voter votes again; the log ends with a marker
    let (_, end) = stage.topic.offsets(0);
    assert_eq!(end, 5 + 1 + 7 + 1 + 2 + 2 + 1);

    let out = stage.place.ok("count --drain");
    assert!(out.contains("now 8 counted, 1 rejected, 0 left in the log"), "{out}");
    assert_eq!(stage.positions("native").await[&0], end);
    let gaps = stage.figure("SELECT gaps FROM accounting WHERE holds").await;
    assert_eq!(gaps, 1 + 7 + 1 + 1);
    assert!(stage.place.ok("audit").contains("9 records recounted, 8 counted"));
    let listed = stage.place.ok("gaps --format csv");
    // The first gap is a marker, the aborted votes and their marker; the second is the last marker.
    assert_eq!(listed, "partition,first_offset,last_offset,offsets\n0,5,13,9\n0,18,18,1\n");

    // A log that ends with aborted votes only is drained too.
    others.begin(&ballots(30..33));
    others.abort();
    let out = stage.place.ok("count --drain");
    assert!(out.starts_with("0 votes in ") && out.contains(" 0 left in the log"), "{out}");
    assert_eq!(stage.positions("native").await[&0], end + 4);
    assert_eq!(stage.figure("SELECT gaps FROM accounting WHERE holds").await, gaps + 4);
    stage.place.ok("audit");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_holds_back_later_votes_and_is_reported() {
    let stage = Stage::new().await;
    stage.place.ok("setup --partitions 1");
    let others = Transactions::of(&stage.topic);
    stage.topic.append_votes(&ballots(0..3), 1).await;
    others.begin(&ballots(3..5));
    stage.topic.append_votes(&ballots(5..9), 1).await;

    assert_eq!(stage.place.ok("gaps --format json").trim(), "[]", "votes held back are not a gap");
    let count = stage.place.start("count --serve");
    let page = count.page();
    until_received(page, 3);
    page.until("/metrics", |_, text| text.contains("scrutin_lag_votes{partition=\"0\"} 6\n"));
    let status = stage.place.ok("status");
    let mut lines = status.lines().rev();
    let words = "holds back what comes after offset 3 of partition 0, until its producer ends it";
    let waits = lines.next().unwrap();
    assert!(waits.starts_with("waits       an open transaction") && waits.contains(words), "{status}");
    let figures: Vec<&str> = lines.next().unwrap().split_whitespace().take(4).collect();
    assert_eq!(figures, ["0", "3", "9", "6"], "partition, position, end of log, lag: {status}");
    page.until("/readyz", |status, body| status == 503 && body.contains(words));
    // `--drain` has to count all votes in the log, including those that cannot be read yet.
    let mut draining = stage.place.start("count --drain --counter drained");
    until_at(&stage, "drained", 3).await;
    assert!(draining.is_running());

    others.commit();
    until_received(page, 9);
    until_at(&stage, "native", 10).await; // past the marker
    page.until("/metrics", |_, text| text.contains("scrutin_lag_votes{partition=\"0\"} 0\n"));
    page.until("/readyz", |status, _| status == 200);
    let out = draining.end().ok();
    assert!(out.contains("now 9 counted, 0 rejected"), "{out}");
    count.interrupted().ok();
    stage.place.ok("audit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulation_resumes_after_an_aborted_transaction() {
    let stage = Stage::new().await;
    stage.place.ok("setup --partitions 1 --voters 20000");
    // Interrupted once some of its votes are in the log, with more to come.
    let simulate = stage.place.start("simulate --speed 4000");
    let deadline = Instant::now() + PATIENCE;
    while stage.topic.offsets(0).1 < 100 {
        assert!(Instant::now() < deadline, "no votes arrive");
        std::thread::sleep(Duration::from_millis(5));
    }
    simulate.interrupted();
    let others = Transactions::of(&stage.topic);
    others.begin(&ballots(0..5));
    let said = stage.place.start("simulate --speed max").end();
    assert_eq!(said.code, Some(4), "{said}");
    assert!(said.err.contains("an open transaction holds back the records after offset"), "{said}");
    others.abort();
    stage.place.ok("simulate --speed max");
    // Nothing is written twice: the truth is the same as that of an uninterrupted run.
    stage.place.ok("simulate --speed max");
    stage.place.ok("count --drain");
    stage.place.ok("audit --truth scrutin-data/truth.json");
}
