//! Counters: each is created once, with the log and the elections that it counts, and can be forgotten.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::StoreError;
use super::positions::take_turn;

/// The engine that counts for a counter. It determines which state the tables hold for resuming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountingEngine {
    /// Keeps the poll book and the rejected records in the tables.
    Native,
    /// Keeps no state in the tables: Spark's checkpoint has it.
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

/// The log that a counter counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedLog {
    /// Unique to this log.
    pub id: String,
    /// The name for messages.
    pub name: String,
    pub partitions: u32,
}

/// A counter about to count a log.
pub struct Entry<'a> {
    pub counter: &'a str,
    pub engine: CountingEngine,
    pub log: &'a CountedLog,
    /// Fingerprints of the elections that it counts, by id. An election that has changed since is refused.
    pub elections: BTreeMap<String, String>,
    /// The log's first offset of each partition, for partitions new to the counter.
    pub starts: Vec<u64>,
}

/// The elections that the counter counts; none if it does not exist yet.
///
/// # Errors
///
/// If the query fails.
pub async fn elections(client: &Client, counter: &str) -> Result<Option<Vec<String>>, StoreError> {
    let row = client
        .query_opt("SELECT elections FROM counter WHERE counter = $1", &[&counter])
        .await
        .map_err(StoreError::during("read the counter"))?;
    Ok(row.map(|row| row.get(0)))
}

/// The id of the log that the counter counts; none if it does not exist yet.
///
/// # Errors
///
/// If the query fails.
pub async fn log_of(client: &Client, counter: &str) -> Result<Option<String>, StoreError> {
    let row = client
        .query_opt("SELECT log FROM counter WHERE counter = $1", &[&counter])
        .await
        .map_err(StoreError::during("read the counter"))?;
    Ok(row.map(|row| row.get(0)))
}

/// Creates a counter and its positions, or checks that the existing one counts this log. Returns the new partitions
/// that start after offset 0, with their first offsets.
///
/// # Errors
///
/// If the counter exists with another engine, elections or log, if an election changed, or if a query fails.
pub async fn enter(client: &mut Client, entry: &Entry<'_>) -> Result<BTreeMap<u32, u64>, StoreError> {
    let Entry { counter, engine, log, elections: fingerprints, starts } = entry;
    let during = StoreError::during;
    let elections: Vec<&str> = fingerprints.keys().map(String::as_str).collect();
    let transaction = client.transaction().await.map_err(during("create the counter"))?;
    transaction
        .execute(
            "INSERT INTO counter (counter, elections, log, partitions, counted_by) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING",
            &[counter, &elections, &log.id, &(log.partitions as i32), &engine.code()],
        )
        .await
        .map_err(during("create the counter"))?;
    let row = transaction
        .query_one("SELECT elections, log, partitions, counted_by FROM counter WHERE counter = $1", &[counter])
        .await
        .map_err(during("read the counter"))?;
    let (known, counted_log, partitions): (Vec<String>, &str, i32) = (row.get(0), row.get(1), row.get(2));
    let found: &str = row.get(3);
    if found != engine.code() {
        return Err(StoreError::Unusable(format!(
            "counter `{counter}` is counted by the engine {found}, and {} cannot resume its count; use another counter \
             name, which counts from the start of the log",
            engine.code()
        )));
    }
    // From here on this counter's elections cannot change, but one may have changed since it was read.
    for row in transaction
        .query("SELECT election, fingerprint FROM election WHERE election = ANY ($1)", &[&elections])
        .await
        .map_err(during("read the elections"))?
    {
        let (election, fingerprint): (&str, &str) = (row.get(0), row.get(1));
        if fingerprints.get(election).map(String::as_str) != Some(fingerprint) {
            return Err(StoreError::Unusable(format!("election `{election}` has just changed; start the count again")));
        }
    }
    if known != elections {
        return Err(StoreError::Unusable(format!(
            "counter `{counter}` counts {}, but the database only has {} of these: restore it, or use another counter \
             name, which counts from the start of the log",
            list(known.iter().map(String::as_str)),
            list(elections.into_iter()),
        )));
    }
    if counted_log != log.id {
        return Err(StoreError::Unusable(format!(
            "counter `{counter}` has counted another log than the one at {}: its log was deleted and recreated, or is \
             elsewhere; point it at its own log, or use another counter name, which counts from the start",
            log.name
        )));
    }
    if partitions as u32 != log.partitions {
        return Err(repartitioned(counter, log, partitions as u32));
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
        .map_err(during("create the positions"))?;
    transaction.commit().await.map_err(during("create the counter"))?;
    let entered = rows.iter().map(|row| (row.get::<_, i32>(0) as u32, row.get::<_, i64>(1) as u64));
    Ok(entered.filter(|(_, start)| *start > 0).collect())
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "no election".into() } else { quoted.join(", ") }
}

fn repartitioned(counter: &str, log: &CountedLog, had: u32) -> StoreError {
    StoreError::Repartitioned { counter: counter.to_owned(), log: log.name.clone(), had, found: log.partitions }
}

/// Checks that no counter has counted this log with another number of partitions.
///
/// # Errors
///
/// [`StoreError::Repartitioned`] if one has, or if the query fails.
pub async fn check_partitions(client: &Client, log: &CountedLog) -> Result<(), StoreError> {
    let rows = client
        .query("SELECT counter, partitions FROM counter WHERE log = $1", &[&log.id])
        .await
        .map_err(StoreError::during("read the counters"))?;
    let counted = rows.iter().map(|row| (row.get(0), row.get::<_, i32>(1) as u32));
    match counted.into_iter().find(|(_, partitions)| *partitions != log.partitions) {
        Some((counter, had)) => Err(repartitioned(counter, log, had)),
        None => Ok(()),
    }
}

/// How many votes the counter has counted and rejected.
///
/// # Errors
///
/// If the query fails.
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

/// Deletes everything that a counter has written, and its elections and log's end offsets unless another counts them.
///
/// # Errors
///
/// If a statement fails.
pub async fn forget(client: &mut Client, counter: &str) -> Result<(), StoreError> {
    let during = StoreError::during;
    let transaction = client.transaction().await.map_err(during("forget the counter"))?;
    // Otherwise a running commit and this transaction could deadlock: it waits for rows deleted here, we for its lock.
    take_turn(&transaction, counter).await.map_err(during("wait for running commits"))?;
    let row = transaction
        .query_opt("SELECT elections, log FROM counter WHERE counter = $1", &[&counter])
        .await
        .map_err(during("read the counter"))?;
    let (elections, log) =
        row.map_or_else(Default::default, |row| (row.get::<_, Vec<String>>(0), row.get::<_, String>(1)));
    for table in
        ["tally", "timeline", "rejection", "rejected_vote", "poll_book", "position", "batch", "audit", "counter"]
    {
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
