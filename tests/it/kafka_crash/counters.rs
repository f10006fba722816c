//! Counters are killed, alone and in a group.

use super::*;
use crate::broker::Broker;
use crate::kit::Kit;

const KILLS: u32 = 15;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_killed_at_random_moments_counts_every_vote_once() {
    let (kit, broker) = (Kit::empty().await, Broker::shared());
    let night = Night::begin(&broker.log(&broker.topic()), kit.url()).await;
    let producer = night.producer("1");
    for round in 0..KILLS {
        let counter = night.counter();
        // Some are killed before they have done anything, most while counting.
        if round % 4 > 0 {
            night.counts_on(1..800).await;
        }
        night.moment(300).await;
        night.kill(counter).await;
    }
    let counter = night.counter();
    night.hurry(producer).await;
    night.check([counter]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_one_of_two_counters_is_killed_the_other_takes_over() {
    let (kit, broker) = (Kit::empty().await, Broker::shared());
    let night = Night::begin(&broker.log(&broker.topic()), kit.url()).await;
    let producer = night.producer("1");
    let mut counters = [night.counter(), night.counter()];
    for _ in 0..KILLS {
        // So many votes can only come from all the partitions.
        night.counts_on(200..1500).await;
        night.moment(200).await;
        let again = night.counter();
        let killed = std::mem::replace(&mut counters[night.draw(0..2) as usize], again);
        night.kill(killed).await;
    }
    night.hurry(producer).await;
    night.check(counters).await;
}
