//! Writes CSV. [`table`](crate::table) reads it.

use std::borrow::Cow;

use serde_json::Value;

/// Builds a CSV file in memory: RFC 4180, but with bare line feeds.
///
/// Text is written verbatim, even if a spreadsheet would take it for a formula: names come from the election's own
/// files, never from votes, and must stay comparable with those files. Use [`CsvText::of_votes`] for text from votes.
pub struct CsvText {
    writer: csv::Writer<Vec<u8>>,
    is_of_votes: bool,
}

impl CsvText {
    /// A file with this header.
    ///
    /// # Errors
    ///
    /// If the header cannot be written.
    pub fn new(columns: &[&str]) -> Result<CsvText, csv::Error> {
        CsvText::with(csv::WriterBuilder::new(), columns, false)
    }

    /// A file for untrusted text: every text is quoted, and a leading apostrophe keeps a spreadsheet from running it as
    /// a formula (OWASP, CSV injection).
    ///
    /// # Errors
    ///
    /// If the header cannot be written.
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

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// If the number of values differs from the header's.
    pub fn push(&mut self, values: &[Value]) -> Result<(), csv::Error> {
        let is_formula = |text: &str| text.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠']);
        self.writer.write_record(values.iter().map(|value| match value {
            Value::String(text) if self.is_of_votes && is_formula(text) => format!("'{text}"),
            value => text_of(value).into_owned(),
        }))
    }

    /// Bytes written so far, except for the last few KiB, which are still buffered.
    pub fn byte_count(&self) -> usize {
        self.writer.get_ref().len()
    }

    /// Returns the whole file.
    ///
    /// # Errors
    ///
    /// If the last buffered rows cannot be written.
    pub fn finish(self) -> Result<String, csv::Error> {
        let bytes = self.writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
        String::from_utf8(bytes).map_err(|error| csv::Error::from(std::io::Error::other(error)))
    }
}

/// A value as a table shows it: text without quotes, nothing for null.
pub fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Null => Cow::Borrowed(""),
        other => Cow::Owned(other.to_string()),
    }
}
