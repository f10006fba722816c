//! Errors that end a count on Spark.

use scrutin_log::LogError;
use scrutin_pipeline::CountError;
use scrutin_spark_connect::SparkError;
use scrutin_store::{CommitError, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum SparkCountError {
    #[error(transparent)]
    Count(#[from] CountError),
    #[error(transparent)]
    Spark(#[from] SparkError),
}

impl SparkCountError {
    /// The message for the page; see [`CountError::public_message`].
    pub fn public_message(&self) -> String {
        match self {
            SparkCountError::Count(error) => error.public_message(),
            SparkCountError::Spark(error) => error.to_string(),
        }
    }
}

impl From<LogError> for SparkCountError {
    fn from(error: LogError) -> SparkCountError {
        CountError::from(error).into()
    }
}

impl From<StoreError> for SparkCountError {
    fn from(error: StoreError) -> SparkCountError {
        CountError::from(error).into()
    }
}

impl From<CommitError> for SparkCountError {
    fn from(error: CommitError) -> SparkCountError {
        CountError::from(error).into()
    }
}
