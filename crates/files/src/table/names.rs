//! Compares and suggests column names.

use unicode_normalization::UnicodeNormalization;

/// Normalises a name: ignores differences in Unicode form, case, whitespace, `_` and `-`.
pub fn folded(name: &str) -> String {
    let letters = name.nfc().flat_map(char::to_lowercase);
    letters.filter(|letter| !letter.is_whitespace() && !['_', '-', '\u{feff}'].contains(letter)).collect()
}

/// The name that was most likely meant, if one is close enough.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = folded(name);
    let likeness = |other: &str| strsim::jaro_winkler(&name, &folded(other));
    let best = names.into_iter().map(|other| (likeness(other), other)).max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(likeness, _)| *likeness > 0.84).map(|(_, other)| other)
}

/// Lists the missing columns, the closest matches, and the existing columns.
pub fn missing(names: &[&str], columns: &[String]) -> String {
    let list = names.iter().map(|name| match nearest(name, columns.iter().map(String::as_str)) {
        Some(near) => format!("`{name}` (did you mean `{near}`?)"),
        None => format!("`{name}`"),
    });
    let list: Vec<String> = list.collect();
    let named: Vec<&str> = columns.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    let word = if list.len() == 1 { "column" } else { "columns" };
    format!("no {word} {}; the columns are {}", list.join(", "), named.join(", "))
}
