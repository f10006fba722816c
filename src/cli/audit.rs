//! `scrutin audit`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use scrutin_audit::{self as audit, AuditReport, TruthScore};
use scrutin_contract::truth::Truth;
use scrutin_log::VoteLog;
use scrutin_store::{Database, migrate};

use super::open::{Store, open_existing_log};
use super::table::{grouped, print};
use crate::config::Settings;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Also compare the tables with the truth written by a simulation or a replay
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
}

pub(super) async fn run(args: Args, settings: Settings) -> Result<ExitCode> {
    let log = open_existing_log(&settings).await?;
    let truth = args.truth.map(|path| Truth::read(&path)).transpose()?;
    let store = Store::open_existing(&settings).await?;
    migrate::verify(&store.database).await?;
    let report = recount(log, store.database.clone(), settings.counter, truth).await?;
    print(&format!("{report}\n"))?;
    store.close().await?;
    Ok(verdict(&report))
}

/// Audits on a blocking thread and shows its progress.
pub(super) async fn recount(
    log: Arc<dyn VoteLog>,
    database: Database,
    counter: String,
    truth: Option<Truth>,
) -> Result<AuditReport> {
    let audit = move || audit::run(&*log, &database, &counter, truth.as_ref(), &show_progress);
    let report = tokio::task::spawn_blocking(audit).await.context("audit")?;
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        eprint!("\r\x1b[2K");
    }
    Ok(report?)
}

fn show_progress(done: u64, total: u64) {
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        eprint!("\r\x1b[2Krecounting {} of {} votes", grouped(done as i64), grouped(total as i64));
    }
}

/// An audit is not clean if the truth could not be scored because not all its records were counted.
pub(super) fn verdict(report: &AuditReport) -> ExitCode {
    let incomplete = matches!(report.truth, Some(TruthScore::Incomplete { .. }));
    if report.is_clean() && !incomplete { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
