//! Detects poolers that share a session's server connection with other clients between transactions.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Database, Role, StoreError};

/// Refuses such a pooler (pgbouncer's `pool_mode=transaction`): our sessions rely on keeping their role and settings.
pub(super) async fn refuse_shared_connections(db: &Database, client: &Client) -> Result<(), StoreError> {
    let own = backend_of(client).await?;
    // The first session is idle, so such a pooler would give the second its connection, the most recently used one.
    let second = db.connect(Role::Owner).await?;
    match own == backend_of(&second).await? {
        false => Ok(()),
        true => Err(StoreError::Unusable(format!(
            "the pooler at {} shares a session's connection between transactions (pgbouncer's pool_mode=transaction or \
             statement); set pool_mode=session for this database, or connect to PostgreSQL directly",
            db.name()
        ))),
    }
}

/// The process id of the session's backend. Avoids a prepared statement, which a pooler may not support.
async fn backend_of(client: &Client) -> Result<Option<String>, StoreError> {
    let answer =
        client.simple_query("SELECT pg_backend_pid()").await.map_err(StoreError::during("inspect the session"))?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
