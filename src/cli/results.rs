//! `scrutin results`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::Value;
use tokio_postgres::Client;

use super::UsageError;
use super::open::Store;
use super::table::{Format, Rows, grouped, print};
use crate::config::Settings;
use crate::store::{Role, migrate};

#[derive(clap::Args)]
pub(super) struct Args {
    /// What to add up by
    #[arg(long, value_enum, default_value = "choice")]
    by: By,
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Of which election; needed where the counter counts several
    #[arg(long, value_name = "ID")]
    election: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum By {
    Choice,
    Region,
    Channel,
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

/// The election asked for, or the only one that the counter counts.
pub(super) async fn pick_election(client: &Client, counter: &str, asked: Option<&str>) -> Result<String> {
    let rows = client
        .query("SELECT election FROM turnout WHERE counter = $1 ORDER BY election", &[&counter])
        .await
        .context("read the elections")?;
    let elections: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let list = elections.join(", ");
    match (asked, elections.as_slice()) {
        (_, []) => anyhow::bail!(
            "counter `{counter}` has counted nothing yet; `scrutin count` counts, --counter names another"
        ),
        (Some(asked), _) if elections.iter().any(|election| election == asked) => Ok(asked.to_owned()),
        (Some(asked), _) => {
            Err(UsageError(format!("counter `{counter}` does not count election `{asked}`, but: {list}")).into())
        }
        (None, [one]) => Ok(one.clone()),
        (None, _) => {
            Err(UsageError(format!("counter `{counter}` counts several elections; choose with --election: {list}"))
                .into())
        }
    }
}

/// Reads the results by choice, by region and choice, or by channel.
pub(super) async fn read(client: &Client, counter: &str, election: &str, by: By) -> Result<Rows> {
    let (columns, sql): (&[&'static str], &str) = match by {
        By::Choice => (
            &["choice", "name", "votes"],
            "SELECT choice, name, votes FROM results WHERE counter = $1 AND election = $2
              ORDER BY valid DESC, CASE WHEN valid THEN -votes END, place, choice",
        ),
        By::Region => (
            &["region", "choice", "name", "votes"],
            "SELECT v.region, v.choice, v.name, v.votes FROM results_by_region v
               JOIN region r ON r.election = v.election AND r.region = v.region
              WHERE v.counter = $1 AND v.election = $2 ORDER BY r.place, v.place, v.choice",
        ),
        By::Channel => (
            &["channel", "votes"],
            "SELECT channel, votes FROM results_by_channel WHERE counter = $1 AND election = $2 ORDER BY votes DESC, channel",
        ),
    };
    let found = client.query(sql, &[&counter, &election]).await.context("read the results")?;
    let value = |row: &tokio_postgres::Row, place: usize| match columns[place] {
        "votes" => Value::from(row.get::<_, i64>(place)),
        _ => Value::from(row.get::<_, &str>(place)),
    };
    let rows = found.iter().map(|row| (0..columns.len()).map(|place| value(row, place)).collect()).collect();
    Ok(Rows { columns: columns.to_vec(), rows })
}

/// Prints the result as people read it: by choice, with shares, and the turnout.
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
    for row in found.iter().filter(|row| row.get(3)) {
        let share = row.get::<_, Option<f64>>(2).map_or(String::new(), |share| format!("{:>6.2} %", share * 100.0));
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
    let [registered, votes, valid, blank, null] = [0, 1, 2, 3, 4].map(|column| grouped(row.get(column)));
    let turnout = row.get::<_, Option<f64>>(5).map_or(String::new(), |turnout| format!(", {:.2} %", turnout * 100.0));
    print(&format!(
        "{votes} of {registered} registered have voted{turnout}: {valid} valid, {blank} blank, {null} null\n"
    ))
}
