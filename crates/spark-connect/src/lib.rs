//! Drives Apache Spark 4.2 or newer over Spark Connect: sessions, SQL and Structured Streaming. Knows nothing of votes.
//!
//! ```text
//! let address: SparkAddress = "sc://localhost:15002".parse()?;
//! let session = Session::open(&address, &SparkSettings::default()).await?;
//! session.create_view("votes", Relation::stream("kafka", [("subscribe", "votes"), …])).await?;
//! let query = session
//!     .start(StreamWrite::new("kafka", Relation::sql("SELECT … FROM votes GROUP BY …")).checkpoint(folder)…)
//!     .await?;
//! while query.status().await?.is_active { … }
//! session.close().await?;
//! ```
//!
//! Spark Connect uses gRPC. A client sends a plan, either SQL text or a tree of messages; `proto` has the messages
//! needed here. Some behaviour is not obvious:
//!
//! - **The end of a response stream is not the end of the execution.** The server ends each stream after two minutes,
//!   and connections break. An execution is done once `ResultComplete` arrives; until then the client reattaches to it
//!   (`execution`).
//! - **Queries end with their session.** When a session is released, or receives no request for an hour (a server
//!   setting), its queries are stopped. So a client with a running query must ask for its status now and then. A
//!   session does not see another session's queries.
//! - **The checkpoint outlives the query.** A query started on the checkpoint of another takes over from it, even if
//!   the other still runs elsewhere.
//! - **Restarting the server loses all sessions**, and a released session cannot be reopened. Both appear as
//!   [`SparkError::SessionLost`]; the remedy is to open a new session.
//! - **A dead server is silent.** Every call has a deadline, and while an execution is silent, the server is probed
//!   with another request now and then.
//!
//! Result rows are in Arrow format and are not read here: queries write their results to a sink.

mod address;
mod connection;
mod error;
mod execution;
mod plan;
mod proto;
mod query;
mod rpc;
mod session;

pub use address::SparkAddress;
pub use connection::SparkSettings;
pub use error::{Failure, SparkError};
pub use plan::{OutputMode, Relation, StreamWrite, Trigger};
pub use query::{Observed, QueryProgress, QueryStatus, SinkProgress, SourceProgress, StateProgress, StreamingQuery};
pub use session::Session;

type Result<T, E = SparkError> = std::result::Result<T, E>;
