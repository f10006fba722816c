//! Commits running totals and the positions they reach in one transaction.
//!
//! Unlike the native engine's results, a total is not added: it replaces an earlier one. Applying it twice changes nothing.
//! A commit's totals are those at the positions it reaches, and positions never move back, so no total replaces a later
//! one. Only the process that last took the partitions can commit, as in [`super::commit`].

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, Transaction};

use super::commit::{self, BatchRow};
use super::positions::{Position, take_turn};
use super::rows::{RejectionColumns, RejectionRow, TallyColumns, TallyRow, TimelineColumns, TimelineRow};
use super::{CommitError, Database, Role, StoreError};

/// Writes one counter's totals over one connection.
pub struct TotalsSession {
    counter: String,
    client: Client,
}

/// Totals to commit, with their current values.
#[derive(Debug, Default)]
pub struct TotalRows<'a> {
    pub tally: Vec<TallyRow<'a>>,
    pub timeline: Vec<TimelineRow<'a>>,
    pub rejections: Vec<RejectionRow>,
}

/// How far a partition has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The offset after the last counted record.
    pub next_offset: u64,
    pub received: u64,
    pub counted: u64,
}

/// The positions that a commit's totals reach.
pub struct Reach<'a> {
    pub positions: &'a BTreeMap<u32, Position>,
    /// Only partitions that have a record.
    pub reached: &'a BTreeMap<u32, Reached>,
    /// End offsets by partition.
    pub end_offsets: &'a BTreeMap<u32, u64>,
}

impl TotalsSession {
    /// Opens a session.
    ///
    /// # Errors
    ///
    /// If the session cannot be opened.
    pub async fn connect(database: &Database, counter: &str) -> Result<TotalsSession, StoreError> {
        Ok(TotalsSession { counter: counter.to_owned(), client: database.connect(Role::Counter).await? })
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Commits the totals if this process still holds the partitions.
    ///
    /// # Errors
    ///
    /// [`CommitError::Superseded`] if another process has taken a partition, or if a statement fails.
    pub async fn commit(
        &mut self,
        rows: &TotalRows<'_>,
        reach: &Reach<'_>,
        batch: Option<&BatchRow>,
    ) -> Result<(), CommitError> {
        let TotalsSession { counter, client } = self;
        let during = StoreError::during;
        let transaction = client.transaction().await.map_err(during("begin a commit"))?;
        take_turn(&transaction, counter).await.map_err(during("wait for running commits"))?;
        move_positions(&transaction, counter, reach).await?;
        replace_tally(&transaction, counter, &rows.tally).await.map_err(during("write the tally"))?;
        replace_timeline(&transaction, counter, &rows.timeline).await.map_err(during("write the timeline"))?;
        raise_rejections(&transaction, counter, &rows.rejections).await.map_err(during("write the rejections"))?;
        commit::write_batches(&transaction, commit::WRITE_BATCHES, counter, batch.map_or(&[], std::slice::from_ref))
            .await
            .map_err(during("write the batches"))?;
        transaction.commit().await.map_err(during("commit"))?;
        Ok(())
    }
}

async fn move_positions(transaction: &Transaction<'_>, counter: &str, reach: &Reach<'_>) -> Result<(), CommitError> {
    let mut partitions: Vec<i32> = Vec::new();
    let (mut epochs, mut next, mut received, mut counted, mut end_offsets) = (vec![], vec![], vec![], vec![], vec![]);
    for (&partition, position) in reach.positions {
        let reached = reach.reached.get(&partition).copied().unwrap_or_default();
        let end = reach.end_offsets.get(&partition).copied().unwrap_or(0);
        partitions.push(partition as i32);
        epochs.push(position.epoch as i64);
        // A partition without records keeps its position.
        next.push(if reached.received == 0 { position.next_offset } else { reached.next_offset } as i64);
        received.push(reached.received as i64);
        counted.push(reached.counted as i64);
        end_offsets.push(end as i64);
    }
    let moved = transaction
        .query(
            "UPDATE position p
                SET next_offset = n.next_offset, gaps = n.next_offset - p.first_offset - n.received, counted = n.counted,
                    rejected = n.received - n.counted, end_offset = greatest(n.end_offset, n.next_offset),
                    updated_at = CASE WHEN p.next_offset < n.next_offset THEN now() ELSE p.updated_at END
               FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
                    AS n (partition, epoch, next_offset, received, counted, end_offset)
              WHERE p.counter = $1 AND p.partition = n.partition AND p.epoch = n.epoch AND p.next_offset <= n.next_offset
          RETURNING p.partition",
            &[&counter, &partitions, &epochs, &next, &received, &counted, &end_offsets],
        )
        .await
        .map_err(StoreError::during("move the positions"))?;
    let moved: BTreeSet<i32> = moved.iter().map(|row| row.get(0)).collect();
    match partitions.iter().find(|partition| !moved.contains(partition)) {
        None => Ok(()),
        Some(lost) => Err(CommitError::Superseded { counter: counter.to_owned(), partition: *lost as u32 }),
    }
}

type SqlResult = Result<(), tokio_postgres::Error>;

/// Leaves rows alone that do not change.
const REPLACE: &str = "votes = excluded.votes WHERE t.votes <> excluded.votes";

async fn replace_tally(transaction: &Transaction<'_>, counter: &str, rows: &[TallyRow<'_>]) -> SqlResult {
    let sql = TallyColumns::upsert(REPLACE);
    let TallyColumns { elections, regions, channels, votes } = TallyColumns::of(rows);
    transaction.execute(&sql, &[&counter, &elections, &regions, &channels, &votes]).await.map(drop)
}

async fn replace_timeline(transaction: &Transaction<'_>, counter: &str, rows: &[TimelineRow<'_>]) -> SqlResult {
    let sql = TimelineColumns::upsert(REPLACE);
    let TimelineColumns { elections, buckets, regions, votes } = TimelineColumns::of(rows);
    transaction.execute(&sql, &[&counter, &elections, &buckets, &regions, &votes]).await.map(drop)
}

async fn raise_rejections(transaction: &Transaction<'_>, counter: &str, rows: &[RejectionRow]) -> SqlResult {
    let RejectionColumns { reasons, buckets, votes } = RejectionColumns::of(rows);
    let sql = "INSERT INTO rejection AS r (counter, reason, bucket, votes)
               SELECT $1, * FROM unnest($2::text[], $3::timestamptz[], $4::bigint[])
                   ON CONFLICT (counter, reason, bucket) DO UPDATE SET votes = excluded.votes WHERE r.votes < excluded.votes";
    transaction.execute(sql, &[&counter, &reasons, &buckets, &votes]).await.map(drop)
}
