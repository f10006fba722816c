//! Scrutin counts votes as they are cast: every vote once, or refused with a reason.
//!
//! The life of a vote, and where to read on:
//!
//! 1. An [`election`] says who may be voted for, where and when; a [`table`] reads its files, whoever wrote them, and a
//!    [`csv_file::FileError`] says what is wrong with them; [`csv_file`] writes CSV.
//! 2. A [`vote`] is a JSON message. [`simulate`] makes those of a whole election; [`replay`] makes them from real
//!    results or real ballots.
//! 3. It is appended to the [`log`], a topic of Kafka or a folder, in the partition of its voter, and stays there: the log
//!    is the truth.
//! 4. The [`engine`] counts it or refuses it. It is pure: records in, changes out.
//! 5. The [`pipeline`] reads the log, lets the engine count, and commits.
//! 6. The [`store`] commits tallies, refusals, the roll and the position in one transaction of PostgreSQL, which
//!    [`postgres`] finds on this machine and runs if none is given.
//! 7. [`spark`] has Apache Spark count the same log, as a second count under a name of its own.
//! 8. The [`page`] shows the views to all who look, live.
//! 9. The [`audit`] counts the log again, with code of its own, and compares every row.
//!
//! Around it: [`cli`] is the command line, [`config`] its settings, [`telemetry`] says how all of it is doing; [`printable`]
//! keeps names from being obeyed by terminals, and [`private`] files from being read by others.

pub mod audit;
pub mod cli;
pub mod config;
pub mod csv_file;
pub mod election;
pub mod engine;
pub mod log;
pub mod page;
pub mod pipeline;
pub mod postgres;
pub mod printable;
pub mod private;
pub mod replay;
pub mod simulate;
pub mod spark;
pub mod store;
pub mod table;
pub mod telemetry;
pub mod vote;
