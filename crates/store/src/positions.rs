//! The positions and owners of a counter's partitions; see the protocol in [`super::commit`].

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, Row, Transaction};

use super::{CommitError, StoreError};

/// The position of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The offset of the next record to be counted.
    pub next_offset: u64,
    /// Fencing token: incremented whenever a process takes the partition. Commits with an earlier epoch are refused.
    pub epoch: u64,
}

/// Serialises the commits of one counter, so that they cannot deadlock. The row was inserted when the counter was
/// created. If the counter was forgotten since, its positions are gone too, and the commit fails at step 6.
pub(super) const TAKE_TURN: &str = "SELECT FROM counter WHERE counter = $1 FOR UPDATE";

/// Waits for the counter's running commits; later ones wait for this transaction.
pub(super) async fn take_turn(transaction: &Transaction<'_>, counter: &str) -> Result<(), tokio_postgres::Error> {
    transaction.execute(TAKE_TURN, &[&counter]).await.map(drop)
}

/// Takes partitions over: the processes that held them before can no longer commit.
///
/// # Errors
///
/// If a query fails, or the counter has no position for one of the partitions.
pub async fn take(
    client: &mut Client,
    counter: &str,
    partitions: &BTreeSet<u32>,
) -> Result<BTreeMap<u32, Position>, StoreError> {
    let during = StoreError::during;
    let numbers: Vec<i32> = partitions.iter().map(|partition| *partition as i32).collect();
    let transaction = client.transaction().await.map_err(during("take the partitions"))?;
    take_turn(&transaction, counter).await.map_err(during("wait for running commits"))?;
    let rows = transaction
        .query(
            "UPDATE position SET epoch = epoch + 1 WHERE counter = $1 AND partition = ANY ($2)
             RETURNING partition, next_offset, epoch",
            &[&counter, &numbers],
        )
        .await
        .map_err(during("take the partitions"))?;
    transaction.commit().await.map_err(during("take the partitions"))?;
    let taken = positions_of(&rows);
    match partitions.iter().find(|partition| !taken.contains_key(partition)) {
        Some(missing) => Err(StoreError::Unusable(format!(
            "counter `{counter}` has no position in partition {missing}; the database was changed by hand: restore it, \
             or count again under another counter name"
        ))),
        None => Ok(taken),
    }
}

/// Checks that no other process has taken the partitions since. Returns whether the tables still hold everything that
/// was committed: a standby that takes over may not have received all of it.
///
/// # Errors
///
/// [`CommitError::Superseded`] if another process has taken a partition, or if the query fails.
pub async fn check_taken(
    client: &Client,
    counter: &str,
    committed: &BTreeMap<u32, Position>,
) -> Result<bool, CommitError> {
    let mut is_kept = true;
    for (partition, found) in positions(client, counter).await? {
        let Some(was) = committed.get(&partition) else { continue };
        if was.epoch != found.epoch {
            return Err(CommitError::Superseded { counter: counter.to_owned(), partition });
        }
        is_kept &= was.next_offset <= found.next_offset;
    }
    Ok(is_kept)
}

/// The positions of all of the counter's partitions.
pub(super) async fn positions(client: &Client, counter: &str) -> Result<BTreeMap<u32, Position>, StoreError> {
    let rows = client
        .query("SELECT partition, next_offset, epoch FROM position WHERE counter = $1", &[&counter])
        .await
        .map_err(StoreError::during("read the positions"))?;
    Ok(positions_of(&rows))
}

/// From rows of partition, next offset and epoch.
pub(super) fn positions_of(rows: &[Row]) -> BTreeMap<u32, Position> {
    let number = |row: &Row, column| row.get::<_, i64>(column) as u64;
    let position = |row: &Row| Position { next_offset: number(row, 1), epoch: number(row, 2) };
    rows.iter().map(|row| (row.get::<_, i32>(0) as u32, position(row))).collect()
}

/// The next offset of each of the counter's partitions.
///
/// # Errors
///
/// If the query fails.
pub async fn next_offsets(client: &Client, counter: &str) -> Result<BTreeMap<u32, u64>, StoreError> {
    let positions = positions(client, counter).await?;
    Ok(positions.into_iter().map(|(partition, position)| (partition, position.next_offset)).collect())
}

/// Checks that a partition is not behind its last committed position.
pub(super) fn check_kept(
    counter: &str,
    partition: u32,
    committed: &BTreeMap<u32, Position>,
    current: &BTreeMap<u32, Position>,
) -> Result<(), CommitError> {
    let (Some(was), Some(current)) = (committed.get(&partition), current.get(&partition)) else { return Ok(()) };
    // With a later epoch, another process has moved it on; any offset is fine.
    let is_set_back =
        current.epoch < was.epoch || (current.epoch == was.epoch && current.next_offset < was.next_offset);
    match is_set_back {
        false => Ok(()),
        true => Err(CommitError::SetBack {
            counter: counter.to_owned(),
            partition,
            stands: current.next_offset,
            was: was.next_offset,
        }),
    }
}
