//! `scrutin inspect` and `scrutin layouts`: how a file will be read, before anything is counted.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;
use scrutin_files::printable::{escaped, escaped_lines};
use scrutin_files::table::{Form, Found};
use scrutin_producer::replay::detect::fitting;
use scrutin_producer::replay::inspect::{Report, inspect};
use scrutin_producer::replay::layout::{Kind, LAYOUTS};
use scrutin_producer::replay::{About, Layout};

use super::reading::{ReadingArgs, quoted};
use super::table::{grouped, print, so_many};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The file: CSV, possibly compressed, or a spreadsheet
    file: PathBuf,
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    reading: Box<ReadingArgs>,
}

#[derive(clap::Args)]
pub(super) struct LayoutsArgs {
    /// Print this layout, as a starting point for your own
    name: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Exit code for a file that cannot be counted as it is.
const NOT_YET: u8 = 3;

/// Inspects the file; exits with 3 if it cannot be counted as it is.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let (layout, found) = layout(args)?;
    let report = inspect(&args.file, &layout, &about())?;
    let command = command(args, &report, found);
    match args.format {
        Format::Text => print(&text(&report, &command))?,
        Format::Json => {
            let mut json = serde_json::to_value(&report)?;
            json["command"] = if report.can_be_counted { command.into() } else { serde_json::Value::Null };
            print(&(serde_json::to_string_pretty(&json)? + "\n"))?;
        }
    }
    Ok(if report.can_be_counted { ExitCode::SUCCESS } else { ExitCode::from(NOT_YET) })
}

/// The layout from the options, or the one that fits, with its name if it was detected.
fn layout(args: &Args) -> Result<(Layout, Option<String>)> {
    let reading = &args.reading;
    if let Some(name) = reading.layout_name() {
        let kind = Layout::named(name)?.kind;
        return Ok((reading.layout(kind)?, None));
    }
    if reading.is_of_ballots() {
        return Ok((reading.layout(Kind::Ballots)?, None));
    }
    let form: Form = reading.lay_over(Layout::default()).file;
    Ok(match fitting(&args.file, &form)? {
        Some(found) => (reading.lay_over(found.clone()), Some(found.name.clone())),
        None => (reading.layout(Kind::Results)?, None),
    })
}

/// A placeholder day: nothing is counted.
fn about() -> About {
    About {
        id: None,
        title: None,
        opens_at_ms: 0,
        closes_at_ms: 1,
        time_zone: "UTC".into(),
        channels: vec!["booth".into()],
        bucket_seconds: 60,
    }
}

/// The command that counts the file.
fn command(args: &Args, report: &Report, found: Option<String>) -> String {
    let what = if report.kind == Kind::Ballots { "--ballots" } else { "--results" };
    let mut words = vec![format!("scrutin demo {what} {}", quoted(&args.file.display().to_string()))];
    words.extend(found.filter(|name| name != LAYOUTS[0].name.as_str()).map(|name| format!("--layout {name}")));
    words.extend(args.reading.words());
    words.push("--speed max".into());
    words.join(" ")
}

fn text(report: &Report, command: &str) -> String {
    let mut out = String::new();
    let name = Path::new(&report.file)
        .file_name()
        .map_or_else(|| report.file.clone(), |name| name.to_string_lossy().into_owned());
    let _ = writeln!(out, "{}", escaped(&headline(report, &name)));
    if report.can_be_counted {
        let _ = writeln!(
            out,
            "Nothing has been counted yet. To count it and watch it on a page:\n\n  {}\n",
            escaped(command)
        );
    } else {
        let _ = writeln!(out, "Nothing has been counted. Settle this first:\n");
        let refused = report.findings.iter().filter(|finding| finding.is_refused).map(|finding| finding.text());
        for what in report.error.clone().into_iter().chain(refused) {
            let _ = writeln!(out, "  ! {}", escaped(&what).replace("\\u{a}", "\n    "));
        }
        let _ = writeln!(out, "\n{}\n", escaped_lines(&next_step(report, command)));
    }
    let _ = writeln!(
        out,
        "file        {}, {} bytes, sha256 {}",
        escaped(&report.file),
        grouped(report.bytes as i64),
        report.sha256
    );
    let _ = writeln!(out, "written     {}", escaped(&report.written.as_ref().map_or("unknown".into(), written)));
    let _ = writeln!(out, "layout      {}", layout_words(report));
    rows(report, &mut out);
    columns(report, &mut out);
    sums(report, &mut out);
    let notes: Vec<String> =
        report.findings.iter().filter(|finding| !finding.is_refused).map(|finding| finding.text()).collect();
    if !notes.is_empty() {
        let _ = writeln!(out, "\nNotes:");
        notes.iter().for_each(|note| out.push_str(&format!("  - {}\n", escaped(note))));
    }
    out
}

/// The next step for a file that cannot be counted as it is: the options that its messages name, each with its first
/// value.
fn next_step(report: &Report, command: &str) -> String {
    let refused = report.findings.iter().filter(|finding| finding.is_refused).map(|finding| finding.what.clone());
    let mut options: Vec<String> =
        report.error.iter().cloned().chain(refused).filter_map(|what| option_in(&what)).collect();
    options.sort();
    options.dedup();
    let again = command.replacen("scrutin demo --results", "scrutin inspect", 1);
    let again = again.replacen("scrutin demo --ballots", "scrutin inspect", 1);
    let again = again.trim_end_matches(" --speed max");
    if !options.is_empty() {
        return format!("If that is what you mean, inspect it again with:\n\n  {again} {}", options.join(" "));
    }
    if report.error.as_ref().is_some_and(|error| error.contains("the columns are")) {
        return format!(
            "If other columns hold the data, name them: for one row per region and candidate, one column per candidate, \
             or one row per ballot\n\n  \
             {again} --region-column … --choice-column … --votes-column …\n  \
             {again} --region-column … --candidate-column … --candidate-column …\n  \
             {again} --voter-column … --region-column … --choice-column …"
        );
    }
    format!("Once it is fixed, inspect it again with:\n\n  {again}")
}

/// The first option that a message names, with its value.
fn option_in(what: &str) -> Option<String> {
    let (_, rest) = what.split_once("--")?;
    let (flag, rest) = rest.split_once(' ')?;
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => format!("'{}'", quoted.split('\'').next()?),
        None => rest.split([' ', ',', ';', ':']).next()?.to_owned(),
    };
    flag.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-').then(|| format!("--{flag} {value}"))
}

fn headline(report: &Report, name: &str) -> String {
    if report.error.is_some() {
        return format!("{name} cannot be read as it is.");
    }
    let what = match report.kind {
        Kind::Ballots => "ballots",
        Kind::Results => "results",
        Kind::Rankings => "rankings, of which the first choices are counted",
    };
    let sums = format!(
        "{} in {}, {} ballots, {} of them valid votes",
        so_many(report.candidates.len(), "candidate"),
        so_many(report.regions.len(), "region"),
        grouped(report.sums.ballots as i64),
        grouped(report.sums.valid as i64)
    );
    if report.can_be_counted {
        format!("{name} holds {what} and can be counted as it is: {sums}.")
    } else {
        format!("{name} holds {what}, but cannot be counted as it is. Counting everything would give {sums}.")
    }
}

fn written(found: &Found) -> String {
    let mut words: Vec<String> = Vec::new();
    words.extend(found.packed.iter().map(|packed| format!("packed as {packed}")));
    words.extend(found.encoding.iter().map(|encoding| format!("text in {}", encoding.to_uppercase())));
    words.extend(found.separator.map(|separator| format!("separated by {separator}")));
    words.extend(found.sheet.iter().map(|sheet| format!("sheet `{sheet}`")));
    words.push(format!("header on line {}", found.header_line));
    words.join(", ")
}

fn layout_words(report: &Report) -> String {
    match LAYOUTS.iter().find(|layout| layout.name == report.layout) {
        Some(layout) => format!("{}: {}", layout.name, layout.about),
        None if report.layout.is_empty() => "from the options".into(),
        None => escaped(&report.layout).into_owned(),
    }
}

fn rows(report: &Report, out: &mut String) {
    if let Some(rows) = report.rows {
        let passed_over = match report.rows_passed_over {
            0 => String::new(),
            rows => format!(", {} more skipped by the layout", grouped(rows as i64)),
        };
        let _ = writeln!(out, "rows        {}{passed_over}", grouped(rows as i64));
    }
}

/// How many items of a kind the text lists; JSON has all.
const LISTED: usize = 20;

fn columns(report: &Report, out: &mut String) {
    if report.columns.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nColumns");
    let mut left_out = Vec::new();
    for (place, column) in report.columns.iter().enumerate() {
        let name = if column.name.is_empty() { format!("#{}", place + 1) } else { column.name.clone() };
        match &column.taken_for {
            Some(role) if place < 4 * LISTED => out.push_str(&format!("  {:<28} {role}\n", escaped(&name))),
            Some(_) => {}
            None => left_out.push(name),
        }
    }
    if !left_out.is_empty() {
        let more = left_out.len().saturating_sub(LISTED);
        left_out.truncate(LISTED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let _ = writeln!(out, "  ignored: {}{more}", escaped(&left_out.join(", ")));
    }
}

fn sums(report: &Report, out: &mut String) {
    if report.contests.len() > 1 || report.contest.is_some() {
        let contest = report.contest.as_deref().unwrap_or("not chosen");
        let _ = writeln!(out, "\nContest: {}, of {}", escaped(contest), report.contests.len().max(1));
    }
    if report.candidates.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nCandidates");
    for candidate in report.candidates.iter().take(LISTED) {
        let (votes, regions) = (grouped(candidate.votes as i64), candidate.regions);
        let _ = writeln!(out, "  {:<36} {votes:>14}  in {}", escaped(&candidate.name), so_many(regions, "region"));
    }
    if report.candidates.len() > LISTED {
        let _ = writeln!(out, "  and {} more", report.candidates.len() - LISTED);
    }
    let sums = &report.sums;
    let registered = sums.registered.map_or("unknown".into(), |registered| grouped(registered as i64));
    let (ballots, blank, null) = (grouped(sums.ballots as i64), grouped(sums.blank as i64), grouped(sums.null as i64));
    let _ = writeln!(out, "\nRegions: {}", regions(report));
    let _ = writeln!(out, "Ballots: {ballots}, of which blank {blank} and null {null}; registered: {registered}");
}

fn regions(report: &Report) -> String {
    let names: Vec<&str> = report.regions.iter().take(6).map(|region| region.name.as_str()).collect();
    let more = report.regions.len().saturating_sub(names.len());
    let more = if more > 0 { format!(" and {} more", grouped(more as i64)) } else { String::new() };
    escaped(&format!("{}{more}", names.join(", "))).into_owned()
}

/// Lists the layouts, or prints one.
pub(super) fn layouts(args: &LayoutsArgs) -> Result<ExitCode> {
    if let Some(name) = &args.name {
        print(&toml::to_string(&Layout::named(name)?)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for layout in LAYOUTS.iter() {
        let kind = match layout.kind {
            Kind::Results => "results",
            Kind::Ballots => "ballots",
            Kind::Rankings => "rankings",
        };
        print(&format!("{:<20} {kind:<9} {}\n", layout.name, layout.about))?;
    }
    Ok(ExitCode::SUCCESS)
}
