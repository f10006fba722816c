//! The images: all build inputs reach the builder, and nothing else does.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::files::{read, root};

/// Files that the sources include by `include_str!` and `include_bytes!`, by their paths in the repository.
fn built_in() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root().join("src"), root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let code = read(&path);
                for start in ["include_str!(\"", "include_bytes!(\""] {
                    for rest in code.split(start).skip(1) {
                        found.insert(plain(&folder.join(&rest[..rest.find('"').unwrap()])));
                    }
                }
            }
        }
    }
    found
}

/// The path relative to the repository.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{}", path.display()),
            part => plain.push(part),
        }
    }
    plain.strip_prefix(root()).unwrap_or_else(|_| panic!("{} is outside", path.display())).to_owned()
}

/// Whether .dockerignore lets a file through to the builder. The classic builder reads no other ignore file.
fn is_sent(path: &Path) -> bool {
    let ignored = read(&root().join(".dockerignore"));
    let mut lines = ignored.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"));
    lines.any(|line| path.starts_with(line.strip_prefix('!').expect("a line that lets something in")))
}

#[test]
fn the_image_build_gets_every_embedded_file() {
    let recipe = read(&root().join("Dockerfile"));
    for file in built_in() {
        assert!(is_sent(&file), ".dockerignore keeps {} out", file.display());
        let folder = file.iter().next().unwrap().to_str().unwrap();
        assert!(recipe.lines().any(|line| line == format!("COPY {folder} {folder}")), "Dockerfile leaves {folder} out");
    }
}

#[test]
fn both_images_get_what_they_copy() {
    let mut copied = 0;
    for file in ["Dockerfile", "deploy/spark/Dockerfile"] {
        for line in read(&root().join(file)).lines().filter_map(|line| line.strip_prefix("COPY ")) {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            words.pop();
            for word in words.into_iter().take_while(|word| !word.starts_with("--from")) {
                // The folder of elections belongs to the user; only the example in it is built in.
                let path = if word == "elections" { "elections/presidential" } else { word };
                assert!(root().join(path).exists() && is_sent(Path::new(path)), "{file} copies {word}");
                copied += 1;
            }
        }
        assert!(!root().join(format!("{file}.dockerignore")).exists(), "the classic builder would not read it");
    }
    assert!(copied > 10);
}

#[test]
fn files_beside_the_example_are_not_sent_to_the_builder() {
    for path in
        ["elections/mine/election.toml", "elections/results.csv", ".env", "scrutin-data/log", "target/debug/scrutin"]
    {
        assert!(!is_sent(Path::new(path)), "{path}");
    }
}

/// To the containers' shell, a script line that ends in CR is a different command.
#[test]
fn lines_end_the_same_on_every_machine() {
    let attributes = read(&root().join(".gitattributes"));
    assert!(attributes.lines().any(|line| line == "* text=auto eol=lf"), "{attributes}");
    assert!(attributes.lines().any(|line| line == "*.png binary"), "{attributes}");
}

/// In a clone made with umask 077, only the owner can read the scripts, and the containers run as other users.
#[test]
fn the_images_scripts_can_be_run_by_every_user() {
    for (file, folder) in [("Dockerfile", "/usr/local/lib/scrutin"), ("deploy/spark/Dockerfile", "/opt/scrutin")] {
        let recipe = read(&root().join(file));
        let (before, after) = recipe.split_once(&format!("{folder}/\n")).expect("scripts are copied");
        assert!(before.lines().last().unwrap().starts_with("COPY deploy/"), "{file}");
        assert!(after.contains(&format!("chmod -R a+rX {folder}")), "{file}");
    }
}
