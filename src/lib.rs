//! Scrutin counts votes as they are cast: every vote is counted once or rejected with a reason.
//!
//! The life of a vote, with a crate for each part; each crate uses only those before it:
//!
//! 1. [`scrutin_files`] reads files from users. [`scrutin_contract`] defines what all parts agree on: the election, the
//!    vote, the reasons for rejecting it, records and their partitions.
//! 2. The [log](scrutin_log), a Kafka topic or a folder, keeps every vote, in the partition of its voter: the log is the
//!    truth.
//! 3. The [producer](scrutin_producer) simulates the votes of a whole election, or takes them from real results or real
//!    ballots, and appends them to the log.
//! 4. The engine (`scrutin_engine`) counts or rejects each vote. It is pure: records in, changes out.
//! 5. The [store](scrutin_store) commits tallies, rejections, the poll book and the position in one PostgreSQL
//!    transaction. If no server is given, [`scrutin_postgres`] finds PostgreSQL on this machine and runs a private one.
//! 6. The [pipeline](scrutin_pipeline) reads the log, runs the engine, and commits its changes.
//! 7. `scrutin_spark` makes Apache Spark count the same log, as a second counter with its own name;
//!    `scrutin_spark_connect` is its client.
//! 8. The [page](scrutin_page) serves the views live.
//! 9. The [audit](scrutin_audit) recounts the log with independent code and compares every row.
//!
//! Around these, [`cli`] is the command line, [`config`] its settings, and [`scrutin_telemetry`] the logs, metrics and
//! health of all parts.

pub mod cli;
pub mod config;
