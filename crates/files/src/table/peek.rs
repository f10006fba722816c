//! Inspects the first rows to find the separator and the header line.

use super::form::Separator;
use super::names::folded;
use super::rows::{Row, TextRows};

/// How many rows are searched for the header.
const ROWS: usize = 60;

const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// The first rows of a file, split at each candidate separator.
pub struct Peek {
    readings: Vec<Reading>,
    /// Why the separator is uncertain, if it is.
    doubt: Option<String>,
}

struct Reading {
    separator: Option<Separator>,
    /// Each with its line number.
    rows: Vec<(u64, Vec<String>)>,
    /// Whether all inspected rows have as many fields as the first, and more than one.
    is_even: bool,
}

/// The header's line and the separator.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub separator: Option<Separator>,
    pub line: u64,
}

/// The header of a table.
#[derive(Debug, Default)]
pub struct Header {
    pub names: Vec<String>,
    pub parts: Vec<Vec<String>>,
}

impl Peek {
    /// Inspects the beginning of a text, which may be cut off anywhere.
    pub fn of_text(head: &[u8], is_whole: bool, said: Option<Separator>, quotes: bool) -> Peek {
        let mut head = head.to_vec();
        if !is_whole {
            head.truncate(memchr::memrchr2(b'\n', b'\r', &head).map_or(head.len(), |at| at + 1));
        }
        let excel = said_by_excel(&head);
        let separators = match said.or(excel) {
            Some(separator) => vec![separator.0],
            None => SEPARATORS.to_vec(),
        };
        let skipped = usize::from(excel.is_some());
        let readings = separators.into_iter().map(|separator| reading(&head, separator, quotes, skipped)).collect();
        let mut peek = Peek { readings, doubt: None };
        peek.doubt = peek.doubted();
        peek
    }

    pub fn of_rows(rows: Vec<(u64, Vec<String>)>) -> Peek {
        Peek { readings: vec![Reading { separator: None, rows, is_even: true }], doubt: None }
    }

    /// Locates the header that has all these names, if it is certain: one line, with one separator.
    pub fn find(&self, wanted: &[String], header_rows: usize) -> Option<Place> {
        let wanted: Vec<Vec<String>> = wanted.iter().map(|name| name.split('|').map(folded).collect()).collect();
        let mut found = self.readings.iter().filter_map(|reading| {
            let last = reading.rows.len().checked_sub(header_rows)? + 1;
            let at = (0..last).find(|at| {
                let names: Vec<String> =
                    header(&reading.rows[*at..*at + header_rows]).names.iter().map(|name| folded(name)).collect();
                wanted.iter().all(|name| name.iter().any(|name| names.contains(name)))
            })?;
            Some(Place { separator: reading.separator, line: reading.rows[at].0 })
        });
        let first = found.next()?;
        (wanted.len() > 1 || self.readings.len() == 1 || found.next().is_none()).then_some(first)
    }

    /// The first line with the only plausible separator.
    pub fn first(&self) -> Result<Place, String> {
        if let Some(doubt) = &self.doubt {
            return Err(doubt.clone());
        }
        let first = self.likely().first().copied().or(self.readings.first());
        let line = first.and_then(|reading| reading.rows.first()).map_or(1, |row| row.0);
        Ok(Place { separator: first.and_then(|reading| reading.separator), line })
    }

    /// The separator at a given header line.
    pub fn at_line(&self, line: u64) -> Result<Place, String> {
        let fits: Vec<&Reading> = self.readings.iter().filter(|reading| reading.width_at(line) > 1).collect();
        match fits.as_slice() {
            [one] => Ok(Place { separator: one.separator, line }),
            [] => Ok(Place { separator: self.readings.first().and_then(|reading| reading.separator), line }),
            several => Err(doubt_of(several)),
        }
    }

    /// Whether the header repeats a wanted name, or the row after it is longer.
    pub fn goes_on(&self, place: &Place, wanted: &[String]) -> bool {
        let Some(reading) = self.readings.iter().find(|reading| reading.separator == place.separator) else {
            return false;
        };
        let mut rows = reading.rows.iter().skip_while(|row| row.0 < place.line).map(|row| &row.1);
        let Some(header) = rows.next() else { return false };
        let times = |name: &str| header.iter().filter(|column| folded(column) == folded(name)).count();
        let is_twice = wanted.iter().flat_map(|names| names.split('|')).any(|name| times(name) > 1);
        let is_longer = |row: &Vec<String>| row.iter().skip(header.len()).any(|text| !text.is_empty());
        is_twice || rows.next().is_some_and(is_longer)
    }

    /// The first rows, split at the first candidate separator.
    pub fn first_rows(&self) -> &[(u64, Vec<String>)] {
        self.readings.first().map_or(&[], |reading| &reading.rows)
    }

    /// The plausible readings: those whose separator is in the first line and, if there are several, whose rows are
    /// even.
    fn likely(&self) -> Vec<&Reading> {
        let in_header: Vec<&Reading> = self.readings.iter().filter(|reading| reading.width() > 1).collect();
        if in_header.len() < 2 {
            return in_header;
        }
        let even: Vec<&Reading> =
            in_header.iter().copied().filter(|reading| reading.is_even && reading.rows.len() > 1).collect();
        if even.is_empty() { in_header } else { even }
    }

    fn doubted(&self) -> Option<String> {
        match self.likely().as_slice() {
            [] | [_] => None,
            several => Some(doubt_of(several)),
        }
    }
}

fn doubt_of(readings: &[&Reading]) -> String {
    let names: Vec<String> =
        readings.iter().filter_map(|reading| reading.separator).map(|separator| separator.to_string()).collect();
    format!("may be separated by {}; pick one with --separator {}", names.join(" or "), names[0])
}

impl Reading {
    fn width(&self) -> usize {
        self.rows.first().map_or(0, |row| row.1.len())
    }

    fn width_at(&self, line: u64) -> usize {
        self.rows.iter().find(|row| row.0 == line).map_or(0, |row| row.1.len())
    }
}

/// Parses a first line such as `sep=;`, which Excel writes and reads.
pub fn said_by_excel(head: &[u8]) -> Option<Separator> {
    let rest = head.get(..4).filter(|start| start.eq_ignore_ascii_case(b"sep=")).map(|_| &head[4..])?;
    match rest {
        [separator] | [separator, b'\r' | b'\n', ..] => Some(Separator(*separator)),
        _ => None,
    }
}

fn reading(head: &[u8], separator: u8, quotes: bool, skipped: usize) -> Reading {
    let input = std::io::Cursor::new(head.to_vec());
    let mut text = TextRows::new(Box::new(input), separator, quotes);
    let mut rows = Vec::new();
    for _ in 0..skipped {
        if !matches!(text.skip_line(), Ok(true)) {
            break;
        }
    }
    let mut row = Row::default();
    // Errors further down are reported when those rows are read.
    while rows.len() < ROWS && matches!(text.next(&mut row), Ok(true)) {
        if rows.is_empty() {
            text.expect(row.len());
        }
        rows.push((row.line(), row.texts()));
    }
    let width = rows.first().map_or(0, |(_, row): &(u64, Vec<String>)| row.len());
    Reading {
        separator: Some(Separator(separator)),
        is_even: width > 1 && rows.iter().all(|(_, row)| row.len() == width),
        rows,
    }
}

/// Column names. In all rows of the header but the last, a cell extends to the right until the next one begins.
pub fn header(rows: &[(u64, Vec<String>)]) -> Header {
    let width = rows.iter().map(|(_, row)| row.len()).max().unwrap_or_default();
    let last = rows.len().saturating_sub(1);
    let mut parts = vec![vec![String::new(); rows.len()]; width];
    for (level, (_, row)) in rows.iter().enumerate() {
        let mut held = String::new();
        for (place, parts) in parts.iter_mut().enumerate() {
            let text = row.get(place).map_or("", String::as_str);
            let is_new_above = level > 0
                && rows[..level].iter().any(|(_, above)| above.get(place).is_some_and(|text| !text.is_empty()));
            if !text.is_empty() || is_new_above || level == last {
                held = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            parts[level].clone_from(&held);
        }
    }
    let name =
        |parts: &Vec<String>| parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" / ");
    Header { names: parts.iter().map(name).collect(), parts }
}
