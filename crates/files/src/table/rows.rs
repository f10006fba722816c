//! Strictly splits text into rows of fields.
//!
//! A field that begins with a quote must end with one: on the same line, or on a later one if the text between cannot
//! be rows of its own. A quote anywhere else is an ordinary character. A line ends with a line feed, a carriage return,
//! or both.

use std::io::{self, Read};
use std::path::Path;

use memchr::{memchr, memchr_iter, memchr2};

use crate::FileError;

/// Longer rows are refused, to bound memory use.
const ROW_BYTES_MAX: usize = 8 << 20;

/// The fields of a row.
#[derive(Debug, Default)]
pub struct Row {
    text: String,
    /// The start and end of each field.
    fields: Vec<(usize, usize)>,
    line: u64,
    has_lines: bool,
}

impl Row {
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The line where the row begins, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The line where a field begins.
    pub fn line_of(&self, place: usize) -> u64 {
        if !self.has_lines {
            return self.line;
        }
        let before = self
            .fields
            .iter()
            .take(place)
            .map(|(from, to)| memchr_iter(b'\n', &self.text.as_bytes()[*from..*to]).count());
        self.line + before.sum::<usize>() as u64
    }

    /// Whether a field spans several lines.
    pub fn has_lines(&self) -> bool {
        self.has_lines
    }

    /// Whether a field contains a line break, even if only among surrounding whitespace.
    pub fn is_broken(&self, place: usize) -> bool {
        self.fields.get(place).is_some_and(|(from, to)| self.text[*from..*to].contains(['\n', '\r']))
    }

    /// A field, trimmed; empty if the row is too short.
    pub fn text(&self, place: usize) -> &str {
        self.fields.get(place).map_or("", |(from, to)| self.text[*from..*to].trim())
    }

    pub fn is_blank(&self) -> bool {
        (0..self.len()).all(|place| self.text(place).is_empty())
    }

    /// All fields.
    pub fn texts(&self) -> Vec<String> {
        (0..self.len()).map(|place| self.text(place).to_owned()).collect()
    }

    /// Replaces the row with these fields.
    pub fn set(&mut self, line: u64, fields: &[String]) {
        self.text.clear();
        self.fields.clear();
        (self.line, self.has_lines) = (line, false);
        for field in fields {
            let from = self.text.len();
            self.text.push_str(field);
            self.fields.push((from, self.text.len()));
            self.has_lines |= field.contains('\n');
        }
    }
}

/// Why the next row cannot be read.
#[derive(Debug)]
pub enum RowError {
    Unreadable(io::Error),
    At { line: u64, field: Option<usize>, what: String },
}

impl RowError {
    /// Adds the file and, if there is one, the name of the column.
    pub fn at(self, path: &Path, columns: &[String]) -> FileError {
        match self {
            RowError::Unreadable(error) if error.kind() == io::ErrorKind::InvalidData => {
                FileError::Whole { path: path.to_owned(), what: error.to_string() }
            }
            RowError::Unreadable(source) => FileError::Unreadable { path: path.to_owned(), source },
            RowError::At { line, field, what } => {
                let column = field.map(|field| match columns.get(field).filter(|name| !name.is_empty()) {
                    Some(name) => name.clone(),
                    None => format!("#{}", field + 1),
                });
                FileError::At { path: path.to_owned(), line, column, what }
            }
        }
    }
}

/// Reads rows from UTF-8 text.
pub struct TextRows {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    is_at_end: bool,
    /// The number of the next line.
    next_line: u64,
    separator: u8,
    quotes: bool,
    /// A quoted field over several lines with this many separators has swallowed a row.
    swallowed: usize,
    /// The line being parsed.
    raw: Vec<u8>,
}

impl TextRows {
    pub fn new(input: Box<dyn Read + Send>, separator: u8, quotes: bool) -> TextRows {
        let buffer = vec![0; 1 << 16];
        let (raw, swallowed) = (Vec::new(), 1);
        TextRows { input, buffer, start: 0, end: 0, is_at_end: false, next_line: 1, separator, quotes, swallowed, raw }
    }

    /// Sets the expected number of fields.
    pub fn expect(&mut self, fields: usize) {
        self.swallowed = fields.saturating_sub(1).max(1);
    }

    /// Skips a line; false at the end.
    pub fn skip_line(&mut self) -> Result<bool, RowError> {
        Ok(self.take_line()?.is_some())
    }

    /// Reads the next row that is not an empty line; false at the end.
    pub fn next(&mut self, row: &mut Row) -> Result<bool, RowError> {
        row.fields.clear();
        row.has_lines = false;
        let mut bytes = std::mem::take(&mut row.text).into_bytes();
        bytes.clear();
        loop {
            row.line = self.next_line;
            let Some((from, to)) = self.take_line()? else { return Ok(false) };
            if from == to {
                continue;
            }
            let line = &self.buffer[from..to];
            if self.quotes && memchr(b'"', line).is_some() {
                self.raw.clear();
                self.raw.extend_from_slice(line);
                self.take_apart(row, &mut bytes)?;
            } else {
                bytes.extend_from_slice(line);
                split(self.separator, &bytes, &mut row.fields);
            }
            break;
        }
        row.text = String::from_utf8(bytes).map_err(|error| not_utf8(row, &error))?;
        Ok(true)
    }

    /// Parses a line with quotes, and the following lines that its last field spans.
    fn take_apart(&mut self, row: &mut Row, bytes: &mut Vec<u8>) -> Result<(), RowError> {
        let mut at = 0;
        loop {
            let from = bytes.len();
            if self.raw.get(at) == Some(&b'"') {
                at = self.quoted(at + 1, row, bytes)?;
            } else {
                let length = memchr(self.separator, &self.raw[at..]).unwrap_or(self.raw.len() - at);
                if self.raw[at..at + length].trim_ascii_start().starts_with(b"\"") {
                    let what = "has a space before its quote; remove the space, or use --no-quotes".into();
                    return Err(RowError::At { line: self.next_line - 1, field: Some(row.fields.len()), what });
                }
                bytes.extend_from_slice(&self.raw[at..at + length]);
                at += length;
            }
            row.fields.push((from, bytes.len()));
            if at >= self.raw.len() {
                return Ok(());
            }
            at += 1;
        }
    }

    /// Parses a quoted field after its opening quote; returns the position after the closing one.
    fn quoted(&mut self, mut at: usize, row: &mut Row, bytes: &mut Vec<u8>) -> Result<usize, RowError> {
        let (opened_on, field) = (self.next_line - 1, row.fields.len());
        let error = |what: &str| RowError::At { line: opened_on, field: Some(field), what: what.to_owned() };
        let mut separators = 0;
        loop {
            let Some(length) = memchr(b'"', &self.raw[at..]) else {
                separators += memchr_iter(self.separator, &self.raw[at..]).count();
                bytes.extend_from_slice(&self.raw[at..]);
                bytes.push(b'\n');
                row.has_lines = true;
                let Some((from, to)) = self.take_line()? else {
                    return Err(error("a quote opens here and is never closed; remove it, or close it on its line"));
                };
                if separators >= self.swallowed || bytes.len() > ROW_BYTES_MAX {
                    return Err(error(SWALLOWS));
                }
                let (buffer, raw) = (&self.buffer, &mut self.raw);
                raw.clear();
                raw.extend_from_slice(&buffer[from..to]);
                at = 0;
                continue;
            };
            separators += memchr_iter(self.separator, &self.raw[at..at + length]).count();
            bytes.extend_from_slice(&self.raw[at..at + length]);
            at += length + 1;
            if self.raw.get(at) != Some(&b'"') {
                break;
            }
            bytes.push(b'"');
            at += 1;
        }
        if row.has_lines && opened_on + 1 < self.next_line && separators >= self.swallowed {
            return Err(error(SWALLOWS));
        }
        let behind = self.raw[at..].iter().take_while(|byte| **byte == b' ' && self.separator != b' ').count();
        at += behind;
        match self.raw.get(at) {
            None => Ok(at),
            Some(byte) if *byte == self.separator => Ok(at),
            Some(_) if opened_on + 1 < self.next_line => Err(error(SWALLOWS)),
            Some(_) => Err(error(
                "begins with a quote that closes before the end of the field; double each inner quote, \
                 or remove the first",
            )),
        }
    }

    /// The next line without its line ending, as a range of the buffer.
    fn take_line(&mut self) -> Result<Option<(usize, usize)>, RowError> {
        let mut seen = 0;
        loop {
            let found =
                memchr2(b'\n', b'\r', &self.buffer[self.start + seen..self.end]).map(|at| self.start + seen + at);
            match found {
                // At the end of the buffer, it is not known yet whether a line feed follows the carriage return.
                Some(at) if self.buffer[at] == b'\r' && at + 1 == self.end && !self.is_at_end => {
                    seen = at - self.start;
                    self.fill()?;
                }
                Some(at) => {
                    let is_pair = self.buffer[at] == b'\r' && at + 1 < self.end && self.buffer[at + 1] == b'\n';
                    let line = (self.start, at);
                    self.start = at + if is_pair { 2 } else { 1 };
                    self.next_line += 1;
                    return Ok(Some(line));
                }
                None if self.is_at_end => {
                    if self.start == self.end {
                        return Ok(None);
                    }
                    let line = (self.start, self.end);
                    self.start = self.end;
                    self.next_line += 1;
                    return Ok(Some(line));
                }
                None => {
                    seen = self.end - self.start;
                    self.fill()?;
                }
            }
        }
    }

    /// Reads more input, after what is already in the buffer.
    fn fill(&mut self) -> Result<(), RowError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() - self.end < 1 << 12 {
            if self.buffer.len() > ROW_BYTES_MAX {
                let what = format!("the line is longer than {} MiB; is it a table of text?", ROW_BYTES_MAX >> 20);
                return Err(RowError::At { line: self.next_line, field: None, what });
            }
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let read = loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(RowError::Unreadable)?,
            }
        };
        self.end += read;
        self.is_at_end = read == 0;
        Ok(())
    }
}

const SWALLOWS: &str = "a quote opens here and is never closed, or closes lines later, across what look like separate \
    rows; remove it, or close it on its line";

fn split(separator: u8, line: &[u8], fields: &mut Vec<(usize, usize)>) {
    let mut from = 0;
    for at in memchr_iter(separator, line) {
        fields.push((from, at));
        from = at + 1;
    }
    fields.push((from, line.len()));
}

fn not_utf8(row: &Row, error: &std::string::FromUtf8Error) -> RowError {
    let at = error.utf8_error().valid_up_to();
    let field = row.fields.iter().position(|(from, to)| (*from..*to).contains(&at));
    let byte = error.as_bytes()[at];
    let what = format!(
        "the byte {byte:#04x} is not UTF-8; if the file is in a Western European encoding, use --encoding windows-1252 \
         (or latin-1)"
    );
    RowError::At { line: row.line, field, what }
}
