//! Records a log's end offsets, so that waiting votes are visible even when no counter is running.
//!
//! Knows nothing of counters. An end offset only ever increases.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::StoreError;

/// Records a log's end offset per partition, with the current time. Needs a session of a counter or the witness.
///
/// # Errors
///
/// If the statement fails.
pub async fn note(client: &Client, log: &str, end_offsets: &BTreeMap<u32, u64>) -> Result<(), StoreError> {
    let (partitions, end_offsets): (Vec<i32>, Vec<i64>) =
        end_offsets.iter().map(|(p, end)| (*p as i32, *end as i64)).unzip();
    let noted = client.execute("SELECT note_log_end($1, $2, $3)", &[&log, &partitions, &end_offsets]).await;
    noted.map(drop).map_err(StoreError::during("record the end offsets"))
}
