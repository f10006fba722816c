//! `scrutin results`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::ValueEnum;
use scrutin_store::{Role, migrate, results};
use serde_json::Value;
use tokio_postgres::Client;

use super::UsageError;
use super::open::Store;
use super::table::{Format, Rows, grouped, percent, print, share_of};
use crate::config::Settings;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Group the results by
    #[arg(long, value_enum, default_value = "choice")]
    by: By,
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// The election; required if the counter counts several
    #[arg(long, value_name = "ID")]
    election: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum By {
    Choice,
    Region,
    Channel,
}

impl By {
    fn of_store(self) -> results::By {
        match self {
            By::Choice => results::By::Choice,
            By::Region => results::By::Region,
            By::Channel => results::By::Channel,
        }
    }
}

pub(super) async fn run(args: Args, settings: Settings) -> Result<ExitCode> {
    let store = Store::open_existing(&settings).await?;
    migrate::verify(&store.database).await?;
    let client = store.client(Role::Reader).await?;
    let election = pick_election(&client, &settings.counter, args.election.as_deref()).await?;
    match (args.by, args.format) {
        (By::Choice, Format::Table) => print_result(&client, &settings.counter, &election).await?,
        _ => read(&client, &settings.counter, &election, args.by).await?.print(args.format)?,
    }
    store.close().await?;
    Ok(ExitCode::SUCCESS)
}

/// The requested election, or the only one that the counter counts.
pub(super) async fn pick_election(client: &Client, counter: &str, asked: Option<&str>) -> Result<String> {
    let rows = client
        .query("SELECT election FROM turnout WHERE counter = $1 ORDER BY election", &[&counter])
        .await
        .context("read the elections")?;
    let elections: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let list = elections.join(", ");
    match (asked, elections.as_slice()) {
        (_, []) => anyhow::bail!(
            "counter `{counter}` has counted nothing yet; run `scrutin count`, or name another counter with --counter"
        ),
        (Some(asked), _) if elections.iter().any(|election| election == asked) => Ok(asked.to_owned()),
        (Some(asked), _) => {
            Err(UsageError(format!("counter `{counter}` does not count election `{asked}`; it counts: {list}")).into())
        }
        (None, [one]) => Ok(one.clone()),
        (None, _) => {
            Err(UsageError(format!("counter `{counter}` counts several elections; choose with --election: {list}"))
                .into())
        }
    }
}

/// Reads the results by choice, by region and choice, or by channel.
async fn read(client: &Client, counter: &str, election: &str, by: By) -> Result<Rows> {
    let by = by.of_store();
    let found = client.query(by.sql(), &[&counter, &election]).await.context("read the results")?;
    let rows: Result<_, _> = found.iter().map(|row| by.values(row)).collect();
    Ok(Rows { columns: by.columns().to_vec(), rows: rows.context("read the results")? })
}

/// The number of digits that tells the first two shares apart, unless they are equal.
fn digits(shares: &[Option<f64>]) -> usize {
    let [Some(first), Some(second), ..] = shares else { return 2 };
    (2..8).find(|digits| first == second || share_of(*first, *digits) != share_of(*second, *digits)).unwrap_or(8)
}

/// Prints the result for people: by choice, with shares, and the turnout.
pub(super) async fn print_result(client: &Client, counter: &str, election: &str) -> Result<()> {
    let found = client
        .query(
            "SELECT name, votes, share, valid FROM results WHERE counter = $1 AND election = $2
              ORDER BY valid DESC, CASE WHEN valid THEN -votes END, place, choice",
            &[&counter, &election],
        )
        .await
        .context("read the results")?;
    let mut table = Rows { columns: vec!["choice", "votes", "share"], rows: Vec::new() };
    let shares: Vec<Option<f64>> = found.iter().filter(|row| row.get(3)).map(|row| row.get(2)).collect();
    let digits = digits(&shares);
    for row in found.iter().filter(|row| row.get(3)) {
        let share =
            row.get::<_, Option<f64>>(2).map_or(String::new(), |share| format!("{:>8}", share_of(share, digits)));
        table.rows.push(vec![Value::from(row.get::<_, &str>(0)), row.get::<_, i64>(1).into(), share.into()]);
    }
    table.print(Format::Table)?;
    let row = client
        .query_one(
            "SELECT registered, votes, valid, blank, \"null\", turnout FROM turnout WHERE counter = $1 AND election = $2",
            &[&counter, &election],
        )
        .await
        .context("read the turnout")?;
    let [votes, valid, blank, null] = [1, 2, 3, 4].map(|column| grouped(row.get(column)));
    let of_registered = match row.get::<_, Option<i64>>(0) {
        Some(registered) => format!("of {} registered have voted", grouped(registered)),
        None => "have voted, of an unknown number of registered".into(),
    };
    let turnout = row.get::<_, Option<f64>>(5).map_or(String::new(), |turnout| format!(", {}", percent(turnout)));
    print(&format!("{votes} {of_registered}{turnout}: {valid} valid, {blank} blank, {null} null\n"))
}
