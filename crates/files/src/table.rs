//! Strictly reads tables that users supply: delimited text in any common encoding, compressed or not, and spreadsheets.
//!
//! The format of a file is detected only where it is certain; [`Form`] states the rest. Nothing is skipped silently:
//! every row is as long as the header, every quote closes on its line, and every column in use occurs once.
//!
//! Keeps one row at a time in memory. Spreadsheets are the exception: they are read whole, up to a size limit.

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

/// A table, read row by row.
pub struct Table {
    path: PathBuf,
    rows: Rows,
    row: Row,
    columns: Vec<String>,
    /// The header's rows from top to bottom, for each column, if it has several.
    parts: Vec<Vec<String>>,
    uses: Vec<Use>,
    /// Whether rows may be longer than the header, as in files with repeated groups.
    goes_on: bool,
    found: Found,
}

/// The index of a column in a [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Column(pub usize);

/// How a column is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Unused,
    Used,
    /// A cell may have several lines.
    Lines,
}

/// The detected format of a file.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Found {
    /// The compression, such as `gzip`; none if uncompressed.
    pub packed: Option<String>,
    /// Such as `utf-8`; none for a spreadsheet.
    pub encoding: Option<String>,
    /// None for a spreadsheet.
    pub separator: Option<Separator>,
    pub sheet: Option<String>,
    /// The line where the header begins, from 1.
    pub header_line: u64,
}

impl Table {
    /// Opens a file whose header has the columns `wanted`. These locate the header line and determine the separator.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or its format or header is uncertain.
    pub fn open(path: &Path, form: &Form, wanted: &[String]) -> Result<Table, FileError> {
        Input::open(path, form)?.table(form, wanted)
    }

    /// Reads the header of a table that is already in memory.
    ///
    /// # Errors
    ///
    /// If the format or the header is uncertain.
    pub fn of(path: &Path, bytes: &'static [u8], wanted: &[String]) -> Result<Table, FileError> {
        let form = Form::default();
        Input::of(path, bytes, &form)?.table(&form, wanted)
    }

    fn start(path: PathBuf, rows: Rows, header: Header, found: Found) -> Table {
        let columns: Vec<String> = header.names;
        let uses = vec![Use::Unused; columns.len()];
        Table { path, rows, row: Row::default(), parts: header.parts, uses, goes_on: false, columns, found }
    }

    /// Allows rows to be longer than the header.
    pub fn go_on(&mut self) {
        self.goes_on = true;
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn found(&self) -> &Found {
        &self.found
    }

    /// The column names, in order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// A column's cells in each row of the header.
    pub fn parts(&self, column: Column) -> &[String] {
        self.parts.get(column.0).map_or(&[], Vec::as_slice)
    }

    /// The column with that name, or at that position if given as `#3`; none if there is no such column.
    ///
    /// # Errors
    ///
    /// If several columns have that name.
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
                    "the column `{name}` occurs twice: `{name}` is column {}, `{other}` is column {}; name the right \
                     one by its place, as #{}",
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

    /// Allows cells of the column to have several lines.
    pub fn allow_lines(&mut self, column: Column) {
        self.uses[column.0] = Use::Lines;
    }

    pub fn is_used(&self, column: Column) -> bool {
        self.uses[column.0] != Use::Unused
    }

    /// Marks a column as used that was not looked up by name.
    pub fn use_column(&mut self, column: Column) {
        self.using(column.0);
    }

    /// The column with that name.
    ///
    /// # Errors
    ///
    /// If no column, or more than one, has that name; the error lists the columns.
    pub fn column(&mut self, name: &str) -> Result<Column, FileError> {
        match self.find(name)? {
            Some(column) => Ok(column),
            None => Err(self.missing(&[name])),
        }
    }

    /// Looks up required columns.
    ///
    /// # Errors
    ///
    /// If a column is missing or occurs twice. One error lists all that are missing.
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

    /// An error that lists the missing columns, the existing ones, and the closest matches.
    pub fn missing(&self, names: &[&str]) -> FileError {
        if self.columns.iter().all(String::is_empty) {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let columns = if names.len() == 1 { "a column" } else { "the columns" };
            return self.header_error(format!("is empty; expected a header with {columns} {}", names.join(", ")));
        }
        self.header_error(names::missing(names, &self.columns))
    }

    /// An error at the header's line.
    pub fn header_error(&self, what: impl Into<String>) -> FileError {
        let line = self.found.header_line;
        FileError::At { path: self.path.clone(), line, column: None, what: what.into() }
    }

    /// Advances to the next row; false at the end. Skips blank rows.
    ///
    /// # Errors
    ///
    /// If the row cannot be read, is not as long as the header, or breaks a line within a field in use.
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

    /// Refuses dates, which spreadsheets make of texts like `1-2`, and cells that contain an error.
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
        // Spreadsheets omit the empty cells at the end of a row.
        let is_short = len < expected
            && (self.rows.is_sheet() || self.columns[len..].iter().all(String::is_empty) && !self.row.has_lines());
        if len == expected || is_long && !self.row.has_lines() || is_short {
            return Ok(());
        }
        let hint = if len == 1 { "; does this line use another separator?" } else { "" };
        let what = format!("found {len} fields, expected {expected} as in the header{hint}");
        Err(FileError::At { path: self.path.clone(), line: self.row.line(), column: None, what })
    }

    /// Refuses line breaks in columns that do not allow them.
    fn check_lines(&self) -> Result<(), FileError> {
        for (place, is_used) in self.uses.iter().enumerate() {
            if *is_used == Use::Used && self.row.is_broken(place) {
                let what = "has a line break within the field; expected one line (is a quote missing or too many?)";
                return Err(self.error(Column(place), what));
            }
        }
        Ok(())
    }

    /// The line where the row begins, from 1.
    pub fn line(&self) -> u64 {
        self.row.line()
    }

    /// The number of fields in the row.
    pub fn row_len(&self) -> usize {
        self.row.len()
    }

    /// The row's text in a column, trimmed.
    pub fn text(&self, column: Column) -> &str {
        self.row.text(column.0)
    }

    /// The row's text in a column that must not be empty.
    ///
    /// # Errors
    ///
    /// If the text is empty.
    pub fn required(&self, column: Column) -> Result<&str, FileError> {
        match self.text(column) {
            "" => Err(self.error(column, "is empty; expected a value")),
            text => Ok(text),
        }
    }

    /// Parses the text as a number; none if it is empty.
    ///
    /// # Errors
    ///
    /// If the text is not such a number.
    pub fn number<T: std::str::FromStr>(&self, column: Column, expected: &str) -> Result<Option<T>, FileError> {
        match self.text(column) {
            "" => Ok(None),
            text => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.error(column, format!("found `{text}`, expected {expected}"))),
            },
        }
    }

    /// An error in a column of this row.
    pub fn error(&self, column: Column, what: impl Into<String>) -> FileError {
        let name = self.columns.get(column.0).cloned().unwrap_or_else(|| format!("#{}", column.0 + 1));
        let line = self.row.line_of(column.0);
        FileError::At { path: self.path.clone(), line, column: Some(name), what: what.into() }
    }

    /// An error in the file as a whole.
    pub fn whole_error(&self, what: impl Into<String>) -> FileError {
        FileError::Whole { path: self.path.clone(), what: what.into() }
    }
}
