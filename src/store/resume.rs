//! Reads back where a counter stands, so that a restart goes on as if nothing had happened.

use std::collections::BTreeMap;

use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::Client;

use super::StoreError;
use crate::engine::{Partition, Roll, Rules};
use crate::vote::{Reason, VoterId};

/// Enters a counter and its partitions, or checks that it is the one that counted before.
///
/// `fingerprints` are those of the elections that the rules were made of; one that was changed meanwhile is refused.
/// `starts` are the log's first offsets, by partition, for partitions new to the counter.
pub async fn enter_counter(
    client: &mut Client,
    counter: &str,
    rules: &Rules,
    fingerprints: &BTreeMap<String, String>,
    starts: &BTreeMap<u32, u64>,
) -> Result<(), StoreError> {
    let during = StoreError::during;
    let elections: Vec<&str> = rules.elections.iter().map(|election| election.id.as_str()).collect();
    let transaction = client.transaction().await.map_err(during("enter the counter"))?;
    transaction
        .execute(
            "INSERT INTO counter (counter, elections, partitions) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            &[&counter, &elections, &(rules.partitions as i32)],
        )
        .await
        .map_err(during("enter the counter"))?;
    let row = transaction
        .query_one("SELECT elections, partitions FROM counter WHERE counter = $1", &[&counter])
        .await
        .map_err(during("read the counter"))?;
    let (known, partitions): (Vec<String>, i32) = (row.get(0), row.get(1));
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
            "counter `{counter}` counts {}, but the database now has {}; what it refused as unknown cannot be counted again: \
             use another counter name, which counts from the start of the log",
            list(known.iter().map(String::as_str)),
            list(elections.into_iter()),
        )));
    }
    if partitions as u32 != rules.partitions {
        return Err(StoreError::Unusable(format!(
            "counter `{counter}` has counted a log of {partitions} partitions, but this log has {}; \
             point it at its own log, or use another counter name",
            rules.partitions
        )));
    }
    let (numbers, offsets): (Vec<i32>, Vec<i64>) =
        starts.iter().map(|(partition, start)| (*partition as i32, *start as i64)).unzip();
    transaction
        .execute(
            "INSERT INTO position (counter, partition, first_offset, next_offset, end_offset)
             SELECT $1, p.partition, p.start, p.start, p.start FROM unnest($2::int[], $3::bigint[]) AS p (partition, start)
             ON CONFLICT DO NOTHING",
            &[&counter, &numbers, &offsets],
        )
        .await
        .map_err(during("enter the partitions"))?;
    transaction.commit().await.map_err(during("enter the counter"))
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "no election".into() } else { quoted.join(", ") }
}

/// The next offset of each partition that the counter has.
pub async fn positions(client: &Client, counter: &str) -> Result<BTreeMap<u32, u64>, StoreError> {
    let rows = client
        .query("SELECT partition, next_offset FROM position WHERE counter = $1", &[&counter])
        .await
        .map_err(StoreError::during("read the positions"))?;
    Ok(rows.iter().map(|row| (row.get::<_, i32>(0) as u32, row.get::<_, i64>(1) as u64)).collect())
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

/// Deletes all that a counter has written, and the elections that no counter counts any more.
pub async fn forget(client: &mut Client, counter: &str) -> Result<(), StoreError> {
    let during = StoreError::during;
    let transaction = client.transaction().await.map_err(during("forget the counter"))?;
    for table in ["tally", "timeline", "rejection", "rejected_vote", "roll", "position", "batch", "audit", "counter"] {
        let sql = format!("DELETE FROM {table} WHERE counter = $1");
        transaction.execute(&sql, &[&counter]).await.map_err(during("forget the counter"))?;
    }
    transaction
        .execute(
            "DELETE FROM election e WHERE NOT EXISTS (SELECT FROM counter c WHERE e.election = ANY (c.elections))",
            &[],
        )
        .await
        .map_err(during("forget the election"))?;
    transaction.commit().await.map_err(during("forget the counter"))
}
