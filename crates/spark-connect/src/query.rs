//! A started streaming query.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::connection::Connection;
use super::execution::execute;
use super::proto::{self, CommandType, QueryCommand, QueryResult, Response};
use super::{Failure, Result};

/// A streaming query. It keeps running when this handle is dropped; see [`Session::close`](super::Session::close).
#[derive(Clone)]
pub struct StreamingQuery {
    connection: Arc<Connection>,
    instance: proto::StreamingQueryInstanceId,
    name: String,
}

/// What a query is currently doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryStatus {
    /// Spark's text, such as `Waiting for data to arrive`.
    pub message: String,
    pub is_active: bool,
    pub is_data_available: bool,
    /// Whether a batch is being processed.
    pub is_trigger_active: bool,
}

/// The progress of one batch. Source: the JSON form of Spark's `StreamingQueryProgress`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryProgress {
    pub batch_id: i64,
    /// When the batch began: `2027-04-11T08:31:12.345Z`.
    pub timestamp: String,
    /// Milliseconds taken by each step; `triggerExecution` is the total.
    #[serde(default)]
    pub duration_ms: std::collections::BTreeMap<String, i64>,
    #[serde(default)]
    pub state_operators: Vec<StateProgress>,
    #[serde(default)]
    pub sources: Vec<SourceProgress>,
    #[serde(default)]
    pub sink: SinkProgress,
    /// By the name passed to [`observed`](super::Relation::observed).
    #[serde(default)]
    pub observed_metrics: std::collections::BTreeMap<String, Observed>,
}

/// Aggregates over a batch. Spark Connect sends them as a row with its schema.
#[derive(Clone, Debug, Deserialize)]
pub struct Observed {
    schema: Schema,
    values: Vec<Value>,
}

#[derive(Clone, Debug, Deserialize)]
struct Schema {
    fields: Vec<Field>,
}

#[derive(Clone, Debug, Deserialize)]
struct Field {
    name: String,
}

impl Observed {
    /// The value of an aggregate; null as in SQL if the batch was empty.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let at = self.schema.fields.iter().position(|field| field.name == name)?;
        self.values.get(at)
    }
}

impl QueryProgress {
    /// Input rows from all sources.
    pub fn num_input_rows(&self) -> u64 {
        self.sources.iter().map(|source| source.num_input_rows).sum()
    }
}

/// The state of one of a query's operators.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateProgress {
    pub operator_name: String,
    pub num_rows_total: i64,
    pub num_rows_updated: i64,
    pub memory_used_bytes: i64,
}

/// A query's progress in a source. Offsets are in the source's own format.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceProgress {
    pub description: String,
    pub start_offset: Value,
    pub end_offset: Value,
    pub latest_offset: Value,
    pub num_input_rows: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SinkProgress {
    pub description: String,
    /// -1 if the sink does not report it.
    pub num_output_rows: i64,
}

impl StreamingQuery {
    pub(super) fn new(
        connection: &Arc<Connection>,
        instance: proto::StreamingQueryInstanceId,
        name: String,
    ) -> StreamingQuery {
        StreamingQuery { connection: Arc::clone(connection), instance, name }
    }

    /// The query's id, stored in its checkpoint: it stays the same across restarts.
    pub fn id(&self) -> &str {
        &self.instance.id
    }

    /// The id of this run of the query.
    pub fn run_id(&self) -> &str {
        &self.instance.run_id
    }

    /// Empty if the query has no name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The query's status. Asking for it regularly also keeps the session alive.
    ///
    /// # Errors
    ///
    /// If the call fails or the session is lost.
    pub async fn status(&self) -> Result<QueryStatus> {
        let action = "report the status of a streaming query";
        match self.ask(action, QueryCommand::Status(true), self.connection.settings().answer).await? {
            Some(QueryResult::Status(it)) => Ok(QueryStatus {
                message: it.status_message,
                is_active: it.is_active,
                is_data_available: it.is_data_available,
                is_trigger_active: it.is_trigger_active,
            }),
            _ => Err(self.connection.strange(action, "no status")),
        }
    }

    /// The last batch; none before the first.
    ///
    /// # Errors
    ///
    /// If the call fails or the session is lost.
    pub async fn last_progress(&self) -> Result<Option<QueryProgress>> {
        Ok(self.progress(QueryCommand::LastProgress(true)).await?.pop())
    }

    /// The last batches, oldest first: up to a hundred, unless the server is configured to keep another number.
    ///
    /// # Errors
    ///
    /// If the call fails or the session is lost.
    pub async fn recent_progress(&self) -> Result<Vec<QueryProgress>> {
        self.progress(QueryCommand::RecentProgress(true)).await
    }

    async fn progress(&self, command: QueryCommand) -> Result<Vec<QueryProgress>> {
        let action = "report the progress of a streaming query";
        let Some(QueryResult::RecentProgress(it)) =
            self.ask(action, command, self.connection.settings().answer).await?
        else {
            return Err(self.connection.strange(action, "no progress"));
        };
        let parse = |json: &String| {
            serde_json::from_str(json).map_err(|error| self.connection.strange(action, format!("{error} in {json}")))
        };
        it.recent_progress_json.iter().map(parse).collect()
    }

    /// The error that ended the query; none if it is running or was stopped.
    ///
    /// # Errors
    ///
    /// If the call fails or the session is lost.
    pub async fn failure(&self) -> Result<Option<Failure>> {
        let action = "report why a streaming query ended";
        match self.ask(action, QueryCommand::Exception(true), self.connection.settings().answer).await? {
            Some(QueryResult::Exception(proto::ExceptionResult { exception_message: Some(text), error_class })) => {
                let failure = Failure::of_text(&text);
                Ok(Some(Failure { class: failure.class.or(error_class), ..failure }))
            }
            // Spark sends nothing if there was no error.
            Some(QueryResult::Exception(_)) | None => Ok(None),
            Some(_) => Err(self.connection.strange(action, "something else")),
        }
    }

    /// Waits until the query has processed everything now in its sources.
    ///
    /// # Errors
    ///
    /// If the query fails, or if this takes longer than `within`.
    pub async fn process_all_available(&self, within: Duration) -> Result<()> {
        self.ask("process all that is available", QueryCommand::ProcessAllAvailable(true), within).await?;
        Ok(())
    }

    /// Waits up to about this long for the query to end. Returns whether it has.
    ///
    /// # Errors
    ///
    /// If the query has failed.
    pub async fn has_ended_within(&self, time: Duration) -> Result<bool> {
        let action = "wait for the end of a streaming query";
        let timeout_ms = Some(i64::try_from(time.as_millis()).unwrap_or(i64::MAX).max(1));
        let command = QueryCommand::AwaitTermination(proto::AwaitTermination { timeout_ms });
        match self.ask(action, command, time.saturating_add(self.connection.settings().answer)).await? {
            Some(QueryResult::AwaitTermination(it)) => Ok(it.terminated),
            _ => Err(self.connection.strange(action, "no answer")),
        }
    }

    /// Stops the query. The next query on its checkpoint repeats an unfinished batch.
    ///
    /// # Errors
    ///
    /// If the call fails or the session is lost.
    pub async fn stop(&self) -> Result<()> {
        self.ask("stop a streaming query", QueryCommand::Stop(true), self.connection.settings().command).await?;
        Ok(())
    }

    async fn ask(&self, action: &'static str, command: QueryCommand, within: Duration) -> Result<Option<QueryResult>> {
        let command = proto::StreamingQueryCommand { query_id: Some(self.instance.clone()), command: Some(command) };
        let responses = execute(&self.connection, action, CommandType::Query(command), within).await?;
        Ok(responses.into_iter().find_map(|response| match response {
            Response::Query(result) => result.result_type,
            _ => None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_with_fields_missing() {
        let json = r#"{"id":"a","batchId":7,"timestamp":"2027-04-11T08:31:12.345Z","durationMs":{"triggerExecution":5},"stateOperators":[{"operatorName":"dedupe",
            "numRowsTotal":4,"memoryUsedBytes":9}],"sources":[{"description":"KafkaV2[Subscribe[votes]]",
            "startOffset":{"votes":{"0":1}},"endOffset":null,"numInputRows":3}],"sink":{"description":"noop","numOutputRows":-1}}"#;
        let progress: QueryProgress = serde_json::from_str(json).unwrap();
        assert_eq!((progress.batch_id, progress.num_input_rows()), (7, 3));
        assert_eq!(progress.duration_ms["triggerExecution"], 5);
        assert_eq!(progress.sources[0].start_offset["votes"]["0"], 1);
        assert_eq!((progress.state_operators[0].num_rows_total, progress.sink.num_output_rows), (4, -1));
    }
}
