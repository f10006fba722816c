//! Derives codes from names.

use std::collections::HashSet;

use scrutin_contract::election::CODE_BYTES_MAX;

/// Issues codes derived from names, a different one each time.
#[derive(Debug, Default)]
pub struct Codes {
    given: HashSet<String>,
}

impl Codes {
    /// Keeps a code from being issued.
    pub fn reserve(&mut self, code: &str) {
        self.given.insert(code.to_owned());
    }

    /// A code for a name: its letters and digits in lower-case ASCII, with `-` for anything between, and `-2`, `-3`, …
    /// appended if the code is taken. A name without a letter or digit becomes `fallback`.
    pub fn give(&mut self, name: &str, fallback: &str) -> String {
        // Leave room for a number at the end.
        let mut base = slug(name);
        base.truncate(CODE_BYTES_MAX - 8);
        let base = match base.trim_end_matches('-') {
            "" => fallback,
            base => base,
        };
        let numbered = (2_u64..).map(|number| format!("{base}-{number}"));
        let code = std::iter::once(base.to_owned()).chain(numbered).find(|code| !self.given.contains(code));
        let code = code.unwrap_or_else(|| unreachable!("numbers do not end"));
        self.given.insert(code.clone());
        code
    }
}

/// Lower-case ASCII letters and digits, separated by single `-`.
pub fn slug(name: &str) -> String {
    let ascii = deunicode::deunicode(name).to_ascii_lowercase();
    ascii
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_plain_and_distinct() {
        let mut codes = Codes::default();
        let mut give = |name: &str| codes.give(name, "choice");
        assert_eq!(give("Élodie d'Ârc"), "elodie-d-arc");
        assert_eq!(give("ELODIE D’ARC"), "elodie-d-arc-2");
        assert_eq!(give("Elodie  d arc 2"), "elodie-d-arc-2-2");
        assert_eq!(give("—"), "choice");
        assert_eq!(give("!"), "choice-2");
        let long = give(&"long name ".repeat(30));
        assert!(long.len() <= CODE_BYTES_MAX && scrutin_contract::election::check_code(&long).is_ok(), "{long}");
    }
}
