//! The sums over all regions, maintained by triggers: after any statement by any writer, every view that reads them
//! agrees with the rows.

use std::collections::BTreeMap;
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
        "SELECT counter, election, channel, sum(votes)::bigint FROM votes_by_channel GROUP BY 1, 2, 3 HAVING sum(votes) <> 0",
    ),
    (
        "SELECT counter, election, registered, votes, valid, blank, \"null\", round(turnout::numeric, 12) FROM turnout",
        "SELECT counter, election, sum(registered)::bigint, sum(votes)::bigint, sum(valid)::bigint, sum(blank)::bigint,
                sum(\"null\")::bigint, round((sum(votes)::double precision / nullif(sum(registered), 0))::numeric, 12)
           FROM turnout_by_region GROUP BY counter, election",
    ),
    (
        "SELECT counter, election, bucket, choice, votes FROM votes_over_time",
        "SELECT counter, election, bucket, choice, sum(votes)::bigint FROM votes_by_bucket GROUP BY 1, 2, 3, 4 HAVING sum(votes) <> 0",
    ),
    (
        "SELECT counter, election, bucket, choice, name, valid, votes FROM results_over_time",
        "SELECT counter, election, bucket, choice, name, valid, sum(votes)::bigint
           FROM votes_by_bucket LEFT JOIN ballot USING (election, region, choice) GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(votes) <> 0",
    ),
    (
        "SELECT counter, tallied FROM accounting",
        "SELECT counter, (SELECT coalesce(sum(votes), 0)::bigint FROM votes_by_channel t WHERE t.counter = c.counter) FROM counter c",
    ),
    (
        "SELECT votes_apart, timeline_apart FROM quick_comparison",
        "SELECT (SELECT coalesce(sum(abs(n)), 0)::bigint FROM (
                     SELECT sum(CASE counter WHEN 'native' THEN votes ELSE -votes END) AS n FROM votes_by_channel
                      GROUP BY election, choice, channel) x),
                (SELECT coalesce(sum(abs(n)), 0)::bigint FROM (
                     SELECT sum(CASE counter WHEN 'native' THEN votes ELSE -votes END) AS n FROM votes_by_bucket
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
    owner.batch_execute(COUNTERS).await.unwrap();
}

const COUNTERS: &str = "
    INSERT INTO counter (counter, elections, log, partitions)
    VALUES ('native', '{land,mayors}', 'a log', 1), ('spark', '{land,mayors}', 'a log', 1);
    INSERT INTO position (counter, partition, first_offset, next_offset, end_offset)
    VALUES ('native', 0, 0, 0, 0), ('spark', 0, 0, 0, 0)";

/// A row of a tally or a timeline without its votes: counter, election, region, then the channel or the bucket.
type Key = [String; 4];

const TALLY: &str = "tally (counter, election, region, channel, votes)";
const TIMELINE: &str = "timeline (counter, election, region, bucket, votes)";
const CHANNELS: [&str; 2] = ["booth", "post"];
const BUCKETS: [&str; 3] = ["2027-01-15 08:00:00+00", "2027-01-15 08:01:00+00", "2027-01-15 08:02:00+00"];

/// Rows of distinct keys, each with votes for some of the choices on its ballot.
fn some_rows(random: &mut fastrand::Rng, last: &[&str]) -> BTreeMap<Key, Vec<u32>> {
    let elections = two_elections();
    let row = |random: &mut fastrand::Rng| {
        let election = random.choice(&elections).unwrap();
        let region = random.usize(..REGIONS.len());
        let counter = random.choice(["native", "spark"]).unwrap();
        let key = [counter, election.id.as_str(), REGIONS[region], last[random.usize(..last.len())]].map(str::to_owned);
        let votes =
            election.ballots()[region].iter().map(|_| if random.bool() { random.u32(0..1000) } else { 0 }).collect();
        (key, votes)
    };
    (0..random.usize(1..15)).map(|_| row(random)).collect()
}

fn array(votes: &[u32]) -> String {
    let votes: Vec<String> = votes.iter().map(u32::to_string).collect();
    format!("{{{}}}", votes.join(","))
}

fn values(rows: &BTreeMap<Key, Vec<u32>>) -> String {
    let row = |(key, votes): (&Key, &Vec<u32>)| format!("('{}', '{}'::bigint[])", key.join("', '"), array(votes));
    rows.iter().map(row).collect::<Vec<_>>().join(", ")
}

/// As the native engine writes its votes.
const ADDED: &str = "votes = ARRAY(SELECT coalesce(a, 0) + coalesce(b, 0)
    FROM (SELECT unnest(t.votes) AS a, unnest(excluded.votes) AS b) u)";

/// Writes to one of the tables in one of many ways; returns a description.
async fn write_something(random: &mut fastrand::Rng, counter: &Client, owner: &Client) -> String {
    let (into, last): (_, &[&str]) = if random.bool() { (TALLY, &CHANNELS) } else { (TIMELINE, &BUCKETS) };
    let table = into.split(' ').next().unwrap();
    let last_column = if table == "tally" { "channel" } else { "bucket" };
    let rows = some_rows(random, last);
    let whole = values(&rows);
    let upsert = |set: &str| {
        format!(
            "INSERT INTO {} VALUES {whole} ON CONFLICT (counter, election, region, {last_column}) DO UPDATE SET {set}",
            into.replace(" (", " AS t (")
        )
    };
    let regions: Vec<String> = rows.keys().map(|key| format!("('{}')", key[..3].join("', '"))).collect();
    let chosen = format!("WHERE (counter, election, region) IN ({})", regions.join(", "));
    let (who, sql) = match random.u8(0..20) {
        0..6 => (counter, upsert(ADDED)),
        // As Spark writes its totals.
        6..9 => (counter, upsert("votes = excluded.votes WHERE t.votes <> excluded.votes")),
        9..11 => {
            let text: String =
                rows.iter().map(|(key, votes)| format!("{}\t{}\n", key.join("\t"), array(votes))).collect();
            // COPY accepts only new keys.
            owner.batch_execute(&format!("DELETE FROM {table} {chosen}")).await.unwrap();
            let sink = counter.copy_in(&format!("COPY {into} FROM STDIN")).await.unwrap();
            futures_util::pin_mut!(sink);
            sink.send(Bytes::from(text)).await.unwrap();
            sink.finish().await.unwrap();
            return format!("COPY {into}: {whole}");
        }
        11..13 => (counter, format!("UPDATE {table} SET votes[1] = votes[1] / 2 + 1, votes[3] = 7 {chosen}")),
        13 => (counter, format!("UPDATE {table} SET votes = ARRAY(SELECT 0 FROM unnest(votes)) {chosen}")),
        // Numbers that are missing at the end are zeros.
        14 => (counter, format!("UPDATE {table} SET votes = votes[1:2] {chosen}")),
        // Move rows to another region, channel, bucket or counter; where the key is taken, the rows stay.
        15 => (
            owner,
            moved(
                table,
                last_column,
                "region",
                "CASE t.region WHEN 'R1' THEN 'R3' ELSE 'R1' END",
                "election = 'land' AND region <> 'R2'",
            ),
        ),
        16 => (owner, moved(table, last_column, last_column, &format!("'{}'", last[0]), "true")),
        17 => (owner, moved(table, last_column, "counter", "'native'", "counter = 'spark'")),
        18 => (counter, format!("DELETE FROM {table} {chosen}")),
        _ => (owner, if random.bool() { format!("TRUNCATE {table}") } else { format!("DELETE FROM {table}") }),
    };
    who.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
    sql
}

/// Moves the first of the rows matching `which` to each target key that is free.
fn moved(table: &str, last_column: &str, column: &str, to: &str, which: &str) -> String {
    let keys = ["counter", "election", "region", last_column];
    let kind = if column == "bucket" { "timestamptz" } else { "text" };
    let to = format!("({to})::{kind}");
    let to_key: Vec<String> =
        keys.iter().map(|key| if *key == column { to.clone() } else { format!("t.{key}") }).collect();
    let (keys, to_key) = (keys.join(", "), to_key.join(", "));
    format!(
        "UPDATE {table} SET {column} = m.target
           FROM (SELECT DISTINCT ON ({to_key}) t.ctid AS place, {to} AS target FROM {table} t
                  WHERE {which} AND ({to_key}) NOT IN (SELECT {keys} FROM {table}) ORDER BY {to_key}) m
          WHERE {table}.ctid = m.place"
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
                let mut rows = some_rows(&mut random, &CHANNELS);
                rows.retain(|key, _| key[0] == counter);
                if rows.is_empty() {
                    continue;
                }
                let sql = format!(
                    "BEGIN; SELECT FROM counter WHERE counter = '{counter}' FOR UPDATE;
                     INSERT INTO tally AS t (counter, election, region, channel, votes) VALUES {}
                         ON CONFLICT (counter, election, region, channel) DO UPDATE SET {ADDED};
                     COMMIT",
                    values(&rows)
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

/// Sets up a database of the version before a migration, with the elections and counters, but no votes.
async fn before_migration(kit: &Kit, name: &str) -> Client {
    let owner = kit.owner().await;
    let schema = "CREATE SCHEMA scrutin; CREATE TABLE migration (
                      version integer PRIMARY KEY, name text NOT NULL, digest text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())";
    owner.batch_execute(schema).await.unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort_unstable();
    for file in files.iter().take_while(|file| !file.contains(name)) {
        let sql = std::fs::read_to_string(folder.join(file)).unwrap();
        owner.batch_execute(&sql).await.unwrap();
        let (version, name) = file.strip_suffix(".sql").and_then(|file| file.split_once('_')).unwrap();
        let (version, digest): (i32, _) = (version.parse().unwrap(), blake3::hash(sql.as_bytes()).to_hex().to_string());
        let insert = "INSERT INTO migration (version, name, digest) VALUES ($1, $2, $3)";
        owner.execute(insert, &[&version, &name, &digest]).await.unwrap();
    }
    for it in two_elections() {
        let insert = "INSERT INTO election (election, title, opens_at, closes_at, time_zone, channels, bucket_seconds, fingerprint)
                      VALUES ($1, $1, to_timestamp(1800000000), to_timestamp(1800000600), 'UTC', '{booth,post}', 60, $2)";
        owner.execute(insert, &[&it.id, &it.fingerprint()]).await.unwrap();
        for (place, region) in (1..).zip(&it.regions) {
            let insert = "INSERT INTO region (election, region, name, registered, place) VALUES ($1, $2, $2, 1000, $3)";
            owner.execute(insert, &[&it.id, &region.code, &place]).await.unwrap();
        }
        for (place, choice) in (1..).zip(&it.choices) {
            let insert =
                "INSERT INTO choice (election, choice, region, name, color, place) VALUES ($1, $2, $3, $4, $5, $6)";
            let region = choice.region.as_deref().unwrap_or_default();
            owner.execute(insert, &[&it.id, &choice.code, &region, &choice.name, &choice.color, &place]).await.unwrap();
        }
    }
    owner.batch_execute(COUNTERS).await.unwrap();
    owner
}

/// Votes as rows of the tables before they held arrays: one for each choice.
const CELLS: &str = "
    INSERT INTO tally (counter, election, region, choice, channel, votes)
    SELECT k.counter, election, region, choice, channel, (row_number() OVER () * 7919 % 991)
      FROM ballot, counter k, unnest('{booth,post}'::text[]) AS channel WHERE hashtext(region || choice || channel || counter) % 3 <> 0;
    INSERT INTO timeline (counter, election, bucket, region, choice, votes)
    SELECT k.counter, election, bucket, region, choice, (row_number() OVER () * 7907 % 997)
      FROM ballot, counter k, generate_series('2027-01-15 08:00Z'::timestamptz, '2027-01-15 08:05Z', '1 minute') AS bucket
     WHERE hashtext(region || choice || bucket || counter) % 3 <> 0";

#[tokio::test]
async fn migrating_adds_up_what_was_counted_before() {
    let kit = Kit::empty().await;
    let owner = before_migration(&kit, "_sums").await;
    owner.batch_execute(CELLS).await.unwrap();
    let counted = "SELECT (SELECT count(*) FROM tally) > 40 AND (SELECT count(*) FROM timeline) > 100";
    assert!(owner.query_one(counted, &[]).await.unwrap().get::<_, bool>(0), "there are hardly any rows");
    migrate::setup(kit.db()).await.unwrap();
    assert_sums_are_right(&owner, "the migration").await;
    let counter = kit.db().connect(Role::Counter).await.unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..10 {
        let sql = write_something(&mut random, &counter, &owner).await;
        assert_sums_are_right(&owner, &sql).await;
    }
}

/// A row that no counter writes: the migration must not lose it silently.
#[tokio::test]
async fn migrating_refuses_votes_that_are_on_no_ballot() {
    let kit = Kit::empty().await;
    let owner = before_migration(&kit, "_ballots").await;
    owner.batch_execute(CELLS).await.unwrap();
    owner.batch_execute("INSERT INTO tally VALUES ('native', 'land', 'R1', 'C', 'booth', 5)").await.unwrap();
    let said = migrate::setup(kit.db()).await.unwrap_err().to_string();
    assert!(said.contains("not on the ballot of its region"), "{said}");
    owner.batch_execute("DELETE FROM tally WHERE (election, region, choice) = ('land', 'R1', 'C')").await.unwrap();
    migrate::setup(kit.db()).await.unwrap();
}

/// Votes that were kept in a row for each choice are the same in arrays.
#[tokio::test]
async fn migrating_keeps_every_vote() {
    let kit = Kit::empty().await;
    let owner = before_migration(&kit, "_ballots").await;
    owner.batch_execute(CELLS).await.unwrap();
    let copy = "CREATE TABLE public.tally_then AS SELECT * FROM tally WHERE votes <> 0;
                CREATE TABLE public.timeline_then AS SELECT * FROM timeline WHERE votes <> 0";
    owner.batch_execute(copy).await.unwrap();
    migrate::setup(kit.db()).await.unwrap();
    for (now, then) in [("votes_by_channel", "tally_then"), ("votes_by_bucket", "timeline_then")] {
        let apart = format!(
            "SELECT count(*) FROM ((TABLE {now} EXCEPT ALL TABLE public.{then})
                                   UNION ALL (TABLE public.{then} EXCEPT ALL TABLE {now})) x"
        );
        assert_eq!(owner.query_one(&apart, &[]).await.unwrap().get::<_, i64>(0), 0, "{now}");
    }
    assert_sums_are_right(&owner, "the migration").await;
    for election in two_elections() {
        let ballots = "SELECT ballot FROM region WHERE election = $1 ORDER BY place";
        let found = owner.query(ballots, &[&election.id]).await.unwrap();
        let found: Vec<Vec<String>> = found.iter().map(|row| row.get(0)).collect();
        assert_eq!(found, election.ballots(), "the order in which counters write");
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
    let insert = "INSERT INTO tally SELECT counter, 'land', 'R1', 'booth', '{0,0,5,0}' FROM counter;
                  INSERT INTO timeline SELECT counter, 'land', '2027-01-15 08:00:00Z', 'R1', '{0,0,5,0}' FROM counter";
    assert_eq!(verdicts(insert).await, ["sums agree", "agree"]);
    let elsewhere = "UPDATE timeline SET region = 'R3' WHERE counter = 'spark'";
    assert_eq!(verdicts(elsewhere).await, ["sums agree", "differ"]);
    let other = "UPDATE timeline SET region = 'R1', votes = '{0,0,0,5}' WHERE counter = 'spark'";
    assert_eq!(verdicts(other).await, ["differ", "differ"]);
    let behind = "UPDATE position SET next_offset = 1, counted = 1 WHERE counter = 'spark'";
    assert_eq!(verdicts(behind).await, ["catching up", "catching up"]);
    let unlike = "UPDATE counter SET log = 'another log' WHERE counter = 'spark'";
    assert_eq!(verdicts(unlike).await, ["not comparable", "not comparable"]);
}
