//! `scrutin setup`.

use std::process::ExitCode;

use anyhow::Result;

use super::open::{Store, open_log};
use super::table::{grouped, print};
use super::votes::DayArgs;
use crate::config::Settings;
use crate::election::Election;
use crate::store::{Role, elections, migrate, resume};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Folder with election.toml, regions.csv and choices.csv [default: the built-in presidential election]
    #[arg(long, value_name = "DIR")]
    election: Option<std::path::PathBuf>,
    /// Scale the registered voters to so many in all
    #[arg(long, value_name = "N")]
    voters: Option<u64>,
    #[command(flatten)]
    day: DayArgs,
    /// Make database, roles and log ready, but load no election
    #[arg(long, conflicts_with_all = ["election", "voters", "day", "opens_at"])]
    no_election: bool,
}

/// Can be run again at any time: it changes only what is not as asked for.
pub(super) async fn run(args: Args, settings: Settings) -> Result<ExitCode> {
    // What is wrong with the folder is said before anything is made.
    let election = match args.no_election {
        true => None,
        false => Some(election(&args)?),
    };
    let log = open_log(&settings).await?;
    let store = Store::open(&settings).await?;
    migrate::setup(&store.database).await?;
    let mut owner = store.client(Role::Owner).await?;
    resume::check_partitions(&owner, &*log).await?;
    print(&format!("log         {}, {} partitions\n", log.name(), log.partitions()))?;
    print(&format!("postgresql  {}, schema and roles are ready\n", store.database.name()))?;
    if let Some(command) = store.psql_command() {
        print(&format!("            {command}\n"))?;
    }
    if let Some(election) = election {
        elections::save(&mut owner, &election).await?;
        print(&format!(
            "election    {}: {}, {} regions, {} registered\n",
            election.id,
            election.title,
            election.regions.len(),
            grouped(election.registered() as i64)
        ))?;
    }
    drop(owner);
    store.close().await?;
    Ok(ExitCode::SUCCESS)
}

fn election(args: &Args) -> Result<Election> {
    let mut election = super::votes::base_election(args.election.as_deref(), args.voters)?;
    if let Some(day) = args.day.day(election.closes_at_ms - election.opens_at_ms) {
        day.put_into(&mut election);
    }
    Ok(election)
}
