//! What a session and its executions share: the connection to the server and the ids it knows them by.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Status};

use super::error::{Failure, class_of, info_of, innermost, is_of_connection};
use super::proto;
use super::rpc::Rpc;
use super::{Result, SparkAddress, SparkError};

/// Delays between retries after a connection failure: about three seconds in total.
pub(super) const BACKOFF: [Duration; 6] = {
    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
    [ms(50), ms(100), ms(200), ms(400), ms(800), ms(1_600)]
};

/// Timeouts and other settings of a connection.
#[derive(Clone, Debug)]
pub struct SparkSettings {
    /// Timeout of calls that the server answers immediately. Default: 30 s.
    pub answer: Duration,
    /// Timeout of calls that take work, such as SQL or starting a query. Default: 10 minutes. The first one takes a
    /// freshly started server half a minute.
    pub command: Duration,
    /// How long an execution may be silent before the server is probed. Default: 10 s.
    pub quiet: Duration,
    /// PEM file of certificate authorities to trust instead of the system's.
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

/// A session as the server knows it.
pub(super) struct Connection {
    rpc: Rpc,
    address: SparkAddress,
    settings: SparkSettings,
    id: String,
    /// The server's own id for the session. It distinguishes the session from one with the same id before a restart.
    observed: OnceLock<String>,
}

impl Connection {
    /// Does not connect yet.
    pub fn new(address: &SparkAddress, settings: &SparkSettings) -> Result<Connection> {
        Ok(Connection {
            rpc: Rpc::new(address, settings)?,
            address: address.clone(),
            settings: settings.clone(),
            id: uuid()?,
            observed: OnceLock::new(),
        })
    }

    /// Spark's version, such as `4.2.0`.
    pub async fn version(&self) -> Result<String> {
        let request = proto::AnalyzePlanRequest {
            session_id: self.id(),
            client_observed_server_side_session_id: self.observed(),
            user_context: self.user(),
            client_type: client_type(),
            analyze: Some(proto::Analyze::SparkVersion(proto::Empty {})),
        };
        let action = "report its version";
        let answer = self.call(action, request).await?;
        self.observe(&answer.server_side_session_id);
        answer.spark_version.map(|it| it.version).ok_or_else(|| self.strange(action, "no version"))
    }

    /// Sends a request that is answered immediately and can safely be repeated.
    pub async fn call<R: proto::Unary>(&self, action: &'static str, request: R) -> Result<R::Answer> {
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

    /// Converts a failed call's status into an error for the user.
    pub async fn error(&self, action: &'static str, status: Status) -> SparkError {
        let server = self.address.to_string();
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

    /// Fetches the details that the server keeps of an error: its full text and causes.
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

    pub fn silent(&self, action: &'static str, limit: Duration) -> SparkError {
        SparkError::Silent { server: self.address.to_string(), seconds: limit.as_secs(), action }
    }

    pub fn strange(&self, action: &'static str, what: impl Into<String>) -> SparkError {
        SparkError::Strange { server: self.address.to_string(), action, what: what.into() }
    }

    pub fn interrupt_request(&self, interrupt_type: i32, operation_id: Option<String>) -> proto::InterruptRequest {
        proto::InterruptRequest {
            session_id: self.id(),
            client_observed_server_side_session_id: self.observed(),
            user_context: self.user(),
            client_type: client_type(),
            interrupt_type,
            operation_id,
        }
    }

    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    pub fn settings(&self) -> &SparkSettings {
        &self.settings
    }

    pub fn id(&self) -> String {
        self.id.clone()
    }

    pub fn user(&self) -> Option<proto::UserContext> {
        let user_id = self.address.user_id.clone().unwrap_or_else(|| "scrutin".to_owned());
        Some(proto::UserContext { user_id })
    }

    pub fn observed(&self) -> Option<String> {
        self.observed.get().cloned()
    }

    pub fn observe(&self, server_side_session_id: &str) {
        if !server_side_session_id.is_empty() {
            self.observed.get_or_init(|| server_side_session_id.to_owned());
        }
    }
}

/// For the server's own logs.
pub(super) fn client_type() -> Option<String> {
    Some(concat!("scrutin/", env!("CARGO_PKG_VERSION")).to_owned())
}

/// A random version 4 UUID. Spark accepts no other form of id.
pub(super) fn uuid() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| SparkError::Unusable(format!("cannot get random numbers from the system: {error}")))?;
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
