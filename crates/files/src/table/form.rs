//! What a user can state about a file's format where it cannot be detected with certainty.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The format of a file; fields that are none are detected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Form {
    pub encoding: Option<Encoding>,
    pub separator: Option<Separator>,
    /// Picks a sheet of a spreadsheet with several.
    pub sheet: Option<String>,
    /// The line where the header begins, from 1.
    pub header_line: Option<u64>,
    /// How many lines the header spans [default: 1].
    pub header_rows: Option<usize>,
    /// Treats quotes as ordinary characters.
    pub no_quotes: bool,
}

/// A character encoding. UTF-8, and UTF-16 with a byte order mark, are detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    #[serde(rename = "utf-8")]
    Utf8,
    #[serde(rename = "utf-16le")]
    Utf16Le,
    #[serde(rename = "utf-16be")]
    Utf16Be,
    #[serde(rename = "windows-1252")]
    Windows1252,
    #[serde(rename = "latin-1")]
    Latin1,
}

const ENCODINGS: [(Encoding, &str); 5] = [
    (Encoding::Utf8, "utf-8"),
    (Encoding::Utf16Le, "utf-16le"),
    (Encoding::Utf16Be, "utf-16be"),
    (Encoding::Windows1252, "windows-1252"),
    (Encoding::Latin1, "latin-1"),
];

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ENCODINGS.iter().find(|(encoding, _)| encoding == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for Encoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Encoding, String> {
        let text = text.to_ascii_lowercase();
        let text = match text.as_str() {
            "utf8" => "utf-8",
            "cp1252" => "windows-1252",
            "latin1" | "iso-8859-1" => "latin-1",
            text => text,
        };
        let found = ENCODINGS.iter().find(|(_, name)| *name == text).map(|(encoding, _)| *encoding);
        found.ok_or_else(|| "expected utf-8, utf-16le, utf-16be, windows-1252 or latin-1".into())
    }
}

/// The character between two fields: a single ASCII byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Separator(pub u8);

const NAMES: [(u8, &str); 5] = [(b',', "comma"), (b';', "semicolon"), (b'\t', "tab"), (b'|', "bar"), (b' ', "space")];

impl fmt::Display for Separator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(byte, _)| *byte == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "{}", char::from(self.0)),
        }
    }
}

impl FromStr for Separator {
    type Err = String;

    fn from_str(text: &str) -> Result<Separator, String> {
        if let Some((byte, _)) = NAMES.iter().find(|(_, name)| *name == text) {
            return Ok(Separator(*byte));
        }
        match text.as_bytes() {
            [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\"\r\n".contains(byte) => {
                Ok(Separator(*byte))
            }
            _ => Err("expected one character, or comma, semicolon, tab, bar or space".into()),
        }
    }
}

impl TryFrom<String> for Separator {
    type Error = String;

    fn try_from(text: String) -> Result<Separator, String> {
        text.parse()
    }
}

impl From<Separator> for String {
    fn from(separator: Separator) -> String {
        separator.to_string()
    }
}
