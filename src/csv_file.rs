//! CSV files with named columns: reading them (plain or gzipped), with errors that say where, and writing them.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

/// What is wrong in a file that a user gave: where, what was found, what was expected.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}, line {line}{}: {what}", path.display(), column.as_ref().map(|c| format!(", column `{c}`")).unwrap_or_default())]
    At { path: PathBuf, line: u64, column: Option<String>, what: String },
    #[error("{}: {what}", path.display())]
    Whole { path: PathBuf, what: String },
}

/// A CSV file being read, row by row.
pub struct CsvFile {
    path: PathBuf,
    reader: csv::Reader<Box<dyn Read + Send>>,
    columns: Vec<String>,
    row: csv::StringRecord,
    line: u64,
}

/// A column of a [`CsvFile`], found by its name.
#[derive(Clone, Copy, Debug)]
pub struct Column(usize);

impl CsvFile {
    /// Opens a file and reads its header. A name that ends in `.gz` is decompressed; a byte order mark is passed over.
    pub fn open(path: &Path) -> Result<CsvFile, FileError> {
        let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
        let file = BufReader::with_capacity(1 << 16, File::open(path).map_err(unreadable)?);
        let input: Box<dyn Read + Send> = if path.extension().is_some_and(|end| end == "gz") {
            Box::new(BufReader::new(MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        CsvFile::of(path, input)
    }

    /// Reads the header of a file that is open already.
    pub fn of(path: &Path, input: impl Read + Send + 'static) -> Result<CsvFile, FileError> {
        let mut reader = csv::ReaderBuilder::new().from_reader(Box::new(input) as Box<dyn Read + Send>);
        let columns = match reader.headers() {
            Ok(header) => header.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect(),
            Err(error) => return Err(csv_error(path, error)),
        };
        Ok(CsvFile { path: path.to_owned(), reader, columns, row: csv::StringRecord::new(), line: 1 })
    }

    /// The column of that name, or an error that lists those there are.
    pub fn column(&self, name: &str) -> Result<Column, FileError> {
        self.optional_column(name).ok_or_else(|| FileError::At {
            path: self.path.clone(),
            line: 1,
            column: None,
            what: if self.columns.is_empty() {
                format!("is empty; expected a header with a column `{name}`")
            } else {
                format!("no column `{name}`; the columns are {}", self.columns.join(", "))
            },
        })
    }

    pub fn optional_column(&self, name: &str) -> Option<Column> {
        self.columns.iter().position(|column| column == name).map(Column)
    }

    /// Goes to the next row; false at the end.
    pub fn next_row(&mut self) -> Result<bool, FileError> {
        match self.reader.read_record(&mut self.row) {
            Ok(more) => {
                self.line = self.row.position().map_or(self.line + 1, csv::Position::line);
                Ok(more)
            }
            Err(error) => Err(csv_error(&self.path, error)),
        }
    }

    /// The line on which the row begins, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The text in a column of this row, without surrounding space.
    pub fn text(&self, column: Column) -> &str {
        self.row.get(column.0).unwrap_or_default().trim()
    }

    /// The text in a column, which must not be empty.
    pub fn required(&self, column: Column) -> Result<&str, FileError> {
        match self.text(column) {
            "" => Err(self.error(column, "is empty; expected a value")),
            text => Ok(text),
        }
    }

    /// A whole number of zero or more; an empty text is zero.
    pub fn count(&self, column: Column) -> Result<u64, FileError> {
        match self.text(column) {
            "" => Ok(0),
            text => text
                .parse()
                .map_err(|_| self.error(column, format!("found `{text}`, expected a whole number of zero or more"))),
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
        FileError::At {
            path: self.path.clone(),
            line: self.line,
            column: self.columns.get(column.0).cloned(),
            what: what.into(),
        }
    }

    /// An error of the file as a whole.
    pub fn whole_error(&self, what: impl Into<String>) -> FileError {
        FileError::Whole { path: self.path.clone(), what: what.into() }
    }
}

/// A CSV file being written into memory: RFC 4180, with a bare line feed.
///
/// A text is written as it is, also one that a spreadsheet takes for a formula. Names come from the election's own files
/// and never from a vote, and whoever compares a file with those must find the same names. What is in votes goes by
/// [`CsvText::of_votes`].
pub struct CsvText {
    writer: csv::Writer<Vec<u8>>,
    is_of_votes: bool,
}

impl CsvText {
    /// One with this header.
    pub fn new(columns: &[&str]) -> Result<CsvText, csv::Error> {
        CsvText::with(csv::WriterBuilder::new(), columns, false)
    }

    /// One whose texts come from anybody: each is in quotes, and an apostrophe before it keeps a spreadsheet from running it
    /// as a formula (OWASP, CSV injection).
    pub fn of_votes(columns: &[&str]) -> Result<CsvText, csv::Error> {
        let mut builder = csv::WriterBuilder::new();
        builder.quote_style(csv::QuoteStyle::NonNumeric);
        CsvText::with(builder, columns, true)
    }

    fn with(builder: csv::WriterBuilder, columns: &[&str], is_of_votes: bool) -> Result<CsvText, csv::Error> {
        let mut writer = builder.from_writer(Vec::new());
        writer.write_record(columns)?;
        Ok(CsvText { writer, is_of_votes })
    }

    /// Adds a row; an error if it has another number of values than the header.
    pub fn push(&mut self, values: &[Value]) -> Result<(), csv::Error> {
        let is_formula = |text: &str| text.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠']);
        self.writer.write_record(values.iter().map(|value| match value {
            Value::String(text) if self.is_of_votes && is_formula(text) => format!("'{text}"),
            value => text_of(value).into_owned(),
        }))
    }

    /// So far, but for the last few KiB.
    pub fn byte_count(&self) -> usize {
        self.writer.get_ref().len()
    }

    pub fn finish(self) -> Result<String, csv::Error> {
        let bytes = self.writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
        String::from_utf8(bytes).map_err(|error| csv::Error::from(std::io::Error::other(error)))
    }
}

/// A value as it stands in a table: a text without quotes, nothing for null.
pub fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Null => Cow::Borrowed(""),
        other => Cow::Owned(other.to_string()),
    }
}

fn csv_error(path: &Path, error: csv::Error) -> FileError {
    let line = error.position().map_or(1, csv::Position::line);
    let what = match error.into_kind() {
        csv::ErrorKind::Io(source) => return FileError::Unreadable { path: path.to_owned(), source },
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("found {len} fields, expected {expected_len} as in the header")
        }
        csv::ErrorKind::Utf8 { err, .. } => {
            return FileError::At {
                path: path.to_owned(),
                line,
                column: None,
                what: format!("field {} is not UTF-8; save the file as UTF-8", err.field() + 1),
            };
        }
        kind => format!("{kind:?}"),
    };
    FileError::At { path: path.to_owned(), line, column: None, what }
}
