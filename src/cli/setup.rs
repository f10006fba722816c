//! `scrutin setup`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use scrutin_contract::election::Election;
use scrutin_files::printable::escaped;
use scrutin_producer::replay::layout::Kind;
use scrutin_store::{Role, counters, elections, migrate};

use super::UsageError;
use super::open::{Store, open_log};
use super::reading::ReadingArgs;
use super::table::{print, registered, so_many};
use super::votes::{DayArgs, Source};
use crate::config::{Settings, read_secret};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Folder with election.toml, regions.csv and choices.csv [default: what is already loaded, else the built-in
    /// presidential election]
    #[arg(long, value_name = "DIR")]
    election: Option<PathBuf>,
    /// File of real results to load the election from; `replay results` with the same file casts its votes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["election", "voters"])]
    results: Option<PathBuf>,
    #[command(flatten)]
    reading: Box<ReadingArgs>,
    /// Scale the registered voters to this total
    #[arg(long, value_name = "N")]
    voters: Option<u64>,
    #[command(flatten)]
    day: DayArgs,
    /// Keep an election that is already loaded as it is, with its day
    #[arg(long)]
    keep_election: bool,
    /// Prepare database, roles and log, but load no election
    #[arg(long, conflicts_with_all = ["election", "results", "voters", "day", "opens_at", "keep_election"])]
    no_election: bool,
    /// Let the role scrutin_counter, which may count, log in with the password in this file
    #[arg(long, env = "SCRUTIN_COUNTER_PASSWORD_FILE", hide_env = true, value_name = "FILE")]
    counter_password_file: Option<PathBuf>,
    /// Let the role scrutin_reader, which may read the views and nothing else, log in with the password in this file
    #[arg(long, env = "SCRUTIN_READER_PASSWORD_FILE", hide_env = true, value_name = "FILE")]
    reader_password_file: Option<PathBuf>,
    /// Let the role scrutin_witness, which may read the views and record the end offsets of the log, log in with the
    /// password in this file; meant for the page's server
    #[arg(long, env = "SCRUTIN_WITNESS_PASSWORD_FILE", hide_env = true, value_name = "FILE")]
    witness_password_file: Option<PathBuf>,
    /// Let the role scrutin_auditor, which may read the whole count and record what an audit found, log in with the
    /// password in this file
    #[arg(long, env = "SCRUTIN_AUDITOR_PASSWORD_FILE", hide_env = true, value_name = "FILE")]
    auditor_password_file: Option<PathBuf>,
}

impl Args {
    /// Whether the options ask for an election; otherwise one that is already loaded is kept.
    fn names_election(&self) -> bool {
        let DayArgs { day, opens_at } = &self.day;
        self.election.is_some()
            || self.results.is_some()
            || self.voters.is_some()
            || day.is_some()
            || opens_at.is_some()
    }
}

/// Can be run again at any time: it changes only what differs from the options.
pub(super) async fn run(args: Args, settings: Settings) -> Result<ExitCode> {
    // Report errors in the folder before creating anything.
    let asked = match args.no_election {
        true => None,
        false => Some(election(&args, &settings.data_dir)?),
    };
    let files = [
        (Role::Counter, &args.counter_password_file),
        (Role::Reader, &args.reader_password_file),
        (Role::Witness, &args.witness_password_file),
        (Role::Auditor, &args.auditor_password_file),
    ];
    let mut passwords = Vec::new();
    for (role, file) in files {
        if let Some(file) = file {
            passwords.push((role, read_secret(file)?));
        }
    }
    let log = open_log(&settings).await?;
    let store = Store::open(&settings).await?;
    migrate::setup(&store.database).await?;
    for (role, password) in &passwords {
        migrate::let_log_in(&store.database, *role, password).await?;
    }
    let mut owner = store.client(Role::Owner).await?;
    counters::check_partitions(&owner, &scrutin_pipeline::counted_log(&*log)).await?;
    print(&format!("log         {}, {} partitions\n", log.name(), log.partitions()))?;
    print(&format!("postgresql  {}, schema and roles are ready\n", store.database.name()))?;
    if let Some(command) = store.psql_command() {
        print(&format!("            {command}\n"))?;
    }
    if let Some(asked) = asked {
        let known = elections::load_all(&owner).await?;
        let shown = match known.iter().find(|known| known.id == asked.id) {
            Some(known) if args.keep_election => vec![known.clone()],
            _ if !known.is_empty() && !args.names_election() => known,
            _ => {
                elections::save(&mut owner, &asked).await?;
                vec![asked]
            }
        };
        for election in shown {
            print(&format!(
                "election    {}: {}, {}, {}\n",
                election.id,
                escaped(&election.title),
                so_many(election.regions.len(), "region"),
                registered(&election)
            ))?;
        }
    }
    drop(owner);
    store.close().await?;
    Ok(ExitCode::SUCCESS)
}

fn election(args: &Args, data_dir: &Path) -> Result<Election> {
    if let Some(file) = &args.results {
        let layout = Box::new(args.reading.layout(Kind::Results)?);
        let source = Source::Results { file: file.clone(), layout };
        // The seed does not affect the election.
        return Ok(source.open(1, &args.day.of_replay(), data_dir)?.0.election().clone());
    }
    if args.reading.is_given() {
        let what = "options for reading a file (--layout, --region-column and so on) need --results";
        return Err(UsageError(what.into()).into());
    }
    let mut election = super::votes::base_election(args.election.as_deref(), args.voters)?;
    if let Some(day) = args.day.day(election.closes_at_ms - election.opens_at_ms) {
        day.put_into(&mut election);
    }
    Ok(election)
}
