//! Records how far a log goes, so that votes are seen to wait even when no counter runs.
//!
//! Knows nothing of counters. An end is only ever raised.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::StoreError;

/// Records the ends of a log, by partition, and the time. For sessions of a counter or the witness.
pub async fn note(client: &Client, log: &str, ends: &BTreeMap<u32, u64>) -> Result<(), StoreError> {
    let (partitions, ends): (Vec<i32>, Vec<i64>) = ends.iter().map(|(p, end)| (*p as i32, *end as i64)).unzip();
    let noted = client.execute("SELECT note_log_end($1, $2, $3)", &[&log, &partitions, &ends]).await;
    noted.map(drop).map_err(StoreError::during("note the end of the log"))
}
