//! `scrutin rejected`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context, Result};
use scrutin_contract::vote::Reason;
use scrutin_files::printable::is_unprintable;
use scrutin_store::{Role, migrate};
use serde_json::Value;

use super::open::Store;
use super::table::{Format, Rows, Texts, print};
use crate::config::Settings;

#[derive(clap::Args)]
pub(super) struct Args {
    /// List only votes rejected for this reason
    #[arg(long, value_name = "REASON")]
    reason: Option<Reason>,
    /// List only votes of this partition
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// List at most this many [default: 20 in a table, all in csv and json]
    #[arg(long, value_name = "N")]
    limit: Option<i64>,
    /// Output format. csv and json have the whole record; anything but printable text is in base64, in a column of its
    /// own. In csv, an apostrophe precedes text that a spreadsheet would take for a formula
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) async fn run(args: Args, settings: Settings) -> Result<ExitCode> {
    let store = Store::open_existing(&settings).await?;
    migrate::verify(&store.database).await?;
    // The reader's role may not read the evidence: it holds whole votes.
    let client = store.client(Role::Counter).await?;
    let is_known = client
        .query_opt("SELECT FROM counters WHERE counter = $1", &[&settings.counter])
        .await
        .context("read the counters")?
        .is_some();
    if !is_known {
        anyhow::bail!("there is no counter `{}`; `scrutin status` lists the counters", settings.counter);
    }
    let limit = args.limit.unwrap_or(if args.format == Format::Table { 20 } else { i64::MAX });
    let found = client
        .query(
            "SELECT partition, \"offset\", reason, rfc3339(appended_at),
                    key, value, value_bytes,
                    CASE WHEN key IS NOT NULL THEN translate(encode(key, 'base64'), E'\\n', '') END,
                    CASE WHEN value IS NOT NULL THEN translate(encode(value, 'base64'), E'\\n', '') END
               FROM rejected_vote
              WHERE counter = $1 AND ($2::text IS NULL OR reason = $2) AND ($3::int IS NULL OR partition = $3)
              ORDER BY partition, \"offset\" LIMIT $4",
            &[&settings.counter, &args.reason.map(Reason::code), &args.partition.map(|p| p as i32), &limit],
        )
        .await
        .context("read the rejected votes")?;
    let mut table = match args.format {
        Format::Table => {
            Rows { columns: vec!["partition", "offset", "reason", "appended at", "value"], rows: Vec::new() }
        }
        _ => Rows {
            columns: vec![
                "partition",
                "offset",
                "reason",
                "appended_at",
                "key",
                "key_base64",
                "value",
                "value_base64",
                "value_bytes",
            ],
            rows: Vec::new(),
        },
    };
    for row in &found {
        let (partition, offset): (i32, i64) = (row.get(0), row.get(1));
        let (reason, appended_at): (&str, &str) = (row.get(2), row.get(3));
        let (key, value): (Option<&[u8]>, Option<&[u8]>) = (row.get(4), row.get(5));
        let mut cells: Vec<Value> = vec![partition.into(), offset.into(), reason.into(), appended_at.into()];
        if args.format == Format::Table {
            cells.push(value.map_or_else(|| "(null)".to_owned(), excerpt).into());
        } else {
            cells.extend(text_or_base64(key, row.get(7)));
            cells.extend(text_or_base64(value, row.get(8)));
            cells.push(row.get::<_, Option<i64>>(6).into());
        }
        table.rows.push(cells);
    }
    table.print_of(args.format, Texts::OfVotes)?;
    if args.format == Format::Table {
        let reasons: BTreeSet<Reason> = found.iter().filter_map(|row| row.get::<_, &str>(2).parse().ok()).collect();
        for reason in reasons {
            print(&format!("\n{reason}: {}\n", reason.explanation()))?;
        }
    }
    store.close().await?;
    Ok(ExitCode::SUCCESS)
}

fn text_or_base64(bytes: Option<&[u8]>, base64: Option<String>) -> [Value; 2] {
    match bytes.map(std::str::from_utf8) {
        None => [Value::Null, Value::Null],
        Some(Ok(text)) if !text.chars().any(is_unprintable) => [text.into(), Value::Null],
        Some(_) => [Value::Null, base64.into()],
    }
}

/// The start of a record's value.
fn excerpt(bytes: &[u8]) -> String {
    const CHARS: usize = 90;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(CHARS * 4)]).into_owned();
    let shown: String = text.chars().take(CHARS).collect();
    if text.chars().count() > CHARS { shown + "…" } else { shown }
}
