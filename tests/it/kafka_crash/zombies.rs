//! Counters that were presumed dead and wake up must not touch partitions that others have taken over.

use super::*;
use crate::broker::Broker;
use crate::kit::Kit;

/// How often partitions have been taken over, all together.
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
        // The other takes over all four partitions and counts them.
        night.taken_past(taken + 3).await;
        night.counts_on(200..500).await;
        let taken = night.number(EPOCHS).await.unwrap();
        frozen.signal(Signal::SIGCONT);
        // It rejoins the group and is assigned partitions.
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
    // It is blocked in the first statement of a commit and frozen; then PostgreSQL lets the statement through.
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

    // The other waits until PostgreSQL ends the frozen one's transaction, then counts everything.
    let other = night.counter();
    night.counts_on(200..500).await;
    assert!(night.received().await.unwrap() > before);
    let taken = night.number(EPOCHS).await.unwrap();
    frozen.signal(Signal::SIGCONT);
    // It rejoins the group, whether it first retries the commit and is refused or first hears from the group.
    night.taken_past(taken + 1).await;
    night.hurry(producer).await;
    night.check([frozen, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_taken_by_a_counter_that_then_died_are_taken_back() {
    let (kit, broker) = (Kit::empty().await, Broker::shared());
    let night = Night::begin(&broker.log(&broker.topic()), kit.url()).await;
    let producer = night.producer("1");
    let counter = night.counter();
    night.counts_on(1..500).await;
    // Simulates a counter that wakes up, takes a partition it lost long ago, and dies before the group notices.
    kit.owner().await.batch_execute("UPDATE scrutin.position SET epoch = epoch + 1 WHERE partition = 2").await.unwrap();
    let counter = tokio::task::spawn_blocking(move || {
        counter.says("partition 2 was taken over by another process of counter `native`");
        counter
    });
    let counter = counter.await.unwrap();
    night.counts_on(1..500).await;
    night.hurry(producer).await;
    night.check([counter]).await;
}

impl Night {
    /// Waits until partitions have been taken over more than `times` times.
    async fn taken_past(&self, times: u64) {
        until("partitions are taken", async || self.number(EPOCHS).await.filter(|taken| *taken > times)).await;
    }
}
