//! Files that people bring, and files that are written for them. Knows nothing of votes.
//!
//! [`table`] reads tables as they come: encodings, separators, packed files and spreadsheets. [`FileError`] says what is wrong
//! in a file, and where; [`csv_text`] writes CSV. [`printable`] keeps names from being obeyed by terminals, and [`private`]
//! files from being read by others.

pub mod csv_text;
mod error;
pub mod printable;
pub mod private;
pub mod table;

pub use error::FileError;
