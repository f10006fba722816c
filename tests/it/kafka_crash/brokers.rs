//! Brokers are killed while votes are being written and counted.

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::producer::holds_the_stream;
use super::*;
use crate::broker::Broker;
use crate::kit::Kit;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producer_and_counter_wait_and_resume_when_the_only_broker_is_killed() {
    let (kit, broker) = (Kit::empty().await, Broker::start(1));
    let night = Night::begin(&broker.log("votes"), kit.url()).await;
    let (mut producer, mut counter) = (night.producer("1"), night.counter());
    for _ in 0..2 {
        night.counts_on(200..1000).await;
        night.moment(200).await;
        night.kill_broker(&broker, 1).await;
        night.moment(1000).await;
        start_node(&broker, 1).await;
        producer.must_run();
        counter.must_run();
    }
    night.counts_on(1..2).await;
    // A counter also stops on a signal while the broker is down.
    night.kill_broker(&broker, 1).await;
    counter.signal(Signal::SIGINT);
    ended(counter).await.ok();
    start_node(&broker, 1).await;
    let counter = night.counter();
    night.hurry(producer).await;
    holds_the_stream(&night, &night.look().await).await;
    night.check([counter]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_continues_while_one_of_three_brokers_is_down() {
    let (kit, broker) = (Kit::empty().await, Broker::start(3));
    let night = Night::begin(&broker.log("votes"), kit.url()).await;
    let (mut producer, mut counter) = (night.producer("1"), night.start("count --serve"));
    let page = counter.page();
    for node in 1..=3 {
        night.counts_on(100..500).await;
        night.moment(200).await;
        night.kill_broker(&broker, node).await;
        // More votes than were in flight: new ones are accepted and counted without this broker.
        night.counts_on(500..1500).await;
        // And no client keeps asking the dead broker.
        tokio::task::block_in_place(|| page.until("/readyz", |status, _| status == 200));
        start_node(&broker, node).await;
        until("all copies are in sync", async || is_in_sync(&broker).then_some(())).await;
        producer.must_run();
        counter.must_run();
    }
    night.hurry(producer).await;
    holds_the_stream(&night, &night.look().await).await;
    night.check([counter]).await;
}

impl Night {
    pub(super) async fn kill_broker(&self, broker: &Broker, node: u32) {
        self.kills.fetch_add(1, Ordering::Relaxed);
        tokio::task::block_in_place(|| broker.kill(node));
    }
}

async fn start_node(broker: &Broker, node: u32) {
    tokio::task::block_in_place(|| broker.start_node(node));
}

/// Whether each partition of the topic has three replicas in sync.
fn is_in_sync(broker: &Broker) -> bool {
    let servers = broker.address().strip_prefix("kafka://").unwrap();
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    let Ok(found) = tokio::task::block_in_place(|| client.fetch_metadata(Some("votes"), PATIENCE)) else {
        return false;
    };
    found.topics()[0].partitions().iter().all(|partition| partition.isr().len() == 3)
}
