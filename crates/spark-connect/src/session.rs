//! A session with Spark: its settings, views and queries.

use std::sync::Arc;
use std::time::Duration;

use super::connection::{Connection, SparkSettings, client_type};
use super::execution::{Execution, execute};
use super::proto::{self, CommandType, PlanOp, Response};
use super::query::StreamingQuery;
use super::{Relation, Result, SparkAddress, StreamWrite};

/// `INTERRUPT_TYPE_ALL`
const INTERRUPT_ALL: i32 = 1;

/// A session. Clones share the same session.
#[derive(Clone)]
pub struct Session(Arc<Connection>);

impl Session {
    /// Opens a new session and checks that the server answers.
    ///
    /// # Errors
    ///
    /// If the server does not answer or rejects the token.
    pub async fn open(address: &SparkAddress, settings: &SparkSettings) -> Result<Session> {
        let session = Session(Arc::new(Connection::new(address, settings)?));
        session.version().await?;
        Ok(session)
    }

    /// Spark's version, such as `4.2.0`.
    ///
    /// # Errors
    ///
    /// If the call fails.
    pub async fn version(&self) -> Result<String> {
        self.0.version().await
    }

    /// Changes a setting of this session.
    ///
    /// # Errors
    ///
    /// If the call fails or the setting cannot be changed.
    pub async fn set(&self, key: &str, value: &str) -> Result<()> {
        let pair = proto::KeyValue { key: key.to_owned(), value: Some(value.to_owned()) };
        self.config("change a setting", proto::ConfigOp::Set(proto::ConfigSet { pairs: vec![pair] })).await?;
        Ok(())
    }

    /// The value of a setting in this session; none if it has no value.
    ///
    /// # Errors
    ///
    /// If the call fails.
    pub async fn get(&self, key: &str) -> Result<Option<String>> {
        let get = proto::ConfigGetOption { keys: vec![key.to_owned()] };
        let pairs = self.config("read a setting", proto::ConfigOp::GetOption(get)).await?;
        Ok(pairs.into_iter().next().and_then(|pair| pair.value))
    }

    async fn config(&self, action: &'static str, operation: proto::ConfigOp) -> Result<Vec<proto::KeyValue>> {
        let request = proto::ConfigRequest {
            session_id: self.0.id(),
            client_observed_server_side_session_id: self.0.observed(),
            user_context: self.0.user(),
            operation: Some(proto::ConfigOperation { op_type: Some(operation) }),
            client_type: client_type(),
        };
        Ok(self.0.call(action, request).await?.pairs)
    }

    /// Executes an SQL command, such as CREATE or INSERT. A query is only analysed, not run.
    ///
    /// # Errors
    ///
    /// If Spark rejects the SQL or the call fails.
    pub async fn sql(&self, text: &str) -> Result<()> {
        let command = proto::SqlCommand { input: Some(Relation::sql(text).0) };
        execute(&self.0, "execute SQL", CommandType::Sql(command), self.0.settings().command).await?;
        Ok(())
    }

    /// Runs a query to its end and returns the number of rows.
    ///
    /// # Errors
    ///
    /// If the query fails or takes longer than `within`.
    pub async fn run(&self, relation: Relation, within: Duration) -> Result<u64> {
        let mut rows = 0;
        let count = |response| {
            if let Response::ArrowBatch(batch) = response {
                rows += batch.row_count.unsigned_abs();
            }
        };
        Execution::new(&self.0, "run a query")?.run(PlanOp::Root(relation.0), within, count).await?;
        Ok(rows)
    }

    /// Names a relation for this session's SQL, replacing any view of that name.
    ///
    /// # Errors
    ///
    /// If Spark rejects the relation or the call fails.
    pub async fn create_view(&self, name: &str, relation: Relation) -> Result<()> {
        let command =
            proto::CreateDataFrameViewCommand { input: Some(relation.0), name: name.to_owned(), replace: true };
        execute(&self.0, "create a view", CommandType::CreateDataframeView(command), self.0.settings().command).await?;
        Ok(())
    }

    /// Starts a streaming query. A query running on the same checkpoint, in any session, is stopped.
    ///
    /// # Errors
    ///
    /// If Spark rejects the query or the call fails.
    pub async fn start(&self, write: StreamWrite) -> Result<StreamingQuery> {
        let action = "start a streaming query";
        let responses = execute(&self.0, action, CommandType::StartStream(write.0), self.0.settings().command).await?;
        let started = responses.into_iter().find_map(|response| match response {
            Response::StreamStarted(proto::WriteStreamOperationStartResult { query_id: Some(id), name }) => {
                Some(StreamingQuery::new(&self.0, id, name))
            }
            _ => None,
        });
        started.ok_or_else(|| self.0.strange(action, "no query"))
    }

    /// The streaming queries running in this session.
    ///
    /// # Errors
    ///
    /// If the call fails.
    pub async fn queries(&self) -> Result<Vec<StreamingQuery>> {
        let action = "list the streaming queries";
        let command = CommandType::Queries(proto::StreamingQueryManagerCommand { active: Some(true) });
        let responses = execute(&self.0, action, command, self.0.settings().answer).await?;
        let active = responses.into_iter().find_map(|response| match response {
            Response::Queries(proto::StreamingQueryManagerCommandResult { active: Some(active) }) => Some(active),
            _ => None,
        });
        let active = active.ok_or_else(|| self.0.strange(action, "no list"))?.active_queries;
        let query =
            |it: proto::StreamingQueryInstance| Some(StreamingQuery::new(&self.0, it.id?, it.name.unwrap_or_default()));
        Ok(active.into_iter().filter_map(query).collect())
    }

    /// Interrupts everything executing in this session, except streaming queries, which have to be stopped.
    ///
    /// # Errors
    ///
    /// If the call fails.
    pub async fn interrupt(&self) -> Result<()> {
        self.0.call("interrupt its executions", self.0.interrupt_request(INTERRUPT_ALL, None)).await?;
        Ok(())
    }

    /// Ends the session and stops its queries. A session that is not closed lives on until the server's timeout.
    ///
    /// # Errors
    ///
    /// If the call fails.
    pub async fn close(self) -> Result<()> {
        let request = proto::ReleaseSessionRequest {
            session_id: self.0.id(),
            user_context: self.0.user(),
            client_type: client_type(),
        };
        self.0.call("end the session", request).await?;
        Ok(())
    }
}
