//! `scrutin status`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use scrutin_files::printable::escaped;
use scrutin_log::VoteLog;
use scrutin_pipeline::held_back;
use scrutin_store::{Role, StoreError, migrate};
use serde_json::Value;
use tokio_postgres::Client;

use super::open::{Store, open_existing_log};
use super::render_error;
use super::table::{Format, Rows, grouped, print, so_many};
use crate::config::Settings;

/// Prints the status; exits with 1 if a count does not add up, or does not match the log as it is now.
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
        Err(error) => return waiting(error),
    };
    let client = match store.client(Role::Reader).await {
        Ok(client) => client,
        Err(error) => return waiting(error),
    };
    migrate::verify(&store.database).await?;
    print(&format!("postgresql  {}\n", store.database.name()))?;
    let mut is_sound = true;
    for (counter, counted_log) in counters(&client).await? {
        // The end offsets of another log say nothing about its lag.
        let log = (counted_log == log.id()).then_some(&*log);
        is_sound &= print_counter(&client, log, &counter).await?;
    }
    is_sound &= print_agreement(&client).await?;
    drop(client);
    store.close().await?;
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Reports an outage that a count would wait for. Other errors, such as a wrong password, are returned.
fn waiting(error: anyhow::Error) -> Result<ExitCode> {
    if !error.downcast_ref::<StoreError>().is_some_and(StoreError::is_transient) {
        return Err(error);
    }
    print(&format!(
        "postgresql  {}\n            the count waits for it; the votes are safe in the log\n",
        render_error(&error)
    ))?;
    Ok(ExitCode::from(4))
}

/// The counters, each with the id of the log it counts.
async fn counters(client: &Client) -> Result<Vec<(String, String)>> {
    let sql = "SELECT counter, log FROM accounting JOIN counters USING (counter) ORDER BY counter";
    let rows = client.query(sql, &[]).await.context("read the counters")?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Prints a counter; returns whether its figures add up and match the log. `log` is none if the counter counts another
/// log.
async fn print_counter(client: &Client, log: Option<&dyn VoteLog>, counter: &str) -> Result<bool> {
    let row = client
        .query_one("SELECT received, counted, rejected, holds FROM accounting WHERE counter = $1", &[&counter])
        .await
        .context("read the accounting")?;
    let [received, counted, rejected] = [0, 1, 2].map(|column| grouped(row.get(column)));
    let positions = positions(client, log, counter).await?;
    let mut faults: Vec<String> = positions.iter().filter_map(|position| position.fault(log)).collect();
    if let Some(log) = log {
        let missing = (0..log.partitions() as i32)
            .filter(|number| positions.iter().all(|position| position.partition != *number));
        faults.extend(missing.map(|number| format!("partition {number} has no position")));
    }
    let adds_up: bool = row.get(3);
    let verdict = match (adds_up, faults.is_empty()) {
        (false, _) => "DOES NOT ADD UP; run `scrutin audit`",
        (true, false) => "adds up, but DOES NOT MATCH THIS LOG as it is now",
        (true, true) => "all adds up",
    };
    print(&format!(
        "\ncounter     {counter}: received {received} = counted {counted} + rejected {rejected}: {verdict}\n"
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

    for fault in &faults {
        print(&format!("            {fault}\n"))?;
    }
    print_over_registered(client, counter).await?;
    if log.is_none() {
        print("            it counts another log; these are the last end offsets it recorded there\n")?;
    }
    let mut table =
        Rows { columns: vec!["partition", "position", "end of log", "lag", "last commit"], rows: Vec::new() };
    let mut held = Vec::new();
    for position in positions {
        if let (Some(log), Some(offset)) = (log, position.held_back) {
            held.push(held_back::describe(log, position.partition.unsigned_abs(), offset));
        }
        table.rows.push(vec![
            position.partition.into(),
            position.next_offset.into(),
            position.end_offset.into(),
            (position.end_offset - position.next_offset).into(),
            Value::from(position.updated_at),
        ]);
    }
    table.print(Format::Table)?;
    for held in held {
        print(&format!("waits       {held}\n"))?;
    }
    Ok(adds_up && faults.is_empty())
}

/// How many regions a warning names.
const REGIONS_NAMED: i64 = 5;

/// Warns about regions with more votes than registered voters: one of the two figures must be wrong.
async fn print_over_registered(client: &Client, counter: &str) -> Result<()> {
    let sql = "SELECT region_name, votes, registered, count(*) OVER () FROM over_registered
                WHERE counter = $1 ORDER BY votes - registered DESC, region LIMIT $2";
    let rows = client.query(sql, &[&counter, &REGIONS_NAMED]).await.context("read who is registered")?;
    let Some(first) = rows.first() else { return Ok(()) };
    let regions: i64 = first.get(3);
    print(&format!("WARNING     more votes than registered voters in {}\n", so_many(regions as usize, "region")))?;
    for row in &rows {
        let (name, votes, registered): (&str, i64, i64) = (row.get(0), row.get(1), row.get(2));
        print(&format!(
            "            {}: {} votes, {} registered\n",
            escaped(name),
            grouped(votes),
            grouped(registered)
        ))?;
    }
    Ok(())
}

/// A counter's position in a partition.
struct Position {
    partition: i32,
    first_offset: i64,
    next_offset: i64,
    /// From the log itself, so that a stopped counter cannot hide its lag; for another log, the last one recorded.
    end_offset: i64,
    /// The log's first offset, if it is the counter's log.
    log_start: Option<i64>,
    /// The offset from which an open transaction holds votes back.
    held_back: Option<u64>,
    updated_at: String,
}

impl Position {
    /// Why this cannot be a position in the log.
    fn fault(&self, log: Option<&dyn VoteLog>) -> Option<String> {
        let Position { partition, first_offset, next_offset, end_offset, .. } = self;
        let log = log?;
        if *partition < 0 || *partition >= log.partitions() as i32 {
            Some(format!("partition {partition} is counted, but the log has only {} partitions", log.partitions()))
        } else if next_offset > end_offset {
            Some(format!(
                "partition {partition} is counted up to {next_offset}, but ends at {end_offset}: votes were lost"
            ))
        } else if self.log_start.is_some_and(|start| *first_offset > start) {
            Some(format!("partition {partition} is counted from {first_offset}, but has earlier votes"))
        } else {
            None
        }
    }
}

async fn positions(client: &Client, log: Option<&dyn VoteLog>, counter: &str) -> Result<Vec<Position>> {
    let sql = "SELECT partition, a.first_offset, next_offset, end_offset, rfc3339(lag.updated_at)
                 FROM lag JOIN accounting_by_partition a USING (counter, partition, next_offset)
                WHERE counter = $1 ORDER BY partition";
    let rows = client.query(sql, &[&counter]).await.context("read the positions")?;
    let mut positions = Vec::with_capacity(rows.len());
    for row in rows {
        let (partition, next_offset): (i32, i64) = (row.get(0), row.get(2));
        let (mut end_offset, mut log_start, mut held_back) = (row.get(3), None, None);
        if let Some(log) = log.filter(|log| partition >= 0 && partition < log.partitions() as i32) {
            log.recover(partition as u32, next_offset.max(0) as u64)?;
            let offsets = log.offsets(partition as u32)?;
            (end_offset, log_start) = (offsets.end as i64, Some(offsets.start as i64));
            held_back = log.held_back(partition as u32)?;
        }
        positions.push(Position {
            partition,
            first_offset: row.get(1),
            next_offset,
            end_offset,
            log_start,
            held_back,
            updated_at: row.get(4),
        });
    }
    Ok(positions)
}

/// Prints how counters compare; returns whether no two of them differ.
async fn print_agreement(client: &Client) -> Result<bool> {
    let rows = client
        .query(
            "SELECT counter, other, verdict, partitions_apart, votes_apart, timeline_apart, rejections_apart
               FROM comparison WHERE verdict <> 'not comparable' ORDER BY 1, 2",
            &[],
        )
        .await
        .context("read the agreement")?;
    let mut is_alike = true;
    for row in rows {
        let (counter, other): (&str, &str) = (row.get(0), row.get(1));
        let [partitions, votes, timeline, rejections]: [i64; 4] = [row.get(3), row.get(4), row.get(5), row.get(6)];
        is_alike &= row.get::<_, &str>(2) != "differ";
        let verdict = match row.get(2) {
            "agree" => "agree in every row".to_owned(),
            "differ" => format!(
                "DIFFER by {} votes in the tally, {} in the timeline, {} rejections; {}",
                grouped(votes),
                grouped(timeline),
                grouped(rejections),
                first_difference(client, counter, other).await?
            ),
            _ => format!("one is still catching up in {partitions} partitions"),
        };
        print(&format!("\nagreement   {counter} and {other}: {verdict}\n"))?;
    }
    Ok(is_alike)
}

async fn first_difference(client: &Client, counter: &str, other: &str) -> Result<String> {
    let sql = "SELECT kind, key, votes, other_votes FROM disagreement WHERE counter = $1 AND other = $2 ORDER BY kind, key LIMIT 1";
    let row = client.query_opt(sql, &[&counter, &other]).await.context("read the differences")?;
    Ok(row.map_or_else(String::new, |row| {
        let (kind, key, votes, other_votes): (&str, &str, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
        format!("as {kind} {key}: {} and {}", grouped(votes), grouped(other_votes))
    }))
}
