//! `scrutin gaps`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use scrutin_audit as audit;

use super::open::open_existing_log;
use super::table::{Format, Rows};
use crate::config::Settings;

#[derive(clap::Args)]
pub(super) struct Args {
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) async fn run(args: Args, settings: Settings) -> Result<ExitCode> {
    let log = open_existing_log(&settings).await?;
    let read = move || {
        let mut table = Rows { columns: vec!["partition", "first_offset", "last_offset", "offsets"], rows: Vec::new() };
        audit::gaps(&*log, &mut |gap| {
            let offsets = gap.last_offset - gap.first_offset + 1;
            table.rows.push(vec![
                gap.partition.into(),
                gap.first_offset.into(),
                gap.last_offset.into(),
                offsets.into(),
            ]);
        })?;
        Ok::<_, anyhow::Error>(table)
    };
    let table = tokio::task::spawn_blocking(read).await.context("read the log")??;
    table.print(args.format)?;
    Ok(ExitCode::SUCCESS)
}
