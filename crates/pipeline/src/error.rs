//! Why a count ends before it is done.

use scrutin_log::LogError;
use scrutin_store::{CommitError, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum CountError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error("stopped while waiting ({0}); the next start counts what was not committed")]
    GaveUp(String),
    /// The count cannot continue as requested; the text says what to do.
    #[error("{0}")]
    Unusable(String),
}

impl CountError {
    /// The text for the page, which may hide details of PostgreSQL; see [`StoreError::public_message`].
    pub fn public_message(&self) -> String {
        match self {
            CountError::Store(error) | CountError::Commit(CommitError::Store(error)) => error.public_message(),
            other => other.to_string(),
        }
    }
}
