//! Rebuilds the engine's state of a partition from the tables, so that a restart goes on as if nothing had happened.

use scrutin_contract::vote::Reason;
use scrutin_engine::{Partition, Roll, Rules};
use scrutin_store::StoreError;
use scrutin_store::roll::{self, StoredRoll};
use tokio_postgres::Client;

/// `next_offset` is where the partition stands, `seed` the rolls' own.
///
/// # Errors
/// Where the tables cannot be read, or name a voter twice.
pub(super) async fn partition(
    client: &Client,
    counter: &str,
    rules: &Rules,
    partition: u32,
    next_offset: u64,
    seed: [u64; 2],
) -> Result<Partition, StoreError> {
    let mut evidence = [0; Reason::ALL.len()];
    for (reason, kept) in roll::evidence(client, counter, partition).await? {
        evidence[reason as usize] = kept;
    }
    let mut rolls = Vec::with_capacity(rules.elections.len());
    for election in &rules.elections {
        let stored = StoredRoll { counter, election: &election.id, partition };
        rolls.push(read_roll(client, &stored, seed).await?);
    }
    Ok(Partition { partition, next_offset, evidence, rolls })
}

async fn read_roll(client: &Client, stored: &StoredRoll<'_>, seed: [u64; 2]) -> Result<Roll, StoreError> {
    let voters = stored.len(client).await?;
    let mut roll = Roll::new(seed);
    roll.reserve(voters as usize);
    stored.read(client, |voters| roll.insert_all(voters)).await?;
    if roll.len() as u64 != voters {
        return Err(StoreError::Unusable(format!(
            "the roll of partition {} of counter `{}` names a voter twice; \
             the database has been changed by hand: restore it, or count anew under another counter name",
            stored.partition, stored.counter
        )));
    }
    Ok(roll)
}
