//! Scrutin counts votes as they are cast: every vote once, or refused with a reason.
//!
//! The life of a vote, a crate for each part; each uses some of those before it:
//!
//! 1. [`scrutin_files`] reads the files that people bring. [`scrutin_contract`] is what all agree on: the election, the vote,
//!    its rejections, records and their partitions.
//! 2. Votes lie in the [log](scrutin_log), a topic of Kafka or a folder, each in the partition of its voter, and stay there:
//!    the log is the truth.
//! 3. The [producer](scrutin_producer) simulates the votes of a whole election, or takes them from real results or real
//!    ballots, and appends them.
//! 4. The engine (`scrutin_engine`) counts a vote or refuses it. It is pure: records in, changes out.
//! 5. The [store](scrutin_store) commits tallies, rejections, the poll book and the position in one transaction of PostgreSQL, which
//!    [`scrutin_postgres`] finds on this machine and runs if none is given.
//! 6. The [pipeline](scrutin_pipeline) reads the log, lets the engine count, and commits.
//! 7. `scrutin_spark` has Apache Spark count the same log, as a second count under a name of its own; `scrutin_spark_connect`
//!    is its client.
//! 8. The [page](scrutin_page) shows the views to all who look, live.
//! 9. The [audit](scrutin_audit) counts the log again, with code of its own, and compares every row.
//!
//! Around it, [`cli`] is the command line, [`config`] its settings, and [`scrutin_telemetry`] says how all of it is doing.

pub mod cli;
pub mod config;
