//! Existing data is kept: elections, counts of other logs, and votes past a durable mark that a power cut has set back.
//! `status` reports impossible figures.

use super::deployed::MAYOR;
use crate::kit::Kit;
use crate::run::{Place, Running};

#[tokio::test(flavor = "multi_thread")]
async fn setup_without_arguments_keeps_the_election() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.write("mayor.csv", MAYOR);
    place.ok("replay results mayor.csv --speed max");
    place.ok("count --drain");
    let said = place.ok("setup");
    assert!(said.contains("election    mayor: ") && !said.contains("pres-2027"), "{said}");
    let said = place.ok("count --drain");
    assert!(said.contains("0 left in the log"), "{said}");
    assert!(place.ok("audit").contains("clean"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_keeps_the_elections_it_started_with() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.ok("setup --voters 5000");
    place.ok("count --drain");
    place.write("mayor.csv", MAYOR);
    place.ok("setup --results mayor.csv");
    place.ok("replay results mayor.csv --speed max");
    let done = place.run("count --drain");
    assert!(done.err.contains("began without the election `mayor`"), "{done}");
    done.ok();
    assert!(place.ok("audit").contains("clean"));
    let rejected = place.ok("rejected --format csv");
    assert_eq!(rejected.lines().filter(|line| line.contains("unknown_election")).count(), 70, "{rejected}");
    place.ok("count --drain --counter both");
    assert!(place.ok("audit --counter both --truth scrutin-data/truth.json").contains("clean"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_demo_deletes_no_count_of_another_log() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.ok("setup --voters 3000 --day 10m --data-dir night");
    place.ok("simulate --speed max --data-dir night");
    place.ok("count --drain --data-dir night");
    let said = place.fails("demo --fresh --voters 1000 --speed max --exit --data-dir demo", 4);
    assert!(said.contains("--fresh would delete that count; name another counter with --counter"), "{said}");
    assert!(place.ok("audit --data-dir night").contains("clean"));
    // It may delete its own count, but no election loaded since.
    for name in ["mayor.csv", "later.csv"] {
        place.write(name, MAYOR);
    }
    let own = "demo --results mayor.csv --speed max --exit --data-dir demo --counter demo";
    place.ok(own);
    place.ok("setup --results later.csv --data-dir night");
    let noted = "SELECT note_log_end(log, '{0}', '{5}') FROM counter WHERE counter = 'demo'";
    kit.owner().await.batch_execute(noted).await.unwrap();
    place.ok(&format!("{own} --fresh"));
    let left = "SELECT (SELECT count(*) FROM election), (SELECT count(*) FROM logs WHERE counters = 0)";
    let left = kit.owner().await.query_one(left, &[]).await.unwrap();
    assert_eq!((left.get::<_, i64>(0), left.get::<_, i64>(1)), (3, 0), "elections, and logs without a counter");
    assert!(place.ok("audit --data-dir night").contains("clean"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_mark_set_back_by_a_power_cut_loses_nothing() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.ok("setup --voters 20000 --day 10m");
    place.ok("simulate --speed max");
    place.ok("count --drain");
    let set_back = || {
        for partition in 0..4 {
            let name = format!("scrutin-data/log/{partition}/durable");
            let mark = u64::from_le_bytes(std::fs::read(place.path(&name)).unwrap().try_into().unwrap());
            place.write(&name, (mark - 500).to_le_bytes());
        }
    };
    for line in ["audit --truth scrutin-data/truth.json", "count --drain", "status"] {
        set_back();
        let said = place.ok(line);
        assert!(
            ["clean", "0 left in the log", "all adds up"].iter().any(|words| said.contains(words)),
            "{line}: {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_reports_impossible_figures() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.ok("setup --voters 20000 --day 10m");
    place.ok("simulate --speed max");
    place.ok("count --drain");
    assert!(place.ok("status").contains("all adds up"));
    let owner = kit.owner().await;
    let row = "SELECT next_offset FROM position WHERE counter = 'native' AND partition = 1";
    let end: i64 = owner.query_one(row, &[]).await.unwrap().get(0);
    for (change, back, words) in [
        (
            "UPDATE position SET next_offset = next_offset + 70, gaps = gaps + 70 WHERE partition = 1",
            "UPDATE position SET next_offset = next_offset - 70, gaps = gaps - 70 WHERE partition = 1",
            format!("partition 1 is counted up to {}, but ends at {end}", end + 70),
        ),
        (
            "INSERT INTO position (counter, partition, first_offset, next_offset, end_offset) VALUES ('native', 6, 0, 0, 0)",
            "DELETE FROM position WHERE partition = 6",
            "partition 6 is counted, but the log has only 4 partitions".into(),
        ),
        (
            "UPDATE position SET first_offset = 500, gaps = gaps - 500 WHERE partition = 0",
            "UPDATE position SET first_offset = 0, gaps = gaps + 500 WHERE partition = 0",
            "partition 0 is counted from 500, but has earlier votes".into(),
        ),
        (
            "UPDATE tally SET votes[1] = votes[1] + 1",
            "UPDATE tally SET votes[1] = votes[1] - 1",
            "DOES NOT ADD UP".into(),
        ),
    ] {
        owner.batch_execute(change).await.unwrap();
        let done = place.run("status");
        assert!(done.code == Some(1) && done.out.contains(&words), "{change}: {done}");
        assert!(!done.out.contains("all adds up"), "{done}");
        owner.batch_execute(back).await.unwrap();
    }
    assert!(place.ok("status").contains("all adds up"));

    let mut command = place.command("status");
    command.env("DATABASE_URL", kit.url_as("nobody", "wrong"));
    let said = Running::start(command).end();
    assert!(said.code == Some(4) && !said.out.contains("the count waits for it"), "{said}");
}

/// The database is read-only, as a standby is.
#[tokio::test(flavor = "multi_thread")]
async fn an_audit_that_cannot_be_stored_is_still_printed() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.ok("setup --voters 5000 --day 10m");
    place.ok("simulate --speed max");
    place.ok("count --drain");
    let owner = kit.owner().await;
    let name: String = owner.query_one("SELECT current_database()", &[]).await.unwrap().get(0);
    owner.batch_execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only TO on")).await.unwrap();
    let said = place.ok("audit --truth scrutin-data/truth.json");
    assert!(said.contains("clean") && said.contains("The page will not show this audit: "), "{said}");
}

/// A database of 0.1.0, with a count that is not done: the names of then, and the migration to those of now not applied.
#[tokio::test(flavor = "multi_thread")]
async fn a_count_resumes_after_an_upgrade() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.ok("setup --voters 20000 --day 10m");
    let votes = place.start("simulate --speed 60");
    let owner = kit.owner().await;
    let figure = async |sql: &str| owner.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    while figure("SELECT coalesce(sum(next_offset), 0)::bigint FROM position").await < 500 {
        place.ok("count --drain");
    }
    votes.interrupted();
    let names = include_str!("../../../migrations/0013_names.sql");
    owner.batch_execute(&format!("{}; DELETE FROM migration WHERE version = 13", undone(names))).await.unwrap();
    assert!(figure("SELECT sum(octet_length(ids) / 16)::bigint FROM roll").await > 0, "nobody has voted");
    let message = place.fails("count --drain", 4);
    assert!(message.contains("scrutin setup"), "{message}");

    assert!(place.ok("setup").contains("schema and roles are ready"));
    place.ok("simulate --speed max");
    assert!(place.ok("count --drain").contains("0 left in the log"));
    assert!(place.ok("audit --truth scrutin-data/truth.json").contains("clean"));
}

/// What takes back a migration that only renames.
fn undone(sql: &str) -> String {
    let code: String = sql.lines().filter(|line| !line.starts_with("--")).collect();
    let statements: Vec<Vec<&str>> = code
        .split(';')
        .map(|statement| statement.split_whitespace().collect())
        .filter(|words: &Vec<_>| !words.is_empty())
        .collect();
    let undo = statements.iter().rev().map(|words| match words[..] {
        ["ALTER", kind, old, "RENAME", "TO", new] => format!("ALTER {kind} {new} RENAME TO {old}"),
        ["ALTER", kind, of, "RENAME", part, old, "TO", new] => {
            format!("ALTER {kind} {of} RENAME {part} {new} TO {old}")
        }
        _ => panic!("{words:?} renames nothing"),
    });
    undo.collect::<Vec<_>>().join("; ")
}
