//! Connections are cut or stall: the count waits and resumes.

use std::time::Duration;

use super::*;
use crate::broker::Broker;
use crate::crash::{socket_of, through};
use crate::kit::Kit;
use crate::proxy::Proxy;

/// Ways to break a line: close all connections, or let no data pass.
const WAYS: [fn(&Proxy); 2] = [Proxy::cut, Proxy::stall];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_from_postgresql_the_count_waits_and_resumes() {
    cut_off_from_postgresql(4, Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_from_the_broker_the_count_waits_and_resumes() {
    cut_off_from_the_broker(4, Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn soak_cut_off_from_postgresql_for_half_a_minute() {
    cut_off_from_postgresql(4, Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn soak_cut_off_from_the_broker_for_half_a_minute() {
    cut_off_from_the_broker(4, Duration::from_secs(30)).await;
}

async fn cut_off_from_postgresql(times: u32, away: Duration) {
    if std::env::var("SCRUTIN_TEST_DATABASE_URL").is_ok() {
        eprintln!("SKIPPED cut_off_from_postgresql: needs the kit's own PostgreSQL");
        return;
    }
    let (kit, broker) = (Kit::empty().await, Broker::shared());
    let proxy = Proxy::to_socket(&socket_of(kit.url()));
    let night = Night::begin(&broker.log(&broker.topic()), kit.url()).await;
    let producer = night.producer("1");
    let counter = night.start_at(&night.log, &through(kit.url(), proxy.port()), "count");
    night.breaks(&proxy, counter, producer, times, away).await;
}

async fn cut_off_from_the_broker(times: u32, away: Duration) {
    let (kit, (broker, proxy)) = (Kit::empty().await, Broker::proxied());
    let night = Night::begin(&broker.log("votes"), kit.url()).await;
    let producer = night.producer("1");
    let counter = night.start_at(&format!("kafka://127.0.0.1:{}/votes", proxy.port()), &night.url, "count");
    night.breaks(&proxy, counter, producer, times, away).await;
}

impl Night {
    /// Breaks the counter's line `times` times, for `away` each.
    async fn breaks(&self, proxy: &Proxy, mut counter: Running, producer: Running, times: u32, away: Duration) {
        for time in 0..times {
            self.counts_on(1..500).await;
            self.moment(200).await;
            tokio::task::block_in_place(|| WAYS[time as usize % 2](proxy));
            // A fixed outage: there is no condition to wait for.
            tokio::time::sleep(away).await;
            counter.must_run();
            proxy.heal();
        }
        self.counts_on(1..2).await;
        self.hurry(producer).await;
        self.check([counter]).await;
    }
}
