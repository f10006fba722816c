//! Detects and escapes invisible characters that change how a terminal, a page or a file displays the text around them.
//!
//! Names that contain one are refused. Text from elsewhere, above all from votes, is displayed escaped.

use std::borrow::Cow;

/// Whether `c` is a control character (including line feed), a line or paragraph separator, or a bidirectional mark.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Refuses a name with unprintable characters.
///
/// # Errors
///
/// If the name contains an unprintable character.
pub fn check_name(name: &str) -> Result<(), String> {
    match name.chars().any(is_unprintable) {
        true => Err(format!("`{}` has unprintable characters; expected a plain text", escaped(name))),
        false => Ok(()),
    }
}

/// Returns the text with each unprintable character escaped, as in `\u{1b}`.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_but(text, '\0')
}

/// Like [`escaped`], but keeps line feeds.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escaped_but(text, '\n')
}

fn escaped_but(text: &str, kept: char) -> Cow<'_, str> {
    let is_escaped = |c: char| is_unprintable(c) && (c != kept || kept == '\0');
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_escaped(c) {
            true => escaped.extend(c.escape_unicode()),
            false => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unprintable_characters_are_escaped() {
        assert_eq!(escaped("a\u{1b}[2J\n\u{9b}\u{202e}\0"), "a\\u{1b}[2J\\u{a}\\u{9b}\\u{202e}\\u{0}");
        assert_eq!(escaped_lines("a\nb\r"), "a\nb\\u{d}");
        // Narrow and no-break spaces, joiners in scripts and emoji, and accents are printable.
        for plain in ["35\u{202f}923\u{a0}707", "Ünïcode", "نام\u{200c}ها", "👩\u{200d}🌾", "e\u{301}"] {
            assert!(matches!(escaped(plain), Cow::Borrowed(_)), "{plain}");
            assert_eq!(check_name(plain), Ok(()));
        }
        assert!(check_name("a\u{2066}").unwrap_err().contains("`a\\u{2066}` has unprintable"));
    }
}
