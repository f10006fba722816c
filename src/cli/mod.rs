//! The command line: what the user says, and what the user is told.
//!
//! Commands put the parts together and print; they decide nothing about a vote.

mod audit;
mod count;
mod demo;
mod open;
mod progress;
mod rejected;
mod results;
mod serve;
mod setup;
mod status;
mod table;
mod votes;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{CommonArgs, Settings};
use crate::csv_file::FileError;
use crate::pipeline::CountError;
use crate::store::commit::CommitError;

/// Counts every vote once, or says why not, and proves it.
#[derive(Parser)]
#[command(name = "scrutin", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: CommonArgs,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  an audit found a difference
  2  the command line is wrong
  3  a file or setting given is wrong
  4  the log, PostgreSQL or something else needed cannot be used
  5  stopped: another counter of the same name has counted on

Common options can be set in the environment (SCRUTIN_DATA_DIR, …) or in scrutin.toml (data-dir = \"…\").";

#[derive(Subcommand)]
enum Command {
    /// Run everything in one process: votes, log, count, PostgreSQL, page, audit
    Demo(demo::Args),
    /// Make database, roles and log ready, and load an election
    Setup(setup::Args),
    /// Generate votes into the log
    Simulate(votes::SimulateArgs),
    /// Put real results or real ballots into the log, as votes
    Replay(votes::ReplayArgs),
    /// Count the votes in the log
    Count(count::Args),
    /// Serve the page and the API
    Serve,
    /// Print the results
    Results(results::Args),
    /// Recount from the log with independent code, and compare
    Audit(audit::Args),
    /// List or export the refused votes that were kept as evidence
    Rejected(rejected::Args),
    /// Show positions, lag, throughput and whether all adds up
    Status,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let settings = match Settings::resolve(cli.common) {
        Ok(settings) => settings,
        Err(error) => return fail(&error.into()),
    };
    crate::telemetry::init_log(settings.log_level);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("start the runtime")),
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => demo::run(args, settings).await,
            Command::Setup(args) => setup::run(args, settings).await,
            Command::Simulate(args) => votes::simulate(args, settings).await,
            Command::Replay(args) => votes::replay(args, settings).await,
            Command::Count(args) => count::run(args, settings).await,
            Command::Serve => serve::run(settings).await,
            Command::Results(args) => results::run(args, settings).await,
            Command::Audit(args) => audit::run(args, settings).await,
            Command::Rejected(args) => rejected::run(args, settings).await,
            Command::Status => status::run(settings).await,
        }
    });
    match done {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

/// The one place that tells the user what went wrong.
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("scrutin: {error:#}");
    ExitCode::from(exit_code(error))
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let superseded = |error: &CountError| matches!(error, CountError::Commit(CommitError::Superseded { .. }));
    if error.downcast_ref::<FileError>().is_some() {
        3
    } else if error.downcast_ref::<CountError>().is_some_and(superseded) {
        5
    } else {
        4
    }
}
