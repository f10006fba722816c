//! Everything at once, for an hour: blows on every layer in a random order. After each blow, the test measures how long
//! it takes to count all votes that were in the log when the blow ended. `SCRUTIN_SOAK_BLOWS` sets the number of blows.

use std::collections::BTreeMap;
use std::process::Command;

use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::producer::holds_the_stream;
use super::*;
use crate::broker::Broker;
use crate::clock::ShiftedClock;
use crate::proxy::Proxy;
use crate::standby::Pair;

const BLOWS: u32 = 1000;
/// Enough votes to last longer than a thousand blows; the rest of the day is written at once.
const VOTERS: u32 = 3_000_000;
const DAY_SECONDS: u32 = 5_000;

/// Each kind, and its share in percent.
const KINDS: [(Kind, u32); 16] = [
    (Kind::CounterBack, 10),
    (Kind::CounterTakenOver, 8),
    (Kind::CountersBack, 6),
    (Kind::CounterFrozen, 8),
    (Kind::ProducerBack, 8),
    (Kind::BrokerBack, 6),
    (Kind::BrokerFrozen, 6),
    (Kind::LinesCut, 8),
    (Kind::LinesSilent, 6),
    (Kind::DatabaseBack, 6),
    (Kind::DatabaseFrozen, 6),
    (Kind::SessionsEnded, 8),
    (Kind::DiskFull, 4),
    (Kind::DiskFails, 3),
    (Kind::Failover, 3),
    (Kind::ClockSet, 4),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A counter is killed and restarted at once.
    CounterBack,
    /// A counter is killed and the other takes over; it is restarted later.
    CounterTakenOver,
    /// Both counters are killed and restarted at once.
    CountersBack,
    /// A counter is frozen for up to four seconds.
    CounterFrozen,
    /// The producer is killed and restarted.
    ProducerBack,
    /// The broker is killed and restarted.
    BrokerBack,
    /// The broker is frozen for up to three seconds.
    BrokerFrozen,
    /// The counters' connections to the broker are closed, and new ones too.
    LinesCut,
    /// No data passes on the counters' connections to the broker.
    LinesSilent,
    /// PostgreSQL is killed and restarted.
    DatabaseBack,
    /// PostgreSQL and all its sessions are frozen for up to three seconds.
    DatabaseFrozen,
    /// All sessions of PostgreSQL are ended.
    SessionsEnded,
    /// PostgreSQL reports a full disk (53100).
    DiskFull,
    /// PostgreSQL reports an I/O error (58030).
    DiskFails,
    /// PostgreSQL is killed and a streaming standby takes over.
    Failover,
    /// The counters' clock is shifted by up to an hour.
    ClockSet,
}

struct Storm {
    night: Night,
    log: KafkaLog,
    broker: Broker,
    lines: Proxy,
    servers: Pair,
    counters: Vec<Running>,
    producer: Option<Running>,
    /// The counters'.
    clock: ShiftedClock,
    took_ms: BTreeMap<Kind, Vec<u128>>,
}

impl Storm {
    async fn begin() -> Storm {
        let (servers, (broker, lines)) = (Pair::start().await, Broker::proxied());
        let night = Night::of(&broker.log("votes"), &servers.url(), VOTERS, DAY_SECONDS).await;
        let clock = ShiftedClock::new(&night.place);
        let (producer, log) = (Some(night.producer("1")), night.look().await);
        let counters = (0..2).map(|_| counter(&night, &lines, &clock)).collect();
        Storm { night, log, broker, lines, servers, counters, producer, clock, took_ms: BTreeMap::new() }
    }

    fn counter(&self) -> Running {
        counter(&self.night, &self.lines, &self.clock)
    }

    async fn kill_counter(&mut self, one: usize) {
        self.night.kill(self.counters.remove(one)).await;
        self.counters.push(self.counter());
    }

    async fn kill_producer(&mut self) {
        if let Some(producer) = self.producer.take() {
            self.night.kill(producer).await;
        }
        self.producer = Some(self.night.producer("1"));
    }

    /// Returns when the blow is over and the affected part is back.
    async fn strike(&mut self, kind: Kind) {
        let one = self.night.draw(0..2) as usize;
        match kind {
            Kind::CounterBack => self.kill_counter(one).await,
            Kind::CounterTakenOver => {
                self.counters[one].signal(Signal::SIGKILL);
                self.night.kills.fetch_add(1, Ordering::Relaxed);
            }
            Kind::CountersBack => {
                for counter in std::mem::take(&mut self.counters) {
                    self.night.kill(counter).await;
                }
                self.counters = (0..2).map(|_| self.counter()).collect();
            }
            Kind::CounterFrozen => {
                self.counters[one].freeze();
                self.night.moment(4000).await;
                self.counters[one].signal(Signal::SIGCONT);
            }
            Kind::ProducerBack => self.kill_producer().await,
            Kind::BrokerBack => {
                self.night.kill_broker(&self.broker, 1).await;
                self.night.moment(2000).await;
                tokio::task::block_in_place(|| self.broker.start_node(1));
            }
            Kind::BrokerFrozen => {
                tokio::task::block_in_place(|| self.broker.pause(1));
                self.night.moment(3000).await;
                self.broker.resume(1);
            }
            Kind::LinesCut | Kind::LinesSilent => {
                tokio::task::block_in_place(
                    || if kind == Kind::LinesCut { self.lines.cut() } else { self.lines.stall() },
                );
                self.night.moment(3000).await;
                self.lines.heal();
            }
            Kind::DatabaseBack => {
                self.kill_database();
                self.night.moment(2000).await;
                self.servers.start_primary().await;
            }
            Kind::DatabaseFrozen => {
                let all = processes_of(self.servers.pid());
                signal(&all, Signal::SIGSTOP);
                self.night.moment(3000).await;
                signal(&all, Signal::SIGCONT);
            }
            Kind::SessionsEnded => {
                let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                            WHERE datname = current_database() AND pid <> pg_backend_pid()";
                self.night.number(sql).await;
            }
            Kind::DiskFull => self.fail_with("53100").await,
            Kind::DiskFails => self.fail_with("58030").await,
            Kind::Failover => {
                self.kill_database();
                self.servers.promote().await;
            }
            Kind::ClockSet => {
                let shift = self.night.draw(0..7200) as i64 - 3600;
                self.clock.shift(shift);
            }
        }
    }

    fn kill_database(&self) {
        self.night.kills.fetch_add(1, Ordering::Relaxed);
        tokio::task::block_in_place(|| self.servers.kill_primary());
    }

    async fn fail_with(&self, code: &str) {
        let fail = format!("INSERT INTO scrutin.failing VALUES ('{code}') RETURNING 1::bigint");
        until("commits fail", || self.night.number(&fail)).await;
        self.night.moment(2000).await;
        let cured = "WITH d AS (DELETE FROM scrutin.failing RETURNING 1) SELECT count(*) FROM d";
        until("commits may pass again", || self.night.number(cured)).await;
    }

    /// Waits until all votes now in the log are counted.
    async fn counts_on(&self) {
        let ends = tokio::task::block_in_place(|| {
            (0..self.log.partitions())
                .map(|partition| {
                    let deadline = Instant::now() + PATIENCE;
                    loop {
                        match self.log.offsets(partition) {
                            Ok(offsets) => return offsets.end,
                            Err(error) => assert!(Instant::now() < deadline, "{error}"),
                        }
                    }
                })
                .collect::<Vec<u64>>()
        });
        let reached = ends.iter().enumerate();
        let reached = reached.map(|(partition, end)| format!("partition = {partition} AND next_offset >= {end}"));
        let sql = format!("SELECT count(*) FROM scrutin.position WHERE {}", reached.collect::<Vec<_>>().join(" OR "));
        until("the count catches up", async || {
            self.night.number(&sql).await.filter(|partitions| *partitions as usize == ends.len())
        })
        .await;
    }

    /// Checks that nothing is wrong once every part is back, and restarts what has ended.
    async fn raises_no_alarm(&mut self, kind: Kind) {
        let wrong = "SELECT count(*) FROM scrutin.accounting WHERE NOT holds";
        let wrong = until("PostgreSQL answers", || self.night.number(wrong)).await;
        assert_eq!(wrong, 0, "{kind:?}: received is not counted plus rejected");
        // A clock shift must not show up as latency.
        let slow = "SELECT count(*) FROM scrutin.batch WHERE latency_ms_p99 > 1000000";
        let slow = until("PostgreSQL answers", || self.night.number(slow)).await;
        assert_eq!(slow, 0, "{kind:?}: impossible latencies");
        // Like a supervisor, restart what was killed, or exited because a server was down when it started.
        for mut counter in std::mem::take(&mut self.counters) {
            if !counter.is_running() {
                let done = ended(counter).await;
                assert!(matches!(done.code, None | Some(4)), "{kind:?}: {done}");
                counter = self.counter();
            }
            self.counters.push(counter);
        }
        if let Some(mut producer) = self.producer.take() {
            if !producer.is_running() {
                let done = ended(producer).await;
                assert!(matches!(done.code, Some(0 | 4)), "{kind:?}: {done}");
                producer = self.night.producer("1");
            }
            self.producer = Some(producer);
        }
    }

    fn report(&mut self) {
        println!("{:18} {:>5}  {:>9}  {:>9}", "blow", "times", "median ms", "worst ms");
        for (kind, took) in &mut self.took_ms {
            took.sort_unstable();
            println!(
                "{:18} {:>5}  {:>9}  {:>9}",
                format!("{kind:?}"),
                took.len(),
                took[took.len() / 2],
                took[took.len() - 1]
            );
        }
    }
}

fn counter(night: &Night, lines: &Proxy, clock: &ShiftedClock) -> Running {
    let mut command = night.place.command("count");
    command.args(["--log", &format!("kafka://127.0.0.1:{}/votes", lines.port()), "--kafka-config", "kafka.properties"]);
    command.env("DATABASE_URL", &night.url);
    clock.give_to(&mut command);
    Running::start(command)
}

/// A server's process and its children.
fn processes_of(server: Pid) -> Vec<Pid> {
    let children = Command::new("pgrep").args(["-P", &server.to_string()]).output().unwrap();
    let children = String::from_utf8(children.stdout).unwrap();
    std::iter::once(server).chain(children.lines().map(|pid| Pid::from_raw(pid.parse().unwrap()))).collect()
}

fn signal(processes: &[Pid], signal: Signal) {
    for pid in processes {
        // A session may have ended meanwhile.
        let _ = kill(*pid, signal);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes an hour"]
async fn soak_whatever_is_struck_every_vote_counts_once() {
    let blows = std::env::var("SCRUTIN_SOAK_BLOWS").map_or(BLOWS, |text| text.parse().expect("a number of blows"));
    let mut storm = Storm::begin().await;
    storm.night.counts_on(1..2).await;
    let failing = "
        CREATE TABLE failing (code text);
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        DECLARE with_code text;
        BEGIN
            SELECT code INTO with_code FROM scrutin.failing;
            IF FOUND THEN RAISE EXCEPTION 'made to fail' USING ERRCODE = with_code; END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON tally FOR EACH STATEMENT EXECUTE FUNCTION fail();";
    let owner = Database::parse(&storm.night.url).unwrap().connect(Role::Owner).await.unwrap();
    owner.batch_execute(failing).await.unwrap();
    drop(owner);
    // Every kind comes up in its share.
    let all = KINDS.iter().flat_map(|(kind, share)| std::iter::repeat_n(*kind, *share as usize));
    let mut order: Vec<Kind> = all.cycle().take(blows.max(100) as usize).collect();
    storm.night.random.lock().unwrap().shuffle(&mut order);
    for (number, kind) in order.into_iter().take(blows as usize).enumerate() {
        storm.night.counts_on(1..300).await;
        storm.night.moment(300).await;
        storm.strike(kind).await;
        let over = Instant::now();
        storm.counts_on().await;
        let took = over.elapsed().as_millis();
        println!("{number} {kind:?} {took} ms");
        storm.took_ms.entry(kind).or_default().push(took);
        storm.raises_no_alarm(kind).await;
        match kind {
            Kind::Failover => storm.servers.renew_standby().await,
            // A counter that starts with a wrong clock has no way to notice.
            Kind::ClockSet => storm.clock.shift(0),
            _ => {}
        }
    }
    storm.report();
    // Keep the broker, the proxy and the servers alive to the end.
    let Storm { night, mut producer, counters, log, broker: _broker, lines: _lines, servers: _servers, .. } = storm;
    night.hurry(producer.take().expect("a producer is running")).await;
    holds_the_stream(&night, &log).await;
    night.check(counters).await;
}
