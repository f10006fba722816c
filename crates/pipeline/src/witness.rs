//! Stores the log's end offsets in PostgreSQL every few seconds.
//!
//! Counters do this apart from their commits, which may be blocked, and the page's server does it too, so waiting votes
//! are visible even when no counter runs. Nothing waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use scrutin_store::{Database, Role, StoreError, log_end};
use tokio_postgres::Client;

use super::EndOffsets;

/// Far less than the minute after which the views consider the end of the log unknown.
const INTERVAL: Duration = Duration::from_secs(2);

/// Stores the end offsets of the log with that id until `ends` is dropped, as a counter or as the witness.
pub fn note(end_offsets: &Arc<EndOffsets>, log: String, database: Database, role: Role) {
    let end_offsets = Arc::downgrade(end_offsets);
    tokio::spawn(async move {
        let (mut client, mut is_reported) = (None, false);
        loop {
            tokio::time::sleep(INTERVAL).await;
            let Some(end_offsets) = end_offsets.upgrade() else { return };
            // While the log does not answer, its end is unknown.
            let Some(found) = end_offsets.answered() else { continue };
            drop(end_offsets);
            if let Err(error) = note_once(&mut client, &log, &found, &database, role).await {
                client = None;
                // Transient errors are reported by the code that needs the database for more than this.
                if !error.is_transient() && !is_reported {
                    is_reported = true;
                    tracing::warn!("{error}; if all counters stop, no alert will report the waiting votes");
                }
            }
        }
    });
}

async fn note_once(
    client: &mut Option<Client>,
    log: &str,
    end_offsets: &BTreeMap<u32, u64>,
    database: &Database,
    role: Role,
) -> Result<(), StoreError> {
    let client = match client {
        Some(client) => client,
        None => client.insert(database.connect(role).await?),
    };
    log_end::note(client, log, end_offsets).await
}
