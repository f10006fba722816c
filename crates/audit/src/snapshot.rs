//! The tables at one point in time.

use futures_util::{TryStreamExt, pin_mut};
use scrutin_contract::election::Election;
use scrutin_store::{Database, Role, StoreError, elections};
use tokio::runtime::Runtime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::report::{AuditReport, Differences};
use super::{AuditError, Result};

/// One transaction in one session. It stays open while the log is recounted.
pub(super) struct Snapshot {
    runtime: Runtime,
    client: Client,
    counter: String,
}

pub(super) struct Counter {
    pub elections: Vec<String>,
    pub log: String,
    pub partitions: u32,
    /// Whether the tables hold the poll book and the rejected records, which they do not for Spark.
    pub has_poll_book: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Position {
    pub partition: u32,
    pub first_offset: u64,
    pub next_offset: u64,
    pub gaps: i64,
    pub counted: i64,
    pub rejected: i64,
}

impl Snapshot {
    /// Must not be called within a Tokio runtime.
    pub fn open(db: &Database, counter: &str) -> Result<Snapshot> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| AuditError::Unusable(format!("cannot start a runtime: {error}")))?;
        let client = runtime.block_on(async {
            let client = db.connect(Role::Auditor).await?;
            let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
                         SET LOCAL idle_in_transaction_session_timeout TO 0";
            client.batch_execute(begin).await.map_err(StoreError::during("begin the audit"))?;
            Ok::<_, StoreError>(client)
        })?;
        Ok(Snapshot { runtime, client, counter: counter.to_owned() })
    }

    pub fn counter(&self) -> Result<Counter> {
        let mut found = None;
        let sql = "SELECT elections, log, partitions, counted_by <> 'spark' FROM counter WHERE counter = $1";
        self.rows("read the counter", sql, &[], &mut |row| {
            found = Some((row.try_get(0)?, row.try_get(1)?, row.try_get::<_, i32>(2)?, row.try_get(3)?));
            Ok(())
        })?;
        match found {
            Some((elections, log, partitions, has_poll_book)) => {
                Ok(Counter { elections, log, partitions: partitions.unsigned_abs(), has_poll_book })
            }
            None => {
                let mut names: Vec<String> = Vec::new();
                let sql = "SELECT counter FROM counter WHERE counter <> $1 ORDER BY counter";
                self.rows("list the counters", sql, &[], &mut |row| {
                    names.push(row.try_get(0)?);
                    Ok(())
                })?;
                let names = if names.is_empty() { "none".into() } else { names.join(", ") };
                Err(AuditError::Unusable(format!("there is no counter `{}`; existing counters: {names}", self.counter)))
            }
        }
    }

    /// The counter's elections, in its order. An election whose rules do not match its fingerprint is a difference.
    pub fn elections(&self, ids: &[String], differences: &mut Differences) -> Result<Vec<Election>> {
        let stored = self.runtime.block_on(elections::load_all(&self.client))?;
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let election = stored.iter().find(|election| election.id == *id).ok_or_else(|| {
                let what =
                    format!("election `{id}`, which counter `{}` counts, is missing from the database", self.counter);
                AuditError::Unusable(what)
            })?;
            found.push(election.clone());
        }
        let sql = "SELECT election, fingerprint FROM election
                    WHERE election = ANY (SELECT unnest(elections) FROM counter WHERE counter = $1) ORDER BY election";
        self.rows("read the fingerprints", sql, &[], &mut |row| {
            let (id, fingerprint): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            if let Some(election) = found.iter().find(|election| election.id == id)
                && election.fingerprint() != fingerprint
            {
                differences.push("election", format!("{id} fingerprint"), election.fingerprint(), fingerprint);
            }
            Ok(())
        })?;
        Ok(found)
    }

    pub fn positions(&self) -> Result<Vec<Position>> {
        let sql = "SELECT p.partition, p.first_offset, p.next_offset, p.gaps, p.counted, p.rejected
                     FROM position p JOIN counter c USING (counter)
                    WHERE counter = $1 AND p.partition >= 0 AND p.partition < c.partitions ORDER BY p.partition";
        let mut positions = Vec::new();
        self.rows("read the positions", sql, &[], &mut |row| {
            positions.push(Position {
                partition: row.try_get::<_, i32>(0)?.unsigned_abs(),
                first_offset: row.try_get::<_, i64>(1)?.max(0).unsigned_abs(),
                next_offset: row.try_get::<_, i64>(2)?.max(0).unsigned_abs(),
                gaps: row.try_get(3)?,
                counted: row.try_get(4)?,
                rejected: row.try_get(5)?,
            });
            Ok(())
        })?;
        Ok(positions)
    }

    /// Passes the rows of a query to `each`. `$1` is the counter; `more` are the further parameters.
    pub fn rows(
        &self,
        action: &'static str,
        sql: &str,
        more: &[&(dyn ToSql + Sync)],
        each: &mut dyn FnMut(&Row) -> std::result::Result<(), tokio_postgres::Error>,
    ) -> Result<()> {
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&self.counter];
        parameters.extend(more);
        let read = self.runtime.block_on(async {
            let rows = self.client.query_raw(sql, parameters).await?;
            pin_mut!(rows);
            while let Some(row) = rows.try_next().await? {
                each(&row)?;
            }
            Ok(())
        });
        Ok(read.map_err(StoreError::during(action))?)
    }

    /// Ends the transaction and records the outcome.
    pub fn finish(self, report: &AuditReport) -> Result<()> {
        let (recounted, differences) = (report.recounted as i64, report.total_differences() as i64);
        let written = self.runtime.block_on(async {
            self.client.batch_execute("COMMIT").await?;
            let insert = "INSERT INTO audit (counter, recounted, differences, summary) VALUES ($1, $2, $3, $4)";
            self.client.execute(insert, &[&self.counter, &recounted, &differences, &report.verdict()]).await
        });
        written.map_err(StoreError::during("record the audit"))?;
        Ok(())
    }
}
