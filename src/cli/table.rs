//! Output for people and programs, as a table, CSV or JSON. Everything for a terminal goes through here, so that control
//! characters are escaped.

use std::io::Write;

use anyhow::{Context, Result};
use clap::ValueEnum;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use scrutin_contract::election::Election;
use scrutin_files::csv_text::{CsvText, text_of};
use scrutin_files::printable::{escaped, escaped_lines, is_unprintable};
use serde_json::{Map, Value};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Csv,
    Json,
}

/// Columns and rows to print. Numbers stay numbers in JSON.
pub(super) struct Rows {
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<Value>>,
}

/// The source of the texts in rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Texts {
    /// The election's files, or the program itself.
    Ours,
    /// Votes, which anyone may write.
    OfVotes,
}

/// Only a line under the header: easy to read and to copy.
const PLAIN: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// The number of registered voters, in words.
pub(super) fn registered(election: &Election) -> String {
    match election.registered() {
        Some(registered) => format!("{} registered", grouped(registered as i64)),
        None => "number of registered unknown".into(),
    }
}

/// A number with its noun: `1 region`, `2 regions`.
pub(super) fn so_many(number: usize, what: &str) -> String {
    format!("{} {what}{}", grouped(number as i64), if number == 1 { "" } else { "s" })
}

/// A share in percent. `100.00 %` is only shown for exactly all.
pub(super) fn percent(share: f64) -> String {
    share_of(share, 2)
}

/// [`percent`] with a given number of digits.
pub(super) fn share_of(share: f64, digits: usize) -> String {
    let step = 10_f64.powi(-(digits as i32));
    let rounded = (share * 100.0 / step).round() * step;
    let shown = match share {
        _ if share < 1.0 => rounded.min(100.0 - step),
        _ if share > 1.0 => rounded.max(100.0 + step),
        _ => rounded,
    };
    format!("{shown:.digits$} %")
}

impl Rows {
    pub fn print(&self, format: Format) -> Result<()> {
        self.print_of(format, Texts::Ours)
    }

    pub fn print_of(&self, format: Format, texts: Texts) -> Result<()> {
        match format {
            Format::Table => print(&(self.table().to_string() + "\n")),
            Format::Csv => write_out(&self.csv(texts)?),
            Format::Json => write_out(&(self.json()? + "\n")),
        }
    }

    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(PLAIN);
        table.set_header(&self.columns);
        for row in &self.rows {
            table.add_row(row.iter().map(|value| match value {
                Value::Number(number) => number.as_i64().map_or_else(|| number.to_string(), grouped),
                other => escaped(&text_of(other)).into_owned(),
            }));
        }
        for (place, value) in self.rows.first().into_iter().flatten().enumerate() {
            if let (Value::Number(_), Some(column)) = (value, table.column_mut(place)) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    fn csv(&self, texts: Texts) -> Result<String> {
        let mut text = match texts {
            Texts::Ours => CsvText::new(&self.columns)?,
            Texts::OfVotes => CsvText::of_votes(&self.columns)?,
        };
        for row in &self.rows {
            text.push(row)?;
        }
        Ok(text.finish()?)
    }

    fn json(&self) -> Result<String> {
        let object = |row: &Vec<Value>| -> Map<String, Value> {
            self.columns.iter().map(|column| (*column).to_owned()).zip(row.iter().cloned()).collect()
        };
        let text = serde_json::to_string_pretty(&self.rows.iter().map(object).collect::<Vec<_>>())?;
        // JSON itself escapes only the first 32 characters.
        let escape = |text: &mut String, c: char| match c != '\n' && is_unprintable(c) {
            true => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => text.push(c),
        };
        Ok(text.chars().fold(String::with_capacity(text.len()), |mut text, c| {
            escape(&mut text, c);
            text
        }))
    }
}

/// Prints lines to stdout, with unprintable characters escaped. Line breaks stay, so names must be [`escaped`] first.
pub(super) fn print(text: &str) -> Result<()> {
    write_out(&escaped_lines(text))
}

/// Writes to stdout. A closed pipe is not an error.
fn write_out(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("print"),
    }
}

/// Prints a line to stderr, ignoring errors.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", escaped_lines(text));
}

/// A number with its thousands separated by narrow no-break spaces: 35 923 707.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_all_is_not_a_hundred_percent() {
        let shares = [(0, 30_000), (1, 30_000), (1, 3), (29_999, 30_000), (30_000, 30_000), (30_001, 30_000)];
        let shown = shares.map(|(part, all)| percent(f64::from(part) / f64::from(all)));
        assert_eq!(shown, ["0.00 %", "0.00 %", "33.33 %", "99.99 %", "100.00 %", "100.01 %"]);
    }
}
