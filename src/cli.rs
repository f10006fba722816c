//! The command line: parses arguments, runs commands, and prints their output.
//!
//! Commands connect the parts and print; they decide nothing about votes.

mod audit;
mod count;
mod demo;
mod gaps;
mod health;
mod inspect;
mod open;
mod progress;
mod reading;
mod rejected;
mod results;
mod serve;
mod setup;
mod spark;
mod status;
mod table;
mod votes;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use scrutin_audit::AuditError;
use scrutin_files::FileError;
use scrutin_log::LogError;
use scrutin_pipeline::CountError;
use scrutin_postgres::PostgresError;
use scrutin_store::{CommitError, StoreError};

use self::open::unless_interrupted;
use self::table::say;
use crate::config::{CommonArgs, Settings};

/// Counts every vote once or rejects it with a reason, and proves it.
#[derive(Parser)]
#[command(name = "scrutin", version, after_help = AFTER_HELP, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: CommonArgs,
}

const AFTER_HELP: &str = "\
Examples:
  scrutin demo                             a million voters in five minutes, live
  scrutin demo --results FILE --speed max  official results, split into ballots and recounted
  scrutin setup && scrutin simulate && scrutin count --drain && scrutin results

Exit codes:
  0  done
  1  an audit found a difference
  2  the command line is wrong
  3  a given file or setting is wrong
  4  a dependency cannot be used: the log, PostgreSQL, Spark
  5  stopped: another counter of the same name has taken over
 70  a bug in Scrutin, reported with its location
130  interrupted; nothing is lost, run the command again to resume

A common option can also be set in the environment (SCRUTIN_DATA_DIR=… for --data-dir) or in
scrutin.toml (data-dir = \"…\"). A flag overrides the environment, which overrides the file.";

#[derive(Subcommand)]
enum Command {
    /// Run everything in one process, with a live page: start here
    Demo(Box<demo::Args>),
    /// Prepare the database and the log, and load an election
    Setup(setup::Args),
    /// Write simulated votes into the log, including some that must be rejected
    Simulate(votes::SimulateArgs),
    /// Write real results or real ballots into the log, as votes
    Replay(votes::ReplayArgs),
    /// Show how a file of results or ballots will be read, and what looks wrong, before anything is counted
    Inspect(inspect::Args),
    /// List the layouts, which describe how publishers write their files
    Layouts(inspect::LayoutsArgs),
    /// Count the votes in the log
    Count(count::Args),
    /// Serve the page, the API and the metrics
    Serve,
    /// Print the results
    Results(results::Args),
    /// Show how far each count is, and whether everything adds up
    Status,
    /// Recount the log with independent code and compare with the tables
    Audit(audit::Args),
    /// List or export the rejected votes
    Rejected(rejected::Args),
    /// List the log offsets without a record, which Kafka's transactions leave behind
    Gaps(gaps::Args),
    /// Ask the page on this machine whether everything it needs is available; exit 4 if not
    Health(health::Args),
}

/// An error in the command line that clap cannot detect.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Exit code for a bug: `EX_SOFTWARE` in `sysexits.h`.
const PANICKED: i32 = 70;

/// Ends the process on a panic in any thread: the state of the other threads may be half-finished, and must not be used.
/// No votes are lost; the log has them all.
pub fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        say("scrutin: this is a bug; no partial work was committed, run the command again to resume");
        #[expect(clippy::disallowed_methods, reason = "no destructor may run on half-finished state")]
        std::process::exit(PANICKED);
    }));
}

/// Runs the program.
pub fn main() -> ExitCode {
    end_on_panic();
    let cli = Cli::parse();
    let settings = match Settings::resolve(cli.common) {
        Ok(settings) => settings,
        Err(error) => return fail(&error.into()),
    };
    scrutin_telemetry::init_log(settings.log_level);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("start the runtime")),
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => demo::run(*args, settings).await,
            Command::Setup(args) => unless_interrupted(setup::run(args, settings)).await,
            Command::Simulate(args) => votes::simulate(args, settings).await,
            Command::Replay(args) => votes::replay(args, settings).await,
            Command::Inspect(args) => inspect::run(&args),
            Command::Layouts(args) => inspect::layouts(&args),
            Command::Count(args) => count::run(args, settings).await,
            Command::Serve => serve::run(settings).await,
            Command::Results(args) => unless_interrupted(results::run(args, settings)).await,
            Command::Audit(args) => unless_interrupted(audit::run(args, settings)).await,
            Command::Rejected(args) => unless_interrupted(rejected::run(args, settings)).await,
            Command::Gaps(args) => unless_interrupted(gaps::run(args, settings)).await,
            Command::Health(args) => health::run(args, settings).await,
            Command::Status => unless_interrupted(status::run(settings)).await,
        }
    });
    // Do not wait for an interrupted recount.
    runtime.shutdown_timeout(Duration::ZERO);
    match done {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

/// Reports an error to the user. Every command's errors end up here.
fn fail(error: &anyhow::Error) -> ExitCode {
    say(&format!("scrutin: {}", render_error(error)));
    ExitCode::from(exit_code(error))
}

/// An error and its causes, in one line. Our own errors already include their cause, so the chain ends there.
fn render_error(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        let is_ours = cause.is::<FileError>()
            || cause.is::<LogError>()
            || cause.is::<StoreError>()
            || cause.is::<PostgresError>()
            || cause.is::<CommitError>()
            || cause.is::<CountError>()
            || cause.is::<AuditError>();
        if is_ours {
            break;
        }
    }
    text
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let superseded = |error: &CountError| matches!(error, CountError::Commit(CommitError::Superseded { .. }));
    if error.downcast_ref::<UsageError>().is_some() {
        2
    } else if error.downcast_ref::<FileError>().is_some() || matches!(error.downcast_ref(), Some(StoreError::Url(_))) {
        3
    } else if error.downcast_ref::<CountError>().is_some_and(superseded) {
        5
    } else {
        4
    }
}
