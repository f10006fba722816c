//! Counting from Kafka while everything is killed, frozen or cut off: counters, producers, brokers, PostgreSQL and the
//! connections between them. In the end the tables must match the truth, row by row, and the log must hold the stream,
//! record by record.
//!
//! The moments are drawn from a seed, mostly as a number of votes that must be counted or stored before the next fault.
//! `SCRUTIN_CRASH_SEED` sets the seed; each test prints its own.
//!
//! Defects known from production systems that use a broker, and the tests that rule them out here:
//!
//! | defect | test |
//! |---|---|
//! | offsets are lost or moved, and with `earliest` everything is counted again | `groups::lost_or_moved_group_offsets_count_nothing_twice` |
//! | an event is lost between a commit and a flush | `producer::a_producer_killed_at_random_moments_writes_every_vote_once` |
//! | the vote in hand is dropped while the database is down | `database::the_count_waits_and_resumes_whenever_postgresql_is_killed` |
//! | redelivery counts twice | `counters::a_counter_killed_at_random_moments_counts_every_vote_once` |
//! | errors are logged and the offset advances | `database::…`, `network::…`: what was not committed is counted later |
//! | offsets ahead of what is durable | `groups::the_groups_offsets_are_never_ahead_of_the_tables` |
//! | a rebalance discards finished work | `groups::counters_that_come_and_go_take_nothing_from_each_other` |
//! | a shutdown that hangs | `groups::a_counter_stopped_during_a_rebalance_ends` |
//! | a second writer of the same partition | `zombies::…` |
//! | lag that vanishes when the consumer stops | `groups::the_lag_of_a_dead_counter_is_still_reported` |
//!
//! The votes of every test here include records that are not votes, which must not block their partition.

mod brokers; // one broker, or one of three
mod counters; // one counter, or one of two
mod database; // PostgreSQL
mod groups; // the consumer group must not be able to affect a count
mod log; // the log itself, where it could hold up all the rest
mod network; // connections cut, and connections on which nothing passes
mod producer; // the program that writes the votes
mod storm; // all of it at once
mod zombies; // counters wrongly presumed dead

use std::future::Future;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use scrutin_log::kafka::KafkaSettings;
use scrutin_log::{KafkaLog, VoteLog};
use scrutin_store::{Database, Role};

use crate::kit::Watcher;
use crate::run::{Done, PATIENCE, Place, Running};

/// A dead member is noticed after 1 s, not 3 s; and votes are sent in fewer requests than on an otherwise idle machine.
const KAFKA_CONFIG: &str = "session.timeout.ms=1000\nheartbeat.interval.ms=200\nlinger.ms=20\n";

/// The transactions of a counter take turns by this lock.
const TURN: &str = "SELECT FROM scrutin.counter WHERE counter = 'native' FOR UPDATE";

/// A fraction of the ballots with every kind of fault.
const FAULTS: &str = "--faults none --fault redelivery=0.02 --fault double_vote=0.02 --fault malformed=0.01 \
    --fault misrouted=0.01 --fault unknown_election=0.005 --fault unknown_region=0.005 --fault unknown_choice=0.005 \
    --fault unknown_channel=0.005 --fault too_early=0.005 --fault too_late=0.005 --fault delay=0.02";

/// An election in progress, with its own topic and database.
struct Night {
    place: Place,
    /// The address of the topic.
    log: String,
    url: String,
    watcher: Watcher,
    seed: u64,
    random: Mutex<fastrand::Rng>,
    kills: AtomicU32,
}

impl Night {
    /// Sets up an election that lasts longer than any test; each test ends the day early with [`Night::hurry`].
    async fn begin(log: &str, url: &str) -> Night {
        Night::of(log, url, 400_000, 300).await
    }

    /// The day lasts `day_seconds`.
    async fn of(log: &str, url: &str, voters: u32, day_seconds: u32) -> Night {
        let seed = match std::env::var("SCRUTIN_CRASH_SEED") {
            Ok(text) => text.parse().expect("SCRUTIN_CRASH_SEED is a number"),
            Err(_) => fastrand::u64(..1_000_000),
        };
        println!("SCRUTIN_CRASH_SEED={seed}");
        let night = Night {
            place: Place::bare(),
            log: log.to_owned(),
            url: url.to_owned(),
            watcher: Watcher::of(&Database::parse(url).unwrap()),
            seed,
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            kills: AtomicU32::new(0),
        };
        night.place.write("kafka.properties", KAFKA_CONFIG);
        night.ok(&format!("setup --voters {voters} --day {day_seconds}s --partitions 4")).await;
        night
    }

    /// The program, with the night's log and database.
    fn start(&self, line: &str) -> Running {
        self.start_at(&self.log, &self.url, line)
    }

    /// The same, with other addresses.
    fn start_at(&self, log: &str, url: &str, line: &str) -> Running {
        let mut command = self.place.command(line);
        command.args(["--log", log, "--kafka-config", "kafka.properties"]).env("DATABASE_URL", url);
        Running::start(command)
    }

    async fn ok(&self, line: &str) -> String {
        ended(self.start(line)).await.ok()
    }

    /// Casts votes at the speed of the day, or as fast as possible (`max`).
    fn producer(&self, speed: &str) -> Running {
        self.start(&self.simulate(speed))
    }

    fn simulate(&self, speed: &str) -> String {
        format!("simulate --seed {} --speed {speed} --truth truth.json {FAULTS}", self.seed)
    }

    /// Counts, and also prints what it is waiting for.
    fn counter(&self) -> Running {
        self.start("count")
    }

    /// Sends SIGKILL to a process that must still be running.
    async fn kill(&self, running: Running) {
        self.kills.fetch_add(1, Ordering::Relaxed);
        tokio::task::spawn_blocking(move || running.killed()).await.unwrap();
    }

    /// Votes counted or rejected in the tables; none while PostgreSQL does not answer.
    async fn received(&self) -> Option<u64> {
        self.number("SELECT coalesce(sum(next_offset - first_offset), 0)::bigint FROM scrutin.position").await
    }

    async fn number(&self, sql: &str) -> Option<u64> {
        self.watcher.figure(sql).await.ok().map(|number| number as u64)
    }

    /// Opens the log for inspection.
    async fn look(&self) -> KafkaLog {
        KafkaLog::open_existing(&self.log.parse().unwrap(), &KafkaSettings::default()).await.unwrap()
    }

    fn draw(&self, range: Range<u64>) -> u64 {
        self.random.lock().unwrap().u64(range)
    }

    /// Random moments are the point here; there is nothing to wait for.
    async fn moment(&self, ms_max: u64) {
        tokio::time::sleep(Duration::from_millis(self.draw(0..ms_max))).await;
    }

    /// Waits until some more votes are in the tables.
    async fn counts_on(&self, votes: Range<u64>) {
        let votes = self.draw(votes);
        let goal = until("PostgreSQL says how far the count is", || self.received()).await + votes;
        until("votes are counted", async || self.received().await.filter(|received| *received >= goal)).await;
    }

    /// Ends the day early: all remaining votes are written at once.
    async fn hurry(&self, mut producer: Running) {
        match producer.is_running() {
            true => self.kill(producer).await,
            false => drop(ended(producer).await.ok()),
        }
        self.ok(&self.simulate("max")).await;
    }

    /// Once all votes are written: waits until they are counted, stops the counters, and compares every row with the
    /// log and with the truth.
    async fn check(&self, counters: impl IntoIterator<Item = Running>) {
        let log = self.look().await;
        let all: u64 = (0..log.partitions()).map(|partition| log.offsets(partition).unwrap().end).sum();
        until("all votes are counted", async || self.received().await.filter(|received| *received == all)).await;
        for counter in counters {
            counter.signal(Signal::SIGINT);
            ended(counter).await.ok();
        }
        let said = self.ok("audit --truth truth.json").await;
        assert!(said.contains("clean: every row") && said.contains("every total matches the ground truth"), "{said}");
        println!("killed {} times", self.kills.load(Ordering::Relaxed));
    }
}

async fn ended(running: Running) -> Done {
    tokio::task::spawn_blocking(move || running.end()).await.unwrap()
}

/// Retries until there is an answer.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
