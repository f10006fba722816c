//! Everything at once, for minutes.

use nix::sys::signal::kill;
use nix::unistd::Pid;
use scrutin::postgres::Cluster;

use super::producer::holds_the_stream;
use super::*;
use crate::broker::Broker;
use crate::kit;

const VOTERS: u32 = 2_000_000;
const DAY_SECONDS: u32 = 600;
const BLOWS: u32 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn soak_whatever_is_killed_every_vote_counts_once() {
    let (folder, _guard) = kit::guarded_folder();
    let mut cluster = Cluster::start(&folder).await.unwrap();
    let broker = Broker::start(1);
    let night = Night::of(&broker.log("votes"), &cluster.url(), VOTERS, DAY_SECONDS).await;
    let mut producer = night.producer("1");
    let mut counters = [night.counter(), night.counter()];
    for _ in 0..BLOWS {
        night.counts_on(1..2000).await;
        night.moment(500).await;
        let one = night.draw(0..2) as usize;
        match night.draw(0..8) {
            0..2 => night.kill(std::mem::replace(&mut counters[one], night.counter())).await,
            2..4 => {
                night.kill(producer).await;
                producer = night.producer("1");
            }
            4 => {
                counters[one].freeze();
                night.moment(4000).await;
                counters[one].signal(Signal::SIGCONT);
            }
            5 => {
                night.kill_broker(&broker, 1).await;
                night.moment(2000).await;
                tokio::task::block_in_place(|| broker.start_node(1));
            }
            6 => {
                night.kills.fetch_add(1, Ordering::Relaxed);
                kill(Pid::from_raw(cluster.pid()), Signal::SIGKILL).unwrap();
                night.moment(2000).await;
                cluster = Cluster::start(&folder).await.unwrap();
            }
            // Both counters at once, and the broker is frozen meanwhile.
            _ => {
                tokio::task::block_in_place(|| broker.pause(1));
                for counter in &mut counters {
                    night.kill(std::mem::replace(counter, night.counter())).await;
                }
                night.moment(1000).await;
                broker.resume(1);
            }
        }
        // One that found nobody at its start has ended; as a supervisor would, it is started again.
        for counter in &mut counters {
            if !counter.is_running() {
                let gone = std::mem::replace(counter, night.counter());
                ended(gone).await.fails(4);
            }
        }
        if !producer.is_running() {
            let gone = std::mem::replace(&mut producer, night.producer("1"));
            let done = ended(gone).await;
            assert!(matches!(done.code, Some(0 | 4)), "{done}");
        }
    }
    night.hurry(producer).await;
    holds_the_stream(&night, &night.look().await).await;
    night.check(counters).await;
    cluster.stop().await.unwrap();
}
