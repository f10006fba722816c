//! Locates a layout's columns in a table.

use scrutin_files::FileError;
use scrutin_files::table::{Column, Table, folded};

use super::layout::{Layout, Names, Repeat, Wide, matched};

/// A region's figures, in the order used everywhere.
pub const FIGURES: [&str; 4] = ["registered", "abstentions", "blank", "null"];

/// Columns that distinguish contests if the layout names none.
const CONTEST_COLUMNS: [&str; 26] = [
    "office",
    "office name",
    "contest",
    "contest name",
    "contest title",
    "race",
    "race name",
    "stage",
    "round",
    "year",
    "election",
    "election name",
    "election type",
    "election date",
    "scrutin",
    "tour",
    "wahl",
    "wahlgang",
    "stimme",
    "elezione",
    "elección",
    "eleição",
    "turno",
    "vuelta",
    "cargo",
    "ds_cargo",
];

/// The columns of a table of results.
#[derive(Debug, Default)]
pub struct Places {
    pub region: Vec<Column>,
    pub region_name: Vec<Column>,
    pub choice: Vec<Column>,
    pub choice_id: Option<Column>,
    pub votes: Option<Column>,
    pub contest: Vec<Column>,
    pub part: Option<Column>,
    /// Figures for all contests.
    pub figures: [Option<Column>; 4],
    pub wide: Vec<WideColumn>,
    pub groups: Option<Groups>,
    pub pass_over: Vec<(Column, Vec<String>)>,
}

/// A column that is a candidate.
#[derive(Debug)]
pub struct WideColumn {
    pub column: Column,
    pub choice: String,
    pub contest: Option<String>,
    /// Figures for this contest, if it has its own.
    pub figures: [Option<Column>; 4],
}

/// Groups of columns, one group per candidate.
#[derive(Debug)]
pub enum Groups {
    Numbered(Vec<Group>),
    /// Repeated beyond the end of the header: the first group, and the number of columns in each.
    Repeated {
        first: Group,
        start: usize,
        width: usize,
    },
}

#[derive(Clone, Debug, Default)]
pub struct Group {
    pub choice: Vec<Column>,
    pub choice_id: Option<Column>,
    /// Always present.
    pub votes: Option<Column>,
}

/// Looks columns up and collects the missing ones, so that one error can list all of them.
pub struct Finder<'a> {
    pub table: &'a mut Table,
    missing: Vec<String>,
}

impl Finder<'_> {
    pub fn new(table: &mut Table) -> Finder<'_> {
        Finder { table, missing: Vec::new() }
    }

    /// The columns with these names; optional ones may be left out.
    pub fn all(&mut self, names: &Names) -> Result<Vec<Column>, FileError> {
        let mut columns = Vec::new();
        for name in &names.0 {
            match self.one_of(name)? {
                Some(column) => columns.push(column),
                None if name.ends_with('?') => {}
                None => self.missing.push(first_of(name).to_owned()),
            }
        }
        Ok(columns)
    }

    /// The columns with these names, or an empty list if one is missing.
    pub fn if_there(&mut self, names: &Names, is_required: bool) -> Result<Vec<Column>, FileError> {
        if is_required {
            return self.all(names);
        }
        let mut columns = Vec::new();
        for name in &names.0 {
            match self.one_of(name)? {
                Some(column) => columns.push(column),
                None if name.ends_with('?') => {}
                None => return Ok(Vec::new()),
            }
        }
        Ok(columns)
    }

    fn one_of(&mut self, names: &str) -> Result<Option<Column>, FileError> {
        for name in names.trim_end_matches('?').split('|') {
            if let Some(column) = self.table.find(name)? {
                return Ok(Some(column));
            }
        }
        Ok(None)
    }

    /// Fails if a required column was not found.
    pub fn done(self) -> Result<(), FileError> {
        let missing: Vec<&str> = self.missing.iter().map(String::as_str).collect();
        if missing.is_empty() { Ok(()) } else { Err(self.table.missing(&missing)) }
    }
}

fn first_of(name: &str) -> &str {
    name.trim_end_matches('?').split('|').next().unwrap_or(name)
}

impl Places {
    /// Locates the columns of a file of results.
    pub fn find(table: &mut Table, layout: &Layout) -> Result<Places, FileError> {
        let columns = &layout.columns;
        let said = |key: &str| layout.required.iter().any(|said| said == key);
        let groups = match &layout.repeat {
            Some(repeat) => Some(groups_of(table, repeat)?),
            None => None,
        };
        let mut finder = Finder::new(table);
        let mut places = Places { region: finder.all(&columns.region)?, groups, ..Places::default() };
        if layout.wide.is_none() && layout.repeat.is_none() {
            places.choice = finder.all(&columns.choice)?;
            places.votes = finder.all(&columns.votes)?.first().copied();
        }
        places.region_name = finder.if_there(&columns.region_name, said("region-name"))?;
        places.choice_id = finder.if_there(&columns.choice_id, said("choice-id"))?.first().copied();
        places.part = finder.if_there(&columns.part, said("part"))?.first().copied();
        let figures = [&columns.registered, &columns.abstentions, &columns.blank, &columns.null];
        for ((place, names), key) in places.figures.iter_mut().zip(figures).zip(FIGURES) {
            *place = finder.if_there(names, said(key))?.first().copied();
        }
        places.contest = contest_columns(&mut finder, layout)?;
        for rule in &layout.pass_over {
            let column = finder.all(&rule.column.as_str().into())?;
            places.pass_over.extend(column.into_iter().map(|column| (column, rule.is.clone())));
        }
        finder.done()?;
        if let Some(wide) = &layout.wide {
            places.wide = wide_columns(table, wide, layout)?;
        }
        Ok(places)
    }
}

fn contest_columns(finder: &mut Finder<'_>, layout: &Layout) -> Result<Vec<Column>, FileError> {
    let names = &layout.columns.contest;
    if !names.is_empty() {
        // `none` is not a column name: it declares that the file has a single contest, whatever its columns are called.
        return if names.0 == ["none"] { Ok(Vec::new()) } else { finder.all(names) };
    }
    let mut columns = Vec::new();
    for name in CONTEST_COLUMNS {
        columns.extend(finder.table.find(name)?);
    }
    if !columns.is_empty() {
        columns.extend(finder.table.find("district")?);
    }
    Ok(columns.into_iter().filter(|column| is_free(finder.table, layout, *column)).collect())
}

/// Whether a column has no other meaning.
fn is_free(table: &Table, layout: &Layout, column: Column) -> bool {
    let name = folded(&table.columns()[column.0]);
    let taken = [&layout.columns.region, &layout.columns.region_name, &layout.columns.choice, &layout.columns.votes];
    !taken
        .iter()
        .flat_map(|names| &names.0)
        .flat_map(|names| names.trim_end_matches('?').split('|'))
        .any(|taken| folded(taken) == name)
}

fn wide_columns(table: &mut Table, wide: &Wide, layout: &Layout) -> Result<Vec<WideColumn>, FileError> {
    let mut found = Vec::new();
    let named = Finder::new(table).all_or_missing(&wide.columns)?;
    for column in named {
        let choice = table.columns()[column.0].clone();
        found.push(WideColumn { column, choice, contest: None, figures: [None; 4] });
    }
    if let Some(pattern) = &wide.pattern {
        for place in 0..table.columns().len() {
            let Some((choice, contest)) = matched(pattern, &table.columns()[place]) else { continue };
            if wide.except.iter().any(|except| folded(except) == folded(&choice)) {
                continue;
            }
            let column = Column(place);
            table.use_column(column);
            found.push(WideColumn { column, choice, contest, figures: [None; 4] });
        }
    }
    if found.is_empty() {
        let pattern = wide.pattern.clone().unwrap_or_default();
        return Err(table.missing(&[pattern.as_str()]));
    }
    for column in &mut found {
        if let Some(contest) = &column.contest {
            column.figures = contest_figures(table, layout, contest)?;
        }
    }
    Ok(found)
}

/// The columns of a contest's own figures, if the layout names them by contest.
fn contest_figures(table: &mut Table, layout: &Layout, contest: &str) -> Result<[Option<Column>; 4], FileError> {
    let Layout { columns, .. } = layout;
    let mut figures = [None; 4];
    let names = [&columns.registered, &columns.abstentions, &columns.blank, &columns.null];
    for (figure, names) in figures.iter_mut().zip(names) {
        let of_contest = Names(names.0.iter().map(|name| name.replace("{contest}", contest)).collect());
        *figure = Finder::new(table).if_there(&of_contest, false)?.first().copied();
    }
    Ok(figures)
}

impl Finder<'_> {
    fn all_or_missing(mut self, names: &[String]) -> Result<Vec<Column>, FileError> {
        let columns = self.all(&Names(names.to_vec()))?;
        self.done()?;
        Ok(columns)
    }
}

fn groups_of(table: &mut Table, repeat: &Repeat) -> Result<Groups, FileError> {
    let is_numbered = repeat.votes.0.iter().any(|name| name.contains("{n}"));
    if is_numbered { numbered(table, repeat) } else { repeated(table, repeat) }
}

fn numbered(table: &mut Table, repeat: &Repeat) -> Result<Groups, FileError> {
    let mut groups = Vec::new();
    for number in 1.. {
        let of = |names: &Names| Names(names.0.iter().map(|name| name.replace("{n}", &number.to_string())).collect());
        let mut finder = Finder::new(table);
        let votes = finder.if_there(&of(&repeat.votes), number == 1)?;
        if votes.is_empty() && number > 1 {
            break;
        }
        let choice = finder.all(&of(&repeat.choice))?;
        let choice_id = finder.if_there(&of(&repeat.choice_id), false)?.first().copied();
        finder.done()?;
        groups.push(Group { choice, choice_id, votes: votes.first().copied() });
    }
    Ok(Groups::Numbered(groups))
}

/// The first group has the first occurrence of each name; the names recur after as many columns as a group has.
fn repeated(table: &mut Table, repeat: &Repeat) -> Result<Groups, FileError> {
    let names: Vec<String> = table.columns().iter().map(|name| folded(name)).collect();
    let place_of = |name: &str| names.iter().position(|other| *other == folded(name));
    let alternatives = repeat.start.0.iter().flat_map(|names| names.split('|'));
    let Some(start) = alternatives.clone().find_map(place_of) else {
        let missing: Vec<&str> = alternatives.take(1).collect();
        return Err(table.missing(&missing));
    };
    let again = names[start + 1..].iter().position(|name| *name == names[start]);
    let unnamed = names[start..].iter().position(String::is_empty).unwrap_or(names.len() - start);
    let width = again.map_or(unnamed, |at| at + 1);
    let (mut choice, mut missing) = (Vec::new(), Vec::new());
    let in_group = |name: &str| {
        name.trim_end_matches('?').split('|').find_map(place_of).filter(|at| (start..start + width).contains(at))
    };
    for name in &repeat.choice.0 {
        match in_group(name) {
            Some(place) => choice.push(Column(place)),
            None if name.ends_with('?') => {}
            None => missing.push(first_of(name)),
        }
    }
    let votes = repeat.votes.0.first().and_then(|name| in_group(name));
    if votes.is_none() {
        missing.push(repeat.votes.0.first().map_or("", |name| first_of(name)));
    }
    if !missing.is_empty() {
        return Err(table.missing(&missing));
    }
    let choice_id = repeat.choice_id.0.first().and_then(|name| in_group(name)).map(Column);
    table.go_on();
    Ok(Groups::Repeated { first: Group { choice, choice_id, votes: votes.map(Column) }, start, width })
}
