//! Reads back the state that a partition's count depends on: who has voted, and how many rejected records are kept.

use futures_util::{TryStreamExt, pin_mut};
use scrutin_contract::vote::{Reason, VoterId};
use tokio_postgres::Client;

use super::StoreError;

/// Counts the rejected records kept for a partition, by reason.
///
/// # Errors
///
/// If the query fails or a stored reason is unknown.
pub async fn rejected_records(
    client: &Client,
    counter: &str,
    partition: u32,
) -> Result<Vec<(Reason, u32)>, StoreError> {
    let rows = client
        .query(
            "SELECT reason, count(*) FROM rejected_vote WHERE counter = $1 AND partition = $2 GROUP BY reason",
            &[&counter, &(partition as i32)],
        )
        .await
        .map_err(StoreError::during("read the rejected records"))?;
    rows.iter()
        .map(|row| {
            let reason = row.get::<_, &str>(0).parse().map_err(StoreError::Unusable)?;
            Ok((reason, row.get::<_, i64>(1) as u32))
        })
        .collect()
}

/// The voters in one partition who have voted in one election.
pub struct StoredPollBook<'a> {
    pub counter: &'a str,
    pub election: &'a str,
    pub partition: u32,
}

impl StoredPollBook<'_> {
    /// The number of voters.
    ///
    /// # Errors
    ///
    /// If the query fails.
    pub async fn len(&self, client: &Client) -> Result<u64, StoreError> {
        let sql = "SELECT coalesce(sum(octet_length(ids)), 0)::bigint FROM poll_book
                    WHERE counter = $1 AND election = $2 AND partition = $3";
        let row = client
            .query_one(sql, &[&self.counter, &self.election, &(self.partition as i32)])
            .await
            .map_err(StoreError::during("read the size of the poll book"))?;
        Ok(row.get::<_, i64>(0) as u64 / 16)
    }

    /// Passes the voters to `take` in chunks.
    ///
    /// # Errors
    ///
    /// If the query fails.
    pub async fn read(
        &self,
        client: &Client,
        mut take: impl FnMut(&mut dyn Iterator<Item = VoterId>),
    ) -> Result<(), StoreError> {
        let during = StoreError::during;
        let sql = "SELECT ids FROM poll_book WHERE counter = $1 AND election = $2 AND partition = $3";
        let partition = self.partition as i32;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&self.counter, &self.election, &partition];
        let rows = client.query_raw(sql, parameters).await.map_err(during("read the poll book"))?;
        pin_mut!(rows);
        while let Some(row) = rows.try_next().await.map_err(during("read the poll book"))? {
            let (ids, _) = row.get::<_, &[u8]>(0).as_chunks::<16>();
            take(&mut ids.iter().map(|id| VoterId(u128::from_be_bytes(*id))));
        }
        Ok(())
    }
}
