//! The columns of a file of ballots, and what a row means.

use std::borrow::Cow;
use std::path::Path;

use scrutin_files::FileError;
use scrutin_files::table::{Column, Table, folded, nearest};

use super::layout::{Layout, matched};
use super::places::Finder;

/// An open file of ballots.
pub struct BallotTable {
    table: Table,
    voter: Column,
    region: Vec<Column>,
    choice: ChoiceColumns,
    blank: Option<Column>,
    channel: Option<Column>,
}

/// How a ballot's choice is recorded.
enum ChoiceColumns {
    /// By name in one column.
    Named(Column),
    /// By a 1 in the column with its name.
    Marked { contest: String, columns: Vec<(Column, String)> },
}

/// What a row means.
pub enum Mark<'a> {
    Vote(&'a str),
    Blank,
    Null,
}

impl BallotTable {
    pub fn open(path: &Path, layout: &Layout) -> Result<BallotTable, FileError> {
        let mut table = Table::open(path, &layout.file, &layout.wanted())?;
        let columns = &layout.columns;
        let mut finder = Finder::new(&mut table);
        let voter = finder.all(&columns.voter)?;
        let region = finder.all(&columns.region)?;
        let is_open = layout.wide.is_some() || columns.choice.0.iter().any(|name| name.contains('{'));
        let named = if is_open { Vec::new() } else { finder.all(&columns.choice)? };
        let blank = finder.all(&columns.blank)?.first().copied();
        let channel = finder.all(&columns.channel)?.first().copied();
        finder.done()?;
        let choice = match named.first() {
            Some(column) => ChoiceColumns::Named(*column),
            None if layout.wide.is_some() => marked(&mut table, layout)?,
            None => ChoiceColumns::Named(only_choice(&mut table)?),
        };
        if let ChoiceColumns::Named(column) = choice {
            table.allow_lines(column);
        }
        Ok(BallotTable { table, voter: voter[0], region, choice, blank, channel })
    }

    pub fn next_row(&mut self) -> Result<bool, FileError> {
        self.table.next_row()
    }

    pub fn line(&self) -> u64 {
        self.table.line()
    }

    pub fn voter(&self) -> Result<&str, FileError> {
        self.table.required(self.voter)
    }

    pub fn region(&self) -> Result<Cow<'_, str>, FileError> {
        match self.region.as_slice() {
            [column] => Ok(Cow::Borrowed(self.table.required(*column)?)),
            columns => {
                let texts = columns.iter().map(|column| self.table.required(*column));
                Ok(Cow::Owned(texts.collect::<Result<Vec<_>, _>>()?.join(" / ")))
            }
        }
    }

    /// The name of the column or the contest.
    pub fn choice_name(&self) -> String {
        match &self.choice {
            ChoiceColumns::Named(column) => self.table.columns()[column.0].clone(),
            ChoiceColumns::Marked { contest, .. } => contest.clone(),
        }
    }

    /// The choices that are columns.
    pub fn marked_names(&self) -> impl Iterator<Item = &str> {
        let columns: &[(Column, String)] = match &self.choice {
            ChoiceColumns::Named(_) => &[],
            ChoiceColumns::Marked { columns, .. } => columns,
        };
        columns.iter().map(|(_, name)| name.as_str())
    }

    /// Whether the contest is on this ballot.
    pub fn is_asked(&self) -> bool {
        match &self.choice {
            ChoiceColumns::Named(_) => true,
            ChoiceColumns::Marked { columns, .. } => {
                columns.iter().any(|(column, _)| !self.table.text(*column).is_empty())
            }
        }
    }

    /// What the ballot says; none if the contest is not on it.
    pub fn mark(&self) -> Result<Option<Mark<'_>>, FileError> {
        let vote = match &self.choice {
            ChoiceColumns::Named(column) => match self.table.text(*column) {
                "" => Mark::Blank,
                text => Mark::Vote(text),
            },
            ChoiceColumns::Marked { columns, .. } => {
                if !self.is_asked() {
                    return Ok(None);
                }
                self.marked(columns)?
            }
        };
        let Some(column) = self.blank else { return Ok(Some(vote)) };
        let text = self.table.text(column);
        let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
        if is(&["", "vote", "false", "no", "0"]) {
            Ok(Some(vote))
        } else if is(&["blank", "true", "yes", "1"]) {
            Ok(Some(Mark::Blank))
        } else if is(&["null", "spoilt", "invalid", "overvote"]) {
            Ok(Some(Mark::Null))
        } else {
            let what = format!(
                "found `{text}`, expected blank, true, yes or 1 (a blank ballot), null, spoilt, invalid or overvote \
                 (a spoilt one), vote, false, no, 0 or nothing (a vote)"
            );
            Err(self.table.error(column, what))
        }
    }

    fn marked<'a>(&self, columns: &'a [(Column, String)]) -> Result<Mark<'a>, FileError> {
        let mut found = None;
        for (column, name) in columns {
            match self.table.text(*column) {
                "" | "0" => {}
                "1" if found.is_none() => found = Some(name.as_str()),
                "1" => return Ok(Mark::Null),
                other => return Err(self.table.error(*column, format!("found `{other}`, expected 1, 0 or nothing"))),
            }
        }
        Ok(found.map_or(Mark::Blank, Mark::Vote))
    }

    pub fn has_channel(&self) -> bool {
        self.channel.is_some()
    }

    pub fn channel(&self) -> Result<Option<&str>, FileError> {
        self.channel.map(|column| self.table.required(column)).transpose()
    }

    pub fn channel_error(&self, what: String) -> FileError {
        self.table.error(self.channel.unwrap_or(self.voter), what)
    }

    pub fn whole_error(&self, what: &str) -> FileError {
        self.table.whole_error(what)
    }
}

/// The only column left that can be the contest, or an error that lists the possible ones.
fn only_choice(table: &mut Table) -> Result<Column, FileError> {
    let places = 0..table.columns().len();
    let is_other = |place: &usize| table.is_used(Column(*place)) || folded(&table.columns()[*place]) == "ballotstyle";
    let left: Vec<usize> = places.filter(|place| !is_other(place) && !table.columns()[*place].is_empty()).collect();
    match left.as_slice() {
        [only] => {
            table.use_column(Column(*only));
            Ok(Column(*only))
        }
        _ => {
            let names: Vec<&str> = left.iter().map(|place| table.columns()[*place].as_str()).collect();
            let first = names.first().unwrap_or(&"NAME");
            Err(table.header_error(format!(
                "has {} columns that could be counted; pick one with --choice-column '{first}': {}",
                names.len(),
                names.join(", ")
            )))
        }
    }
}

/// The columns of the requested contest, or of the only one.
fn marked(table: &mut Table, layout: &Layout) -> Result<ChoiceColumns, FileError> {
    let wide = layout.wide.clone().unwrap_or_default();
    let pattern = wide.pattern.clone().unwrap_or_else(|| "{choice}".into());
    let mut contests: Vec<(String, Vec<(Column, String)>)> = Vec::new();
    for place in 0..table.columns().len() {
        let name = &table.columns()[place];
        let is_named = wide.columns.iter().any(|column| folded(column) == folded(name));
        let found =
            if wide.columns.is_empty() { matched(&pattern, name) } else { is_named.then(|| (name.clone(), None)) };
        let Some((choice, contest)) = found.filter(|_| !table.is_used(Column(place))) else { continue };
        let contest = contest.unwrap_or_default();
        match contests.iter_mut().find(|(name, _)| *name == contest) {
            Some((_, columns)) => columns.push((Column(place), choice)),
            None => contests.push((contest, vec![(Column(place), choice)])),
        }
    }
    let names: Vec<String> = contests.iter().map(|(name, _)| format!("`{name}`")).collect();
    let asked = layout.answers.contest.as_deref();
    if let Some(asked) = asked {
        contests.retain(|(name, _)| folded(name) == folded(asked));
    }
    match (contests.len(), asked) {
        (1, _) => {}
        (0, None) => return Err(table.missing(&[pattern.as_str()])),
        (_, None) => {
            let what = format!(
                "holds {} contests: {}; choose one with --contest '{}'",
                names.len(),
                names.join(", "),
                contests[0].0
            );
            return Err(table.header_error(what));
        }
        (_, Some(asked)) => {
            let near = nearest(asked, names.iter().map(|name| name.trim_matches('`')));
            let near = near.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
            let what = format!("no contest `{asked}`{near}; the contests are {}", names.join(", "));
            return Err(table.header_error(what));
        }
    }
    let (contest, columns) = contests.remove(0);
    columns.iter().for_each(|(column, _)| table.use_column(*column));
    Ok(ChoiceColumns::Marked { contest, columns })
}
