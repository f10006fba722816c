//! `scrutin status`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio_postgres::Client;

use super::open::{Store, open_existing_log};
use super::table::{Format, Rows, grouped, print};
use super::told;
use crate::config::Settings;
use crate::log::VoteLog;
use crate::store::{Role, migrate};

pub(super) async fn run(settings: Settings) -> Result<ExitCode> {
    let log = open_existing_log(&settings).await?;
    let mut votes = 0;
    for partition in 0..log.partitions() {
        let offsets = log.offsets(partition)?;
        votes += offsets.end - offsets.start;
    }
    print(&format!("log         {}: {} partitions, {} votes\n", log.name(), log.partitions(), grouped(votes as i64)))?;

    let store = match Store::open_existing(&settings).await {
        Ok(store) => store,
        Err(error) => return waiting(&error),
    };
    let client = match store.client(Role::Reader).await {
        Ok(client) => client,
        Err(error) => return waiting(&error),
    };
    migrate::verify(&store.database).await?;
    print(&format!("postgresql  {}\n", store.database.name()))?;
    for (counter, counted_log) in counters(&client).await? {
        // The end of another log says nothing of its lag.
        let log = (counted_log == log.id()).then_some(&*log);
        print_counter(&client, log, &counter).await?;
    }
    print_agreement(&client).await?;
    drop(client);
    store.close().await?;
    Ok(ExitCode::SUCCESS)
}

fn waiting(error: &anyhow::Error) -> Result<ExitCode> {
    print(&format!(
        "postgresql  {}\n            the count waits for it; the votes are safe in the log\n",
        told(error)
    ))?;
    Ok(ExitCode::from(4))
}

/// The counters, each with the id of the log that it counts.
async fn counters(client: &Client) -> Result<Vec<(String, String)>> {
    let sql = "SELECT counter, log FROM accounting JOIN counters USING (counter) ORDER BY counter";
    let rows = client.query(sql, &[]).await.context("read the counters")?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// `log`: none if the counter counts another one than is looked at.
async fn print_counter(client: &Client, log: Option<&dyn VoteLog>, counter: &str) -> Result<()> {
    let row = client
        .query_one("SELECT received, counted, rejected, holds FROM accounting WHERE counter = $1", &[&counter])
        .await
        .context("read the accounting")?;
    let [received, counted, rejected] = [0, 1, 2].map(|column| grouped(row.get(column)));
    let verdict = if row.get(3) { "all adds up" } else { "DOES NOT ADD UP; run `scrutin audit`" };
    print(&format!(
        "\ncounter     {counter}: received {received} = counted {counted} + refused {rejected}: {verdict}\n"
    ))?;

    let recent = client
        .query_one(
            "SELECT coalesce(sum(received), 0)::bigint, max(latency_ms_p99)
               FROM throughput WHERE counter = $1 AND second > now() - interval '10 seconds'",
            &[&counter],
        )
        .await
        .context("read the throughput")?;
    let latency =
        recent.get::<_, Option<f64>>(1).map_or(String::new(), |ms| format!(", append to visible p99 {ms:.0} ms"));
    print(&format!("last 10 s   {} votes/s{latency}\n", grouped(recent.get::<_, i64>(0) / 10)))?;

    let rows = client
        .query(
            "SELECT partition, next_offset, end_offset, rfc3339(updated_at) FROM lag WHERE counter = $1 ORDER BY partition",
            &[&counter],
        )
        .await
        .context("read the positions")?;
    if log.is_none() {
        print("            it counts another log; the end is where it saw that one last\n")?;
    }
    let mut table =
        Rows { columns: vec!["partition", "position", "end of log", "lag", "last commit"], rows: Vec::new() };
    for row in rows {
        let (partition, position, last_seen): (i32, i64, i64) = (row.get(0), row.get(1), row.get(2));
        // The end of the log is read from the log: a counter that has stopped cannot hide its lag.
        let end = match log {
            Some(log) => log.offsets(partition as u32)?.end as i64,
            None => last_seen,
        };
        let updated: &str = row.get(3);
        table.rows.push(vec![
            partition.into(),
            position.into(),
            end.into(),
            (end - position).into(),
            Value::from(updated),
        ]);
    }
    table.print(Format::Table)
}

async fn print_agreement(client: &Client) -> Result<()> {
    let rows = client
        .query(
            "SELECT counter, other, verdict, partitions_apart, votes_apart, timeline_apart, refusals_apart
               FROM comparison WHERE verdict <> 'not comparable' ORDER BY 1, 2",
            &[],
        )
        .await
        .context("read the agreement")?;
    for row in rows {
        let (counter, other): (&str, &str) = (row.get(0), row.get(1));
        let [partitions, votes, timeline, refusals]: [i64; 4] = [row.get(3), row.get(4), row.get(5), row.get(6)];
        let verdict = match row.get(2) {
            "agree" => "agree in every row".to_owned(),
            "differ" => format!(
                "DIFFER by {} votes in the tally, {} in the timeline, {} refusals; {}",
                grouped(votes),
                grouped(timeline),
                grouped(refusals),
                first_difference(client, counter, other).await?
            ),
            _ => format!("one is still catching up in {partitions} partitions"),
        };
        print(&format!("\nagreement   {counter} and {other}: {verdict}\n"))?;
    }
    Ok(())
}

async fn first_difference(client: &Client, counter: &str, other: &str) -> Result<String> {
    let sql = "SELECT kind, key, votes, other_votes FROM disagreement WHERE counter = $1 AND other = $2 ORDER BY kind, key LIMIT 1";
    let row = client.query_opt(sql, &[&counter, &other]).await.context("read the differences")?;
    Ok(row.map_or_else(String::new, |row| {
        let (kind, key, votes, other_votes): (&str, &str, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
        format!("as {kind} {key}: {} and {}", grouped(votes), grouped(other_votes))
    }))
}
