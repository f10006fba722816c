//! Counters that were taken for dead, and wake: what others have taken over they do not touch any more.

use super::*;
use crate::broker::Broker;
use crate::kit::Kit;

/// The times that partitions were taken.
const EPOCHS: &str = "SELECT sum(epoch)::bigint FROM scrutin.position";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_frozen_past_its_session_changes_nothing_when_it_wakes() {
    let (kit, broker) = (Kit::empty().await, Broker::shared());
    let night = Night::begin(&broker.log(&broker.topic()), kit.url()).await;
    let producer = night.producer("1");
    let mut counters = [night.counter(), night.counter()];
    for time in 0..4 {
        night.counts_on(100..500).await;
        night.moment(200).await;
        let frozen = &mut counters[time % 2];
        let taken = night.number(EPOCHS).await.unwrap();
        frozen.freeze();
        // The other takes all four, and counts them.
        night.taken_past(taken + 3).await;
        night.counts_on(200..500).await;
        let taken = night.number(EPOCHS).await.unwrap();
        frozen.signal(Signal::SIGCONT);
        // It is a member again, and has a share.
        night.taken_past(taken + 1).await;
        frozen.must_run();
    }
    night.hurry(producer).await;
    night.check(counters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_frozen_in_the_middle_of_a_commit_changes_nothing_when_it_wakes() {
    let (kit, broker) = (Kit::empty().await, Broker::shared());
    let night = Night::begin(&broker.log(&broker.topic()), kit.url()).await;
    let producer = night.producer("1");
    let frozen = night.counter();
    night.counts_on(1..500).await;
    // It is held in the first statement of a commit, frozen, and then let through by PostgreSQL.
    let holder = kit.owner().await;
    holder.batch_execute(&format!("BEGIN; {TURN}")).await.unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    until("it waits for its turn", async || night.number(waits).await.filter(|waiting| *waiting == 1)).await;
    let before = night.received().await.unwrap();
    frozen.freeze();
    drop(holder);
    let holds =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'";
    until("it is in a transaction", async || night.number(holds).await.filter(|sessions| *sessions == 1)).await;

    // The other waits for PostgreSQL to let go of the frozen one, and then counts all.
    let other = night.counter();
    night.counts_on(200..500).await;
    assert!(night.received().await.unwrap() > before);
    let taken = night.number(EPOCHS).await.unwrap();
    frozen.signal(Signal::SIGCONT);
    // Whether it tries the commit again first, and is refused, or hears from the group first: it is a member again.
    night.taken_past(taken + 1).await;
    night.hurry(producer).await;
    night.check([frozen, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_taken_by_one_that_then_died_are_taken_back() {
    let (kit, broker) = (Kit::empty().await, Broker::shared());
    let night = Night::begin(&broker.log(&broker.topic()), kit.url()).await;
    let producer = night.producer("1");
    let counter = night.counter();
    night.counts_on(1..500).await;
    // As one does that wakes, takes what it has long lost, and dies before the group hears of it.
    kit.owner().await.batch_execute("UPDATE scrutin.position SET epoch = epoch + 1 WHERE partition = 2").await.unwrap();
    let counter = tokio::task::spawn_blocking(move || {
        counter.says("partition 2 was taken over by another count named `native`");
        counter
    });
    let counter = counter.await.unwrap();
    night.counts_on(1..500).await;
    night.hurry(producer).await;
    night.check([counter]).await;
}

impl Night {
    /// Waits until partitions have been taken more often than that.
    async fn taken_past(&self, times: u64) {
        until("partitions are taken", async || self.number(EPOCHS).await.filter(|taken| *taken > times)).await;
    }
}
