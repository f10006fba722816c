//! The walls between the modules, read from their source: what a module may name, and what it may not.
//!
//! Looks at the code only, without comments and tests. Knows nothing of what the code does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What each module with a wall around it may use of the others. A deeper path is allowed with it.
const ENGINE_MAY_USE: &[&str] = &[
    "crate::election",
    "crate::log::Batch",
    "crate::log::Record",
    "crate::log::partitioner::partition_of",
    "crate::vote::BLANK",
    "crate::vote::NULL",
    "crate::vote::Reason",
    "crate::vote::Vote",
    "crate::vote::VoterId",
];
const AUDIT_MAY_USE: &[&str] = &[
    "crate::election",
    "crate::log::Home",
    "crate::log::LogError",
    "crate::log::Record",
    "crate::log::VoteLog",
    // How to reach the brokers. It reads by itself.
    "crate::log::kafka::KafkaAddress",
    "crate::log::kafka::KafkaSettings",
    "crate::simulate::Truth",
    "crate::store::Database",
    "crate::store::Role",
    "crate::store::StoreError",
    "crate::store::elections",
    // To name reasons, voters and times in a report; it reads votes by itself.
    "crate::vote::Reason",
    "crate::vote::VoterId",
    "crate::vote::format_millis",
];

/// The tables that a reader may read as they are.
const REFERENCE_TABLES: [&str; 3] = ["election", "region", "choice"];

#[test]
fn the_engine_knows_no_clock_no_socket_no_disk_and_no_database() {
    let files = code_of("src/engine");
    let strange = [
        "async",
        "await",
        "tokio",
        "tokio_postgres",
        "sqlx",
        "rdkafka",
        "anyhow",
        "tracing",
        "Instant",
        "SystemTime",
        "println",
        "eprintln",
    ];
    for (path, code) in &files {
        let found = words(code).find(|word| strange.contains(word));
        assert_eq!(found, None, "{} names it", path.display());
        for name in paths(code, "std") {
            let part = name.split("::").nth(1).unwrap();
            let outside = ["env", "fs", "io", "net", "os", "process", "thread", "time"];
            assert!(!outside.contains(&part), "{} names {name}", path.display());
        }
    }
    uses_only(&files, ENGINE_MAY_USE);
}

#[test]
fn the_audit_shares_no_counting_code_with_the_engine() {
    let files = code_of("src/audit");
    for (path, code) in &files {
        for strange in
            ["engine", "pipeline", "parse_any", "parse_millis", "partition_of", "reader", "LogReader", "Batch"]
        {
            assert!(words(code).all(|word| word != strange), "{} names {strange}", path.display());
        }
        assert!(!code.contains("VoterId::parse"), "{} reads a voter with the engine's code", path.display());
    }
    uses_only(&files, AUDIT_MAY_USE);
}

#[test]
fn the_page_reads_views_and_reference_tables_only() {
    let views = views();
    assert!(views.contains("results") && views.contains("accounting"), "{views:?}");
    let mut read = BTreeSet::new();
    // One file may use what another defines by WITH.
    let code: String = code_of("src/page").into_iter().map(|(_, code)| code).collect();
    for name in relations(&code) {
        let fine = views.contains(name) || REFERENCE_TABLES.contains(&name);
        assert!(fine, "the page reads {name}, which is neither a view nor a reference table");
        read.insert(name.to_owned());
    }
    assert!(read.contains("accounting") && read.contains("turnout"), "the queries were found: {read:?}");
}

#[test]
fn the_first_page_of_the_library_lists_every_module() {
    let text = read(&root().join("src/lib.rs"));
    let doc: String = text.lines().filter(|line| line.starts_with("//!")).collect();
    let modules: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(modules.len() > 10, "{modules:?}");
    for module in modules {
        assert!(doc.contains(&format!("[`{module}`]")), "src/lib.rs does not say what {module} is for");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for folder in ["src", "tests", "benches"] {
        for path in rust_files(&root().join(folder)) {
            let is_tests = path.file_name().is_some_and(|name| name == "tests.rs");
            assert!(is_tests || read(&path).starts_with("//! "), "{} begins without a word", path.display());
        }
    }
}

/// A line of the threat model is worth as much as the test behind it.
#[test]
fn the_threat_model_names_tests_that_are_there() {
    let mut code: String = rust_files(&root().join("tests")).iter().map(|path| read(path)).collect();
    code.extend(rust_files(&root().join("src")).iter().map(|path| read(path)));
    let model = read(&root().join("docs/threat-model.md"));
    let lines: Vec<&str> = model.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |")).collect();
    assert!(lines.len() > 25, "{}", lines.len());
    for line in lines {
        let tests = line.trim_end_matches(" |").rsplit_once(" | ").expect("two columns").1;
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty() || tests == "*no test*", "{line}");
        for name in named {
            assert!(code.contains(&format!("fn {name}()")), "{name} is no test");
        }
    }
}

/// The checks above would see what they look for.
#[test]
fn the_checks_can_fail() {
    let code = without_comments_and_tests(
        "use crate::{a::{B, c::D}, e}; // use crate::f;\nlet x: crate::g::H = std::fs::read; \
         #[cfg(test)]\nmod tests { use crate::i; }",
    );
    assert_eq!(paths(&code, "crate"), ["crate::a::B", "crate::a::c::D", "crate::e", "crate::g::H"]);
    assert_eq!(paths(&code, "std"), ["std::fs::read"]);
    let sql = "WITH e AS (SELECT * FROM election), m AS MATERIALIZED (SELECT 1) SELECT extract(epoch FROM at) \
               FROM e JOIN tally t ON a IS DISTINCT FROM b CROSS JOIN LATERAL (SELECT 1 FROM m, roll r) x \
               LEFT JOIN generate_series(1, 2) ours(\"position\")";
    assert_eq!(relations(sql), ["election", "tally", "roll", "position"]);
}

fn uses_only(files: &[(PathBuf, String)], allowed: &[&str]) {
    let mut seen = 0;
    for (path, code) in files {
        for name in paths(code, "crate") {
            let fits = |allowed: &&str| {
                name.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            };
            assert!(allowed.iter().any(fits), "{} uses {name}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 0, "the uses were found");
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

/// The files of a module, but not its tests.
fn code_of(folder: &str) -> Vec<(PathBuf, String)> {
    let files = rust_files(&root().join(folder));
    let code = files.into_iter().filter(|path| !path.ends_with("tests.rs"));
    let code: Vec<_> = code.map(|path| (path.clone(), without_comments_and_tests(&read(&path)))).collect();
    assert!(!code.is_empty(), "{folder} has files");
    code
}

/// Tests stand at the end of a file.
fn without_comments_and_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap();
    code.lines().map(|line| line.split("//").next().unwrap().to_owned() + "\n").collect()
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The paths that begin with a name, those in braces one by one.
fn paths(code: &str, first: &str) -> Vec<String> {
    let start = format!("{first}::");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&start) {
        if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            expand(first, &code[at + first.len()..], &mut found);
        }
    }
    found
}

/// Takes the rest of a path, from its `::` on; gives what is behind it.
fn expand<'a>(before: &str, rest: &'a str, found: &mut Vec<String>) -> &'a str {
    let Some(rest) = rest.strip_prefix("::") else {
        found.push(before.to_owned());
        return rest;
    };
    if let Some(mut rest) = rest.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            if rest.is_empty() || rest.starts_with('}') {
                return rest.strip_prefix('}').unwrap_or(rest);
            }
            rest = name(before, rest, found);
        }
    }
    name(before, rest, found)
}

fn name<'a>(before: &str, rest: &'a str, found: &mut Vec<String>) -> &'a str {
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(rest.len());
    assert!(end > 0, "a name was expected after {before}:: at {rest:.40}");
    expand(&format!("{before}::{}", &rest[..end]), &rest[end..], found)
}

/// The names of what the migrations create to be read.
fn views() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("migrations")).unwrap() {
        let text = read(&entry.unwrap().path());
        let found = text.lines().filter_map(|line| line.strip_prefix("CREATE VIEW ")?.split(' ').next());
        names.extend(found.map(str::to_owned));
    }
    names
}

/// What SQL in the code reads from, but for what the same code defines by WITH, and functions.
pub fn relations(code: &str) -> Vec<&str> {
    let tokens: Vec<&str> = sql_tokens(code);
    let defined: BTreeSet<&str> = tokens
        .windows(3)
        .filter(|three| three[1] == "AS" && ["(", "MATERIALIZED"].contains(&three[2]))
        .map(|three| three[0])
        .collect();
    let mut found = Vec::new();
    let mut depth_of_from = Vec::new(); // at which depth of parentheses a list of tables goes on
    let mut depth = 0;
    for (at, &token) in tokens.iter().enumerate() {
        let next = |n: usize| tokens.get(at + n).copied().unwrap_or_default();
        match token {
            "(" => depth += 1,
            ")" => {
                depth_of_from.retain(|from| *from < depth);
                depth -= 1;
            }
            // A statement's end, in the code around it.
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
        // A view that is put into a query by its name.
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
