//! Reads one sheet of an `.xlsx` or `.ods` file, as a whole.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use calamine::{Data, Ods, Range, Reader, Xlsx, open_workbook_from_rs};
use zip::ZipArchive;

use crate::FileError;

/// The limit on unpacked size: a small file can unpack to any amount of data (a zip bomb).
const UNPACKED_BYTES_MAX: u64 = 256 << 20;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Xlsx,
    Ods,
}

/// A sheet's name and its rows, each with its line number.
pub struct Sheet {
    pub name: String,
    pub rows: Vec<(u64, Vec<String>)>,
}

pub fn read(path: &Path, file: File, kind: Kind, asked: Option<&str>) -> Result<Sheet, FileError> {
    let whole = |what: String| FileError::Whole { path: path.to_owned(), what };
    let broken = |error: &dyn std::fmt::Display| whole(format!("is a spreadsheet that cannot be read: {error}"));
    let file = check_size(file).map_err(|error| broken(&error))?;
    match kind {
        Kind::Xlsx => {
            let mut book: Xlsx<_> = open_workbook_from_rs(file).map_err(|error| broken(&error))?;
            pick(&mut book, asked).map_err(whole)
        }
        Kind::Ods => {
            let mut book: Ods<_> = open_workbook_from_rs(file).map_err(|error| broken(&error))?;
            pick(&mut book, asked).map_err(whole)
        }
    }
}

/// Unpacks the file once, discarding the output, to measure its size.
fn check_size(file: File) -> io::Result<BufReader<File>> {
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(io::Error::other)?;
    let mut left = UNPACKED_BYTES_MAX;
    for place in 0..archive.len() {
        let entry = archive.by_index(place).map_err(io::Error::other)?;
        let unpacked = io::copy(&mut entry.take(left + 1), &mut io::sink())?;
        left = left.checked_sub(unpacked).ok_or_else(|| {
            io::Error::other(format!("it unpacks to more than {} MiB; save the sheet as CSV", UNPACKED_BYTES_MAX >> 20))
        })?;
    }
    let mut file = archive.into_inner();
    file.rewind()?;
    Ok(file)
}

/// The requested sheet, or the only one that is not empty.
fn pick<R: Reader<BufReader<File>>>(book: &mut R, asked: Option<&str>) -> Result<Sheet, String>
where
    R::Error: std::fmt::Display,
{
    let names = book.sheet_names();
    if let Some(asked) = asked.filter(|asked| !names.iter().any(|name| name == asked)) {
        return Err(format!("has no sheet `{asked}`; the sheets are {}", names.join(", ")));
    }
    let mut filled = Vec::new();
    for name in names.into_iter().filter(|name| asked.is_none_or(|asked| asked == name)) {
        let range =
            book.worksheet_range(&name).map_err(|error| format!("the sheet `{name}` cannot be read: {error}"))?;
        if !range.is_empty() || asked.is_some() {
            filled.push((name, range));
        }
    }
    match filled.len() {
        0 => Err("has only empty sheets; expected a header and rows".into()),
        1 => filled.pop().map(|(name, range)| Sheet { rows: rows_of(&range), name }).ok_or_else(String::new),
        _ => {
            let names: Vec<&str> = filled.iter().map(|(name, _)| name.as_str()).collect();
            Err(format!("has several sheets; pick one with --sheet '{}': {}", names[0], names.join(", ")))
        }
    }
}

fn rows_of(range: &Range<Data>) -> Vec<(u64, Vec<String>)> {
    let (top, left) = range.start().unwrap_or_default();
    let rows = range.rows().enumerate().map(|(number, row)| {
        let mut cells = vec![String::new(); left as usize];
        cells.extend(row.iter().map(text_of));
        (u64::from(top) + number as u64 + 1, cells)
    });
    rows.collect()
}

/// A cell as text. Whole numbers have no decimals; dates and errors are marked so that they can be refused.
fn text_of(cell: &Data) -> String {
    match cell {
        Data::Empty => String::new(),
        Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => text.clone(),
        Data::Int(number) => number.to_string(),
        Data::Float(number) => number.to_string(),
        Data::Bool(value) => value.to_string(),
        Data::DateTime(time) => format!("#DATE({})", time.as_f64()),
        Data::Error(error) => format!("#ERROR({error:?})"),
    }
}
