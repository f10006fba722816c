//! tools/translate-dashboards generates the French dashboards from the English ones, and they contain nothing else.

use std::process::Command;

use super::files::root;
use crate::run::{Place, Running};

/// A copy of the dashboards, the dictionary and the tool, to be modified.
fn copy() -> Place {
    let place = Place::bare();
    for folder in ["deploy", "tools"] {
        let done = Command::new("cp").arg("-R").arg(root().join(folder)).arg(place.path("")).status().unwrap();
        assert!(done.success(), "copy {folder}");
    }
    place
}

fn check(place: &Place) -> crate::run::Done {
    let mut command = Command::new(place.path("tools/translate-dashboards"));
    command.arg("--check");
    Running::start(command).end()
}

#[test]
fn the_french_dashboards_are_translations_of_the_english_ones() {
    check(&copy()).ok();
}

#[test]
fn untranslated_words_are_named() {
    let changes = [
        ("tools/dashboards/fr.json", "\"Turnout\":", "\"Turn out\":", "no word in French for \"Turnout\""),
        ("tools/dashboards/fr.json", "\"until \":", "\"till \":", "no word in French for \"until \""),
        ("tools/dashboards/fr.json", "\"Turnout\":", "\"Turn out\":", "nothing uses the word \"Turn out\""),
        ("tools/dashboards/fr.json", "\"Inscrits\"", "\"Électeurs\"", "election-night-fr.json is not up to date"),
        ("deploy/grafana/dashboards/trust.json", "'holds'", "'Holds'", "trust-fr.json is not up to date"),
        ("deploy/grafana/dashboards/pipeline-fr.json", "Retard", "Délai", "pipeline-fr.json is not up to date"),
    ];
    for (file, before, after, says) in changes {
        let place = copy();
        let text = place.read(file);
        assert!(text.contains(before), "{file}: {before}");
        place.write(file, text.replace(before, after));
        let said = check(&place).fails(1);
        assert!(said.contains(says), "{says}: {said}");
    }
}
