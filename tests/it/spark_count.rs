//! Spark counts the same votes: a real Spark, Kafka and PostgreSQL, the program as users run it, and the native count
//! beside it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::broker::Broker;
use crate::kafka::{Stage, Topic, ballots};
use crate::run::{PATIENCE, Place, Running, real_file};
use crate::spark_server::Spark;
use crate::turns::{Turn, Turns};

/// A fraction of the ballots with every kind of fault. Most double votes arrive in the same batch as the first vote.
const FAULTS: &str = "--faults none --fault redelivery=0.02 --fault double_vote=0.03 --fault malformed=0.01 \
    --fault misrouted=0.01 --fault unknown_election=0.005 --fault unknown_region=0.005 --fault unknown_choice=0.005 \
    --fault unknown_channel=0.005 --fault too_early=0.005 --fault too_late=0.005 --fault delay=0.02";

/// An election, and a folder for Spark's checkpoint.
struct Night<'a> {
    stage: Stage,
    spark: &'a Spark,
    _turn: Turn,
}

const RECEIVED: &str = "SELECT coalesce(sum(received), 0)::bigint FROM accounting WHERE counter = 'spark'";

static NIGHTS: Turns = Turns::of(2);

impl Night<'_> {
    /// Nothing is set up yet.
    async fn on<'a>(broker: &Broker, spark: &'a Spark) -> Night<'a> {
        let turn = NIGHTS.take();
        Night { stage: Stage::on(broker).await, spark, _turn: turn }
    }

    async fn begin<'a>(broker: &Broker, spark: &'a Spark, voters: u32) -> Night<'a> {
        let night = Night::on(broker, spark).await;
        night.stage.place.ok(&format!("setup --voters {voters} --day 1h --partitions 3"));
        night
    }

    /// Casts all votes of the day, at a multiple of its speed.
    fn votes(&self, speed: &str) -> Running {
        self.stage.place.start(&format!("simulate --seed 3 --speed {speed} --truth truth.json {FAULTS}"))
    }

    /// The command line of the count on Spark.
    fn on_spark(&self, more: &str) -> String {
        format!(
            "count --engine spark --spark {} --checkpoint {} --tallies {}-tallies {more}",
            self.spark.address(),
            self.stage.place.path("checkpoint").display(),
            self.stage.topic.name
        )
    }

    /// Lets Spark count everything that is in the log now; returns its output. It is slow where other tests run in
    /// parallel.
    fn drained_on_spark(&self, more: &str) -> String {
        self.drained_on_spark_within(5 * PATIENCE, more)
    }

    fn drained_on_spark_within(&self, patience: Duration, more: &str) -> String {
        self.stage.place.start(&self.on_spark(&format!("--drain {more}"))).end_within(patience).ok()
    }

    /// Lets both engines count everything that is in the log now, and asserts that their rows are equal.
    async fn counted_alike(&self) {
        self.drained_on_spark("");
        self.stage.place.start("count --drain").end_within(5 * PATIENCE).ok();
        self.agree().await;
    }

    /// All rows of a counter, except the columns that say when and how they were committed.
    async fn tables(&self, counter: &str) -> BTreeMap<&'static str, Vec<String>> {
        let owner = self.stage.kit.owner().await;
        let mut tables = BTreeMap::new();
        for (table, columns) in [
            ("tally", "election, region, channel, votes"),
            ("timeline", "election, bucket, region, votes"),
            ("rejection", "reason, bucket, votes"),
            ("position", "partition, first_offset, next_offset, gaps, counted, rejected"),
        ] {
            let sql = format!("SELECT ROW({columns})::text FROM {table} WHERE counter = $1 ORDER BY 1");
            let rows = owner.query(&sql, &[&counter]).await.unwrap();
            tables.insert(table, rows.iter().map(|row| row.get(0)).collect());
        }
        tables
    }

    /// Waits until this many more votes are visible than now.
    async fn until_more(&self, votes: i64, driver: &mut Running) {
        self.until(self.received().await + votes, driver).await;
    }

    /// Waits until this many votes are visible, and checks that the visible figures add up.
    async fn until(&self, wanted: i64, driver: &mut Running) {
        let deadline = Instant::now() + PATIENCE;
        while self.received().await < wanted {
            driver.must_run();
            assert!(Instant::now() < deadline, "{} votes are visible, not {wanted}", self.received().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.adds_up().await;
    }

    async fn adds_up(&self) {
        let sql = "SELECT count(*) FROM accounting a WHERE counter = 'spark' AND NOT (holds AND counted =
                       (SELECT coalesce(sum(votes), 0) FROM votes_by_bucket t WHERE t.counter = a.counter))";
        assert_eq!(self.stage.figure(sql).await, 0, "received = counted + rejected, in all tables");
    }

    async fn received(&self) -> i64 {
        self.stage.figure(RECEIVED).await
    }

    /// Kills the driver, Spark and the broker, and cuts the connections to PostgreSQL, in turn, each time after some
    /// more votes are visible.
    async fn of_blows(blows: u32, voters: u32) {
        let (broker, spark) = (Broker::start(1), Spark::start(&[]));
        let night = Night::begin(&broker, &spark, voters).await;
        let seed = match std::env::var("SCRUTIN_CRASH_SEED") {
            Ok(text) => text.parse().expect("SCRUTIN_CRASH_SEED is a number"),
            Err(_) => fastrand::u64(..1_000_000),
        };
        println!("SCRUTIN_CRASH_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        // The day is longer than the test, which ends it after enough faults.
        let mut voting = night.votes("1");
        let mut driver = night.stage.place.start(&night.on_spark(""));
        for blow in 0..blows {
            night.until_more(random.i64(1..50), &mut driver).await;
            match blow % 5 {
                0 => {
                    driver.killed();
                    driver = night.stage.place.start(&night.on_spark(""));
                }
                1 => {
                    spark.kill();
                    spark.start_again();
                }
                2 => {
                    broker.kill(1);
                    broker.start_node(1);
                }
                3 => night.cut_connections().await,
                _ => {
                    driver.killed();
                    spark.kill();
                    spark.start_again();
                    driver = night.stage.place.start(&night.on_spark(""));
                }
            }
        }
        night.until_more(1, &mut driver).await;
        voting.must_run();
        // A clean shutdown, then resume to the end.
        driver.signal(Signal::SIGTERM);
        driver.end_within(5 * PATIENCE).ok();
        night.adds_up().await;
        voting.killed();
        night.votes("max").end().ok();
        night.counted_alike().await;
    }

    /// Cuts every connection to the database except its own.
    async fn cut_connections(&self) {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.stage.kit.owner().await.execute(sql, &[]).await.unwrap();
    }

    /// Asserts that both counters have the same rows.
    async fn agree(&self) {
        let (native, spark) = (self.tables("native").await, self.tables("spark").await);
        for (table, rows) in &native {
            let differs = rows.iter().zip(&spark[table]).find(|(native, spark)| native != spark);
            assert_eq!((rows.len(), differs), (spark[table].len(), None), "{table}");
        }
        assert!(!native["tally"].is_empty(), "no votes are counted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_counts_have_the_same_rows() {
    let night = Night::begin(Broker::shared(), Spark::shared(), 300_000).await;
    night.votes("max").end().ok();
    let said = night.drained_on_spark("");
    assert!(said.contains("0 left in the log"), "{said}");
    night.stage.place.ok("count --drain");
    night.agree().await;
    let status = night.stage.place.ok("status");
    assert!(status.contains("native and spark: agree in every row"), "{status}");
    let audit = night.stage.place.ok("audit --counter spark --truth truth.json");
    assert!(audit.contains("clean") && audit.contains("every total matches the ground truth"), "{audit}");
    crate::deploy::show_all_of(&night.stage.kit).await;

    // A single vote moved between rows must be noticed.
    let owner = night.stage.kit.owner_of_votes().await;
    for (kind, table, row) in [
        (
            "tally",
            "votes_by_channel",
            "election = 'pres-2027' AND region = '75' AND choice = 'C03' AND channel = 'booth'",
        ),
        (
            "timeline",
            "votes_by_bucket",
            "(election, bucket, region, choice) = (SELECT election, bucket, region, choice FROM votes_by_bucket LIMIT 1)",
        ),
        ("rejection", "rejection", "(reason, bucket) = (SELECT reason, bucket FROM rejection LIMIT 1)"),
    ] {
        let change = |by: &str| format!("UPDATE {table} SET votes = votes {by} WHERE counter = 'spark' AND {row}");
        owner.execute(&change("+ 1"), &[]).await.unwrap();
        let status = night.stage.place.run("status");
        let words = ["native and spark: DIFFER".to_owned(), format!("as {kind} ")];
        assert!(status.code == Some(1) && words.iter().all(|words| status.out.contains(words)), "{status}");
        night.stage.place.fails("audit --counter spark", 1);
        owner.execute(&change("- 1"), &[]).await.unwrap();
    }
    let refused: i64 =
        night.stage.figure("SELECT votes FROM rejections WHERE counter = 'spark' AND reason = 'already_voted'").await;
    assert!(refused > 1000, "{refused} double votes");
}

/// Spark would then sort the votes for its joins, so that the votes of a batch overtake each other, if the count let it.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_vote_counts_where_spark_avoids_broadcasts() {
    let night = Night::begin(Broker::shared(), Spark::shared(), 30_000).await;
    night.votes("max").end().ok();
    night.drained_on_spark("--spark-conf spark.sql.autoBroadcastJoinThreshold=-1");
    night.counted_alike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_of_different_logs_can_share_a_checkpoint_folder() {
    let first = Night::begin(Broker::shared(), Spark::shared(), 3_000).await;
    first.stage.topic.append_votes(&ballots(0..500), 3).await;
    first.drained_on_spark("");
    let second = Stage::on(Broker::shared()).await;
    second.place.ok("setup --voters 3000 --day 1h --partitions 3");
    second.topic.append_votes(&ballots(0..300), 3).await;
    let tallies = |stage: &Stage| format!("{}-tallies", stage.topic.name);
    let line = first.on_spark("--drain").replace(&tallies(&first.stage), &tallies(&second));
    second.place.start(&line).end_within(5 * PATIENCE).ok();
    assert_eq!((first.received().await, second.figure(RECEIVED).await), (500, 300));
}

/// HotSpot never compiles a method of more than 8,000 bytes of bytecode. With this setting, Spark does without generated
/// code in such a case, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn spark_generates_no_method_that_stays_interpreted() {
    let spark = Spark::start(&[]);
    let night = Night::begin(Broker::shared(), &spark, 1_000).await;
    night.votes("max").end().ok();
    let limited_to =
        |bytes: u32| night.drained_on_spark(&format!("--spark-conf spark.sql.codegen.hugeMethodLimit={bytes}"));
    let is_noticed = || spark.log().contains("Found too long generated codes");
    limited_to(8000);
    assert!(!is_noticed());
    night.stage.topic.append_votes(&ballots(0..10), 3).await;
    limited_to(1000);
    assert!(is_noticed(), "no limit would be noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn driver_spark_and_broker_killed_at_random_moments_count_every_vote_once() {
    Night::of_blows(5, 100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn soak_driver_spark_and_broker_killed_at_random_moments_count_every_vote_once() {
    Night::of_blows(30, 1_000_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_loses_a_worker_continues_with_the_others() {
    let spark = Spark::cluster(2);
    let night = Night::begin(Broker::shared(), &spark, 60_000).await;
    night.votes("max").end().ok();
    let mut driver = night.stage.place.start(&night.on_spark("--batch-votes 5000"));
    night.until_more(1, &mut driver).await;
    spark.kill_worker(1);
    night.until_more(6000, &mut driver).await;
    spark.start_again();
    driver.signal(Signal::SIGTERM);
    driver.end_within(5 * PATIENCE).ok();
    night.counted_alike().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "five million votes take minutes; -- --ignored soak runs it"]
async fn soak_five_million_votes_are_counted_alike() {
    let spark = Spark::start_with(&["--memory", "4g"]);
    let night = Night::on(Broker::shared(), &spark).await;
    night.stage.place.ok("setup --voters 6600000 --day 1h --partitions 4");
    let doubles = FAULTS.replace("double_vote=0.03", "double_vote=0.01");
    let votes = format!("simulate --seed 3 --speed max --truth truth.json {doubles}");
    night.stage.place.start(&votes).end_within(5 * PATIENCE).ok();
    night.drained_on_spark_within(15 * PATIENCE, "");
    night.counted_alike().await;
    let received = night.received().await;
    assert!(received > 5_000_000, "{received} votes");
    let audit = night.stage.place.start("audit --counter spark --truth truth.json").end_within(5 * PATIENCE).ok();
    assert!(audit.contains("clean"), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "35.9 million ballots take minutes; -- --ignored soak runs it"]
async fn soak_french_results_are_counted_alike() {
    let Some(path) = real_file("fr2022_t1_departements.csv") else { return };
    let spark = Spark::start_with(&["--memory", "4g"]);
    let night = Night::on(Broker::shared(), &spark).await;
    night.stage.place.start(&format!("replay results {} --speed max", path.display())).end_within(5 * PATIENCE).ok();
    night.drained_on_spark_within(30 * PATIENCE, "--batch-votes 3000000");
    night.counted_alike().await;
    assert_eq!(night.received().await, 35_923_707);
}

#[tokio::test(flavor = "multi_thread")]
async fn real_ballots_are_counted_alike() {
    let Some(path) = real_file("cvr_minneapolis2013_mayor.csv.gz") else { return };
    let night = Night::on(Broker::shared(), Spark::shared()).await;
    let columns = "--voter-column ballot_id --region-column precinct --choice-column first_choice --blank-column kind";
    std::os::unix::fs::symlink(&path, night.stage.place.path("ballots.csv.gz")).unwrap();
    night.stage.place.ok(&format!("replay ballots ballots.csv.gz {columns} --speed max"));
    night.counted_alike().await;
    assert_eq!(night.received().await, 80_101);
}

/// Spark reports no single votes, so this figure comes from the metrics it observes per batch.
#[tokio::test(flavor = "multi_thread")]
async fn the_waiting_time_of_votes_is_known() {
    let night = Night::begin(Broker::shared(), Spark::shared(), 3_000).await;
    night.stage.topic.append_votes(&ballots(0..500), 3).await;
    night.drained_on_spark("");
    let owner = night.stage.kit.owner().await;
    let sql = "SELECT extract(epoch FROM committed_at)::float8 * 1000, latency_ms_p50, latency_ms_p99
                 FROM batch WHERE counter = 'spark' AND received = 500";
    let batch = owner.query_one(sql, &[]).await.unwrap();
    let appended = night.stage.topic.append_times(3).await;
    assert_eq!(appended.len(), 500);
    let committed_at: f64 = batch.get(0);
    for (column, share) in [(1, 0.50), (2, 0.99)] {
        let waited: f64 = batch.get(column);
        let no_longer = |slack: f64| {
            let votes = appended.iter().filter(|&&at| committed_at - at as f64 <= waited + slack).count();
            votes as f64 / appended.len() as f64
        };
        assert!(no_longer(-1.5) <= share + 0.011 && no_longer(1.5) >= share - 0.011, "{share}: {waited} ms");
    }
}

/// Spark fails if it runs both stateful operators in one task, as it does when one task reads and one counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_spark_of_one_core_counts() {
    let spark = Spark::start_with(&["--cores", "1"]);
    let night = Night::begin(Broker::shared(), &spark, 3_000).await;
    night.votes("max").end().ok();
    night.drained_on_spark("");
    night.stage.topic.append_votes(&ballots(0..500), 3).await;
    night.drained_on_spark("");
    night.counted_alike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_say_where_the_time_of_commits_goes() {
    let night = Night::begin(Broker::shared(), Spark::shared(), 3_000).await;
    night.stage.topic.append_votes(&ballots(0..500), 3).await;
    night.drained_on_spark("");
    night.stage.place.ok("count --drain");
    let owner = night.stage.kit.owner().await;
    let sql = "SELECT counter, array_agg(DISTINCT step ORDER BY step), sum(took_ms) FROM batch_steps
                GROUP BY counter ORDER BY counter";
    let rows: Vec<(String, Vec<String>, f64)> =
        owner.query(sql, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let found: Vec<(&str, Vec<&str>)> =
        rows.iter().map(|(counter, steps, _)| (counter.as_str(), steps.iter().map(String::as_str).collect())).collect();
    let of_spark = vec!["addBatch", "commitOffsets", "getBatch", "latestOffset", "queryPlanning", "walCommit"];
    assert_eq!(found, [("native", vec!["commit"]), ("spark", of_spark)]);
    assert!(rows.iter().all(|(_, _, took_ms)| *took_ms > 0.0), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_drivers_the_first_yields() {
    let night = Night::begin(Broker::shared(), Spark::shared(), 60_000).await;
    night.votes("max").end().ok();
    let mut first = night.stage.place.start(&night.on_spark("--batch-votes 1500"));
    night.until_more(1, &mut first).await;
    let second = night.stage.place.start(&night.on_spark("--drain"));
    let said = first.end().fails(5);
    assert!(said.contains("taken over by another process of counter `spark`"), "{said}");
    second.end_within(5 * PATIENCE).ok();
    night.stage.place.ok("count --drain");
    night.agree().await;

    // Neither engine continues a counter of the other.
    let said = night.stage.place.fails("count --counter spark", 4);
    assert!(said.contains("counter `spark` is counted by the engine spark"), "{said}");
    let said = night.stage.place.fails(&night.on_spark("--counter native"), 4);
    assert!(said.contains("counter `native` is counted by the engine native"), "{said}");
}

/// As after a failover to a standby that lacks the last commits. No new votes arrive that would reveal the loss.
#[tokio::test(flavor = "multi_thread")]
async fn commits_lost_by_the_database_are_repeated() {
    let night = Night::begin(Broker::shared(), Spark::shared(), 20_000).await;
    let mut driver = night.stage.place.start(&night.on_spark("--serve --listen 127.0.0.1:0"));
    night.stage.topic.append_votes(&ballots(0..100), 3).await;
    night.until(100, &mut driver).await;
    driver.page().until("/metrics", |_, text| text.contains("scrutin_spark_step_seconds_total{step=\"addBatch\"}"));
    let owner = night.stage.kit.owner().await;
    let tables = ["tally", "timeline", "rejection", "position"];
    for table in tables {
        owner.batch_execute(&format!("CREATE TABLE earlier_{table} AS SELECT * FROM {table}")).await.unwrap();
    }
    night.stage.topic.append_votes(&ballots(50..300), 3).await;
    night.until(350, &mut driver).await;
    let whole = night.tables("spark").await;

    let back = |table| format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM earlier_{table};");
    owner.batch_execute(&format!("BEGIN; {} COMMIT", tables.map(back).concat())).await.unwrap();
    assert_eq!(night.received().await, 100);
    night.cut_connections().await;
    night.until(350, &mut driver).await;
    assert_eq!(night.tables("spark").await, whole);
    let done = driver.interrupted();
    assert!(done.err.contains("the database has lost commits of `spark`"), "{done}");
    done.ok();
}

/// Spark does not rewrite what it has already written under a checkpoint that still exists.
#[tokio::test(flavor = "multi_thread")]
async fn lost_totals_are_reported() {
    let night = Night::begin(Broker::shared(), Spark::shared(), 3_000).await;
    night.votes("max").end().ok();
    night.drained_on_spark("");
    let tallies = format!("{}-tallies", night.stage.topic.name);
    Topic::on(Broker::shared().address(), &tallies).delete().await;
    night.stage.topic.append_votes(&ballots(0..500), 3).await;
    for more in ["", "--drain"] {
        let said = night.stage.place.start(&night.on_spark(more)).end_within(5 * PATIENCE).fails(4);
        let words = format!("/{tallies} are not all that Spark has written");
        assert!(said.contains(&words), "{said}");
    }
    night.adds_up().await;
    // The remedy that the message names.
    std::fs::remove_dir_all(night.stage.place.path("checkpoint")).unwrap();
    night.counted_alike().await;
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread")]
async fn spark_reaches_a_broker_by_tls_and_a_password() {
    let broker = Broker::secure();
    let spark = Spark::start(&[]);
    let night = Night::on(&broker, &spark).await;
    let (log, properties) = (broker.secure_address(), broker.properties("scram"));
    let settings = format!("log = \"{log}/{}\"\nkafka-config = {properties:?}\n", night.stage.topic.name);
    night.stage.place.write("scrutin.toml", settings);
    night.stage.place.ok("setup --voters 5000 --day 1h --partitions 2");
    night.votes("max").end().ok();
    night.counted_alike().await;
    let properties = std::fs::read_to_string(properties).unwrap();
    let password = properties.lines().find_map(|line| line.strip_prefix("sasl.password=")).unwrap();
    assert!(!spark.log().contains(password), "Spark's log contains the password");
}

#[test]
fn missing_spark_options_are_named() {
    let place = Place::bare();
    let on_kafka = "count --engine spark --log kafka://127.0.0.1:1/votes";
    for (line, words) in [
        ("count --engine spark --spark sc://127.0.0.1:1 --checkpoint c", "a log on Kafka"),
        (on_kafka, "--spark sc://host:port"),
        (&format!("{on_kafka} --spark sc://127.0.0.1:1"), "--checkpoint PATH"),
        (&format!("{on_kafka} --spark http://127.0.0.1:1 --checkpoint c"), "expected sc://host:port"),
        (&format!("{on_kafka} --spark sc://one --checkpoint c --spark-token secret"), "in the clear"),
        (
            &format!("{on_kafka} --spark sc://one --checkpoint c --spark-conf spark.sql.ANSI.enabled=false"),
            "--spark-conf: spark.sql.ansi.enabled must be true",
        ),
    ] {
        let said = place.fails(line, 2);
        assert!(said.contains(words) && !said.contains("secret"), "{line}: {said}");
    }
}
