//! Findings in a file: where, what, and which option settles it.

use std::path::Path;

use scrutin_files::FileError;
use serde::Serialize;

/// Something that the user should know, or must settle before the file can be counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// None for the file as a whole.
    pub line: Option<u64>,
    pub column: Option<String>,
    pub what: String,
    /// Whether the file is refused until this is settled.
    pub is_refused: bool,
}

/// How many findings are reported one by one.
const REPORTED_MAX: usize = 12;

/// Findings in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    pub fn note(&mut self, what: String) {
        self.0.push(Finding { line: None, column: None, what, is_refused: false });
    }

    pub fn note_at(&mut self, line: u64, column: Option<&str>, what: String) {
        self.0.push(Finding { line: Some(line), column: column.map(str::to_owned), what, is_refused: false });
    }

    pub fn refuse(&mut self, line: u64, column: Option<&str>, what: String) {
        self.0.push(Finding { line: Some(line), column: column.map(str::to_owned), what, is_refused: true });
    }

    pub fn has_refused(&self) -> bool {
        self.0.iter().any(|finding| finding.is_refused)
    }

    /// One error with everything that is refused; none if nothing is.
    pub fn error(&self, path: &Path) -> Option<FileError> {
        let refused = self.0.iter().filter(|finding| finding.is_refused);
        let mut errors: Vec<FileError> = refused.map(|finding| finding.error(path)).collect();
        let more = errors.len().saturating_sub(REPORTED_MAX);
        errors.truncate(REPORTED_MAX);
        if more > 0 {
            errors.push(FileError::Whole { path: path.to_owned(), what: format!("and {more} more") });
        }
        match errors.len() {
            0 | 1 => errors.pop(),
            _ => Some(FileError::Several(errors)),
        }
    }
}

impl Finding {
    fn error(&self, path: &Path) -> FileError {
        let (path, what) = (path.to_owned(), self.what.clone());
        match self.line {
            Some(line) => FileError::At { path, line, column: self.column.clone(), what },
            None => FileError::Whole { path, what },
        }
    }

    /// The finding as displayed to users.
    pub fn text(&self) -> String {
        match (self.line, &self.column) {
            (Some(line), Some(column)) => format!("line {line}, column `{column}`: {}", self.what),
            (Some(line), None) => format!("line {line}: {}", self.what),
            _ => self.what.clone(),
        }
    }
}
