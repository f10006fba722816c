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
    #[error("stopped while waiting ({0}); what was not committed is counted at the next start")]
    GaveUp(String),
    /// The count cannot go on as asked; the text says what to do.
    #[error("{0}")]
    Unusable(String),
}

impl CountError {
    /// For those who look at the page: of PostgreSQL not everything, as [`StoreError::public_message`].
    pub fn public_message(&self) -> String {
        match self {
            CountError::Store(error) | CountError::Commit(CommitError::Store(error)) => error.public_message(),
            other => other.to_string(),
        }
    }
}
