//! How a file of results or ballots is read: the options, and the notices of `replay` and `demo`.

use std::path::Path;

use anyhow::Result;
use scrutin_files::printable::escaped;
use scrutin_files::table::{Encoding, Separator};
use scrutin_producer::replay::layout::{
    Kind, Marks, Names, OverRegistered, SameName, Spelling, Thousands, TotalsPolicy, Wide,
};
use scrutin_producer::replay::{Finding, Layout};

use super::UsageError;
use super::table::say;

const FILE: &str = "How the file is written";
const COLUMNS: &str = "Columns of the file, by name, or by position as #3; several for one option are joined";
const ANSWERS: &str = "Answers to ambiguities in the file";

#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct ReadingArgs {
    /// A layout that `scrutin layouts` lists, or a file of your own [default: the project's own form]
    #[arg(long, value_name = "NAME|FILE", help_heading = FILE)]
    layout: Option<String>,
    /// utf-8, utf-16le, utf-16be, windows-1252 or latin-1 [default: UTF-8, or from the byte order mark]
    #[arg(long, value_name = "NAME", help_heading = FILE)]
    encoding: Option<Encoding>,
    /// Field separator: one character, or comma, semicolon, tab or bar [default: detected, if unambiguous]
    #[arg(long, value_name = "CHARACTER", help_heading = FILE)]
    separator: Option<Separator>,
    /// Line on which the header begins [default: where the columns are found]
    #[arg(long, value_name = "N", help_heading = FILE)]
    header_line: Option<u64>,
    /// Number of header lines
    #[arg(long, value_name = "N", help_heading = FILE, value_parser = clap::value_parser!(u8).range(1..=9))]
    header_rows: Option<u8>,
    /// Sheet of a spreadsheet
    #[arg(long, value_name = "NAME", help_heading = FILE)]
    sheet: Option<String>,
    /// Treat quotes as plain characters
    #[arg(long, help_heading = FILE)]
    no_quotes: bool,
    /// Thousands separator of numbers
    #[arg(long, value_name = "WHAT", help_heading = FILE)]
    thousands: Option<Thousands>,

    /// The region, precinct or ward
    #[arg(long, value_name = "COLUMN", help_heading = COLUMNS)]
    region_column: Vec<String>,
    /// The region's name
    #[arg(long, value_name = "COLUMN", help_heading = COLUMNS)]
    region_name_column: Vec<String>,
    /// Registered voters of the region
    #[arg(long, value_name = "COLUMN", help_heading = COLUMNS)]
    registered_column: Vec<String>,
    /// Registered voters of the region who did not vote
    #[arg(long, value_name = "COLUMN", help_heading = COLUMNS)]
    abstentions_column: Vec<String>,
    /// Blank ballots of the region; in a file of ballots, a column with `blank` for a blank ballot, `null` for a spoilt
    /// one, `vote` or nothing for others [default: ballots without a candidate are blank]
    #[arg(long, value_name = "COLUMN", help_heading = COLUMNS)]
    blank_column: Vec<String>,
    /// Spoilt ballots of the region
    #[arg(long, value_name = "COLUMN", help_heading = COLUMNS)]
    null_column: Vec<String>,
    /// The candidate; in a file of ballots, empty means blank
    #[arg(long, value_name = "COLUMN", help_heading = COLUMNS)]
    choice_column: Vec<String>,
    /// An id that tells candidates with the same name apart
    #[arg(long, value_name = "COLUMN", help_heading = COLUMNS)]
    choice_id_column: Vec<String>,
    /// The candidate's votes
    #[arg(long, value_name = "COLUMN", help_heading = COLUMNS)]
    votes_column: Vec<String>,
    /// The office or contest; none: all rows belong to one contest
    #[arg(long, value_name = "COLUMN", help_heading = COLUMNS)]
    contest_column: Vec<String>,
    /// The way of voting; a candidate's rows are added up over it
    #[arg(long, value_name = "COLUMN", help_heading = COLUMNS)]
    part_column: Vec<String>,
    /// An id of the voter, or of the ballot
    #[arg(long, value_name = "COLUMN", help_heading = COLUMNS)]
    voter_column: Vec<String>,
    /// The channel by which a ballot was cast [default: booth for all]
    #[arg(long, value_name = "COLUMN", help_heading = COLUMNS)]
    channel_column: Vec<String>,
    /// A column with the votes of one candidate, named after the candidate; repeat for each
    #[arg(long, value_name = "COLUMN", help_heading = COLUMNS)]
    candidate_column: Vec<String>,
    /// Candidate columns, by a pattern with {choice}, and optionally {contest} and {any}
    #[arg(long, value_name = "PATTERN", help_heading = COLUMNS)]
    candidate_columns: Option<String>,

    /// The contest to count, if there are several
    #[arg(long, value_name = "NAME", help_heading = ANSWERS)]
    contest: Option<String>,
    /// What to do with rows that are sums of others
    #[arg(long, value_name = "WHAT", help_heading = ANSWERS)]
    totals: Option<TotalsPolicy>,
    /// How to read words such as undervote, blank or overvote among the candidates
    #[arg(long, value_name = "WHAT", help_heading = ANSWERS)]
    marks: Option<Marks>,
    /// Whether several rows with one name in a region are one candidate
    #[arg(long, value_name = "WHO", help_heading = ANSWERS)]
    same_name: Option<SameName>,
    /// What to do with names that differ only in case or spaces
    #[arg(long, value_name = "WHAT", help_heading = ANSWERS)]
    spelling: Option<Spelling>,
    /// What to do with regions that have more ballots than registered voters
    #[arg(long, value_name = "WHAT", help_heading = ANSWERS)]
    over_registered: Option<OverRegistered>,
}

impl ReadingArgs {
    pub fn is_given(&self) -> bool {
        !self.words().is_empty()
    }

    pub fn layout_name(&self) -> Option<&str> {
        self.layout.as_deref()
    }

    fn is_wide(&self) -> bool {
        !self.candidate_column.is_empty() || self.candidate_columns.is_some()
    }

    /// Whether the options name columns of a file of ballots.
    pub fn is_of_ballots(&self) -> bool {
        !self.voter_column.is_empty()
    }

    /// The column options, by their key in a layout.
    fn columns(&self) -> [(&'static str, &Vec<String>); 13] {
        [
            ("region", &self.region_column),
            ("region-name", &self.region_name_column),
            ("registered", &self.registered_column),
            ("abstentions", &self.abstentions_column),
            ("blank", &self.blank_column),
            ("null", &self.null_column),
            ("choice", &self.choice_column),
            ("choice-id", &self.choice_id_column),
            ("votes", &self.votes_column),
            ("contest", &self.contest_column),
            ("part", &self.part_column),
            ("voter", &self.voter_column),
            ("channel", &self.channel_column),
        ]
    }

    /// The named layout, or the default one, overridden by the other options.
    pub fn layout(&self, kind: Kind) -> Result<Layout> {
        let base = match (&self.layout, kind) {
            (Some(name), _) => Layout::named(name)?,
            (None, Kind::Ballots) => Layout { kind, ..Layout::default() },
            (None, _) => Layout::own(),
        };
        if (base.kind == Kind::Ballots) != (kind == Kind::Ballots) {
            let (is, other) = if kind == Kind::Ballots { ("results", "--results") } else { ("ballots", "--ballots") };
            return Err(UsageError(format!("the layout `{}` is for {is}; use it with {other}", base.name)).into());
        }
        let layout = self.lay_over(base);
        if kind == Kind::Ballots && self.layout.is_none() {
            self.check_ballots(&layout)?;
        }
        layout.check().map_err(UsageError)?;
        Ok(layout)
    }

    fn check_ballots(&self, layout: &Layout) -> Result<()> {
        let columns = &layout.columns;
        let needed = [
            ("--voter-column", columns.voter.is_empty()),
            ("--region-column", columns.region.is_empty()),
            ("--choice-column", columns.choice.is_empty() && layout.wide.is_none()),
        ];
        let missing: Vec<&str> = needed.iter().filter(|(_, is_missing)| *is_missing).map(|(flag, _)| *flag).collect();
        match missing.as_slice() {
            [] => Ok(()),
            [one] => Err(UsageError(format!("{one} is missing; it names a column of the file of ballots")).into()),
            several => {
                Err(UsageError(format!("{} are missing; they name columns of the file of ballots", several.join(", ")))
                    .into())
            }
        }
    }

    /// Overrides a layout with the options.
    pub fn lay_over(&self, mut layout: Layout) -> Layout {
        let form = &mut layout.file;
        form.encoding = self.encoding.or(form.encoding);
        form.separator = self.separator.or(form.separator);
        form.header_line = self.header_line.or(form.header_line);
        form.header_rows = self.header_rows.map(usize::from).or(form.header_rows);
        form.sheet = self.sheet.clone().or(form.sheet.take());
        form.no_quotes |= self.no_quotes;
        layout.thousands = self.thousands.or(layout.thousands);
        for (key, names) in self.columns() {
            if !names.is_empty() {
                *layout.columns.named_mut(key) = Names(names.clone());
                layout.required.push(key.to_owned());
            }
        }
        if self.is_wide() {
            let (columns, pattern) = (self.candidate_column.clone(), self.candidate_columns.clone());
            layout.wide = Some(Wide { columns, pattern, except: Vec::new() });
            layout.repeat = None;
            (layout.columns.choice, layout.columns.votes) = (Names::default(), Names::default());
        } else if layout.kind == Kind::Ballots && !self.choice_column.is_empty() {
            layout.wide = None;
        }
        let answers = &mut layout.answers;
        answers.contest = self.contest.clone().or(answers.contest.take());
        answers.totals = self.totals.or(answers.totals);
        answers.marks = self.marks.or(answers.marks);
        answers.same_name = self.same_name.or(answers.same_name);
        answers.spelling = self.spelling.or(answers.spelling);
        answers.over_registered = self.over_registered.or(answers.over_registered);
        layout
    }

    /// The options as written on a command line, for display.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |flag: &str, value: Option<String>| {
            if let Some(value) = value {
                words.push(format!("--{flag} {}", quoted(&value)));
            }
        };
        add("layout", self.layout.clone());
        add("encoding", self.encoding.map(|it| it.to_string()));
        add("separator", self.separator.map(|it| it.to_string()));
        add("header-line", self.header_line.map(|it| it.to_string()));
        add("header-rows", self.header_rows.map(|it| it.to_string()));
        add("sheet", self.sheet.clone());
        add("thousands", self.thousands.map(|it| name_of(&it)));
        for (key, names) in self.columns() {
            names.iter().for_each(|name| add(&format!("{key}-column"), Some(name.clone())));
        }
        self.candidate_column.iter().for_each(|name| add("candidate-column", Some(name.clone())));
        add("candidate-columns", self.candidate_columns.clone());
        add("contest", self.contest.clone());
        add("totals", self.totals.map(|it| name_of(&it)));
        add("marks", self.marks.map(|it| name_of(&it)));
        add("same-name", self.same_name.map(|it| name_of(&it)));
        add("spelling", self.spelling.map(|it| name_of(&it)));
        add("over-registered", self.over_registered.map(|it| name_of(&it)));
        if self.no_quotes {
            words.push("--no-quotes".into());
        }
        words
    }
}

fn name_of(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
}

/// Quotes a word for a shell.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_./:,+@".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// How many findings are shown before a count; `inspect` shows all.
const SHOWN: usize = 8;

/// Prints the file's hash, its layout and what looked wrong in it.
pub(super) fn print_findings(file: &Path, sha256: &str, layout: &Layout, findings: &[Finding]) {
    let by = if layout.name.is_empty() { String::new() } else { format!(", by the layout `{}`", layout.name) };
    say(&format!("{}: sha256 {sha256}{by}", escaped(&file.display().to_string())));
    for finding in findings.iter().take(SHOWN) {
        say(&format!("  {}", escaped(&finding.text())));
    }
    if findings.len() > SHOWN {
        say(&format!("  and {} more; `scrutin inspect` lists all", findings.len() - SHOWN));
    }
}
