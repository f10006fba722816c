//! The documentation: links resolve, and both languages of the README have the same commands and figures.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let of = |folder: PathBuf| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_document = |path: &PathBuf| path.extension().is_some_and(|end| end == "md");
    of(root().to_owned()).chain(of(root().join("docs"))).filter(is_document).collect()
}

fn text(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// The link targets in a document, except those on other hosts.
fn links(text: &str) -> BTreeSet<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).collect()
}

/// The fenced code blocks.
fn code(text: &str) -> Vec<&str> {
    text.split("\n```").skip(1).step_by(2).collect()
}

#[test]
fn links_lead_somewhere() {
    let documents = documents();
    assert!(documents.len() > 10, "{documents:?}");
    for path in documents {
        let text = std::fs::read_to_string(&path).unwrap();
        for link in links(&text) {
            let file = link.split('#').next().unwrap();
            assert!(path.parent().unwrap().join(file).exists(), "{}: {link}", path.display());
        }
    }
}

#[test]
fn the_readme_is_short_and_the_same_in_both_languages() {
    let (english, french) = (text("README.md"), text("README.fr.md"));
    for readme in [&english, &french] {
        assert!(readme.lines().count() <= 150, "{} lines", readme.lines().count());
    }
    assert_eq!(code(&english), code(&french));
    let others = |text| {
        let mut links = links(text);
        links.retain(|link| !link.starts_with("README"));
        links.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(others(&english), others(&french));
    let digits = |text: &str| -> Vec<String> {
        let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains("votes/s"));
        rows.map(|line| line.chars().filter(char::is_ascii_digit).collect()).collect()
    };
    assert_eq!(digits(&english), digits(&french), "the tables of figures differ");
}
