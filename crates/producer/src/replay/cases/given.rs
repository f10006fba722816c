//! Files from the folder of cases, which is not part of the repository; tests that need it report when it is missing.

use std::path::PathBuf;

use scrutin_files::table::Encoding;

use super::inspected;
use crate::replay::layout::{Answers, Kind, Layout, SameName, Spelling, Thousands, TotalsPolicy};
use crate::replay::publishers::shown;
use crate::replay::tests::file_of;

fn case(name: &str) -> Option<PathBuf> {
    file_of("cases", name)
}

/// The whole file is refused, with a message that contains these words.
fn refused(name: &str, layout: &Layout, words: &[&str]) {
    let Some(path) = case(name) else { return };
    let report = inspected(&path, layout);
    let text = shown(&report);
    assert!(!report.can_be_counted, "{name}: {text}");
    for words in words {
        assert!(text.contains(words), "{name}: `{words}` is not in:\n{text}");
    }
}

/// The file is counted, with these votes.
fn counted(name: &str, layout: &Layout, votes: &[(&str, u64)]) {
    let Some(path) = case(name) else { return };
    let report = inspected(&path, layout);
    assert!(report.can_be_counted, "{name}: {}", shown(&report));
    let found: Vec<(&str, u64)> =
        report.candidates.iter().map(|candidate| (candidate.name.as_str(), candidate.votes)).collect();
    assert_eq!(found, votes, "{name}");
}

fn answered(change: impl Fn(&mut Answers)) -> Layout {
    let mut layout = Layout::own();
    change(&mut layout.answers);
    layout
}

#[test]
fn files_that_were_once_misread_are_read_correctly_or_refused() {
    let own = Layout::own();
    for (name, place) in [
        ("quote-last-column.csv", "line 4, column `precinct_note`"),
        ("quote-first-column.csv", "line 4, column `note`"),
        ("quote-two-rows.csv", "line 3, column `candidate`"),
    ] {
        refused(name, &own, &[place, "a quote opens here"]);
    }
    counted("quote-medsl-tail.csv", &own, &[("Ben", 140), ("Ada", 110)]);
    refused("newline-name.csv", &own, &["line 2, column `candidate`", "line break"]);
    refused("totals-rows.csv", &own, &["column `region_code`", "--totals leave-out"]);
    let Some(path) = case("totals-rows.csv") else { return };
    assert_eq!(inspected(&path, &answered(|answers| answers.totals = Some(TotalsPolicy::LeaveOut))).sums.valid, 29_102);
    refused("totals-empty-candidate.csv", &own, &["line 4, column `candidate`", "--totals leave-out"]);
    let without = answered(|answers| answers.totals = Some(TotalsPolicy::LeaveOut));
    counted("totals-empty-candidate.csv", &without, &[("Ada", 346), ("Ben", 20)]);
    refused("dup-votes-header.csv", &own, &["line 1", "occurs twice", "#4"]);
    refused("other-offices-same-file.csv", &own, &["`Mayor`, `Judge`", "--contest 'Mayor'"]);
    let judge = answered(|answers| answers.contest = Some("Judge".into()));
    counted("other-offices-same-file.csv", &judge, &[("Cid", 450), ("Dan", 40)]);
    counted("nfc-nfd.csv", &own, &[("José", 200), ("Ben", 140)]);
    refused("case-space.csv", &own, &["`WRITE-IN` and `Write-in` (line 2)", "--spelling join"]);
    counted(
        "case-space.csv",
        &answered(|answers| answers.spelling = Some(Spelling::Join)),
        &[("Write-in", 300), ("Ben", 160)],
    );
    for name in ["fusion-with-id.csv", "two-independents.csv"] {
        refused(name, &own, &["--same-name one", "--same-name several"]);
    }
    let one = answered(|answers| answers.same_name = Some(SameName::One));
    counted("fusion-with-id.csv", &one, &[("Ben", 127), ("Ada", 110)]);
    counted("two-independents.csv", &one, &[("Independent", 270), ("Ada", 140)]);
    let several = answered(|answers| answers.same_name = Some(SameName::Several));
    counted(
        "two-independents.csv",
        &several,
        &[("Independent", 150), ("Ada", 140), ("Independent", 90), ("Independent", 30)],
    );
    counted("missing-zero-row.csv", &own, &[("Ben", 510), ("Ada", 350), ("Cid", 300)]);
    counted("trailing-commas.csv", &own, &[("Ada", 346), ("Ben", 20)]);
    counted("names.csv", &own, &[("O'Neil \"Spike\" <b>x</b>", 300), ("محمد علي", 200), ("🗳️ Party & Co", 200)]);
}

#[test]
fn files_in_other_formats_are_read_or_refused_with_the_option() {
    let own = Layout::own();
    refused("thousands.csv", &own, &["line 2, column `votes`", "`1,346`", "--thousands comma"]);
    refused("thousands-nbsp.csv", &own, &["line 2, column `votes`", "--thousands space"]);
    refused("float.csv", &own, &["line 2, column `votes`", "`346.0`"]);
    let by = |thousands| Layout { thousands: Some(thousands), ..Layout::own() };
    counted("thousands.csv", &by(Thousands::Comma), &[("Ada", 1346), ("Ben", 20)]);
    counted("thousands-nbsp.csv", &by(Thousands::Space), &[("Ada", 1346), ("Ben", 20)]);
    counted("fr-semicolon.csv", &own, &[("Ada", 30), ("Ben", 27)]);
    counted("tab.tsv", &own, &[("Ada", 30)]);
    counted("sep-line.csv", &own, &[("Ada", 30)]);
    counted("utf16.csv", &own, &[("Ada", 30)]);
    counted("bom-quoted.csv", &own, &[("Ada", 346)]);
    refused("fr-latin1.csv", &own, &["line 3, column `region_name`", "--encoding windows-1252"]);
    let mut latin = Layout::own();
    latin.file.encoding = Some(Encoding::Latin1);
    counted("fr-latin1.csv", &latin, &[("Elise", 57)]);
}

#[test]
fn registered_voters_of_the_cases_are_known_or_unknown() {
    let registered = |name: &str| {
        let path = case(name)?;
        let report = inspected(&path, &Layout::own());
        assert!(report.can_be_counted, "{}", shown(&report));
        Some((
            report.regions.iter().map(|region| region.registered).collect::<Vec<_>>(),
            report.sums.registered,
            report.sums.ballots,
        ))
    };
    let check = |name: &str, expected| assert!(registered(name).is_none_or(|found| found == expected), "{name}");
    check("abstentions-no-registered.csv", (vec![Some(1000)], Some(1000), 600));
    check("partial-registered.csv", (vec![Some(1000), None], None, 610));
    check("registered-zero.csv", (vec![Some(1000), None], None, 610));
    check("round-up-100.csv", (vec![Some(30_000)], Some(30_000), 29_999));
}

#[test]
fn files_of_ballots_are_read_correctly_or_refused() {
    let layout = Layout::of_ballots("ballot", "precinct", "first");
    refused("ballots-open-quote.csv", &layout, &["line 3, column `note`", "a quote opens here"]);
    let choice = Layout::of_ballots("ballot", "precinct", "choice");
    refused("ballots-dup-header.csv", &choice, &["line 1", "occurs twice"]);
    let es_s = Layout::of_ballots("ballot", "Precinct", "first");
    counted("es-s-small.csv", &es_s, &[("Ada", 1), ("Write-in", 1)]);
    let Some(path) = case("es-s-small.csv") else { return };
    let sums = inspected(&path, &es_s).sums;
    assert_eq!((sums.blank, sums.null), (2, 2));
    assert_eq!(es_s.kind, Kind::Ballots);
    let folder = path.parent().unwrap().join("quote-election");
    let error = scrutin_contract::election::Election::load(&folder).unwrap_err().to_string();
    assert!(error.contains("regions.csv, line 2, column `note`: a quote opens here"), "{error}");
}
