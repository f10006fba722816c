//! Commits the engine's results and the positions they reach in one transaction.
//!
//! Knows what the tables hold, but not when to write to them.
//!
//! # Protocol
//!
//! A partition's position holds `next_offset`, where counting resumes, and `epoch`, which each process that takes the
//! partition increments. A commit knows both as of its last read or write. It runs as one transaction:
//!
//! 1. Lock the counter's own row until the transaction ends; takeovers wait for this lock too. Read-only roles cannot
//!    lock rows, so nobody else can hold it. The transaction is READ COMMITTED, so the following steps see everything
//!    committed during the wait.
//! 2. Move each position from the expected `next_offset` to the new one, provided that `epoch` is still as expected.
//! 3. If every position moved, write the remaining rows and commit.
//! 4. If none moved, and each is at the *new* offset with the expected `epoch`, this commit succeeded earlier and its
//!    reply was lost. Roll back and report success.
//! 5. If a position is behind the one this process last committed, the database has lost commits, for example because a
//!    standby took over before receiving them. Roll back; the process takes its partitions again and resumes from their
//!    current positions.
//! 6. Otherwise another process has taken a partition. Roll back; this process must stop.
//!
//! If an error occurs before the reply to COMMIT, the outcome is unknown. The caller then commits the same changes
//! again on a new connection. The server may still be running the first attempt, so the result of step 4 is only final
//! because of the lock in step 1. The new connection may reach a different server, so step 5 is checked for all
//! partitions when it opens; otherwise the loss would go unnoticed in a partition that receives no more votes.
//!
//! `tests/it/commit_protocol.rs` runs a model through every order of crashes, disconnects, lost replies and takeovers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use tokio_postgres::{Client, Statement, ToStatement, Transaction};

use super::copy::CopyRows;
use super::positions::{self, Position, TAKE_TURN, check_kept};
use super::rows::{
    PollBookRow, PositionRow, RejectedRecordRow, RejectionColumns, RejectionRow, TallyColumns, TallyRow,
    TimelineColumns, TimelineRow,
};
use super::time::time;
use super::{CommitError, Database, Role, StoreError};

/// All rows that one commit writes. Each table's rows are in key order, so that commits cannot deadlock.
#[derive(Debug, Default)]
pub struct CommitRows<'a> {
    pub positions: Vec<PositionRow>,
    pub tally: Vec<TallyRow<'a>>,
    pub timeline: Vec<TimelineRow<'a>>,
    pub rejections: Vec<RejectionRow>,
    pub rejected_records: Vec<RejectedRecordRow<'a>>,
    pub poll_book: Vec<PollBookRow<'a>>,
}

/// What a commit needs besides its rows.
#[derive(Clone, Copy)]
pub struct CommitBasis<'a> {
    /// The last known position of each partition.
    pub expected: &'a BTreeMap<u32, Position>,
    /// End offsets by partition.
    pub end_offsets: &'a BTreeMap<u32, u64>,
    /// Earlier commits to record along with this one.
    pub finished: &'a [BatchRow],
}

/// A finished commit, as recorded in table `batch`.
#[derive(Clone, Debug)]
pub struct BatchRow {
    pub committed_at: SystemTime,
    pub received: u64,
    pub counted: u64,
    pub rejected: u64,
    pub lag: u64,
    /// Latency from append to visible, in milliseconds; none if nothing was received.
    pub latency_ms_p50: Option<f64>,
    pub latency_ms_p99: Option<f64>,
    /// How long each step of the engine took, in milliseconds.
    pub steps_ms: BTreeMap<String, f64>,
}

/// How long rows of `batch` are kept.
const BATCH_AGE: &str = "7 days";

/// After this many commits, the small poll book chunks of the next partition in turn are merged into one.
const COMMITS_PER_COMPACTION: u32 = 16;

/// Poll book chunks of at least this many bytes are not merged.
const CHUNK_BYTES: i32 = 64 << 10;

/// How many chunks to merge at most in one commit, so that it is hardly slower than others.
const CHUNKS_PER_COMPACTION: i64 = 128;

/// Writes one counter's commits over one connection.
pub struct CommitSession {
    counter: String,
    client: Client,
    statements: Statements,
    /// Partitions of the log.
    partitions: u32,
    commits: u32,
}

struct Statements {
    turn: Statement,
    positions: Statement,
    reached: Statement,
    tally: Statement,
    timeline: Statement,
    rejections: Statement,
    rejected_records: Statement,
    poll_book: Statement,
    compact: Statement,
    batches: Statement,
}

impl CommitSession {
    /// Opens a session. `partitions` is the number of partitions of the log, and `committed` the last committed positions
    /// of this process's own partitions.
    ///
    /// # Errors
    ///
    /// If the database cannot be used or has lost commits.
    pub async fn connect(
        database: &Database,
        counter: &str,
        partitions: u32,
        committed: &BTreeMap<u32, Position>,
    ) -> Result<CommitSession, CommitError> {
        let client = database.connect(Role::Counter).await?;
        let current = positions::positions(&client, counter).await?;
        committed.keys().try_for_each(|partition| check_kept(counter, *partition, committed, &current))?;
        let statements = Statements::prepare(&client).await.map_err(StoreError::during("prepare the commit"))?;
        Ok(CommitSession { counter: counter.to_owned(), client, statements, partitions, commits: 0 })
    }

    /// Commits the rows if each of their partitions is at the expected position and has not been taken since. Does
    /// nothing if the same rows were committed before and only the reply was lost.
    ///
    /// # Errors
    ///
    /// [`CommitError::Superseded`] or [`CommitError::SetBack`] if a partition is not at its expected position; nothing
    /// was committed. After [`CommitError::Store`] the outcome is unknown: reconnect and commit the same rows again.
    pub async fn commit(&mut self, rows: &CommitRows<'_>, basis: CommitBasis<'_>) -> Result<(), CommitError> {
        let CommitSession { counter, client, statements, .. } = self;
        let during = StoreError::during;
        let transaction = client.transaction().await.map_err(during("begin a commit"))?;
        transaction.execute(&statements.turn, &[counter]).await.map_err(during("wait for running commits"))?;
        if move_positions(&transaction, statements, counter, &rows.positions, basis).await? == Moved::Before {
            // Nothing was written in this transaction.
            return transaction.rollback().await.map_err(|error| during("end a commit")(error).into());
        }
        write_tally(&transaction, statements, counter, &rows.tally).await.map_err(during("write the tally"))?;
        write_timeline(&transaction, statements, counter, &rows.timeline)
            .await
            .map_err(during("write the timeline"))?;
        write_rejections(&transaction, statements, counter, rows).await.map_err(during("write the rejections"))?;
        write_poll_book(&transaction, statements, counter, &rows.poll_book)
            .await
            .map_err(during("write the poll book"))?;
        if self.commits.is_multiple_of(COMMITS_PER_COMPACTION) {
            let turn = (self.commits / COMMITS_PER_COMPACTION % self.partitions) as i32;
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                [counter, &turn, &CHUNK_BYTES, &CHUNKS_PER_COMPACTION];
            transaction.execute(&statements.compact, &parameters).await.map_err(during("compact the poll book"))?;
        }
        write_batches(&transaction, &statements.batches, counter, basis.finished)
            .await
            .map_err(during("write the batches"))?;
        transaction.commit().await.map_err(during("commit"))?;
        self.commits = self.commits.wrapping_add(1);
        Ok(())
    }

    /// Records commits that no later commit has recorded, and the current end offsets.
    ///
    /// # Errors
    ///
    /// If a statement fails.
    pub async fn remember(
        &mut self,
        finished: &[BatchRow],
        end_offsets: &BTreeMap<u32, u64>,
    ) -> Result<(), StoreError> {
        let transaction = self.client.transaction().await.map_err(StoreError::during("write the batches"))?;
        write_batches(&transaction, &self.statements.batches, &self.counter, finished)
            .await
            .map_err(StoreError::during("write the batches"))?;
        transaction
            .execute(
                "DELETE FROM batch WHERE counter = $1 AND committed_at < now() - $2::text::interval",
                &[&self.counter, &BATCH_AGE],
            )
            .await
            .map_err(StoreError::during("prune the batches"))?;
        let (partitions, end_offsets): (Vec<i32>, Vec<i64>) =
            end_offsets.iter().map(|(p, end)| (*p as i32, *end as i64)).unzip();
        transaction
            .execute(
                "UPDATE position p SET end_offset = n.end_offset FROM unnest($2::int[], $3::bigint[]) AS n (partition, end_offset)
                  WHERE p.counter = $1 AND p.partition = n.partition AND p.end_offset < n.end_offset",
                &[&self.counter, &partitions, &end_offsets],
            )
            .await
            .map_err(StoreError::during("write the end offsets"))?;
        transaction.commit().await.map_err(StoreError::during("write the batches"))
    }
}

type SqlResult<T> = Result<T, tokio_postgres::Error>;

/// Adds votes to those of a row, number by number.
const ADD: &str = "votes = ARRAY(SELECT coalesce(a, 0) + coalesce(b, 0)
                                   FROM (SELECT unnest(t.votes) AS a, unnest(excluded.votes) AS b) u)";

impl Statements {
    async fn prepare(client: &Client) -> SqlResult<Statements> {
        Ok(Statements {
            turn: client.prepare(TAKE_TURN).await?,
            positions: client
                .prepare(
                    "UPDATE position p
                        SET next_offset = n.next_offset, gaps = p.gaps + n.gaps, counted = p.counted + n.counted,
                            rejected = p.rejected + n.rejected, end_offset = n.end_offset, updated_at = now()
                       FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
                                   $9::bigint[])
                            AS n (partition, expected, next_offset, gaps, counted, rejected, end_offset, epoch)
                      WHERE p.counter = $1 AND p.partition = n.partition AND p.next_offset = n.expected
                        AND p.epoch = n.epoch
                  RETURNING p.partition",
                )
                .await?,
            reached: client
                .prepare(
                    "SELECT partition, next_offset, epoch FROM position WHERE counter = $1 AND partition = ANY ($2::int[])",
                )
                .await?,
            tally: client.prepare(&TallyColumns::upsert(ADD)).await?,
            timeline: client.prepare(&TimelineColumns::upsert(ADD)).await?,
            rejections: client
                .prepare(
                    "INSERT INTO rejection AS r (counter, reason, bucket, votes)
                     SELECT $1, * FROM unnest($2::text[], $3::timestamptz[], $4::bigint[])
                         ON CONFLICT (counter, reason, bucket) DO UPDATE SET votes = r.votes + excluded.votes",
                )
                .await?,
            rejected_records: client
                .prepare(
                    "INSERT INTO rejected_vote (counter, partition, \"offset\", reason, appended_at, key, value, value_bytes)
                     SELECT $1, * FROM unnest($2::int[], $3::bigint[], $4::text[], $5::timestamptz[], $6::bytea[], $7::bytea[], $8::bigint[])",
                )
                .await?,
            poll_book: client
                .prepare("COPY poll_book (counter, election, partition, chunk, ids) FROM STDIN (FORMAT binary)")
                .await?,
            compact: client
                .prepare(
                    "WITH small AS (
                         SELECT election, chunk FROM poll_book
                          WHERE counter = $1 AND partition = $2 AND octet_length(ids) < $3
                          ORDER BY election, chunk LIMIT $4),
                     compacted AS (
                         DELETE FROM poll_book r USING small s
                          WHERE r.counter = $1 AND r.partition = $2 AND r.election = s.election AND r.chunk = s.chunk
                         RETURNING r.election, r.chunk, r.ids)
                     INSERT INTO poll_book (counter, election, partition, chunk, ids)
                     SELECT $1, election, $2, max(chunk), string_agg(ids, ''::bytea ORDER BY chunk)
                       FROM compacted GROUP BY election",
                )
                .await?,
            batches: client.prepare(WRITE_BATCHES).await?,
        })
    }
}

/// Whether a commit moved its positions now or in an earlier attempt.
#[derive(PartialEq, Eq)]
enum Moved {
    Now,
    /// By the same commit in an earlier attempt whose reply was lost: this process still holds the partitions.
    Before,
}

async fn move_positions(
    transaction: &Transaction<'_>,
    statements: &Statements,
    counter: &str,
    rows: &[PositionRow],
    CommitBasis { expected, end_offsets, .. }: CommitBasis<'_>,
) -> Result<Moved, CommitError> {
    let during = StoreError::during;
    let column =
        |value: &dyn Fn(&PositionRow) -> u64| -> Vec<i64> { rows.iter().map(|row| value(row) as i64).collect() };
    let partitions: Vec<i32> = rows.iter().map(|row| row.partition as i32).collect();
    let from = column(&|row| expected[&row.partition].next_offset);
    let epochs = column(&|row| expected[&row.partition].epoch);
    let next = column(&|row| row.next_offset);
    let gaps = column(&|row| row.gaps);
    let counted = column(&|row| row.counted);
    let rejected = column(&|row| row.rejected);
    let end = column(&|row| end_offsets.get(&row.partition).copied().unwrap_or(0).max(row.next_offset));
    let moved = transaction
        .query(&statements.positions, &[&counter, &partitions, &from, &next, &gaps, &counted, &rejected, &end, &epochs])
        .await
        .map_err(during("move the positions"))?;
    let moved: BTreeSet<i32> = moved.iter().map(|row| row.get(0)).collect();
    let Some(lost) = partitions.iter().find(|partition| !moved.contains(partition)) else { return Ok(Moved::Now) };
    // We hold the lock, so a commit whose reply was lost has ended one way or the other.
    let found =
        transaction.query(&statements.reached, &[&counter, &partitions]).await.map_err(during("read the positions"))?;
    let current = positions::positions_of(&found);
    let is_reached = |row: &PositionRow| {
        let reached = Position { next_offset: row.next_offset, ..expected[&row.partition] };
        current.get(&row.partition) == Some(&reached)
    };
    if moved.is_empty() && rows.iter().all(is_reached) {
        return Ok(Moved::Before);
    }
    rows.iter().try_for_each(|row| check_kept(counter, row.partition, expected, &current))?;
    Err(CommitError::Superseded { counter: counter.to_owned(), partition: *lost as u32 })
}

async fn write_tally(
    transaction: &Transaction<'_>,
    statements: &Statements,
    counter: &str,
    rows: &[TallyRow<'_>],
) -> SqlResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let TallyColumns { elections, regions, channels, votes } = TallyColumns::of(rows);
    transaction.execute(&statements.tally, &[&counter, &elections, &regions, &channels, &votes]).await.map(drop)
}

async fn write_timeline(
    transaction: &Transaction<'_>,
    statements: &Statements,
    counter: &str,
    rows: &[TimelineRow<'_>],
) -> SqlResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let TimelineColumns { elections, buckets, regions, votes } = TimelineColumns::of(rows);
    transaction.execute(&statements.timeline, &[&counter, &elections, &buckets, &regions, &votes]).await.map(drop)
}

async fn write_rejections(
    transaction: &Transaction<'_>,
    statements: &Statements,
    counter: &str,
    rows: &CommitRows<'_>,
) -> SqlResult<()> {
    if rows.rejections.is_empty() {
        return Ok(());
    }
    let RejectionColumns { reasons, buckets, votes } = RejectionColumns::of(&rows.rejections);
    transaction.execute(&statements.rejections, &[&counter, &reasons, &buckets, &votes]).await?;

    let records = &rows.rejected_records;
    if records.is_empty() {
        return Ok(());
    }
    let partitions: Vec<i32> = records.iter().map(|row| row.partition as i32).collect();
    let offsets: Vec<i64> = records.iter().map(|row| row.offset as i64).collect();
    let reasons: Vec<&str> = records.iter().map(|row| row.reason.code()).collect();
    let appended: Vec<SystemTime> = records.iter().map(|row| time(row.appended_at_ms)).collect();
    let keys: Vec<Option<&[u8]>> = records.iter().map(|row| row.key).collect();
    let values: Vec<Option<&[u8]>> = records.iter().map(|row| row.value).collect();
    let lengths: Vec<Option<i64>> = records.iter().map(|row| row.value_bytes.map(|bytes| bytes as i64)).collect();
    transaction
        .execute(
            &statements.rejected_records,
            &[&counter, &partitions, &offsets, &reasons, &appended, &keys, &values, &lengths],
        )
        .await
        .map(drop)
}

async fn write_poll_book(
    transaction: &Transaction<'_>,
    statements: &Statements,
    counter: &str,
    rows: &[PollBookRow<'_>],
) -> SqlResult<()> {
    let mut copy = CopyRows::new();
    for row in rows {
        copy.row(5).text(counter).text(row.election).int4(row.partition as i32).int8(row.next_offset as i64);
        copy.bytes(row.voters.len() * 16, row.voters.iter().map(|voter| voter.0.to_be_bytes()));
    }
    copy.send(transaction, &statements.poll_book).await
}

pub(super) const WRITE_BATCHES: &str =
    "INSERT INTO batch (counter, committed_at, received, counted, rejected, lag, latency_ms_p50, latency_ms_p99, steps_ms)
     SELECT $1, committed_at, received, counted, rejected, lag, p50, p99, steps_ms::jsonb
       FROM unnest($2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::float8[], $8::float8[],
                   $9::text[]) AS b (committed_at, received, counted, rejected, lag, p50, p99, steps_ms)";

/// `statement` is [`WRITE_BATCHES`], prepared or not.
pub(super) async fn write_batches(
    transaction: &Transaction<'_>,
    statement: &(impl ToStatement + ?Sized),
    counter: &str,
    batches: &[BatchRow],
) -> SqlResult<()> {
    if batches.is_empty() {
        return Ok(());
    }
    let column =
        |value: fn(&BatchRow) -> u64| -> Vec<i64> { batches.iter().map(|batch| value(batch) as i64).collect() };
    let times: Vec<SystemTime> = batches.iter().map(|batch| batch.committed_at).collect();
    let (received, counted) = (column(|batch| batch.received), column(|batch| batch.counted));
    let (rejected, lag) = (column(|batch| batch.rejected), column(|batch| batch.lag));
    let p50: Vec<Option<f64>> = batches.iter().map(|batch| batch.latency_ms_p50).collect();
    let p99: Vec<Option<f64>> = batches.iter().map(|batch| batch.latency_ms_p99).collect();
    let steps_ms: Vec<String> = batches.iter().map(|batch| serde_json::json!(batch.steps_ms).to_string()).collect();
    transaction
        .execute(statement, &[&counter, &times, &received, &counted, &rejected, &lag, &p50, &p99, &steps_ms])
        .await?;
    Ok(())
}
