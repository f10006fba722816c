//! The image of the program: all that is built in is there to be built in.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::files::{read, root};

/// Folders that the program's sources take files from by `include_str!` and `include_bytes!`.
fn built_in() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let code = read(&path);
                for start in ["include_str!(\"", "include_bytes!(\""] {
                    for rest in code.split(start).skip(1) {
                        found.insert(top(&folder.join(&rest[..rest.find('"').unwrap()])));
                    }
                }
            }
        }
    }
    found
}

/// The first folder below the repository's own.
fn top(path: &Path) -> String {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{}", path.display()),
            part => plain.push(part),
        }
    }
    let below = plain.strip_prefix(root()).unwrap_or_else(|_| panic!("{} is outside", path.display()));
    below.components().next().unwrap().as_os_str().to_str().unwrap().to_owned()
}

#[test]
fn the_image_is_built_from_all_that_the_program_holds() {
    let folders = built_in();
    assert!(["migrations", "elections", "schema", "src"].iter().all(|folder| folders.contains(*folder)), "{folders:?}");
    let (recipe, ignored) = (read(&root().join("Dockerfile")), read(&root().join(".dockerignore")));
    for folder in folders {
        assert!(recipe.lines().any(|line| line == format!("COPY {folder} {folder}")), "Dockerfile leaves {folder} out");
        assert!(ignored.lines().any(|line| line == format!("!{folder}")), ".dockerignore keeps {folder} out");
    }
}
