//! A session with Spark: its settings, views and queries.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Status};

use super::error::{Failure, class_of, info_of, innermost, is_of_connection};
use super::execution::Execution;
use super::proto::{self, CommandType, PlanOp, Response};
use super::query::StreamingQuery;
use super::rpc::Rpc;
use super::{Relation, Result, SparkAddress, SparkError, StreamWrite};

/// `INTERRUPT_TYPE_ALL`
const INTERRUPT_ALL: i32 = 1;
/// How long to wait before the same is asked again after the connection has failed: three seconds in all.
pub(super) const BACKOFF: [Duration; 6] = {
    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
    [ms(50), ms(100), ms(200), ms(400), ms(800), ms(1_600)]
};

/// What calls may take, and other things about the connection.
#[derive(Clone, Debug)]
pub struct SparkSettings {
    /// Of what a server answers at once: 30 s.
    pub answer: Duration,
    /// Of what it has to work for, such as SQL and the start of a query: 10 minutes. The first takes a server that has
    /// just started half a minute.
    pub command: Duration,
    /// How long an execution may say nothing before the server is asked whether it lives: 10 s.
    pub quiet: Duration,
    /// Whose certificates to trust, as PEM, instead of those that the system does.
    pub ca_file: Option<PathBuf>,
}

impl Default for SparkSettings {
    fn default() -> SparkSettings {
        SparkSettings {
            answer: Duration::from_secs(30),
            command: Duration::from_secs(600),
            quiet: Duration::from_secs(10),
            ca_file: None,
        }
    }
}

/// A session. Cloned, it is the same one.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    rpc: Rpc,
    address: SparkAddress,
    settings: SparkSettings,
    id: String,
    /// By which the server tells the session from one of the same name that it had before it was started anew.
    observed: OnceLock<String>,
}

impl Session {
    /// Opens a new session, and sees to it that the server answers.
    ///
    /// # Errors
    ///
    /// If nobody answers there, or the token is refused.
    pub async fn open(address: &SparkAddress, settings: &SparkSettings) -> Result<Session> {
        let (rpc, id) = (Rpc::new(address, settings)?, uuid()?);
        let session = Session(Arc::new(Inner {
            rpc,
            address: address.clone(),
            settings: settings.clone(),
            id,
            observed: OnceLock::new(),
        }));
        session.version().await?;
        Ok(session)
    }

    /// Spark's version, as `4.2.0`.
    pub async fn version(&self) -> Result<String> {
        let request = proto::AnalyzePlanRequest {
            session_id: self.id(),
            client_observed_server_side_session_id: self.observed(),
            user_context: self.user(),
            client_type: client_type(),
            analyze: Some(proto::Analyze::SparkVersion(proto::Empty {})),
        };
        let action = "say its version";
        let answer = self.call(action, request).await?;
        self.observe(&answer.server_side_session_id);
        answer.spark_version.map(|it| it.version).ok_or_else(|| self.strange(action, "no version"))
    }

    /// Changes a setting of this session.
    pub async fn set(&self, key: &str, value: &str) -> Result<()> {
        let pair = proto::KeyValue { key: key.to_owned(), value: Some(value.to_owned()) };
        self.config("change a setting", proto::ConfigOp::Set(proto::ConfigSet { pairs: vec![pair] })).await?;
        Ok(())
    }

    /// A setting as it holds in this session; none if it has no value.
    pub async fn get(&self, key: &str) -> Result<Option<String>> {
        let get = proto::ConfigGetOption { keys: vec![key.to_owned()] };
        let pairs = self.config("read a setting", proto::ConfigOp::GetOption(get)).await?;
        Ok(pairs.into_iter().next().and_then(|pair| pair.value))
    }

    async fn config(&self, action: &'static str, operation: proto::ConfigOp) -> Result<Vec<proto::KeyValue>> {
        let request = proto::ConfigRequest {
            session_id: self.id(),
            client_observed_server_side_session_id: self.observed(),
            user_context: self.user(),
            operation: Some(proto::ConfigOperation { op_type: Some(operation) }),
            client_type: client_type(),
        };
        Ok(self.call(action, request).await?.pairs)
    }

    /// Executes an SQL command, such as CREATE and INSERT. Of a query it only sees whether it makes sense.
    pub async fn sql(&self, text: &str) -> Result<()> {
        let command = proto::SqlCommand { input: Some(Relation::sql(text).0) };
        self.command("execute SQL", CommandType::Sql(command), self.settings().command).await?;
        Ok(())
    }

    /// Runs a query to its end and gives the number of its rows.
    pub async fn run(&self, relation: Relation, within: Duration) -> Result<u64> {
        let mut rows = 0;
        let count = |response| {
            if let Response::ArrowBatch(batch) = response {
                rows += batch.row_count.unsigned_abs();
            }
        };
        Execution::new(self, "run a query")?.run(PlanOp::Root(relation.0), within, count).await?;
        Ok(rows)
    }

    /// Gives a relation a name for this session's SQL; another one that has the name loses it.
    pub async fn create_view(&self, name: &str, relation: Relation) -> Result<()> {
        let command =
            proto::CreateDataFrameViewCommand { input: Some(relation.0), name: name.to_owned(), replace: true };
        self.command("create a view", CommandType::CreateDataframeView(command), self.settings().command).await?;
        Ok(())
    }

    /// Starts a streaming query. If one runs on the same checkpoint, in whatever session, it is stopped.
    pub async fn start(&self, write: StreamWrite) -> Result<StreamingQuery> {
        let action = "start a streaming query";
        let responses = self.command(action, CommandType::StartStream(write.0), self.settings().command).await?;
        let started = responses.into_iter().find_map(|response| match response {
            Response::StreamStarted(proto::WriteStreamOperationStartResult { query_id: Some(id), name }) => {
                Some(StreamingQuery::new(self, id, name))
            }
            _ => None,
        });
        started.ok_or_else(|| self.strange(action, "no query"))
    }

    /// The streaming queries that run in this session.
    pub async fn queries(&self) -> Result<Vec<StreamingQuery>> {
        let action = "list the streaming queries";
        let command = CommandType::Queries(proto::StreamingQueryManagerCommand { active: Some(true) });
        let responses = self.command(action, command, self.settings().answer).await?;
        let active = responses.into_iter().find_map(|response| match response {
            Response::Queries(proto::StreamingQueryManagerCommandResult { active: Some(active) }) => Some(active),
            _ => None,
        });
        let active = active.ok_or_else(|| self.strange(action, "no list"))?.active_queries;
        let query =
            |it: proto::StreamingQueryInstance| Some(StreamingQuery::new(self, it.id?, it.name.unwrap_or_default()));
        Ok(active.into_iter().filter_map(query).collect())
    }

    /// Breaks off whatever is being executed in this session. Streaming queries are not: they are stopped.
    pub async fn interrupt(&self) -> Result<()> {
        self.call("interrupt what it does", self.interrupt_request(INTERRUPT_ALL, None)).await?;
        Ok(())
    }

    /// Ends the session: its queries are stopped, and it can do nothing more. One that is not closed goes on until it
    /// is too old for the server.
    pub async fn close(self) -> Result<()> {
        let request = proto::ReleaseSessionRequest {
            session_id: self.id(),
            user_context: self.user(),
            client_type: client_type(),
        };
        self.call("end the session", request).await?;
        Ok(())
    }

    // == For the parts of this module

    /// Executes a command and gives what is answered.
    pub(super) async fn command(
        &self,
        action: &'static str,
        command: CommandType,
        within: Duration,
    ) -> Result<Vec<Response>> {
        let mut responses = Vec::new();
        let plan = PlanOp::Command(proto::Command { command_type: Some(command) });
        Execution::new(self, action)?.run(plan, within, |response| responses.push(response)).await?;
        Ok(responses)
    }

    /// Asks for what is answered at once and may be asked for twice.
    async fn call<R: proto::Unary>(&self, action: &'static str, request: R) -> Result<R::Answer> {
        let limit = self.settings().answer;
        let deadline = Instant::now() + limit;
        let mut delays = BACKOFF.iter();
        loop {
            match timeout_at(deadline, self.rpc().unary(request.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => match delays.next() {
                    Some(delay) if is_of_connection(&status) && Instant::now() + *delay < deadline => {
                        sleep(*delay).await
                    }
                    _ => return Err(self.error(action, status).await),
                },
                Err(_) => return Err(self.silent(action, limit)),
            }
        }
    }

    /// What a call has failed with, as the user may see it.
    pub(super) async fn error(&self, action: &'static str, status: Status) -> SparkError {
        let server = self.0.address.to_string();
        let class = class_of(&status).unwrap_or_default();
        if class.starts_with("INVALID_HANDLE.SESSION_") {
            return SparkError::SessionLost { server, cause: Failure::of_text(status.message()).message };
        }
        if status.code() == Code::Unauthenticated || status.code() == Code::PermissionDenied {
            return SparkError::Denied { server, cause: Failure::of_text(status.message()).message };
        }
        if is_of_connection(&status) {
            return SparkError::Unreachable { server, cause: innermost(&status) };
        }
        let info = info_of(&status).map(|info| info.metadata).unwrap_or_default();
        let details = match info.get("errorId") {
            Some(id) => self.error_details(id).await,
            None => None,
        };
        let mut failure = details.unwrap_or_else(|| Failure::of_text(status.message()));
        failure.class = failure.class.or_else(|| info.get("errorClass").cloned());
        failure.sql_state = failure.sql_state.or_else(|| info.get("sqlState").cloned());
        if failure.message.is_empty() {
            failure.message = status.code().description().to_owned();
        }
        SparkError::Failed { action, failure: Box::new(failure) }
    }

    /// What the server keeps of an error: the whole text, and its causes.
    async fn error_details(&self, id: &str) -> Option<Failure> {
        let request = proto::FetchErrorDetailsRequest {
            session_id: self.id(),
            client_observed_server_side_session_id: self.observed(),
            user_context: self.user(),
            error_id: id.to_owned(),
            client_type: client_type(),
        };
        let answer = timeout_at(Instant::now() + self.settings().quiet, self.rpc().unary(request)).await;
        Failure::of_details(&answer.ok()?.ok()?)
    }

    pub(super) fn silent(&self, action: &'static str, limit: Duration) -> SparkError {
        SparkError::Silent { server: self.0.address.to_string(), seconds: limit.as_secs(), action }
    }

    pub(super) fn strange(&self, action: &'static str, what: impl Into<String>) -> SparkError {
        SparkError::Strange { server: self.0.address.to_string(), action, what: what.into() }
    }

    pub(super) fn interrupt_request(
        &self,
        interrupt_type: i32,
        operation_id: Option<String>,
    ) -> proto::InterruptRequest {
        proto::InterruptRequest {
            session_id: self.id(),
            client_observed_server_side_session_id: self.observed(),
            user_context: self.user(),
            client_type: client_type(),
            interrupt_type,
            operation_id,
        }
    }

    pub(super) fn rpc(&self) -> &Rpc {
        &self.0.rpc
    }

    pub(super) fn settings(&self) -> &SparkSettings {
        &self.0.settings
    }

    pub(super) fn id(&self) -> String {
        self.0.id.clone()
    }

    pub(super) fn user(&self) -> Option<proto::UserContext> {
        let user_id = self.0.address.user_id.clone().unwrap_or_else(|| env!("CARGO_PKG_NAME").to_owned());
        Some(proto::UserContext { user_id })
    }

    pub(super) fn observed(&self) -> Option<String> {
        self.0.observed.get().cloned()
    }

    pub(super) fn observe(&self, server_side_session_id: &str) {
        if !server_side_session_id.is_empty() {
            self.0.observed.get_or_init(|| server_side_session_id.to_owned());
        }
    }
}

/// For the server's own logs.
pub(super) fn client_type() -> Option<String> {
    Some(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")).to_owned())
}

/// A random one, version 4. Spark takes no other text for an id.
pub(super) fn uuid() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| SparkError::Unusable(format!("the system gives no random numbers: {error}")))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_4_uuids() {
        let id = uuid().unwrap();
        assert_eq!((id.len(), &id[8..9], &id[14..15]), (36, "-", "4"), "{id}");
        assert!("89ab".contains(&id[19..20]), "{id}");
        assert_ne!(id, uuid().unwrap());
    }
}
