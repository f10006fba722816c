//! CSV being written. [`table`](crate::table) reads it.

use std::borrow::Cow;

use serde_json::Value;

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
