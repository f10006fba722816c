//! Where the partitions of a counter stand, and whose they are: see the protocol in [`super::commit`].

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, Row, Transaction};

use super::{CommitError, StoreError};

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The offset of the next record to be counted.
    pub next_offset: u64,
    /// Raised whenever a process takes the partition; a commit of an earlier epoch is refused (a fencing token).
    pub epoch: u64,
}

/// Commits of one counter take turns, so that no two of them can wait for each other. Entering the counter has made the row; a
/// counter that was forgotten meanwhile has no positions either, and step 5 of the protocol tells.
pub(super) const TAKE_TURN: &str = "SELECT FROM counter WHERE counter = $1 FOR UPDATE";

/// Waits for the commits of a counter that are under way; the next ones wait for this transaction.
pub(super) async fn take_turn(transaction: &Transaction<'_>, counter: &str) -> Result<(), tokio_postgres::Error> {
    transaction.execute(TAKE_TURN, &[&counter]).await.map(drop)
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
    take_turn(&transaction, counter).await.map_err(during("take a turn to take partitions"))?;
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
        if was.epoch != found.epoch {
            return Err(CommitError::Superseded { counter: counter.to_owned(), partition });
        }
        is_kept &= was.next_offset <= found.next_offset;
    }
    Ok(is_kept)
}

/// Of each partition that the counter has.
pub(super) async fn positions(client: &Client, counter: &str) -> Result<BTreeMap<u32, Position>, StoreError> {
    let rows = client
        .query("SELECT partition, next_offset, epoch FROM position WHERE counter = $1", &[&counter])
        .await
        .map_err(StoreError::during("read the positions"))?;
    Ok(positions_of(&rows))
}

/// From rows of partition, next offset and number.
pub(super) fn positions_of(rows: &[Row]) -> BTreeMap<u32, Position> {
    let number = |row: &Row, column| row.get::<_, i64>(column) as u64;
    let position = |row: &Row| Position { next_offset: number(row, 1), epoch: number(row, 2) };
    rows.iter().map(|row| (row.get::<_, i32>(0) as u32, position(row))).collect()
}

/// The next offset of each partition that the counter has.
pub async fn next_offsets(client: &Client, counter: &str) -> Result<BTreeMap<u32, u64>, StoreError> {
    let positions = positions(client, counter).await?;
    Ok(positions.into_iter().map(|(partition, position)| (partition, position.next_offset)).collect())
}

/// Makes sure that a partition stands no earlier than where it was committed to.
pub(super) fn check_kept(
    counter: &str,
    partition: u32,
    committed: &BTreeMap<u32, Position>,
    stands: &BTreeMap<u32, Position>,
) -> Result<(), CommitError> {
    let (Some(was), Some(stands)) = (committed.get(&partition), stands.get(&partition)) else { return Ok(()) };
    // Taken by another since, it stands wherever that one has come to.
    let is_set_back = stands.epoch < was.epoch || (stands.epoch == was.epoch && stands.next_offset < was.next_offset);
    match is_set_back {
        false => Ok(()),
        true => Err(CommitError::SetBack {
            counter: counter.to_owned(),
            partition,
            stands: stands.next_offset,
            was: was.next_offset,
        }),
    }
}
