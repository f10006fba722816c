//! The consumer group assigns partitions and shows progress; the count does not depend on it.

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::*;
use crate::broker::Broker;
use crate::kit::Kit;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_or_moved_group_offsets_count_nothing_twice() {
    let (kit, broker) = (Kit::empty().await, Broker::start(1));
    let night = Night::begin(&broker.log("votes"), kit.url()).await;
    night.ok(&night.simulate("max")).await;
    night.ok("count --drain").await;
    // To the start, past some votes, past the end.
    for offset in [0, 1000, 1_000_000] {
        set_offsets(&broker, offset);
        let said = night.ok("count --drain").await;
        assert!(said.starts_with("0 votes in "), "{said}");
    }
    // Deleted, with the group.
    let admin: rdkafka::admin::AdminClient<_> = client(&broker).create().unwrap();
    let deleted = admin.delete_groups(&["scrutin-native"], &rdkafka::admin::AdminOptions::new()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    let said = night.ok("count --drain").await;
    assert!(said.starts_with("0 votes in "), "{said}");
    night.check([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_groups_offsets_are_never_ahead_of_the_tables() {
    let (kit, broker) = (Kit::empty().await, Broker::start(1));
    let night = Night::begin(&broker.log("votes"), kit.url()).await;
    let producer = night.producer("1");
    let mut counters = [night.counter(), night.counter()];
    let admin = kit.owner().await;
    let mut shown = 0;
    for _ in 0..5 {
        night.counts_on(100..500).await;
        // While the table is locked nothing is committed, so the group's offsets must not move past it.
        admin.batch_execute("BEGIN; LOCK TABLE scrutin.position IN SHARE MODE").await.unwrap();
        night.moment(1500).await;
        shown = shown.max(check_offsets(&broker, &admin).await);
        admin.batch_execute("COMMIT").await.unwrap();
        let again = night.counter();
        night.kill(std::mem::replace(&mut counters[night.draw(0..2) as usize], again)).await;
        check_offsets(&broker, &admin).await;
    }
    assert!(shown > 0, "the group shows the count's progress");
    night.hurry(producer).await;
    night.check(counters).await;
}

/// Checks that no offset of the group is ahead of the tables; returns their sum.
async fn check_offsets(broker: &Broker, admin: &tokio_postgres::Client) -> i64 {
    // Read the group's offsets first: a commit in between can only move the tables further ahead.
    let offsets = offsets(broker);
    let rows = admin.query("SELECT partition, next_offset FROM scrutin.position", &[]).await.unwrap();
    for row in rows {
        let (partition, next): (i32, i64) = (row.get(0), row.get(1));
        let offset = offsets[partition as usize];
        assert!(offset <= next, "partition {partition} is counted to {next}, but the group's offset is {offset}");
    }
    offsets.iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_that_come_and_go_take_nothing_from_each_other() {
    let (kit, broker) = (Kit::empty().await, Broker::shared());
    let night = Night::begin(&broker.log(&broker.topic()), kit.url()).await;
    let producer = night.producer("1");
    let stays = night.counter();
    for _ in 0..3 {
        night.counts_on(1..500).await;
        let guest = night.start("count --serve");
        // Both have partitions and count.
        let partitions = |text: &str| text.lines().filter(|line| line.starts_with("scrutin_lag_votes{")).count();
        tokio::task::block_in_place(|| guest.page().until("/metrics", |_, text| partitions(text) == 2));
        night.counts_on(500..1000).await;
        guest.signal(Signal::SIGINT);
        let done = ended(guest).await;
        assert!(!done.err.contains("taken over"), "{done}");
        done.ok();
    }
    night.hurry(producer).await;
    let log = night.look().await;
    let all: u64 = (0..log.partitions()).map(|partition| log.offsets(partition).unwrap().end).sum();
    until("all votes are counted", async || night.received().await.filter(|received| *received == all)).await;
    stays.signal(Signal::SIGINT);
    let done = ended(stays).await;
    assert!(!done.err.contains("taken over"), "pending votes were committed before the partitions were lost: {done}");
    done.ok();
    night.check([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_stopped_during_a_rebalance_ends() {
    let (kit, broker) = (Kit::empty().await, Broker::start(1));
    let night = Night::begin(&broker.log("votes"), kit.url()).await;
    let producer = night.producer("1");
    let counter = night.start("count --log-level info");
    night.counts_on(1..200).await;
    // Blocked in a commit, it cannot respond to the rebalance when another counter joins.
    let holder = kit.owner().await;
    holder.batch_execute(&format!("BEGIN; {TURN}")).await.unwrap();
    let other = night.counter();
    until("the group has rebalanced", async || (members(&broker) == 2).then_some(())).await;
    counter.signal(Signal::SIGINT);
    let counter = tokio::task::spawn_blocking(move || {
        counter.says("stopping after the current work");
        counter
    });
    let counter = counter.await.unwrap();
    drop(holder);
    let done = ended(counter).await;
    // librdkafka logs this when it is given a wrong assignment, and then keeps waiting.
    assert!(!done.err.contains("assign() call failed"), "{done}");
    done.ok();
    night.hurry(producer).await;
    night.check([other]).await;
}

/// The number of members of a stable group; 0 during a rebalance.
fn members(broker: &Broker) -> usize {
    let consumer: BaseConsumer = client(broker).create().unwrap();
    let found = tokio::task::block_in_place(|| consumer.fetch_group_list(Some("scrutin-native"), PATIENCE)).unwrap();
    found.groups().iter().filter(|group| group.state() == "Stable").map(|group| group.members().len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_of_a_dead_counter_is_still_reported() {
    let (kit, broker) = (Kit::empty().await, Broker::shared());
    let night = Night::begin(&broker.log(&broker.topic()), kit.url()).await;
    let producer = night.producer("1");
    let counter = night.counter();
    night.counts_on(100..300).await;
    night.kill(counter).await;
    night.hurry(producer).await;
    let log = night.look().await;
    let status = night.ok("status").await;
    for partition in 0..log.partitions() {
        let sql = format!("SELECT next_offset FROM scrutin.position WHERE partition = {partition}");
        let lag = log.offsets(partition).unwrap().end - night.number(&sql).await.unwrap();
        assert!(lag > 1000, "{lag}");
        let grouped = format!("{}\u{202f}{:03}", lag / 1000, lag % 1000);
        assert!(status.contains(&grouped), "partition {partition} is {grouped} behind:\n{status}");
    }
    let counter = night.counter();
    night.check([counter]).await;
}

fn client(broker: &Broker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.address().strip_prefix("kafka://").unwrap());
    config.set("group.id", "scrutin-native");
    config
}

fn list(offset: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    (0..4).for_each(|partition| list.add_partition_offset("votes", partition, offset).unwrap());
    list
}

fn set_offsets(broker: &Broker, offset: i64) {
    let consumer: BaseConsumer = client(broker).create().unwrap();
    tokio::task::block_in_place(|| consumer.commit(&list(Offset::Offset(offset)), CommitMode::Sync)).unwrap();
}

/// The group's offset in each partition; 0 where it has none.
fn offsets(broker: &Broker) -> Vec<i64> {
    let consumer: BaseConsumer = client(broker).create().unwrap();
    let found = consumer.committed_offsets(list(Offset::Invalid), PATIENCE).unwrap();
    let offset = |offset| if let Offset::Offset(offset) = offset { offset } else { 0 };
    found.elements().iter().map(|element| offset(element.offset())).collect()
}
