//! Agreement between counters.

use tokio_postgres::Client;

use super::StoreError;

/// The other counters of the same log at the same positions, and by how many votes and rejections they differ.
///
/// # Errors
///
/// If the query fails.
pub async fn of(client: &Client, counter: &str) -> Result<Vec<(String, i64)>, StoreError> {
    let sql = "SELECT CASE counter WHEN $1 THEN other ELSE counter END, apart
                 FROM comparison WHERE $1 IN (counter, other) AND verdict IN ('agree', 'differ')";
    let rows = client.query(sql, &[&counter]).await.map_err(StoreError::during("read the agreement"))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
