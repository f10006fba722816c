//! Opens a file as text or spreadsheet. Detects the compression from the first bytes, not from the name.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::{DeflateDecoder, MultiGzDecoder};
use zip::{CompressionMethod, ZipArchive};

use super::decode::{decoded, is_certainly_utf8, is_unmarked_utf16, of_mark};
use super::form::{Encoding, Form, Separator};
use super::peek::{Header, Peek, Place, header, said_by_excel};
use super::rows::{Row, RowError, TextRows};
use super::sheet::{self, Kind};
use super::{Found, Table};
use crate::FileError;

/// How many bytes are inspected to detect the format.
const HEAD_BYTES: usize = 1 << 18;

/// An open file and its first rows.
pub struct Input {
    path: PathBuf,
    body: Body,
    peek: Peek,
    packed: Option<String>,
    encoding: Option<Encoding>,
}

enum Body {
    Text { head: Vec<u8>, rest: Box<dyn Read + Send> },
    Sheet { name: String, rows: Vec<(u64, Vec<String>)> },
}

/// A source of rows.
pub(super) enum Rows {
    Text(Box<TextRows>),
    Sheet(std::vec::IntoIter<(u64, Vec<String>)>),
}

impl Rows {
    pub fn next(&mut self, row: &mut Row) -> Result<bool, RowError> {
        match self {
            Rows::Text(rows) => rows.next(row),
            Rows::Sheet(rows) => {
                let Some((line, cells)) = rows.next() else { return Ok(false) };
                row.set(line, &cells);
                Ok(true)
            }
        }
    }

    pub fn is_sheet(&self) -> bool {
        matches!(self, Rows::Sheet(_))
    }
}

impl Input {
    /// Opens a file and inspects its first rows.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no table, or is not in the encoding that `form` states.
    pub fn open(path: &Path, form: &Form) -> Result<Input, FileError> {
        let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let kind = file.metadata().map_err(unreadable)?.file_type();
        if !kind.is_file() && !kind.is_dir() {
            let what = "is a pipe or a device; expected a file, since it is read more than once".into();
            return Err(FileError::Whole { path: path.to_owned(), what });
        }
        let mut magic = Vec::new();
        file.by_ref().take(8).read_to_end(&mut magic).map_err(unreadable)?;
        check_kind(path, &magic)?;
        if magic.starts_with(b"PK\x03\x04") {
            return Input::unzip(path, file, form);
        }
        let file = BufReader::with_capacity(1 << 16, file);
        let whole = Cursor::new(magic.clone()).chain(file);
        if magic.starts_with(&[0x1f, 0x8b]) {
            let input = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(whole));
            return Input::text(path, Box::new(input), form, Some("gzip".into()));
        }
        Input::text(path, Box::new(whole), form, None)
    }

    /// Reads bytes that are already in memory.
    ///
    /// # Errors
    ///
    /// If the encoding is uncertain or not the one that `form` states.
    pub fn of(path: &Path, bytes: &'static [u8], form: &Form) -> Result<Input, FileError> {
        Input::text(path, Box::new(bytes), form, None)
    }

    fn unzip(path: &Path, mut file: File, form: &Form) -> Result<Input, FileError> {
        let whole = |what: String| FileError::Whole { path: path.to_owned(), what };
        let broken = |error: &dyn std::fmt::Display| whole(format!("is a zip that cannot be read: {error}"));
        file.rewind().map_err(|source| FileError::Unreadable { path: path.to_owned(), source })?;
        let mut archive = ZipArchive::new(file).map_err(|error| broken(&error))?;
        let names: Result<Vec<String>, _> =
            archive.file_names().map(|name| name.map(|name| name.into_owned())).collect();
        let names = names.map_err(|error| broken(&error))?;
        if let Some(kind) = spreadsheet(&names) {
            let sheet = sheet::read(path, archive.into_inner(), kind, form.sheet.as_deref())?;
            return Ok(Input::sheet(path, sheet, kind));
        }
        let is_file = |name: &&String| !name.ends_with('/') && !name.starts_with("__MACOSX/");
        let files: Vec<&String> = names.iter().filter(is_file).collect();
        let [name] = files.as_slice() else {
            let list = files.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(whole(format!(
                "is a zip of {} files; expected one, so unpack the right one: {list}",
                files.len()
            )));
        };
        let entry = archive.by_name(name).map_err(|error| broken(&error))?;
        let (packed, crc) = (entry.compressed_size(), entry.crc32());
        let (method, start) = (entry.compression(), entry.data_start());
        drop(entry);
        let mut file = archive.into_inner();
        let start = start.ok_or_else(|| whole("is a zip that cannot be read: its file has no offset".into()))?;
        file.seek(SeekFrom::Start(start)).map_err(|error| broken(&error))?;
        let bytes = BufReader::with_capacity(1 << 16, file).take(packed);
        let input: Box<dyn Read + Send> = match method {
            CompressionMethod::Stored => Box::new(bytes),
            CompressionMethod::Deflated => Box::new(DeflateDecoder::new(bytes)),
            other => return Err(whole(format!("is a zip compressed with {other:?}; use deflate, or unpack it"))),
        };
        let input = Checked { input, hasher: crc32fast::Hasher::new(), crc };
        Input::text(path, Box::new(BufReader::with_capacity(1 << 16, input)), form, Some("zip".into()))
    }

    fn sheet(path: &Path, sheet: sheet::Sheet, kind: Kind) -> Input {
        let first: Vec<_> =
            sheet.rows.iter().filter(|(_, row)| row.iter().any(|cell| !cell.is_empty())).take(60).cloned().collect();
        let packed = match kind {
            Kind::Xlsx => "xlsx",
            Kind::Ods => "ods",
        };
        Input {
            path: path.to_owned(),
            peek: Peek::of_rows(first),
            body: Body::Sheet { name: sheet.name, rows: sheet.rows },
            packed: Some(packed.into()),
            encoding: None,
        }
    }

    fn text(
        path: &Path,
        mut input: Box<dyn Read + Send>,
        form: &Form,
        packed: Option<String>,
    ) -> Result<Input, FileError> {
        let unreadable = |source| RowError::Unreadable(source).at(path, &[]);
        let mut head = Vec::new();
        input.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(unreadable)?;
        let (encoding, mark) = encoding_of(path, &head, form)?;
        head.drain(..mark);
        let mut text = decoded(Box::new(Cursor::new(head).chain(input)), encoding);
        let mut head = vec![0; HEAD_BYTES];
        let mut length = 0;
        loop {
            match text.read(&mut head[length..]).map_err(unreadable)? {
                0 => break,
                read => length += read,
            }
            if head.len() - length < 4096 {
                break;
            }
        }
        let is_whole = head.len() - length >= 4096;
        head.truncate(length);
        let peek = Peek::of_text(&head, is_whole, form.separator, !form.no_quotes);
        let body = Body::Text { head, rest: text };
        Ok(Input { path: path.to_owned(), body, peek, packed, encoding: Some(encoding) })
    }

    /// Locates the header with these names, if it is certain.
    pub fn find(&self, wanted: &[String], header_rows: usize) -> Option<Place> {
        self.peek.find(wanted, header_rows)
    }

    /// Whether the header repeats one of these names, or the first row is longer than the header.
    pub fn goes_on(&self, place: &Place, wanted: &[String]) -> bool {
        self.peek.goes_on(place, wanted)
    }

    /// The first rows, each with its line number, split at commas if the separator is unknown.
    pub fn first_rows(&self) -> &[(u64, Vec<String>)] {
        self.peek.first_rows()
    }

    /// Reads the header from the line that `form` states, or where the columns `wanted` are.
    ///
    /// # Errors
    ///
    /// If the position of the header or the separator is uncertain, or the header cannot be read.
    pub fn table(self, form: &Form, wanted: &[String]) -> Result<Table, FileError> {
        let header_rows = form.header_rows.unwrap_or(1).max(1);
        let doubt = |line: u64, what: String| FileError::At { path: self.path.clone(), line, column: None, what };
        let place = match (form.header_line, self.peek.find(wanted, header_rows)) {
            (Some(line), _) => self.peek.at_line(line).map_err(|what| doubt(line, what))?,
            (None, Some(place)) if !wanted.is_empty() => place,
            (None, _) => self.peek.first().map_err(|what| doubt(1, what))?,
        };
        self.table_at(form, &place)
    }

    fn table_at(self, form: &Form, place: &Place) -> Result<Table, FileError> {
        let header_rows = form.header_rows.unwrap_or(1).max(1);
        let mut found = Found {
            packed: self.packed,
            encoding: self.encoding.map(|encoding| encoding.to_string()),
            separator: place.separator,
            sheet: None,
            header_line: place.line,
        };
        let (rows, header) = match self.body {
            Body::Sheet { name, rows } => {
                found.sheet = Some(name);
                let mut rows = rows.into_iter();
                let before = rows.as_slice().iter().take_while(|(line, _)| *line < place.line).count();
                let top: Vec<_> = rows.by_ref().skip(before).take(header_rows).collect();
                (Rows::Sheet(rows), without_end(header(&top)))
            }
            Body::Text { head, rest } => {
                let separator = place.separator.unwrap_or(Separator(b','));
                let is_excel = said_by_excel(&head).is_some();
                let mut rows = TextRows::new(Box::new(Cursor::new(head).chain(rest)), separator.0, !form.no_quotes);
                let header = text_header(&mut rows, place.line.max(if is_excel { 2 } else { 1 }), header_rows);
                let header = header.map_err(|error| error.at(&self.path, &[]))?;
                rows.expect(header.names.len());
                (Rows::Text(Box::new(rows)), header)
            }
        };
        Ok(Table::start(self.path, rows, header, found))
    }
}

fn text_header(rows: &mut TextRows, line: u64, header_rows: usize) -> Result<Header, RowError> {
    for _ in 1..line {
        rows.skip_line()?;
    }
    let (mut top, mut row) = (Vec::new(), Row::default());
    while top.len() < header_rows && rows.next(&mut row)? {
        rows.expect(row.len());
        top.push((row.line(), row.texts()));
    }
    Ok(header(&top))
}

/// Trims empty columns at the end: a sheet keeps the width of cells that were deleted.
fn without_end(mut header: Header) -> Header {
    let width = header.names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    header.names.truncate(width);
    header.parts.truncate(width);
    header
}

/// Refuses files that are no table, and names what they are.
fn check_kind(path: &Path, magic: &[u8]) -> Result<(), FileError> {
    let is = |kind: &str, instead: &str| {
        let what = format!("is {kind}, not a table; {instead}");
        Err(FileError::Whole { path: path.to_owned(), what })
    };
    let text: Vec<u8> = magic.iter().map(u8::to_ascii_lowercase).collect();
    match magic {
        [b'%', b'P', b'D', b'F', ..] => is("a PDF", "the publisher may offer the same data as CSV or a spreadsheet"),
        [0xd0, 0xcf, 0x11, 0xe0, ..] => is("an old Excel file (.xls)", "save it as .xlsx or CSV"),
        [b'7', b'z', 0xbc, 0xaf, ..] => is("a 7z archive", "unpack it"),
        [b'R', b'a', b'r', b'!', ..] => is("a RAR archive", "unpack it"),
        [b'B', b'Z', b'h', ..] => is("compressed with bzip2", "unpack it"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => is("compressed with xz", "unpack it"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => is("compressed with zstd", "unpack it"),
        [b'P', b'A', b'R', b'1', ..] => is("a Parquet file", "save it as CSV"),
        _ if text.starts_with(b"<!doctyp") || text.starts_with(b"<html") => {
            is("a web page", "did you save the download page instead of the file?")
        }
        _ if text.starts_with(b"<?xml") => is("XML", "save it as CSV"),
        [b'{' | b'[', b'\n' | b'\r' | b' ' | b'"' | b'{', ..] => is("JSON", "save it as CSV"),
        _ => Ok(()),
    }
}

fn spreadsheet(names: &[String]) -> Option<Kind> {
    let has = |name: &str| names.iter().any(|other| other == name);
    match () {
        () if has("xl/workbook.xml") => Some(Kind::Xlsx),
        () if has("content.xml") && has("mimetype") => Some(Kind::Ods),
        () => None,
    }
}

/// Detects the encoding and the length of the byte order mark.
fn encoding_of(path: &Path, head: &[u8], form: &Form) -> Result<(Encoding, usize), FileError> {
    let error = |what: String| Err(FileError::At { path: path.to_owned(), line: 1, column: None, what });
    let said = form.encoding;
    if let Some((marked, length)) = of_mark(head) {
        return match said {
            Some(said) if said != marked => {
                error(format!("has the byte order mark of {marked}, but --encoding says {said}; omit the option"))
            }
            _ => Ok((marked, length)),
        };
    }
    match said {
        Some(said @ (Encoding::Windows1252 | Encoding::Latin1)) if is_certainly_utf8(head) => {
            error(format!("is valid UTF-8, but --encoding says {said}; omit the option"))
        }
        Some(said) => Ok((said, 0)),
        None => match is_unmarked_utf16(head) {
            Some(encoding) => {
                error(format!("looks like UTF-16 without a byte order mark; if it is, use --encoding {encoding}"))
            }
            None if head.contains(&0) => error("is not text; expected CSV (compressed or not) or a spreadsheet".into()),
            None => Ok((Encoding::Utf8, 0)),
        },
    }
}

/// Verifies the checksum of unpacked data.
struct Checked {
    input: Box<dyn Read + Send>,
    hasher: crc32fast::Hasher,
    crc: u32,
}

impl Read for Checked {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.hasher.update(&into[..read]);
        if read == 0 && !into.is_empty() && self.hasher.clone().finalize() != self.crc {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "is a damaged zip: the checksum does not match"));
        }
        Ok(read)
    }
}

/// Rows of a file without a header.
pub struct Bare(Rows);

impl Bare {
    /// Advances to the next row; false at the end.
    ///
    /// # Errors
    ///
    /// If the row cannot be read.
    pub fn next(&mut self, row: &mut Row) -> Result<bool, RowError> {
        self.0.next(row)
    }
}

impl Input {
    /// All rows from the first line on, split at the separator that `form` states, or at commas.
    pub fn rows(self, form: &Form) -> Bare {
        match self.body {
            Body::Sheet { rows, .. } => Bare(Rows::Sheet(rows.into_iter())),
            Body::Text { head, rest } => {
                let separator = form.separator.unwrap_or(Separator(b','));
                let input = Box::new(Cursor::new(head).chain(rest));
                Bare(Rows::Text(Box::new(TextRows::new(input, separator.0, !form.no_quotes))))
            }
        }
    }
}
