//! What is odd in a file: where, what, and which option settles it.

use std::path::Path;

use scrutin_files::FileError;
use serde::Serialize;

/// Something that a reader should know, or has to settle before the file can be counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// None: the file as a whole.
    pub line: Option<u64>,
    pub column: Option<String>,
    pub what: String,
    /// The file cannot be counted until it is settled.
    pub is_refused: bool,
}

/// More than these are not told one by one.
const TOLD: usize = 12;

/// Findings as they come.
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

    /// An error that tells all that is refused; none if nothing is.
    pub fn error(&self, path: &Path) -> Option<FileError> {
        let refused = self.0.iter().filter(|finding| finding.is_refused);
        let mut errors: Vec<FileError> = refused.map(|finding| finding.error(path)).collect();
        let more = errors.len().saturating_sub(TOLD);
        errors.truncate(TOLD);
        if more > 0 {
            errors.push(FileError::Whole { path: path.to_owned(), what: format!("and {more} more of such") });
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

    /// As it is told to people.
    pub fn text(&self) -> String {
        match (self.line, &self.column) {
            (Some(line), Some(column)) => format!("line {line}, column `{column}`: {}", self.what),
            (Some(line), None) => format!("line {line}: {}", self.what),
            _ => self.what.clone(),
        }
    }
}
