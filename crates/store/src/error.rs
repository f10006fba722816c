//! Errors from PostgreSQL: their cause, and whether a retry may succeed.

use std::error::Error as _;

use tokio_postgres::error::SqlState;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address cannot be used; the text says why.
    #[error("{0}")]
    Url(String),
    #[error("cannot reach PostgreSQL at {server} ({}); {}", reason(source), advice(source))]
    Unreachable { server: String, source: tokio_postgres::Error },
    #[error("PostgreSQL at {server} accepted no session within {seconds} s; check whether it is overloaded or hangs")]
    Silent { server: String, seconds: u64 },
    #[error("cannot {action}: {}", reason(source))]
    Query { action: &'static str, source: tokio_postgres::Error },
    /// The partition of a voter's votes depends on the number of partitions.
    #[error(
        "counter `{counter}` cannot continue: the log at {log} has {found} partitions, but had {had} when it was \
         counted; a voter's votes may lie in two of them now, so no count of it can be trusted; move the votes to a \
         new log"
    )]
    Repartitioned { counter: String, log: String, had: u32, found: u32 },
    /// The database cannot be used as asked; the text says what to do.
    #[error("{0}")]
    Unusable(String),
}

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error(
        "partition {partition} was taken over by another process of counter `{counter}`; this one stops without \
         changing anything further"
    )]
    Superseded { counter: String, partition: u32 },
    #[error(
        "partition {partition} of counter `{counter}` is at offset {stands}, but was committed up to {was}: the \
         database has lost commits, for example because a standby took over before receiving them; the count resumes \
         at {stands}"
    )]
    SetBack { counter: String, partition: u32, stands: u64, was: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StoreError {
    /// For `map_err`: wraps an error with what was being done, as in `cannot {action}`.
    pub fn during(action: &'static str) -> impl Fn(tokio_postgres::Error) -> StoreError {
        move |source| StoreError::Query { action, source }
    }

    /// The SQLSTATE, if the error came from the server.
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            StoreError::Unreachable { source, .. } | StoreError::Query { source, .. } => source.code(),
            StoreError::Url(_)
            | StoreError::Silent { .. }
            | StoreError::Repartitioned { .. }
            | StoreError::Unusable(_) => None,
        }
    }

    /// The message for the page, which anyone may see: without hosts, users and PostgreSQL's own text.
    pub fn public_message(&self) -> String {
        match self {
            StoreError::Unreachable { .. } => "cannot reach PostgreSQL".into(),
            StoreError::Silent { .. } => "PostgreSQL accepts no sessions".into(),
            StoreError::Query { action, source } => match source.code() {
                Some(code) => format!("cannot {action} [{}]", code.code()),
                None => format!("cannot {action}: the connection to PostgreSQL is lost"),
            },
            StoreError::Url(_) | StoreError::Repartitioned { .. } | StoreError::Unusable(_) => {
                "PostgreSQL cannot be used; see the log".into()
            }
        }
    }

    /// Whether a retry on a new connection may succeed: the server is unreachable, full, read-only or starting, or
    /// cancelled this statement in favour of another.
    pub fn is_transient(&self) -> bool {
        match self {
            StoreError::Unreachable { source, .. } | StoreError::Query { source, .. } => transient(source),
            StoreError::Silent { .. } => true,
            StoreError::Url(_) | StoreError::Repartitioned { .. } | StoreError::Unusable(_) => false,
        }
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(source: tokio_postgres::Error) -> StoreError {
        StoreError::Query { action: "use the database", source }
    }
}

fn transient(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => {
            // Class 08: connection errors. Class 53: out of disk, memory or connections.
            ["08", "53"].iter().any(|class| code.code().starts_with(class))
                || [
                    SqlState::ADMIN_SHUTDOWN,
                    SqlState::CRASH_SHUTDOWN,
                    SqlState::CANNOT_CONNECT_NOW,
                    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                    SqlState::IDLE_SESSION_TIMEOUT,
                    SqlState::IO_ERROR,
                    SqlState::LOCK_NOT_AVAILABLE,
                    SqlState::QUERY_CANCELED,
                    // A standby that is not promoted yet.
                    SqlState::READ_ONLY_SQL_TRANSACTION,
                    SqlState::T_R_DEADLOCK_DETECTED,
                    SqlState::T_R_SERIALIZATION_FAILURE,
                ]
                .contains(code)
        }
        None => error.is_closed() || io_error(error).is_some(),
    }
}

fn io_error(error: &tokio_postgres::Error) -> Option<&std::io::Error> {
    error.source().and_then(|source| source.downcast_ref())
}

/// The error from PostgreSQL or the network, in one line.
fn reason(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        let mut text = db.message().to_owned();
        for more in [db.detail(), db.hint()].into_iter().flatten() {
            text.push_str("; ");
            text.push_str(more);
        }
        return format!("{text} [{}]", db.code().code());
    }
    if let Some(io) = io_error(error) {
        let text = io.to_string();
        return match text.find(" (os error") {
            Some(end) => text[..end].to_lowercase(),
            None => text,
        };
    }
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn advice(error: &tokio_postgres::Error) -> &'static str {
    match error.code().map(SqlState::code) {
        Some("28P01" | "28000") => "check the user and password in DATABASE_URL",
        Some("3D000") => "create the database, or name another in DATABASE_URL",
        Some("57P03") => "it is starting or stopping; try again in a moment",
        Some("53300") => "all its connections are in use; raise max_connections",
        Some(_) => "see PostgreSQL's own log",
        None => "start it, or check DATABASE_URL",
    }
}

/// Whether another session has just created or changed the same.
pub(super) fn is_collision(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code)
            if [SqlState::DUPLICATE_OBJECT, SqlState::DUPLICATE_TABLE, SqlState::UNIQUE_VIOLATION].contains(code) =>
        {
            true
        }
        Some(code) if *code == SqlState::INTERNAL_ERROR => {
            error.as_db_error().is_some_and(|db| db.message().starts_with("tuple concurrently"))
        }
        _ => false,
    }
}
