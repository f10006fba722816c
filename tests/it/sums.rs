//! The sums over all regions, maintained by triggers: after any statement by any writer, every view that reads them
//! agrees with the rows.

use std::path::Path;

use bytes::Bytes;
use futures_util::SinkExt;
use scrutin_contract::election::{Choice, Election, Region};
use scrutin_store::{Role, elections, migrate};
use tokio_postgres::Client;

use crate::kit::Kit;

/// Each view that reads sums, and the equivalent query on the rows.
const VIEWS: &[(&str, &str)] = &[
    (
        "SELECT counter, election, choice, name, color, place, valid, votes, round(share::numeric, 12) FROM results",
        "SELECT counter, election, choice, name, min(color), min(place), valid, sum(votes)::bigint,
                CASE WHEN valid THEN round((sum(votes)::double precision
                     / nullif(sum(sum(votes)) FILTER (WHERE valid) OVER (PARTITION BY counter, election), 0))::numeric, 12) END
           FROM results_by_region GROUP BY counter, election, choice, name, valid",
    ),
    (
        "SELECT counter, election, channel, votes FROM results_by_channel",
        "SELECT counter, election, channel, sum(votes)::bigint FROM tally GROUP BY 1, 2, 3 HAVING sum(votes) <> 0",
    ),
    (
        "SELECT counter, election, registered, votes, valid, blank, \"null\", round(turnout::numeric, 12) FROM turnout",
        "SELECT counter, election, sum(registered)::bigint, sum(votes)::bigint, sum(valid)::bigint, sum(blank)::bigint,
                sum(\"null\")::bigint, round((sum(votes)::double precision / nullif(sum(registered), 0))::numeric, 12)
           FROM turnout_by_region GROUP BY counter, election",
    ),
    (
        "SELECT counter, election, bucket, choice, votes FROM votes_over_time",
        "SELECT counter, election, bucket, choice, sum(votes)::bigint FROM timeline GROUP BY 1, 2, 3, 4 HAVING sum(votes) <> 0",
    ),
    (
        "SELECT counter, election, bucket, choice, name, valid, votes FROM results_over_time",
        "SELECT counter, election, bucket, choice, name, valid, sum(votes)::bigint
           FROM timeline LEFT JOIN ballot USING (election, region, choice) GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(votes) <> 0",
    ),
    (
        "SELECT counter, tallied FROM accounting",
        "SELECT counter, (SELECT coalesce(sum(votes), 0)::bigint FROM tally t WHERE t.counter = c.counter) FROM counter c",
    ),
    (
        "SELECT votes_apart, timeline_apart FROM quick_comparison",
        "SELECT (SELECT coalesce(sum(abs(n)), 0)::bigint FROM (
                     SELECT sum(CASE counter WHEN 'native' THEN votes ELSE -votes END) AS n FROM tally
                      GROUP BY election, choice, channel) x),
                (SELECT coalesce(sum(abs(n)), 0)::bigint FROM (
                     SELECT sum(CASE counter WHEN 'native' THEN votes ELSE -votes END) AS n FROM timeline
                      GROUP BY election, bucket, choice) x)",
    ),
];

async fn assert_sums_are_right(client: &Client, after: &str) {
    for (view, rows) in VIEWS {
        let sql = format!(
            "SELECT 'from the view: ' || x::text FROM (({view}) EXCEPT ALL ({rows})) x
             UNION ALL SELECT 'from the rows: ' || x::text FROM (({rows}) EXCEPT ALL ({view})) x"
        );
        let wrong = client.query(&sql, &[]).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
        let wrong: Vec<String> = wrong.iter().map(|row| row.get(0)).collect();
        assert!(wrong.is_empty(), "after {after}\n{view}\n{}", wrong.join("\n"));
    }
}

const REGIONS: [&str; 3] = ["R1", "R2", "R3"];

/// A small election: `choices` are code, region and name.
fn election(id: &str, choices: &[(&str, &str, &str)]) -> Election {
    let region = |code: &str| Region {
        code: code.into(),
        name: code.into(),
        registered: Some(1000),
        expected_turnout: None,
        point: None,
        tile: None,
    };
    let choice = |&(code, region, name): &(&str, &str, &str)| Choice {
        code: code.into(),
        name: name.into(),
        color: "#123456".into(),
        region: (!region.is_empty()).then(|| region.to_owned()),
    };
    Election {
        id: id.into(),
        title: id.into(),
        opens_at_ms: 1_800_000_000_000,
        closes_at_ms: 1_800_000_600_000,
        time_zone: "UTC".into(),
        channels: vec!["booth".into(), "post".into()],
        bucket_seconds: 60,
        expected_turnout: None,
        regions: REGIONS.map(region).into(),
        choices: choices.iter().map(choice).collect(),
    }
}

/// Two elections: one with candidates everywhere and one candidate in a single region, and one whose codes start again
/// in each region.
fn two_elections() -> [Election; 2] {
    [
        election("land", &[("A", "", "Ada"), ("B", "", "Ben"), ("C", "R2", "Cleo")]),
        election("mayors", &[("1", "R1", "Dan"), ("2", "R1", "Eve"), ("1", "R2", "Flo"), ("2", "R3", "Eve")]),
    ]
}

/// Both elections, with two counters.
async fn prepare(owner: &mut Client) {
    for election in two_elections() {
        elections::save(owner, &election).await.unwrap();
    }
    let sql = "INSERT INTO counter (counter, elections, log, partitions)
               VALUES ('native', '{land,mayors}', 'a log', 1), ('spark', '{land,mayors}', 'a log', 1);
               INSERT INTO position (counter, partition, first_offset, next_offset, end_offset)
               VALUES ('native', 0, 0, 0, 0), ('spark', 0, 0, 0, 0)";
    owner.batch_execute(sql).await.unwrap();
}

/// A row of a tally or a timeline without its votes: the last text is the channel or the bucket.
type Key = [&'static str; 5];

const TALLY: &str = "tally (counter, election, region, choice, channel, votes)";
const TIMELINE: &str = "timeline (counter, election, region, choice, bucket, votes)";
const BUCKETS: [&str; 3] = ["2027-01-15 08:00:00+00", "2027-01-15 08:01:00+00", "2027-01-15 08:02:00+00"];

/// Rows of distinct keys, each a valid choice on the ballot.
fn some_rows(random: &mut fastrand::Rng, last: &[&'static str]) -> Vec<(Key, u32)> {
    const CELLS: [(&str, &str, &str); 16] = [
        ("land", "R1", "A"),
        ("land", "R1", "B"),
        ("land", "R2", "A"),
        ("land", "R2", "C"),
        ("land", "R2", "BLANK"),
        ("land", "R3", "A"),
        ("land", "R3", "B"),
        ("land", "R3", "NULL"),
        ("mayors", "R1", "1"),
        ("mayors", "R1", "2"),
        ("mayors", "R1", "BLANK"),
        ("mayors", "R2", "1"),
        ("mayors", "R2", "NULL"),
        ("mayors", "R3", "2"),
        ("mayors", "R3", "BLANK"),
        ("land", "R1", "BLANK"),
    ];
    let mut rows = std::collections::BTreeMap::new();
    for _ in 0..random.usize(1..25) {
        let (election, region, choice) = CELLS[random.usize(..CELLS.len())];
        let counter = random.choice(["native", "spark"]).unwrap();
        rows.insert([counter, election, region, choice, last[random.usize(..last.len())]], random.u32(0..1000));
    }
    rows.into_iter().collect()
}

/// Writes to one of the tables in one of many ways; returns a description.
async fn write_something(random: &mut fastrand::Rng, counter: &Client, owner: &Client) -> String {
    let (into, last): (_, &[&str]) = if random.bool() { (TALLY, &["booth", "post"]) } else { (TIMELINE, &BUCKETS) };
    let table = into.split(' ').next().unwrap();
    let last_column = if table == "tally" { "channel" } else { "bucket" };
    let rows = some_rows(random, last);
    let values = |of: &dyn Fn(&(Key, u32)) -> String| rows.iter().map(of).collect::<Vec<_>>().join(", ");
    let whole = values(&|(key, votes)| format!("('{}', {votes})", key.join("', '")));
    let cells = values(&|([counter, election, region, choice, _], _)| {
        format!("('{counter}', '{election}', '{region}', '{choice}')")
    });
    let upsert = |set: &str| {
        format!(
            "INSERT INTO {} VALUES {whole} ON CONFLICT (counter, election, region, choice, {last_column}) DO UPDATE SET {set}",
            into.replace(" (", " AS t (")
        )
    };
    let chosen = format!("{table} t WHERE (counter, election, region, choice) IN ({cells})");
    let (who, sql) = match random.u8(0..20) {
        // As the native engine writes, and as Spark writes its totals.
        0..6 => (counter, upsert("votes = t.votes + excluded.votes")),
        6..9 => (counter, upsert("votes = excluded.votes WHERE t.votes < excluded.votes")),
        9..11 => {
            let text: String = rows.iter().map(|(key, votes)| format!("{}\t{votes}\n", key.join("\t"))).collect();
            // COPY accepts only new keys.
            owner.batch_execute(&format!("DELETE FROM {chosen}")).await.unwrap();
            let sink = counter.copy_in(&format!("COPY {into} FROM STDIN")).await.unwrap();
            futures_util::pin_mut!(sink);
            sink.send(Bytes::from(text)).await.unwrap();
            sink.finish().await.unwrap();
            return format!("COPY {into}: {whole}");
        }
        11..13 => (counter, format!("UPDATE {table} t SET votes = votes / 2 + 1 {}", &chosen[table.len() + 3..])),
        13 => (counter, format!("UPDATE {table} t SET votes = 0 {}", &chosen[table.len() + 3..])),
        // Move rows to another choice, region or counter; where the key is taken, the rows stay.
        14 => (
            owner,
            moved(
                table,
                last_column,
                "choice",
                "CASE t.choice WHEN 'A' THEN 'B' ELSE 'A' END",
                "election = 'land' AND region <> 'R2' AND choice IN ('A', 'B')",
            ),
        ),
        15 => (
            owner,
            moved(
                table,
                last_column,
                "choice",
                "CASE t.choice WHEN 'BLANK' THEN 'NULL' ELSE 'BLANK' END",
                "choice IN ('BLANK', 'NULL')",
            ),
        ),
        16 => (
            owner,
            moved(
                table,
                last_column,
                "region",
                "CASE t.region WHEN 'R1' THEN 'R3' ELSE 'R1' END",
                "region IN ('R1', 'R3') AND choice IN ('A', 'BLANK')",
            ),
        ),
        17 => (owner, moved(table, last_column, "counter", "'native'", "counter = 'spark'")),
        18 => (counter, format!("DELETE FROM {chosen}")),
        _ => (owner, if random.bool() { format!("TRUNCATE {table}") } else { format!("DELETE FROM {table}") }),
    };
    who.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
    sql
}

/// Moves the rows matching `which`, where the target key is free.
fn moved(table: &str, last_column: &str, column: &str, to: &str, which: &str) -> String {
    let keys = ["counter", "election", "region", "choice", last_column];
    let same: Vec<String> = keys
        .iter()
        .map(|key| format!("u.{key} = {}", if *key == column { format!("({to})") } else { format!("t.{key}") }))
        .collect();
    format!(
        "UPDATE {table} t SET {column} = {to} WHERE {which} AND NOT EXISTS (SELECT FROM {table} u WHERE {})",
        same.join(" AND ")
    )
}

#[tokio::test]
async fn sums_are_right_after_every_kind_of_statement() {
    let kit = Kit::new().await;
    let mut owner = kit.owner().await;
    prepare(&mut owner).await;
    let counter = kit.db().connect(Role::Counter).await.unwrap();
    let mut random = fastrand::Rng::with_seed(15);
    assert_sums_are_right(&owner, "nothing").await;
    for number in 0..60 {
        let sql = write_something(&mut random, &counter, &owner).await;
        assert_sums_are_right(&owner, &format!("statement {number}: {sql}")).await;
    }
    // A deleted counter leaves nothing behind.
    owner.batch_execute("DELETE FROM tally; DELETE FROM timeline").await.unwrap();
    let left = "SELECT (SELECT count(*) FROM tally_sum WHERE votes <> 0) + (SELECT count(*) FROM timeline_sum WHERE votes <> 0)";
    assert_eq!(owner.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
}

/// Two processes of each of two counters write concurrently, taking turns as commits do.
#[tokio::test]
async fn sums_of_writers_at_the_same_time_are_right() {
    let kit = Kit::new().await;
    prepare(&mut kit.owner().await).await;
    let writers = (0..4_u64).map(|seed| {
        let db = kit.db().clone();
        tokio::spawn(async move {
            let client = db.connect(Role::Counter).await.unwrap();
            let mut random = fastrand::Rng::with_seed(seed);
            let counter = ["native", "spark"][seed as usize % 2];
            for _ in 0..25 {
                let rows = some_rows(&mut random, &["booth", "post"]);
                let rows = rows.iter().filter(|(key, _)| key[0] == counter);
                let values: Vec<String> =
                    rows.map(|(key, votes)| format!("('{}', {votes})", key.join("', '"))).collect();
                if values.is_empty() {
                    continue;
                }
                let sql = format!(
                    "BEGIN; SELECT FROM counter WHERE counter = '{counter}' FOR UPDATE;
                     INSERT INTO tally AS t (counter, election, region, choice, channel, votes) VALUES {}
                         ON CONFLICT (counter, election, region, choice, channel) DO UPDATE SET votes = t.votes + excluded.votes;
                     COMMIT",
                    values.join(", ")
                );
                client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_sums_are_right(&kit.owner().await, "four writers").await;
}

/// A database of the previous version, with rows.
#[tokio::test]
async fn migrating_adds_up_what_was_counted_before() {
    let kit = Kit::empty().await;
    let mut owner = kit.owner().await;
    let schema = "CREATE SCHEMA scrutin; CREATE TABLE migration (
                      version integer PRIMARY KEY, name text NOT NULL, digest text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())";
    owner.batch_execute(schema).await.unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort_unstable();
    for file in files.iter().take_while(|file| !file.contains("_sums")) {
        let sql = std::fs::read_to_string(folder.join(file)).unwrap();
        owner.batch_execute(&sql).await.unwrap();
        let (version, name) = file.strip_suffix(".sql").and_then(|file| file.split_once('_')).unwrap();
        let (version, digest): (i32, _) = (version.parse().unwrap(), blake3::hash(sql.as_bytes()).to_hex().to_string());
        let insert = "INSERT INTO migration (version, name, digest) VALUES ($1, $2, $3)";
        owner.execute(insert, &[&version, &name, &digest]).await.unwrap();
    }
    prepare(&mut owner).await;
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20 {
        write_something(&mut random, &owner, &owner).await;
    }
    let counted = "SELECT (SELECT count(*) FROM tally) > 5 AND (SELECT count(*) FROM timeline) > 5";
    assert!(owner.query_one(counted, &[]).await.unwrap().get::<_, bool>(0), "the seed leaves no rows");
    migrate::setup(kit.db()).await.unwrap();
    assert_sums_are_right(&owner, "the migration").await;
    let counter = kit.db().connect(Role::Counter).await.unwrap();
    for _ in 0..10 {
        let sql = write_something(&mut random, &counter, &owner).await;
        assert_sums_are_right(&owner, &sql).await;
    }
}

/// What the quick comparison detects, and what only the exact one does.
#[tokio::test]
async fn the_quick_comparison_sees_sums_and_the_exact_one_rows() {
    let kit = Kit::new().await;
    let mut owner = kit.owner().await;
    prepare(&mut owner).await;
    let verdicts = async |sql: &str| -> [String; 2] {
        owner.batch_execute(sql).await.unwrap();
        let both = "SELECT q.verdict, e.verdict FROM quick_comparison q JOIN comparison e USING (counter, other)";
        let row = owner.query_one(both, &[]).await.unwrap();
        [row.get(0), row.get(1)]
    };
    let insert = "INSERT INTO tally SELECT counter, 'land', 'R1', 'A', 'booth', 5 FROM counter;
                  INSERT INTO timeline SELECT counter, 'land', '2027-01-15 08:00:00Z', 'R1', 'A', 5 FROM counter";
    assert_eq!(verdicts(insert).await, ["sums agree", "agree"]);
    let elsewhere = "UPDATE timeline SET region = 'R3' WHERE counter = 'spark'";
    assert_eq!(verdicts(elsewhere).await, ["sums agree", "differ"]);
    let other = "UPDATE timeline SET region = 'R1', choice = 'B' WHERE counter = 'spark'";
    assert_eq!(verdicts(other).await, ["differ", "differ"]);
    let behind = "UPDATE position SET next_offset = 1, counted = 1 WHERE counter = 'spark'";
    assert_eq!(verdicts(behind).await, ["catching up", "catching up"]);
    let unlike = "UPDATE counter SET log = 'another log' WHERE counter = 'spark'";
    assert_eq!(verdicts(unlike).await, ["not comparable", "not comparable"]);
}
