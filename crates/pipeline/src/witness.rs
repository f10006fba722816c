//! Records in PostgreSQL, every few seconds, how far the log goes.
//!
//! Counters do it apart from their commits, which may be blocked, and the server of the page does it too; so votes are seen to
//! wait even when no counter runs. Nothing waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use scrutin_store::{Database, Role, StoreError, log_end};
use tokio_postgres::Client;

use super::EndOffsets;

/// Far less than the minute after which the views take the end of the log as unknown.
const INTERVAL: Duration = Duration::from_secs(2);

/// Notes the ends of the log with that id until they are dropped, as a counter or as the witness.
pub fn note(ends: &Arc<EndOffsets>, log: String, database: Database, role: Role) {
    let ends = Arc::downgrade(ends);
    tokio::spawn(async move {
        let (mut client, mut is_told) = (None, false);
        loop {
            tokio::time::sleep(INTERVAL).await;
            let Some(ends) = ends.upgrade() else { return };
            // While the log does not answer, nothing is known of its end.
            let Some(found) = ends.answered() else { continue };
            drop(ends);
            if let Err(error) = note_once(&mut client, &log, &found, &database, role).await {
                client = None;
                // What passes is reported by whoever needs the database for more than this.
                if !error.is_transient() && !is_told {
                    is_told = true;
                    tracing::warn!("{error}; if all counters stop, no alert will notice that votes wait");
                }
            }
        }
    });
}

async fn note_once(
    client: &mut Option<Client>,
    log: &str,
    ends: &BTreeMap<u32, u64>,
    database: &Database,
    role: Role,
) -> Result<(), StoreError> {
    let client = match client {
        Some(client) => client,
        None => client.insert(database.connect(role).await?),
    };
    log_end::note(client, log, ends).await
}
