//! Tables that people bring: text with separators in any usual encoding, packed or not, and spreadsheets, read strictly.
//!
//! What a file leaves open is found out only where it is certain ([`Form`] says the rest), and nothing is passed over
//! silently: a row is as long as the header, a quote that opens closes on its line, and a column that is used stands once.
//!
//! Holds one row at a time in memory, but for spreadsheets, which are read as a whole and have a bound.

mod decode;
mod form;
mod input;
mod names;
mod peek;
mod rows;
mod sheet;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use form::{Encoding, Form, Separator};
pub use input::Input;
pub use names::{folded, nearest};
pub use rows::Row;

use crate::FileError;
use input::Rows;
use peek::Header;

/// A table being read, row by row.
pub struct Table {
    path: PathBuf,
    rows: Rows,
    row: Row,
    columns: Vec<String>,
    /// The rows of the header, where it has several, from top to bottom, for each column.
    parts: Vec<Vec<String>>,
    uses: Vec<Use>,
    /// Rows may go on behind the header, as files with repeated groups do.
    goes_on: bool,
    found: Found,
}

/// A column of a [`Table`], by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Column(pub usize);

/// What is done with a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Unused,
    Used,
    /// A cell may have several lines.
    Lines,
}

/// How a file turned out to be written.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Found {
    /// In what it is packed, as `gzip`; none: in nothing.
    pub packed: Option<String>,
    /// As `UTF-8`; none for a spreadsheet.
    pub encoding: Option<String>,
    /// None for a spreadsheet.
    pub separator: Option<Separator>,
    pub sheet: Option<String>,
    /// Where the header begins, from 1.
    pub header_line: u64,
}

impl Table {
    /// Opens a file whose header has the columns `wanted`; where those are found tells separator and header line.
    pub fn open(path: &Path, form: &Form, wanted: &[String]) -> Result<Table, FileError> {
        Input::open(path, form)?.table(form, wanted)
    }

    /// Reads the header of bytes that are there already.
    pub fn of(path: &Path, bytes: &'static [u8], wanted: &[String]) -> Result<Table, FileError> {
        let form = Form::default();
        Input::of(path, bytes, &form)?.table(&form, wanted)
    }

    fn start(path: PathBuf, rows: Rows, header: Header, found: Found) -> Table {
        let columns: Vec<String> = header.names;
        let uses = vec![Use::Unused; columns.len()];
        Table { path, rows, row: Row::default(), parts: header.parts, uses, goes_on: false, columns, found }
    }

    /// Lets rows be longer than the header.
    pub fn go_on(&mut self) {
        self.goes_on = true;
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn found(&self) -> &Found {
        &self.found
    }

    /// The names of the columns, in their order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// What the rows of the header say of a column.
    pub fn parts(&self, column: Column) -> &[String] {
        self.parts.get(column.0).map_or(&[], Vec::as_slice)
    }

    /// The column of that name or, as `#3`, of that place; none if there is none, an error if there are several.
    pub fn find(&mut self, name: &str) -> Result<Option<Column>, FileError> {
        let place = name.strip_prefix('#').and_then(|place| place.parse::<usize>().ok());
        if let Some(place) = place.filter(|place| (1..=self.columns.len()).contains(place)) {
            return Ok(Some(self.using(place - 1)));
        }
        let name = folded(name);
        let places: Vec<usize> =
            (0..self.columns.len()).filter(|place| !name.is_empty() && folded(&self.columns[*place]) == name).collect();
        match places.as_slice() {
            [] => Ok(None),
            [place] => Ok(Some(self.using(*place))),
            [first, second, ..] => {
                let (name, other) = (&self.columns[*first], &self.columns[*second]);
                let what = format!(
                    "the column `{name}` stands twice: `{name}` is column {}, `{other}` is column {}; name the right one by \
                     its place, as #{}",
                    first + 1,
                    second + 1,
                    second + 1
                );
                Err(self.header_error(what))
            }
        }
    }

    fn using(&mut self, place: usize) -> Column {
        if self.uses[place] == Use::Unused {
            self.uses[place] = Use::Used;
        }
        Column(place)
    }

    /// Lets a cell of the column have several lines.
    pub fn allow_lines(&mut self, column: Column) {
        self.uses[column.0] = Use::Lines;
    }

    pub fn is_used(&self, column: Column) -> bool {
        self.uses[column.0] != Use::Unused
    }

    /// Marks a column that was not found by its name as used.
    pub fn use_column(&mut self, column: Column) {
        self.using(column.0);
    }

    /// The column of that name, or an error that lists those there are.
    pub fn column(&mut self, name: &str) -> Result<Column, FileError> {
        match self.find(name)? {
            Some(column) => Ok(column),
            None => Err(self.missing(&[name])),
        }
    }

    /// Columns that are needed: all that are missing are told at once.
    pub fn needed<const N: usize>(&mut self, names: [&str; N]) -> Result<[Column; N], FileError> {
        let mut found = [Column(0); N];
        let mut missing = Vec::new();
        for (column, name) in found.iter_mut().zip(names) {
            match self.find(name)? {
                Some(place) => *column = place,
                None => missing.push(name),
            }
        }
        if missing.is_empty() { Ok(found) } else { Err(self.missing(&missing)) }
    }

    /// An error that says which columns are missing, which are there, and which are nearest.
    pub fn missing(&self, names: &[&str]) -> FileError {
        if self.columns.iter().all(String::is_empty) {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let columns = if names.len() == 1 { "a column" } else { "the columns" };
            return self.header_error(format!("is empty; expected a header with {columns} {}", names.join(", ")));
        }
        self.header_error(names::missing(names, &self.columns))
    }

    /// An error of the header's line.
    pub fn header_error(&self, what: impl Into<String>) -> FileError {
        let line = self.found.header_line;
        FileError::At { path: self.path.clone(), line, column: None, what: what.into() }
    }

    /// Goes to the next row; false at the end. Rows without any text are passed over.
    pub fn next_row(&mut self) -> Result<bool, FileError> {
        loop {
            if !self.rows.next(&mut self.row).map_err(|error| error.at(&self.path, &self.columns))? {
                return Ok(false);
            }
            let (len, expected) = (self.row.len(), self.columns.len());
            if len != expected || self.row.has_lines() {
                if self.row.is_blank() {
                    continue;
                }
                self.check_length(len, expected)?;
                self.check_lines()?;
            } else if self.row.text(0).is_empty() && self.row.is_blank() {
                continue;
            }
            if self.rows.is_sheet() {
                self.check_cells()?;
            }
            return Ok(true);
        }
    }

    /// A spreadsheet makes dates of texts as `1-2`, and shows errors in cells.
    fn check_cells(&self) -> Result<(), FileError> {
        for (place, is_used) in self.uses.iter().enumerate() {
            let text = self.row.text(place);
            let what = match () {
                () if *is_used == Use::Unused => continue,
                () if text.starts_with("#DATE(") => "is a date in the spreadsheet; expected a text or a number",
                () if text.starts_with("#ERROR(") => "is an error in the spreadsheet; expected a text or a number",
                () => continue,
            };
            return Err(self.error(Column(place), what));
        }
        Ok(())
    }

    fn check_length(&self, len: usize, expected: usize) -> Result<(), FileError> {
        let is_long = len > expected && (self.goes_on || (expected..len).all(|place| self.row.text(place).is_empty()));
        // Spreadsheets leave the empty end of a row out.
        let is_short = len < expected
            && (self.rows.is_sheet() || self.columns[len..].iter().all(String::is_empty) && !self.row.has_lines());
        if len == expected || is_long && !self.row.has_lines() || is_short {
            return Ok(());
        }
        let hint = if len == 1 { "; is another separator used there?" } else { "" };
        let what = format!("found {len} fields, expected {expected} as in the header{hint}");
        Err(FileError::At { path: self.path.clone(), line: self.row.line(), column: None, what })
    }

    /// A line break in a cell that cannot have one.
    fn check_lines(&self) -> Result<(), FileError> {
        for (place, is_used) in self.uses.iter().enumerate() {
            if *is_used == Use::Used && self.row.is_broken(place) {
                let what = "has a line break within the field; expected one line (is a quote missing or too many?)";
                return Err(self.error(Column(place), what));
            }
        }
        Ok(())
    }

    /// The line on which the row begins, from 1.
    pub fn line(&self) -> u64 {
        self.row.line()
    }

    /// How many fields the row has.
    pub fn row_len(&self) -> usize {
        self.row.len()
    }

    /// The text in a column of this row, without surrounding space.
    pub fn text(&self, column: Column) -> &str {
        self.row.text(column.0)
    }

    /// The text in a column, which must not be empty.
    pub fn required(&self, column: Column) -> Result<&str, FileError> {
        match self.text(column) {
            "" => Err(self.error(column, "is empty; expected a value")),
            text => Ok(text),
        }
    }

    /// A number of that type, or none where the text is empty.
    pub fn number<T: std::str::FromStr>(&self, column: Column, expected: &str) -> Result<Option<T>, FileError> {
        match self.text(column) {
            "" => Ok(None),
            text => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.error(column, format!("found `{text}`, expected {expected}"))),
            },
        }
    }

    /// An error at a column of this row.
    pub fn error(&self, column: Column, what: impl Into<String>) -> FileError {
        let name = self.columns.get(column.0).cloned().unwrap_or_else(|| format!("#{}", column.0 + 1));
        let line = self.row.line_of(column.0);
        FileError::At { path: self.path.clone(), line, column: Some(name), what: what.into() }
    }

    /// An error of the file as a whole.
    pub fn whole_error(&self, what: impl Into<String>) -> FileError {
        FileError::Whole { path: self.path.clone(), what: what.into() }
    }
}
