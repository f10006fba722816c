//! Rows out of text: fields between separators, strictly.
//!
//! A field that begins with a quote ends with one, on the same line or, where what is between cannot be rows, on a later one.
//! A quote anywhere else is a character. A line ends with a line feed, a carriage return, or both.

use std::io::{self, Read};
use std::path::Path;

use memchr::{memchr, memchr_iter, memchr2};

use crate::FileError;

/// A longer row is refused, so that memory stays bounded whatever the file.
const ROW_BYTES_MAX: usize = 8 << 20;

/// The fields of a row.
#[derive(Debug, Default)]
pub struct Row {
    text: String,
    /// Where each field begins and ends.
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

    /// The line on which the row begins, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The line on which a field begins.
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

    /// Whether a field goes over several lines.
    pub fn has_lines(&self) -> bool {
        self.has_lines
    }

    /// Whether a field has a line break, also where it is only space.
    pub fn is_broken(&self, place: usize) -> bool {
        self.fields.get(place).is_some_and(|(from, to)| self.text[*from..*to].contains(['\n', '\r']))
    }

    /// A field without the space around it; empty where the row ends before.
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

    /// Becomes a row of these fields.
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

/// Why there is no next row.
#[derive(Debug)]
pub enum RowError {
    Unreadable(io::Error),
    At { line: u64, field: Option<usize>, what: String },
}

impl RowError {
    /// With the file, and the name of the column if there is one.
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

/// Reads rows out of UTF-8.
pub struct TextRows {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    is_at_end: bool,
    /// The number of the line that comes next.
    next_line: u64,
    separator: u8,
    quotes: bool,
    /// So many separators on the lines of one field are those of a row.
    swallowed: usize,
    /// The line that is taken apart.
    raw: Vec<u8>,
}

impl TextRows {
    pub fn new(input: Box<dyn Read + Send>, separator: u8, quotes: bool) -> TextRows {
        let buffer = vec![0; 1 << 16];
        let (raw, swallowed) = (Vec::new(), 1);
        TextRows { input, buffer, start: 0, end: 0, is_at_end: false, next_line: 1, separator, quotes, swallowed, raw }
    }

    /// Tells how many fields a row has.
    pub fn expect(&mut self, fields: usize) {
        self.swallowed = fields.saturating_sub(1).max(1);
    }

    /// Passes over a line; false at the end.
    pub fn skip_line(&mut self) -> Result<bool, RowError> {
        Ok(self.take_line()?.is_some())
    }

    /// The next row that is not an empty line; false at the end.
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

    /// A line with quotes, and those behind it that its last field goes on.
    fn take_apart(&mut self, row: &mut Row, bytes: &mut Vec<u8>) -> Result<(), RowError> {
        let mut at = 0;
        loop {
            let from = bytes.len();
            if self.raw.get(at) == Some(&b'"') {
                at = self.quoted(at + 1, row, bytes)?;
            } else {
                let length = memchr(self.separator, &self.raw[at..]).unwrap_or(self.raw.len() - at);
                if self.raw[at..at + length].trim_ascii_start().starts_with(b"\"") {
                    let what = "has a space before its quote; remove the space, or say --no-quotes".into();
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

    /// A field from behind its first quote on; gives the place behind it.
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
                "begins with a quote that closes before the end of the field; double each quote within, or leave out the first",
            )),
        }
    }

    /// The next line, without its end, as a range of the buffer.
    fn take_line(&mut self) -> Result<Option<(usize, usize)>, RowError> {
        let mut seen = 0;
        loop {
            let found =
                memchr2(b'\n', b'\r', &self.buffer[self.start + seen..self.end]).map(|at| self.start + seen + at);
            match found {
                // What follows a carriage return at the end of the buffer is not known yet.
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

    /// Reads on, behind what is in the buffer.
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

const SWALLOWS: &str = "a quote opens here and is never closed, or closes lines later, over what reads as rows of their own; \
    remove it, or close it on its line";

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
        "the byte {byte:#04x} is not UTF-8; if the file is in the encoding of Western Europe, say --encoding windows-1252 \
         (or latin-1)"
    );
    RowError::At { line: row.line, field, what }
}
