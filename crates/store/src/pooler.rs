//! A pooler between here and PostgreSQL may give a session's connection to others whenever no transaction is open.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Database, Role, StoreError};

/// Refuses such a pooler (pgbouncer's `pool_mode=transaction`): sessions here rest on their role and settings.
pub(super) async fn refuse_shared_connections(db: &Database, client: &Client) -> Result<(), StoreError> {
    let own = backend_of(client).await?;
    // The first session has nothing under way, so the second would be given its connection, the last that was used.
    let second = db.connect(Role::Owner).await?;
    match own == backend_of(&second).await? {
        false => Ok(()),
        true => Err(StoreError::Unusable(format!(
            "the pooler at {} gives a session's connection to others between its transactions (pgbouncer's \
             pool_mode=transaction or statement); set pool_mode=session for this database, or connect to PostgreSQL itself",
            db.name()
        ))),
    }
}

/// The number of the server's process behind a session. Asked without a prepared statement, which a pooler may not know.
async fn backend_of(client: &Client) -> Result<Option<String>, StoreError> {
    let answer =
        client.simple_query("SELECT pg_backend_pid()").await.map_err(StoreError::during("look at the session"))?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
