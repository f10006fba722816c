//! Errors in files that users supply.

use std::path::PathBuf;

/// An error in a file that a user supplied: where it is, what was found, and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}, line {line}{}: {what}", path.display(), column.as_ref().map(|c| format!(", column `{c}`")).unwrap_or_default())]
    At { path: PathBuf, line: u64, column: Option<String>, what: String },
    #[error("{}: {what}", path.display())]
    Whole { path: PathBuf, what: String },
    /// Several errors, displayed one per line.
    #[error("{}", lines(.0))]
    Several(Vec<FileError>),
}

fn lines(errors: &[FileError]) -> String {
    errors.iter().map(FileError::to_string).collect::<Vec<_>>().join("\n")
}
