//! One PostgreSQL session of the reader role, shared by its callers and reopened when lost.
//!
//! A query is retried once if the session was lost on the way, which is safe because it only reads. A query that nobody
//! waits for any more is cancelled.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use scrutin_store::{Database, Role, StoreError};
use scrutin_telemetry::Telemetry;
use tokio::sync::Mutex;
use tokio::time::error::Elapsed;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};

use super::PART;

/// Added to a statement's own limit: only an unreachable server takes longer.
const SILENCE: Duration = Duration::from_secs(5);

pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The messages are public; details go to the log.
#[derive(Debug)]
pub enum ReadError {
    /// PostgreSQL is down or not set up; a retry may succeed.
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
    statement_wait: Duration,
    session: Mutex<Option<Arc<Session>>>,
}

struct Session {
    client: Client,
    /// Set when the session must not be used any more.
    is_lost: AtomicBool,
    /// Prepared once per session; bounded by the number of queries in [`super::queries`].
    statements: Mutex<HashMap<&'static str, Statement>>,
}

/// When PostgreSQL plans a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plans {
    /// PostgreSQL settles on a generic plan after a few runs: for queries repeated with the same parameters.
    Kept,
    /// A plan for the actual parameters each time. A generic plan for any number of regions is a hundred times slower
    /// for ten thousand.
    Fresh,
}

impl Reader {
    /// `statement_wait`: how long PostgreSQL may take for one query.
    pub fn new(database: Database, telemetry: Arc<Telemetry>, plans: Plans, statement_wait: Duration) -> Reader {
        Reader { database, telemetry, plans, statement_wait, session: Mutex::new(None) }
    }

    /// The JSON text in the query's only column; none if it returns no row.
    ///
    /// # Errors
    ///
    /// If PostgreSQL is not available or refuses the query.
    pub async fn json(&self, sql: &'static str, params: Params<'_>) -> Result<Option<String>, ReadError> {
        let ask = async || {
            let session = self.session().await.map_err(|error| Asked::Error(self.explain(error)))?;
            let question = Question(Some(&session));
            let answer = tokio::time::timeout(self.statement_wait + SILENCE, session.text(sql, params)).await;
            self.settle(question, answer)
        };
        match ask().await {
            Err(Asked::SessionLost(_)) => ask().await.map_err(Asked::into_error),
            asked => asked.map_err(Asked::into_error),
        }
    }

    /// Folds the query's rows, one by one, into the value of `start`, until `add` returns false.
    ///
    /// # Errors
    ///
    /// If PostgreSQL is not available or refuses the query, or `add` fails.
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
            let question = Question(Some(&session));
            let answer = tokio::time::timeout(self.statement_wait + SILENCE, rows).await;
            self.settle(question, answer).map(|()| read)
        };
        match ask().await {
            Err(Asked::SessionLost(_)) => ask().await.map_err(Asked::into_error),
            asked => asked.map_err(Asked::into_error),
        }
    }

    /// Marks the session lost if the outcome says so.
    fn settle<T>(
        &self,
        question: Question<'_>,
        answer: Result<Result<T, tokio_postgres::Error>, Elapsed>,
    ) -> Result<T, Asked> {
        let Ok(answer) = answer else {
            drop(question);
            self.telemetry.metrics.database_reconnects.inc();
            self.telemetry.log_waiting(PART, &format!("PostgreSQL at {} does not respond", self.database.name()));
            return Err(Asked::Error(ReadError::Unavailable("PostgreSQL does not respond".into())));
        };
        let session = question.answered();
        answer.map_err(|error| {
            let error = StoreError::Query { action: "read the results", source: error };
            // A query that timed out would time out again.
            let is_slow = matches!(error.code(), Some(&SqlState::QUERY_CANCELED | &SqlState::LOCK_NOT_AVAILABLE));
            let is_lost = session.client.is_closed() || error.is_transient() && !is_slow;
            let what = self.explain(error);
            if !is_lost {
                return Asked::Error(what);
            }
            session.is_lost.store(true, Ordering::Relaxed);
            self.telemetry.metrics.database_reconnects.inc();
            Asked::SessionLost(what)
        })
    }

    async fn session(&self) -> Result<Arc<Session>, StoreError> {
        let mut held = self.session.lock().await;
        if let Some(session) = held.as_ref().filter(|session| session.can_be_asked()) {
            return Ok(session.clone());
        }
        if held.take().is_some_and(|session| !session.is_lost.load(Ordering::Relaxed)) {
            self.telemetry.metrics.database_reconnects.inc();
        }
        let client = self.database.connect(Role::Reader).await?;
        let mut settings = format!("SET statement_timeout TO {}", self.statement_wait.as_millis());
        if self.plans == Plans::Fresh {
            settings.push_str("; SET plan_cache_mode TO force_custom_plan");
        }
        let set = client.batch_execute(&settings).await;
        set.map_err(|source| StoreError::Query { action: "set up a session", source })?;
        let session = Arc::new(Session { client, is_lost: AtomicBool::new(false), statements: Mutex::default() });
        *held = Some(session.clone());
        Ok(session)
    }

    fn explain(&self, error: StoreError) -> ReadError {
        self.telemetry.log_waiting(PART, &error.to_string());
        match error.code() {
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_FUNCTION | &SqlState::UNDEFINED_COLUMN) => {
                let what = "the database has not been set up for this version; run `scrutin setup`";
                ReadError::Unavailable(what.into())
            }
            Some(&SqlState::QUERY_CANCELED) => ReadError::Unavailable("PostgreSQL took too long".into()),
            _ if error.is_transient() => ReadError::Unavailable(error.public_message()),
            _ => match error {
                StoreError::Query { .. } => ReadError::Failed(error.public_message()),
                _ => ReadError::Unavailable(error.public_message()),
            },
        }
    }
}

/// A query in progress. If dropped before the answer, it cancels the query and abandons the session.
struct Question<'a>(Option<&'a Arc<Session>>);

impl<'a> Question<'a> {
    fn answered(mut self) -> &'a Arc<Session> {
        self.0.take().expect("a question is answered once")
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let Some(session) = self.0 else { return };
        session.is_lost.store(true, Ordering::Relaxed);
        let cancel = session.client.cancel_token();
        tokio::spawn(async move {
            if let Err(error) = cancel.cancel_query(NoTls).await {
                tracing::debug!(%error, "cannot cancel a query; it runs until its own limit");
            }
        });
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
    fn can_be_asked(&self) -> bool {
        !self.client.is_closed() && !self.is_lost.load(Ordering::Relaxed)
    }

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
