//! When votes become visible to a reader of the tables, whichever engine counts.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use scrutin_log::VoteLog;
use scrutin_store::{Database, Role};
use tokio::task::JoinHandle;

use super::{PARTITIONS, read};

/// Time between two looks. Reported latencies are too long by up to this much.
const LOOK: Duration = Duration::from_millis(4);

/// Polls the positions of a counter.
pub struct Watch {
    began_at_ms: i64,
    stop: Arc<AtomicBool>,
    looking: JoinHandle<Vec<Look>>,
}

/// The position in each partition, and when it was read.
struct Look {
    at_ms: i64,
    next_offsets: [u64; PARTITIONS as usize],
}

/// Milliseconds from append to visible.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub votes: usize,
    pub p50: i64,
    pub p99: i64,
    pub max: i64,
}

impl Latency {
    /// `waits` has the append time and the latency of each record.
    fn of(waits: &[(i64, i64)], appended_ms: Range<i64>) -> Latency {
        let within = waits.iter().filter(|(at_ms, _)| appended_ms.contains(at_ms));
        let mut waits: Vec<i64> = within.map(|(_, wait_ms)| *wait_ms).collect();
        waits.sort_unstable();
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
        Latency { votes: waits.len(), p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

impl Watch {
    pub fn begin(database: Database, counter: &'static str) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let looking = tokio::spawn({
            let stop = Arc::clone(&stop);
            async move {
                let client = database.connect(Role::Owner).await.expect("connect");
                let sql = "SELECT partition, next_offset FROM position WHERE counter = $1";
                let statement = client.prepare(sql).await.expect("prepare");
                let mut looks: Vec<Look> = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let rows = client.query(&statement, &[&counter]).await.expect("look");
                    let mut next_offsets = [0; PARTITIONS as usize];
                    for row in rows {
                        next_offsets[row.get::<_, i32>(0) as usize] = row.get::<_, i64>(1) as u64;
                    }
                    if looks.last().is_none_or(|last| last.next_offsets != next_offsets) {
                        looks.push(Look { at_ms: now_ms(), next_offsets });
                    }
                    tokio::time::sleep(LOOK).await;
                }
                looks
            }
        });
        Watch { began_at_ms: now_ms(), stop, looking }
    }

    /// Call once the whole log is counted. Returns the latency of the records appended in each of the windows, which are
    /// durations since the watch began.
    pub async fn end<const N: usize>(self, log: &dyn VoteLog, windows: &[Range<Duration>; N]) -> [Latency; N] {
        self.stop.store(true, Ordering::Relaxed);
        let looks = self.looking.await.expect("the watch does not panic");
        let at_ms = |since: Duration| self.began_at_ms + since.as_millis() as i64;
        let waits = tokio::task::block_in_place(|| waits(log, &looks));
        windows.each_ref().map(|window| Latency::of(&waits, at_ms(window.start)..at_ms(window.end)))
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis() as i64
}

/// Each record's append time, and its latency in milliseconds.
fn waits(log: &dyn VoteLog, looks: &[Look]) -> Vec<(i64, i64)> {
    let mut waits = Vec::new();
    let mut seen_by = [0; PARTITIONS as usize];
    read(log, |partition, record| {
        let look = &mut seen_by[partition as usize];
        while looks[*look].next_offsets[partition as usize] <= record.offset {
            *look += 1;
            assert!(*look < looks.len(), "offset {} of partition {partition} was never seen", record.offset);
        }
        waits.push((record.appended_at_ms, looks[*look].at_ms - record.appended_at_ms));
    });
    waits
}
