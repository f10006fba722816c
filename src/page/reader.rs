//! One session of the reader, shared by all who ask and opened anew when it is lost.
//!
//! Asks nothing twice but where the session was lost on the way: to read again changes nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::sync::Mutex;
use tokio::time::error::Elapsed;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use crate::store::{Database, Role, StoreError};
use crate::telemetry::Telemetry;

/// Above the reader's own statement timeout: only a server that is gone without a word takes longer.
const ANSWER_WAIT: Duration = Duration::from_secs(15);

pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

#[derive(Debug)]
pub enum ReadError {
    /// PostgreSQL is away, or not set up; asking later may help.
    Unavailable(String),
    /// PostgreSQL refused the query.
    Failed(String),
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReadError::Unavailable(what) | ReadError::Failed(what) => f.write_str(what),
        }
    }
}

pub struct Reader {
    database: Database,
    telemetry: Arc<Telemetry>,
    plans: Plans,
    session: Mutex<Option<Arc<Session>>>,
}

struct Session {
    client: Client,
    /// Planned once a session; there are as many as queries in [`super::queries`].
    statements: Mutex<HashMap<&'static str, Statement>>,
}

/// When PostgreSQL plans a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plans {
    /// A few times, then once for all: for queries that are asked again and again with the same parameters.
    Kept,
    /// For the parameters, each time. A plan for any number of regions takes a hundred times as long for ten thousand.
    Fresh,
}

impl Reader {
    pub fn new(database: Database, telemetry: Arc<Telemetry>, plans: Plans) -> Reader {
        Reader { database, telemetry, plans, session: Mutex::new(None) }
    }

    /// The JSON text that a query gives in its only column, or none if it gives no row.
    pub async fn json(&self, sql: &'static str, params: Params<'_>) -> Result<Option<String>, ReadError> {
        let ask = async || {
            let session = self.session().await.map_err(|error| Asked::Error(self.explain(error)))?;
            let answer = tokio::time::timeout(ANSWER_WAIT, session.text(sql, params)).await;
            self.settle(&session, answer).await
        };
        match ask().await {
            Err(Asked::SessionLost(_)) => ask().await.map_err(Asked::into_error),
            asked => asked.map_err(Asked::into_error),
        }
    }

    /// Reads all rows that a query gives, one after the other, into what `start` gives, until `add` says that it is enough.
    pub async fn rows<T: Send>(
        &self,
        sql: &'static str,
        params: Params<'_>,
        start: impl Fn() -> T + Send + Sync,
        add: impl Fn(&mut T, &Row) -> Result<bool, tokio_postgres::Error> + Send + Sync,
    ) -> Result<T, ReadError> {
        let ask = async || {
            let session = self.session().await.map_err(|error| Asked::Error(self.explain(error)))?;
            let mut read = start();
            let rows = session.rows(sql, params, |row| add(&mut read, row));
            let answer = tokio::time::timeout(ANSWER_WAIT, rows).await;
            self.settle(&session, answer).await.map(|()| read)
        };
        match ask().await {
            Err(Asked::SessionLost(_)) => ask().await.map_err(Asked::into_error),
            asked => asked.map_err(Asked::into_error),
        }
    }

    /// Takes leave of a session that is lost.
    async fn settle<T>(
        &self,
        session: &Arc<Session>,
        answer: Result<Result<T, tokio_postgres::Error>, Elapsed>,
    ) -> Result<T, Asked> {
        match answer {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(error)) => {
                let error = StoreError::Query { action: "read the results", source: error };
                let lost = session.client.is_closed() || error.is_transient();
                let what = self.explain(error);
                if lost {
                    self.forget(session).await;
                    Err(Asked::SessionLost(what))
                } else {
                    Err(Asked::Error(what))
                }
            }
            Err(_) => {
                self.forget(session).await;
                let seconds = ANSWER_WAIT.as_secs();
                let what = format!("PostgreSQL at {} gave no answer within {seconds} s", self.database.name());
                Err(Asked::Error(ReadError::Unavailable(what)))
            }
        }
    }

    async fn session(&self) -> Result<Arc<Session>, StoreError> {
        let mut held = self.session.lock().await;
        if let Some(session) = held.as_ref().filter(|session| !session.client.is_closed()) {
            return Ok(session.clone());
        }
        let again = held.take().is_some();
        let client = self.database.connect(Role::Reader).await?;
        if self.plans == Plans::Fresh {
            let set = client.batch_execute("SET plan_cache_mode TO force_custom_plan").await;
            set.map_err(|source| StoreError::Query { action: "set up a session", source })?;
        }
        if again {
            self.telemetry.metrics.database_reconnects.inc();
        }
        let session = Arc::new(Session { client, statements: Mutex::default() });
        *held = Some(session.clone());
        Ok(session)
    }

    async fn forget(&self, lost: &Arc<Session>) {
        let mut held = self.session.lock().await;
        if held.as_ref().is_some_and(|session| Arc::ptr_eq(session, lost)) {
            *held = None;
            self.telemetry.metrics.database_reconnects.inc();
        }
    }

    fn explain(&self, error: StoreError) -> ReadError {
        match error.code() {
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_FUNCTION | &SqlState::UNDEFINED_COLUMN) => {
                ReadError::Unavailable(format!(
                    "the database {} has not been set up for this version; run `scrutin setup`",
                    self.database.name()
                ))
            }
            Some(&SqlState::QUERY_CANCELED) => {
                ReadError::Unavailable(format!("PostgreSQL at {} is too slow: {error}", self.database.name()))
            }
            _ if error.is_transient() => ReadError::Unavailable(error.to_string()),
            _ => match error {
                StoreError::Query { .. } => ReadError::Failed(error.to_string()),
                _ => ReadError::Unavailable(error.to_string()),
            },
        }
    }
}

enum Asked {
    SessionLost(ReadError),
    Error(ReadError),
}

impl Asked {
    fn into_error(self) -> ReadError {
        match self {
            Asked::SessionLost(error) | Asked::Error(error) => error,
        }
    }
}

impl Session {
    async fn text(&self, sql: &'static str, params: Params<'_>) -> Result<Option<String>, tokio_postgres::Error> {
        let statement = self.statement(sql).await?;
        match self.client.query_opt(&statement, params).await? {
            Some(row) => row.try_get(0),
            None => Ok(None),
        }
    }

    async fn rows(
        &self,
        sql: &'static str,
        params: Params<'_>,
        mut add: impl FnMut(&Row) -> Result<bool, tokio_postgres::Error> + Send,
    ) -> Result<(), tokio_postgres::Error> {
        let statement = self.statement(sql).await?;
        let params = params.iter().map(|param| *param as &dyn ToSql);
        let mut rows = std::pin::pin!(self.client.query_raw(&statement, params).await?);
        while let Some(row) = rows.try_next().await? {
            if !add(&row)? {
                break;
            }
        }
        Ok(())
    }

    async fn statement(&self, sql: &'static str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.statements.lock().await.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.lock().await.insert(sql, statement.clone());
        Ok(statement)
    }
}
