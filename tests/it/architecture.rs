//! The boundaries between the crates that the compiler does not enforce.
//!
//! The compiler already ensures that a crate uses only what its manifest names, that dependencies form no cycle, and
//! that the engine is `no_std`. These tests check the rest: which crates a manifest may name, and what the page and the
//! audit use of their dependencies.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The crates, each with its dependencies. A crate may depend only on crates listed before it.
const CRATES: [(&str, &[&str]); 13] = [
    ("files", &[]),
    ("contract", &["files"]),
    ("log", &["contract", "files"]),
    ("producer", &["contract", "files", "log"]),
    ("engine", &["contract"]),
    ("store", &["contract"]),
    ("postgres", &["files", "store"]),
    ("telemetry", &["contract"]),
    ("pipeline", &["contract", "engine", "log", "store", "telemetry"]),
    ("spark-connect", &[]),
    ("spark", &["contract", "log", "pipeline", "spark-connect", "store", "telemetry"]),
    ("page", &["contract", "files", "store", "telemetry"]),
    ("audit", &["contract", "log", "store"]),
];

/// The tables that readers may read directly.
const REFERENCE_TABLES: [&str; 3] = ["election", "region", "choice"];

#[test]
fn each_crate_depends_on_exactly_the_listed_crates() {
    let found: BTreeSet<String> = std::fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, CRATES.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, may_use) in CRATES {
        let manifest = read(&root().join("crates").join(name).join("Cargo.toml"));
        let used: BTreeSet<&str> = manifest
            .lines()
            .filter_map(|line| line.strip_prefix("scrutin-")?.strip_suffix(".workspace = true"))
            .collect();
        assert_eq!(used, may_use.iter().copied().collect(), "crates/{name}/Cargo.toml");
    }
}

#[test]
fn the_engine_does_without_the_standard_library() {
    let engine = read(&root().join("crates/engine/src/lib.rs"));
    assert!(engine.lines().any(|line| line == "#![cfg_attr(not(test), no_std)]"));
    let outside: Vec<&str> = engine.lines().filter(|line| line.starts_with("extern crate ")).collect();
    assert_eq!(outside, ["extern crate alloc;"]);
}

/// The audit shares names of reasons, voter ids and time formatting for its reports, but parses votes and reads the log
/// with its own code.
#[test]
fn the_audit_shares_no_counting_code_with_the_engine() {
    for (path, code) in code_of("crates/audit/src") {
        for strange in ["parse_any", "parse_millis", "partition_of", "reader", "LogReader", "Batch"] {
            assert!(words(&code).all(|word| word != strange), "{} names {strange}", path.display());
        }
        assert!(!code.contains("VoterId::parse"), "{} parses a voter with the engine's code", path.display());
    }
}

#[test]
fn the_page_reads_views_and_reference_tables_only() {
    let views = views();
    assert!(views.contains("results") && views.contains("accounting"), "{views:?}");
    let mut read = BTreeSet::new();
    // Join all files: one file may use what another defines by WITH.
    let code: String = code_of("crates/page/src").into_iter().map(|(_, code)| code).collect();
    for name in relations(&code) {
        let fine = views.contains(name) || REFERENCE_TABLES.contains(&name);
        assert!(fine, "the page reads {name}, which is neither a view nor a reference table");
        read.insert(name.to_owned());
    }
    assert!(read.contains("accounting") && read.contains("turnout"), "no queries found: {read:?}");
}

#[test]
fn the_library_docs_and_architecture_md_name_every_crate() {
    let doc: String = read(&root().join("src/lib.rs")).lines().filter(|line| line.starts_with("//!")).collect();
    let map = read(&root().join("ARCHITECTURE.md"));
    for (name, _) in CRATES {
        let ident = format!("scrutin_{}", name.replace('-', "_"));
        assert!(doc.contains(&ident), "src/lib.rs does not say what {name} is for");
        assert!(map.contains(&format!("| `crates/{name}` |")), "ARCHITECTURE.md does not say what {name} is for");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for folder in ["src", "crates", "tests", "benches"] {
        for path in rust_files(&root().join(folder)) {
            let is_tests = path.file_name().is_some_and(|name| name == "tests.rs");
            assert!(is_tests || read(&path).starts_with("//! "), "{} has no module doc", path.display());
        }
    }
}

/// A claim in the threat model is only as good as the test behind it.
#[test]
fn the_threat_model_names_existing_tests() {
    let mut code: String = rust_files(&root().join("tests")).iter().map(|path| read(path)).collect();
    code.extend(rust_files(&root().join("crates")).iter().map(|path| read(path)));
    let model = read(&root().join("docs/threat-model.md"));
    let lines: Vec<&str> = model.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |")).collect();
    assert!(lines.len() > 25, "{}", lines.len());
    for line in lines {
        let tests = line.trim_end_matches(" |").rsplit_once(" | ").expect("two columns").1;
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty() || tests == "*no test*", "{line}");
        for name in named {
            assert!(code.contains(&format!("fn {name}()")), "there is no test named {name}");
        }
    }
}

/// Proves that the helpers above detect violations.
#[test]
fn the_checks_can_fail() {
    let code = without_comments_and_tests("let x = Vote::parse(y); // Batch\n#[cfg(test)]\nmod tests { use reader; }");
    assert_eq!(words(&code).collect::<Vec<_>>(), ["let", "x", "Vote", "parse", "y"]);
    let sql = "WITH e AS (SELECT * FROM election), m AS MATERIALIZED (SELECT 1) SELECT extract(epoch FROM at) \
               FROM e JOIN tally t ON a IS DISTINCT FROM b CROSS JOIN LATERAL (SELECT 1 FROM m, poll_book r) x \
               LEFT JOIN generate_series(1, 2) ours(\"position\")";
    assert_eq!(relations(sql), ["election", "tally", "poll_book", "position"]);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("read {}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files
}

/// The source files of a folder, without its tests.
fn code_of(folder: &str) -> Vec<(PathBuf, String)> {
    let files = rust_files(&root().join(folder));
    let code = files.into_iter().filter(|path| !path.ends_with("tests.rs"));
    let code: Vec<_> = code.map(|path| (path.clone(), without_comments_and_tests(&read(&path)))).collect();
    assert!(!code.is_empty(), "{folder} has no files");
    code
}

/// Tests are at the end of a file.
fn without_comments_and_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap();
    code.lines().map(|line| line.split("//").next().unwrap().to_owned() + "\n").collect()
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The names of all views that the migrations create.
fn views() -> BTreeSet<String> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(root().join("migrations")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut names = BTreeSet::new();
    for file in files {
        for line in read(&file).lines() {
            if let Some(created) = line.strip_prefix("CREATE VIEW ") {
                names.extend(created.split(' ').next().map(str::to_owned));
            } else if let Some((old, new)) = line
                .strip_prefix("ALTER VIEW ")
                .and_then(|renamed| renamed.trim_end_matches(';').split_once(" RENAME TO "))
            {
                assert!(names.remove(old), "{} renames {old}, which is no view", file.display());
                names.insert(new.to_owned());
            }
        }
    }
    names
}

/// The relations that the SQL in `code` reads, except functions and names defined by WITH in the same code.
pub fn relations(code: &str) -> Vec<&str> {
    let tokens: Vec<&str> = sql_tokens(code);
    let defined: BTreeSet<&str> = tokens
        .windows(3)
        .filter(|three| three[1] == "AS" && ["(", "MATERIALIZED"].contains(&three[2]))
        .map(|three| three[0])
        .collect();
    let mut found = Vec::new();
    let mut depth_of_from = Vec::new(); // parenthesis depths at which a table list is open
    let mut depth = 0;
    for (at, &token) in tokens.iter().enumerate() {
        let next = |n: usize| tokens.get(at + n).copied().unwrap_or_default();
        match token {
            "(" => depth += 1,
            ")" => {
                depth_of_from.retain(|from| *from < depth);
                depth -= 1;
            }
            // End of a statement in the surrounding Rust code.
            ";" => depth_of_from.clear(),
            "SELECT" | "WHERE" | "GROUP" | "ORDER" | "LIMIT" | "UNION" => depth_of_from.retain(|from| *from != depth),
            _ => {}
        }
        let is_from = token == "FROM" && !(at > 0 && tokens[at - 1] == "DISTINCT") && !is_in_extract(&tokens[..at]);
        if is_from {
            depth_of_from.push(depth);
        }
        let is_list = token == "," && depth_of_from.contains(&depth);
        if is_from || is_list || token == "JOIN" {
            let skip = if next(1) == "LATERAL" { 2 } else { 1 };
            let relation = next(skip);
            let is_name = relation.starts_with(|c: char| c.is_alphabetic() || c == '_');
            if is_name && next(skip + 1) != "(" && !defined.contains(relation) {
                found.push(relation);
            }
        }
        // A view whose name is interpolated into a query.
        if token == "ours" && next(1) == "(" && next(2) == "\"" {
            found.push(next(3));
        }
    }
    found
}

fn is_in_extract(before: &[&str]) -> bool {
    before.len() >= 3 && before[before.len() - 2] == "(" && before[before.len() - 3] == "extract"
}

fn sql_tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let end = if is_word(first) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        tokens.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    tokens
}
