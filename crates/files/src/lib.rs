//! Reads files that users supply and writes files for them. Knows nothing about votes.
//!
//! [`table`] reads tables in any common encoding, separator, compression or spreadsheet format. [`FileError`] reports
//! what is wrong in a file, and where. [`csv_text`] writes CSV. [`printable`] keeps control characters in names away
//! from terminals, and [`private`] keeps files from other users.

pub mod csv_text;
mod error;
pub mod printable;
pub mod private;
pub mod table;

pub use error::FileError;
