//! PostgreSQL is killed while votes from Kafka are being counted.

use nix::sys::signal::kill;
use nix::unistd::Pid;
use scrutin_postgres::Cluster;

use super::*;
use crate::broker::Broker;
use crate::kit;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_count_waits_and_resumes_whenever_postgresql_is_killed() {
    let (folder, _guard) = kit::guarded_folder();
    let mut cluster = Cluster::start(&folder).await.unwrap();
    let broker = Broker::shared();
    let night = Night::begin(&broker.log(&broker.topic()), &cluster.url()).await;
    let producer = night.producer("1");
    let mut counters = [night.counter(), night.counter()];
    for _ in 0..5 {
        night.counts_on(1..500).await;
        night.moment(200).await;
        night.kills.fetch_add(1, Ordering::Relaxed);
        kill(Pid::from_raw(cluster.pid()), Signal::SIGKILL).unwrap();
        night.moment(500).await;
        cluster = Cluster::start(&folder).await.unwrap();
        counters.iter_mut().for_each(Running::must_run);
    }
    night.hurry(producer).await;
    night.check(counters).await;
    cluster.stop().await.unwrap();
}
