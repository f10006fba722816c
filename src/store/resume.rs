//! Reads back where a counter stands, so that a restart goes on as if nothing had happened.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::{Client, Row};

use super::StoreError;
use super::commit::CommitError;
use crate::engine::{Partition, Roll, Rules};
use crate::log::{LogError, VoteLog};
use crate::vote::{Reason, VoterId};

/// What counts under a counter's name, and what it keeps in the tables to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountingEngine {
    /// The roll and the evidence.
    Native,
    /// Nothing: that is in Spark's checkpoint.
    Spark,
}

impl CountingEngine {
    pub const fn code(self) -> &'static str {
        match self {
            CountingEngine::Native => "native",
            CountingEngine::Spark => "spark",
        }
    }
}

/// A counter about to count a log.
pub struct Entry<'a> {
    pub counter: &'a str,
    pub engine: CountingEngine,
    pub log: &'a dyn VoteLog,
    pub rules: &'a Rules,
    /// Of the elections that the rules were made of; one that was changed meanwhile is refused.
    pub fingerprints: BTreeMap<String, String>,
    /// The log's first offsets, by partition, for partitions new to the counter.
    pub starts: Vec<u64>,
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The offset of the next record to be counted.
    pub next_offset: u64,
    /// How often the partition has been taken. Whoever takes it shuts out all who did before.
    pub taken: u64,
}

/// The elections that the counter began with, if it has begun.
pub async fn elections(client: &Client, counter: &str) -> Result<Option<Vec<String>>, StoreError> {
    let row = client
        .query_opt("SELECT elections FROM counter WHERE counter = $1", &[&counter])
        .await
        .map_err(StoreError::during("read the counter"))?;
    Ok(row.map(|row| row.get(0)))
}

/// The id of the log that the counter counts, if it has begun.
pub async fn log_of(client: &Client, counter: &str) -> Result<Option<String>, StoreError> {
    let row = client
        .query_opt("SELECT log FROM counter WHERE counter = $1", &[&counter])
        .await
        .map_err(StoreError::during("read the counter"))?;
    Ok(row.map(|row| row.get(0)))
}

/// Enters a counter and its partitions, or checks that it is the one that counted this log before. Gives the partitions
/// that it begins behind offset 0, and where.
pub async fn enter_counter(client: &mut Client, entry: &Entry<'_>) -> Result<BTreeMap<u32, u64>, StoreError> {
    let Entry { counter, engine, log, rules, fingerprints, starts } = entry;
    let during = StoreError::during;
    let elections: Vec<&str> = rules.elections.iter().map(|election| election.id.as_str()).collect();
    let transaction = client.transaction().await.map_err(during("enter the counter"))?;
    transaction
        .execute(
            "INSERT INTO counter (counter, elections, log, partitions, counted_by) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING",
            &[counter, &elections, &log.id(), &(rules.partitions as i32), &engine.code()],
        )
        .await
        .map_err(during("enter the counter"))?;
    let row = transaction
        .query_one("SELECT elections, log, partitions, counted_by FROM counter WHERE counter = $1", &[counter])
        .await
        .map_err(during("read the counter"))?;
    let (known, counted_log, partitions): (Vec<String>, &str, i32) = (row.get(0), row.get(1), row.get(2));
    let found: &str = row.get(3);
    if found != engine.code() {
        return Err(StoreError::Unusable(format!(
            "counter `{counter}` is counted by the engine {found}, and {} cannot go on where that one is; use another \
             counter name, which counts from the start of the log",
            engine.code()
        )));
    }
    // From here on no election of this counter can be changed; one may have been since it was read.
    for row in transaction
        .query("SELECT election, fingerprint FROM election WHERE election = ANY ($1)", &[&elections])
        .await
        .map_err(during("read the elections"))?
    {
        let (election, fingerprint): (&str, &str) = (row.get(0), row.get(1));
        if fingerprints.get(election).map(String::as_str) != Some(fingerprint) {
            return Err(StoreError::Unusable(format!(
                "election `{election}` has just been changed; start the count again"
            )));
        }
    }
    if known != elections {
        return Err(StoreError::Unusable(format!(
            "counter `{counter}` counts {}, but of these the database has {}: restore it, or use another counter name, \
             which counts from the start of the log",
            list(known.iter().map(String::as_str)),
            list(elections.into_iter()),
        )));
    }
    if counted_log != log.id() {
        return Err(StoreError::Unusable(format!(
            "counter `{counter}` has counted another log than the one at {}: that one was deleted and made anew, or is \
             elsewhere; point it at its own log, or use another counter name, which counts from the start",
            log.name()
        )));
    }
    if partitions as u32 != rules.partitions {
        return Err(repartitioned(counter, *log, partitions as u32));
    }
    let (numbers, offsets): (Vec<i32>, Vec<i64>) = (0..).zip(starts.iter().map(|start| *start as i64)).unzip();
    let rows = transaction
        .query(
            "INSERT INTO position (counter, partition, first_offset, next_offset, end_offset)
             SELECT $1, p.partition, p.start, p.start, p.start FROM unnest($2::int[], $3::bigint[]) AS p (partition, start)
             ON CONFLICT DO NOTHING RETURNING partition, first_offset",
            &[counter, &numbers, &offsets],
        )
        .await
        .map_err(during("enter the partitions"))?;
    transaction.commit().await.map_err(during("enter the counter"))?;
    let entered = rows.iter().map(|row| (row.get::<_, i32>(0) as u32, row.get::<_, i64>(1) as u64));
    Ok(entered.filter(|(_, start)| *start > 0).collect())
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "no election".into() } else { quoted.join(", ") }
}

fn repartitioned(counter: &str, log: &dyn VoteLog, had: u32) -> StoreError {
    let why = LogError::Repartitioned { log: log.name(), had, found: log.partitions() };
    StoreError::Unusable(format!("counter `{counter}` cannot go on: {why}"))
}

/// Makes sure that no counter has counted this log when it had another number of partitions.
pub async fn check_partitions(client: &Client, log: &dyn VoteLog) -> Result<(), StoreError> {
    let rows = client
        .query("SELECT counter, partitions FROM counter WHERE log = $1", &[&log.id()])
        .await
        .map_err(StoreError::during("read the counters"))?;
    let counted = rows.iter().map(|row| (row.get(0), row.get::<_, i32>(1) as u32));
    match counted.into_iter().find(|(_, partitions)| *partitions != log.partitions()) {
        Some((counter, had)) => Err(repartitioned(counter, log, had)),
        None => Ok(()),
    }
}

/// Takes partitions: whoever has taken them before cannot commit any more.
pub async fn take(
    client: &mut Client,
    counter: &str,
    partitions: &BTreeSet<u32>,
) -> Result<BTreeMap<u32, Position>, StoreError> {
    let during = StoreError::during;
    let numbers: Vec<i32> = partitions.iter().map(|partition| *partition as i32).collect();
    let transaction = client.transaction().await.map_err(during("take the partitions"))?;
    super::commit::take_turn(&transaction, counter).await.map_err(during("take a turn to take partitions"))?;
    let rows = transaction
        .query(
            "UPDATE position SET taken = taken + 1 WHERE counter = $1 AND partition = ANY ($2)
             RETURNING partition, next_offset, taken",
            &[&counter, &numbers],
        )
        .await
        .map_err(during("take the partitions"))?;
    transaction.commit().await.map_err(during("take the partitions"))?;
    let taken = positions_of(&rows);
    match partitions.iter().find(|partition| !taken.contains_key(partition)) {
        Some(missing) => Err(StoreError::Unusable(format!(
            "counter `{counter}` has no position in partition {missing}; the database has been changed by hand: restore \
             it, or count anew under another counter name"
        ))),
        None => Ok(taken),
    }
}

/// Makes sure that nobody has taken the partitions since. Gives whether the tables still have what was committed to them: a
/// standby that takes over may not have received all of it.
pub async fn check_taken(
    client: &Client,
    counter: &str,
    committed: &BTreeMap<u32, Position>,
) -> Result<bool, CommitError> {
    let mut is_kept = true;
    for (partition, found) in positions(client, counter).await? {
        let Some(was) = committed.get(&partition) else { continue };
        if was.taken != found.taken {
            return Err(CommitError::Superseded { counter: counter.to_owned(), partition });
        }
        is_kept &= was.next_offset <= found.next_offset;
    }
    Ok(is_kept)
}

/// Of each partition that the counter has.
pub(super) async fn positions(client: &Client, counter: &str) -> Result<BTreeMap<u32, Position>, StoreError> {
    let rows = client
        .query("SELECT partition, next_offset, taken FROM position WHERE counter = $1", &[&counter])
        .await
        .map_err(StoreError::during("read the positions"))?;
    Ok(positions_of(&rows))
}

/// From rows of partition, next offset and number.
pub(super) fn positions_of(rows: &[Row]) -> BTreeMap<u32, Position> {
    let number = |row: &Row, column| row.get::<_, i64>(column) as u64;
    let position = |row: &Row| Position { next_offset: number(row, 1), taken: number(row, 2) };
    rows.iter().map(|row| (row.get::<_, i32>(0) as u32, position(row))).collect()
}

/// The next offset of each partition that the counter has.
pub async fn next_offsets(client: &Client, counter: &str) -> Result<BTreeMap<u32, u64>, StoreError> {
    let positions = positions(client, counter).await?;
    Ok(positions.into_iter().map(|(partition, position)| (partition, position.next_offset)).collect())
}

/// How many votes the counter has counted and refused.
pub async fn totals(client: &Client, counter: &str) -> Result<(u64, u64), StoreError> {
    let row = client
        .query_one(
            "SELECT coalesce(sum(counted), 0)::bigint, coalesce(sum(rejected), 0)::bigint FROM position WHERE counter = $1",
            &[&counter],
        )
        .await
        .map_err(StoreError::during("read the totals"))?;
    Ok((row.get::<_, i64>(0) as u64, row.get::<_, i64>(1) as u64))
}

/// Rebuilds the engine's state of one partition.
pub async fn partition(
    client: &Client,
    counter: &str,
    rules: &Rules,
    partition: u32,
    next_offset: u64,
    seed: [u64; 2],
) -> Result<Partition, StoreError> {
    let number = partition as i32;
    let mut evidence = [0; Reason::ALL.len()];
    let rows = client
        .query(
            "SELECT reason, count(*) FROM rejected_vote WHERE counter = $1 AND partition = $2 GROUP BY reason",
            &[&counter, &number],
        )
        .await
        .map_err(StoreError::during("read the evidence"))?;
    for row in rows {
        let reason: Reason = row.get::<_, &str>(0).parse().map_err(StoreError::Unusable)?;
        evidence[reason as usize] = row.get::<_, i64>(1) as u32;
    }
    let mut rolls = Vec::with_capacity(rules.elections.len());
    for election in &rules.elections {
        rolls.push(read_roll(client, counter, &election.id, number, seed).await?);
    }
    Ok(Partition { partition, next_offset, evidence, rolls })
}

async fn read_roll(
    client: &Client,
    counter: &str,
    election: &str,
    partition: i32,
    seed: [u64; 2],
) -> Result<Roll, StoreError> {
    let during = StoreError::during;
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&counter, &election, &partition];
    let size: i64 = client
        .query_one(
            "SELECT coalesce(sum(octet_length(ids)), 0)::bigint FROM roll WHERE counter = $1 AND election = $2 AND partition = $3",
            &parameters,
        )
        .await
        .map_err(during("read the size of the roll"))?
        .get(0);
    let mut roll = Roll::new(seed);
    roll.reserve(size as usize / 16);
    let rows = client
        .query_raw("SELECT ids FROM roll WHERE counter = $1 AND election = $2 AND partition = $3", parameters)
        .await
        .map_err(during("read the roll"))?;
    pin_mut!(rows);
    while let Some(row) = rows.try_next().await.map_err(during("read the roll"))? {
        let ids: &[u8] = row.get(0);
        let voters = ids.chunks_exact(16).map(|id| VoterId(u128::from_be_bytes(id.try_into().expect("sixteen bytes"))));
        roll.insert_all(voters);
    }
    if roll.len() as i64 != size / 16 {
        return Err(StoreError::Unusable(format!(
            "the roll of partition {partition} of counter `{counter}` names a voter twice; \
             the database has been changed by hand: restore it, or count anew under another counter name"
        )));
    }
    Ok(roll)
}

/// Deletes all that a counter has written, what is known of the log that only it counts, and the elections that it began with
/// and no other counter counts.
pub async fn forget(client: &mut Client, counter: &str) -> Result<(), StoreError> {
    let during = StoreError::during;
    let transaction = client.transaction().await.map_err(during("forget the counter"))?;
    // A commit that is under way would wait for rows deleted here, and this for the row of the counter.
    super::commit::take_turn(&transaction, counter).await.map_err(during("take a turn to forget the counter"))?;
    let row = transaction
        .query_opt("SELECT elections, log FROM counter WHERE counter = $1", &[&counter])
        .await
        .map_err(during("read the counter"))?;
    let (elections, log) =
        row.map_or_else(Default::default, |row| (row.get::<_, Vec<String>>(0), row.get::<_, String>(1)));
    for table in ["tally", "timeline", "rejection", "rejected_vote", "roll", "position", "batch", "audit", "counter"] {
        let sql = format!("DELETE FROM {table} WHERE counter = $1");
        transaction.execute(&sql, &[&counter]).await.map_err(during("forget the counter"))?;
    }
    transaction
        .execute(
            "DELETE FROM election e
              WHERE election = ANY ($1) AND NOT EXISTS (SELECT FROM counter c WHERE e.election = ANY (c.elections))",
            &[&elections],
        )
        .await
        .map_err(during("forget the election"))?;
    transaction
        .execute("DELETE FROM log_end WHERE log = $1 AND NOT EXISTS (SELECT FROM counter c WHERE c.log = $1)", &[&log])
        .await
        .map_err(during("forget the log"))?;
    transaction.commit().await.map_err(during("forget the counter"))
}
