//! One execution, from plan to completion, over as many response streams as it takes.
//!
//! Source: the comments of `ReattachOptions`, `ReattachExecuteRequest` and `ReleaseExecuteRequest` in
//! `spark/connect/base.proto`.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic::Status;

use super::connection::{BACKOFF, Connection, client_type, uuid};
use super::error::{class_of, is_of_connection};
use super::proto::{self, CommandType, PlanOp, Response};
use super::{Result, SparkError};

/// `INTERRUPT_TYPE_OPERATION_ID`
const INTERRUPT_OPERATION: i32 = 3;

pub(super) struct Execution<'a> {
    connection: &'a Connection,
    action: &'static str,
    /// Chosen by the client, so that it can reattach even if it received no response to the start.
    id: String,
}

/// How far an execution is.
#[derive(Default)]
struct Progress {
    /// The id of the last response received.
    last_response: Option<String>,
    is_complete: bool,
    /// Consecutive connection failures.
    failures: usize,
}

/// Why a response stream broke off.
enum Broken {
    Status(Status),
    Final(SparkError),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Broken {
        Broken::Status(status)
    }
}

impl From<SparkError> for Broken {
    fn from(error: SparkError) -> Broken {
        Broken::Final(error)
    }
}

/// Executes a command and returns the responses.
pub(super) async fn execute(
    connection: &Connection,
    action: &'static str,
    command: CommandType,
    within: Duration,
) -> Result<Vec<Response>> {
    let mut responses = Vec::new();
    let plan = PlanOp::Command(proto::Command { command_type: Some(command) });
    Execution::new(connection, action)?.run(plan, within, |response| responses.push(response)).await?;
    Ok(responses)
}

impl<'a> Execution<'a> {
    pub fn new(connection: &'a Connection, action: &'static str) -> Result<Execution<'a>> {
        Ok(Execution { connection, action, id: uuid()? })
    }

    /// Executes a plan and passes each response to `on`, once and in order. Interrupts the execution after `within`. If
    /// the future is dropped early, the execution continues on the server, which abandons it after some minutes.
    pub async fn run(&self, plan: PlanOp, within: Duration, on: impl FnMut(Response)) -> Result<()> {
        let Ok(result) = timeout(within, self.to_completion(plan, on)).await else {
            if self.interrupt().await {
                self.release().await;
            }
            return Err(self.connection.silent(self.action, within));
        };
        // The server keeps the responses until they are released. If the session is gone, so are they.
        if !result.as_ref().is_err_and(SparkError::is_passing) {
            self.release().await;
        }
        result
    }

    async fn to_completion(&self, plan: PlanOp, mut on: impl FnMut(Response)) -> Result<()> {
        let mut progress = Progress::default();
        let mut reattach = false;
        loop {
            let ended = if reattach {
                let request = self.reattach_request(progress.last_response.clone());
                self.read(request, &mut progress, &mut on).await
            } else {
                self.read(self.execute_request(plan.clone()), &mut progress, &mut on).await
            };
            reattach = true;
            match ended {
                Ok(()) if progress.is_complete => return Ok(()),
                // The stream reached the server's limit for its duration or size.
                Ok(()) => {}
                Err(Broken::Final(error)) => return Err(error),
                Err(Broken::Status(status)) => {
                    let class = class_of(&status).unwrap_or_default();
                    let is_unknown =
                        ["INVALID_HANDLE.OPERATION_NOT_FOUND", "INVALID_HANDLE.SESSION_NOT_FOUND"].contains(&&*class);
                    // The plan did not reach this server.
                    let is_lost = is_unknown && progress.last_response.is_none();
                    // The server considers another of our streams to be the newer one.
                    let is_preempted = class == "INVALID_CURSOR.DISCONNECTED";
                    let delay = BACKOFF.get(progress.failures);
                    progress.failures += 1;
                    match delay {
                        Some(delay) if is_lost || is_preempted || is_of_connection(&status) => {
                            reattach = !is_lost;
                            sleep(*delay).await;
                        }
                        _ => return Err(self.connection.error(self.action, status).await),
                    }
                }
            }
        }
    }

    /// Reads one response stream to its end.
    async fn read<R: proto::Streamed>(
        &self,
        request: R,
        progress: &mut Progress,
        on: &mut impl FnMut(Response),
    ) -> Result<(), Broken> {
        let mut stream = self.patiently(self.connection.rpc().streamed(request)).await??;
        while let Some(answer) = self.patiently(stream.message()).await?? {
            self.connection.observe(&answer.server_side_session_id);
            progress.last_response = Some(answer.response_id);
            progress.failures = 0;
            match answer.response_type {
                Some(Response::ResultComplete(_)) => {
                    progress.is_complete = true;
                    break;
                }
                Some(response) => on(response),
                // The schema, metrics or progress.
                None => {}
            }
        }
        Ok(())
    }

    /// Waits for a future while probing the server: an execution may be silent for long, but so is a dead server.
    async fn patiently<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        let mut future = pin!(future);
        loop {
            match timeout(self.connection.settings().quiet, future.as_mut()).await {
                Ok(value) => return Ok(value),
                Err(_) => self.connection.version().await?,
            };
        }
    }

    fn execute_request(&self, plan: PlanOp) -> proto::ExecutePlanRequest {
        let reattachable = proto::ReattachOptions { reattachable: true };
        proto::ExecutePlanRequest {
            session_id: self.connection.id(),
            client_observed_server_side_session_id: self.connection.observed(),
            user_context: self.connection.user(),
            operation_id: Some(self.id.clone()),
            plan: Some(proto::Plan { op_type: Some(plan) }),
            client_type: client_type(),
            request_options: vec![proto::RequestOption { reattach_options: Some(reattachable) }],
        }
    }

    fn reattach_request(&self, last_response_id: Option<String>) -> proto::ReattachExecuteRequest {
        proto::ReattachExecuteRequest {
            session_id: self.connection.id(),
            client_observed_server_side_session_id: self.connection.observed(),
            user_context: self.connection.user(),
            operation_id: self.id.clone(),
            client_type: client_type(),
            last_response_id,
        }
    }

    /// Releases the execution. On failure, the server abandons it by itself after some minutes.
    async fn release(&self) {
        let request = proto::ReleaseExecuteRequest {
            session_id: self.connection.id(),
            client_observed_server_side_session_id: self.connection.observed(),
            user_context: self.connection.user(),
            operation_id: self.id.clone(),
            client_type: client_type(),
            release_all: Some(proto::Empty {}),
        };
        let _ = timeout(self.connection.settings().quiet, self.connection.rpc().unary(request)).await;
    }

    /// Interrupts the execution. Returns whether the server answered.
    async fn interrupt(&self) -> bool {
        let request = self.connection.interrupt_request(INTERRUPT_OPERATION, Some(self.id.clone()));
        timeout(self.connection.settings().quiet, self.connection.rpc().unary(request)).await.is_ok_and(|it| it.is_ok())
    }
}
