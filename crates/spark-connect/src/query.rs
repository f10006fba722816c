//! A streaming query that was started.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::connection::Connection;
use super::execution::execute;
use super::proto::{self, CommandType, QueryCommand, QueryResult, Response};
use super::{Failure, Result};

/// A streaming query. Dropped, it goes on; see [`Session::close`](super::Session::close).
#[derive(Clone)]
pub struct StreamingQuery {
    connection: Arc<Connection>,
    instance: proto::StreamingQueryInstanceId,
    name: String,
}

/// What a query does at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryStatus {
    /// In Spark's words, as `Waiting for data to arrive`.
    pub message: String,
    pub is_active: bool,
    pub is_data_available: bool,
    /// A batch is being worked on.
    pub is_trigger_active: bool,
}

/// What one batch has done. Source: `StreamingQueryProgress` of Spark, as JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryProgress {
    pub batch_id: i64,
    /// When it began: `2027-04-11T08:31:12.345Z`.
    pub timestamp: String,
    /// Milliseconds that its parts have taken; `triggerExecution` is all of it.
    #[serde(default)]
    pub duration_ms: std::collections::BTreeMap<String, i64>,
    #[serde(default)]
    pub state_operators: Vec<StateProgress>,
    #[serde(default)]
    pub sources: Vec<SourceProgress>,
    #[serde(default)]
    pub sink: SinkProgress,
    /// By the name of what is [`observed`](super::Relation::observed).
    #[serde(default)]
    pub observed_metrics: std::collections::BTreeMap<String, Observed>,
}

/// Aggregates over a batch. Spark Connect sends a row of them with its schema.
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
    /// The value of an aggregate; null, as SQL has it, where the batch was empty.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let at = self.schema.fields.iter().position(|field| field.name == name)?;
        self.values.get(at)
    }
}

impl QueryProgress {
    /// From all sources together.
    pub fn num_input_rows(&self) -> u64 {
        self.sources.iter().map(|source| source.num_input_rows).sum()
    }
}

/// What a query remembers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateProgress {
    pub operator_name: String,
    pub num_rows_total: i64,
    pub num_rows_updated: i64,
    pub memory_used_bytes: i64,
}

/// Where a query is in a source. Offsets are of the source's own form.
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
    /// -1 where the sink does not say it.
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

    /// Of the query as its checkpoint has it: the same after a start anew.
    pub fn id(&self) -> &str {
        &self.instance.id
    }

    /// Of this start of it.
    pub fn run_id(&self) -> &str {
        &self.instance.run_id
    }

    /// Empty if it was given none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asked again and again, it also keeps the session alive.
    pub async fn status(&self) -> Result<QueryStatus> {
        let action = "say how a streaming query is";
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
    pub async fn last_progress(&self) -> Result<Option<QueryProgress>> {
        Ok(self.progress(QueryCommand::LastProgress(true)).await?.pop())
    }

    /// The last batches, the oldest first: a hundred of them, unless the server is set to keep more.
    pub async fn recent_progress(&self) -> Result<Vec<QueryProgress>> {
        self.progress(QueryCommand::RecentProgress(true)).await
    }

    async fn progress(&self, command: QueryCommand) -> Result<Vec<QueryProgress>> {
        let action = "say how far a streaming query is";
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

    /// What has ended it; none if nothing has or it was stopped.
    pub async fn failure(&self) -> Result<Option<Failure>> {
        let action = "say why a streaming query has ended";
        match self.ask(action, QueryCommand::Exception(true), self.connection.settings().answer).await? {
            Some(QueryResult::Exception(proto::ExceptionResult { exception_message: Some(text), error_class })) => {
                let failure = Failure::of_text(&text);
                Ok(Some(Failure { class: failure.class.or(error_class), ..failure }))
            }
            // Nothing is said where there is nothing to say.
            Some(QueryResult::Exception(_)) | None => Ok(None),
            Some(_) => Err(self.connection.strange(action, "something else")),
        }
    }

    /// Waits until all that is in the sources now has gone through it.
    ///
    /// # Errors
    ///
    /// If the query fails, and if it takes longer than that.
    pub async fn process_all_available(&self, within: Duration) -> Result<()> {
        self.ask("process all that is available", QueryCommand::ProcessAllAvailable(true), within).await?;
        Ok(())
    }

    /// Waits for the query's end, for at most about that long; says whether it has ended.
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
            _ => Err(self.connection.strange(action, "not whether it has")),
        }
    }

    /// Ends it. What its last batch had begun is done again by whoever goes on from its checkpoint.
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
    fn progress_is_read_also_where_little_is_said() {
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
