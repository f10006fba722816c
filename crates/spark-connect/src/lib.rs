//! Drives Apache Spark, 4.2 or newer, over Spark Connect: sessions, SQL, and Structured Streaming. Knows nothing of votes.
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
//! Spark Connect is gRPC. A client sends a plan: SQL as text, or a tree of messages, of which those that are needed here
//! are in `proto`. What is not obvious about it:
//!
//! - **A stream of answers that ends is not the end.** The server ends each after two minutes, and connections break.
//!   An execution is done when `ResultComplete` has come; until then the client reattaches to it (`execution`).
//! - **A session is its queries' life.** When it is released, or nobody has asked anything in it for an hour (a setting
//!   of the server's), its queries are stopped. So whoever has a query running asks for its status now and then.
//!   No session sees another one's queries.
//! - **What lives on is the checkpoint.** A query that is started on the checkpoint of another takes over from it, also
//!   of one that still runs elsewhere.
//! - **A server that was restarted knows no session**, and a session that was released cannot be had again: that is
//!   [`SparkError::SessionLost`], and the remedy is to open a new one.
//! - **A dead server is silent.** Every call has a deadline; and while an execution says nothing, the server is asked
//!   for something else now and then.
//!
//! Rows of results are Arrow and are not read here: what a query has to say goes into its sink.

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
