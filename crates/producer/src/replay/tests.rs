//! Checks votes and errors for given files, and for the real files if they exist.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use expect_test::{Expect, expect};
use scrutin_contract::record::RecordBuffer;
use scrutin_contract::truth::Truth;
use scrutin_contract::vote::Vote;
use scrutin_log::{EmbeddedLog, VoteLog};

use super::*;
use crate::simulate::{Delivery, FaultRates, Plan, SendProgress, Speed, run};

pub(super) fn about() -> About {
    About {
        id: None,
        title: None,
        opens_at_ms: 1_900_000_000_000,
        closes_at_ms: 1_900_000_000_000 + 43_200_000,
        time_zone: "UTC".into(),
        channels: vec!["booth".into(), "post".into()],
        bucket_seconds: 60,
    }
}

fn written(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    path
}

fn results(text: &str) -> Result<Plan, String> {
    results_by(&Layout::own(), text)
}

fn results_by(layout: &Layout, text: &str) -> Result<Plan, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), "Élections 2031.csv", text);
    results::read(&path, layout, &about(), 1)
        .map(|(plan, _)| plan)
        .map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

/// The choices and the counts, one per line.
fn shown(plan: &Plan) -> String {
    let mut out = format!("{} {:?}\n", plan.election().id, plan.election().title);
    for choice in &plan.election().choices {
        let _ = writeln!(out, "{} {:?} {}", choice.code, choice.name, choice.region.as_deref().unwrap_or("everywhere"));
    }
    for region in &plan.election().regions {
        let registered = region.registered.map_or("?".into(), |number| number.to_string());
        let _ = write!(out, "{} {:?} {registered}:", region.code, region.name);
        for cell in 0..plan.cells().len() as u32 {
            let (code, choice) = plan.cells().codes(cell);
            if code == region.code {
                let _ = write!(out, " {choice}={}", plan.ballots()[cell as usize]);
            }
        }
        out.push('\n');
    }
    out
}

/// Treats rows with one name and several ids as several people.
fn several() -> Layout {
    let mut layout = Layout::own();
    layout.answers.same_name = Some(layout::SameName::Several);
    layout
}

fn check_results(text: &str, expected: Expect) {
    expected.assert_eq(&results(text).map_or_else(|error| error + "\n", |plan| shown(&plan)));
}

fn check_several(text: &str, expected: Expect) {
    expected.assert_eq(&results_by(&several(), text).map_or_else(|error| error + "\n", |plan| shown(&plan)));
}

#[test]
fn results_without_ids_have_codes_derived_from_names() {
    check_results(
        "region_code,region_name,registered,abstentions,blank,null,candidate,votes,party\n\
         01,North,100,20,3,2,Zoë Ünal,40,x\n\
         01,North,100,20,3,2,Al B.,35,\n\
         02,South,50,,,,Zoë Ünal,10,\n\
         02,South,50,,,,Al-B,,\n",
        expect![[r#"
            elections-2031 "Élections 2031"
            zoe-unal "Zoë Ünal" everywhere
            al-b "Al B." 01
            al-b-2 "Al-B" 02
            01 "North" 100: zoe-unal=40 al-b=35 BLANK=3 NULL=2
            02 "South" 50: zoe-unal=10 al-b-2=0 BLANK=0 NULL=0
        "#]],
    );
}

#[test]
fn an_id_is_valid_in_its_region_only_unless_it_is_the_same_everywhere() {
    check_several(
        "region_code,candidate,candidate_id,votes\n\
         N,Ann,1,5\nN,Bob,2,4\nN,Bob,3,3\nN,Cleo,7,2\n\
         S,Ann,1,6\nS,Dan,2,1\nS,Cleo,9,2\n",
        expect![[r#"
            elections-2031 "Élections 2031"
            1 "Ann" everywhere
            2 "Bob" N
            2 "Dan" S
            3 "Bob" N
            7 "Cleo" N
            9 "Cleo" S
            N "N" ?: 1=5 2=4 3=3 7=2 BLANK=0 NULL=0
            S "S" ?: 1=6 2=1 9=2 BLANK=0 NULL=0
        "#]],
    );
    check_results(
        "region_code,candidate,candidate_id,votes\nN,Ann,1,5\n",
        expect![[r#"
            elections-2031 "Élections 2031"
            1 "Ann" N
            N "N" ?: 1=5 BLANK=0 NULL=0
        "#]],
    );
}

#[test]
fn colours_go_by_votes() {
    let plan = results("region_code,candidate,votes\nN,Ann,5\nN,Bob,9\n").unwrap();
    let colors: Vec<&str> = plan.election().choices.iter().map(|choice| choice.color.as_str()).collect();
    assert_eq!(colors, [default_color(1), default_color(0)]);
}

#[test]
fn broken_results_name_line_column_and_what_was_expected() {
    let head = "region_code,region_name,registered,abstentions,blank,null,candidate,votes\n";
    for (rows, expected) in [
        (
            "1,N,9,1,0,0,Ann,x\n",
            expect!["Élections 2031.csv, line 2, column `votes`: found `x`, expected a whole number of zero or more"],
        ),
        (
            "1,N,9,1,0,0,Ann,4294967296\n",
            expect!["Élections 2031.csv, line 2, column `votes`: found 4294967296, expected at most 4294967295"],
        ),
        ("1,N,9,1,0,0,,4\n", expect!["Élections 2031.csv, line 2, column `candidate`: is empty; expected a value"]),
        (
            "1,N,9,1,0,0,Ann,4\n1,N,8,1,0,0,Bob,4\n",
            expect!["Élections 2031.csv, line 3, column `registered`: found 8, expected 9 as on line 2 for region `1`"],
        ),
        (
            "1,N,9,1,0,0,Ann,4\n1,M,9,1,0,0,Bob,4\n",
            expect![
                "Élections 2031.csv, line 3, column `region_name`: found `M`, expected `N` as on line 2 for region `1`"
            ],
        ),
        (
            "1,N,9,1,0,0,Ann,4\n1,N,9,1,,0,Bob,4\n",
            expect![
                "Élections 2031.csv, line 3, column `blank`: found nothing, expected 0 as on line 2 for region `1`"
            ],
        ),
        (
            "1,N,9,1,0,0,Ann,4\n1,N,9,1,0,0,Bob,2\n1,N,9,1,0,0,Ann,2\n",
            expect![
                "Élections 2031.csv, line 4, column `candidate`: `Ann` is already in region `1` on line 2; --same-name one adds them up as one person, --same-name several keeps them apart; if a column distinguishes them, name it with --choice-id-column or --part-column"
            ],
        ),
        (
            "1,N,9,,2,1,Ann,7\n",
            expect![
                "Élections 2031.csv, line 2: region `1`: blank 2 + null 1 + votes 7 = 10 ballots of 9 registered; expected at most as many, or --over-registered allow, which counts them with a warning"
            ],
        ),
        (
            "1,N,20,9,2,1,Ann,7\n",
            expect![
                "Élections 2031.csv, line 2: region `1`: registered 20 − abstentions 9 = 11, but blank 2 + null 1 + votes 7 = 10; expected the same"
            ],
        ),
        (
            "1,N,20,21,2,1,Ann,7\n",
            expect!["Élections 2031.csv, line 2: region `1`: 21 abstentions of 20 registered; expected no more"],
        ),
        ("", expect!["Élections 2031.csv: has no row; expected one for each region and candidate"]),
    ] {
        expected.assert_eq(&results(&format!("{head}{rows}")).unwrap_err());
    }
    for (text, expected) in [
        (
            "region_code,candidate,votes,candidate_id\n1,Ann,4,7\n1,Ann,2,7\n",
            expect![
                "Élections 2031.csv, line 3, column `candidate_id`: `7` is already in region `1` on line 2; expected each id once per region, or --same-name one, which adds them up"
            ],
        ),
        (
            "region_code,candidate,votes,candidate_id\n1,Ann,4,\n",
            expect![
                "Élections 2031.csv, line 2, column `candidate_id`: is empty; expected an id on every row, or no such column"
            ],
        ),
        (
            "region_code,candidate,votes,candidate_id\n1,Ann,4,BLANK\n",
            expect![
                "Élections 2031.csv, line 2, column `candidate_id`: `BLANK` means no candidate; expected another id"
            ],
        ),
        (
            "region_code,candidat,votes\n1,Ann,4\n",
            expect![
                "Élections 2031.csv, line 1: no column `candidate` (did you mean `candidat`?); the columns are region_code, candidat, votes"
            ],
        ),
    ] {
        expected.assert_eq(&results(text).unwrap_err());
    }
}

/// 650 regions with 7 candidates each, two of whom share a name.
#[test]
fn local_candidates_of_many_regions_are_all_told_apart() {
    let mut text =
        "region_code,region_name,registered,abstentions,blank,null,candidate,candidate_id,votes\n".to_owned();
    for region in 0..650 {
        for candidate in 0..7 {
            let name = if candidate < 2 { "Sam Smith".to_owned() } else { format!("Candidate {candidate}") };
            let (id, votes) = (region * 7 + candidate, region + candidate);
            let _ = writeln!(text, "E{region:03},Seat {region},9000,,1,2,{name},{id},{votes}");
        }
    }
    let plan = results_by(&several(), &text).unwrap();
    assert_eq!(plan.election().choices.len(), 650 * 7);
    assert_eq!(plan.cells().len(), 650 * 9);
    let truth = sent(&plan).1;
    let votes: BTreeMap<(&str, &str), u64> =
        truth.tally_rows().fold(BTreeMap::new(), |mut sums, (region, choice, _, votes)| {
            *sums.entry((region, choice)).or_default() += votes;
            sums
        });
    for region in 0..650 {
        for candidate in 0..7 {
            let (code, id) = (format!("E{region:03}"), (region * 7 + candidate).to_string());
            let expected = if region + candidate == 0 { None } else { Some(region + candidate) };
            assert_eq!(votes.get(&(code.as_str(), id.as_str())).copied(), expected, "{code} {id}");
        }
    }
}

/// The votes in the log, and the truth.
fn sent<B: crate::simulate::Ballots>(ballots: &B) -> (Vec<(String, String, i64)>, Truth) {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), 3).unwrap();
    let (progress, stop) = (SendProgress::default(), AtomicBool::new(false));
    let delivery = Delivery { log: &log, speed: Speed::Max, threads: 2, progress: &progress, stop: &stop };
    let truth = run(ballots, &FaultRates::none(), &delivery).unwrap().unwrap();
    let mut votes = Vec::new();
    for partition in 0..3 {
        let end = log.offsets(partition).unwrap().end;
        let mut reader = log.reader(&[(partition, 0)]).unwrap();
        let mut next = 0;
        while next < end {
            let batch = reader.fetch(Duration::from_secs(10)).unwrap().expect("the records are there");
            next = batch.next_offset;
            for record in batch.records() {
                let vote = Vote::parse(record.value.unwrap()).unwrap();
                votes.push((vote.region.into_owned(), vote.choice.into_owned(), vote.cast_at_ms));
            }
        }
    }
    (votes, truth)
}

fn layout() -> Layout {
    let mut layout = Layout::of_ballots("id", "precinct", "vote");
    layout.columns.blank = "kind".into();
    layout
}

#[test]
fn ballots_are_sent_in_the_order_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let text = "id,precinct,vote,kind\n\
                a,P 1,Ann,vote\nb,P 2,,\nc,P 1,Bob,NO\na,P 1,Bob,0\nd,P 1,Ann,blank\ne,P 2,Ann,overvote\nf,P 2,Bob,\n";
    let path = written(dir.path(), "cvr.csv", text);
    let file = BallotFile::open(&path, layout(), &about(), [7; 32], 1).unwrap();
    assert_eq!(crate::simulate::Ballots::election(&file).registered(), None);
    let (mut votes, truth) = sent(&file);
    votes.sort_by_key(|(_, _, cast_at_ms)| *cast_at_ms);
    let order: Vec<String> = votes.iter().map(|(region, choice, _)| format!("{region} {choice}")).collect();
    let expected = ["P 1 ann", "P 2 BLANK", "P 1 bob", "P 1 bob", "P 1 BLANK", "P 2 NULL", "P 2 bob"];
    assert_eq!(order, expected);
    assert_eq!((truth.records, truth.counted), (7, 6));
    assert_eq!(truth.rejected, BTreeMap::from([("already_voted".to_owned(), 1)]));
    let by_choice = |code: &str| truth.tally_rows().filter(|row| row.1 == code).map(|row| row.3).sum::<u64>();
    assert_eq!([by_choice("ann"), by_choice("bob"), by_choice("BLANK"), by_choice("NULL")], [1, 2, 2, 1]);
}

#[test]
fn ballots_may_state_their_channel() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), "cvr.csv", "id,precinct,vote,by\na,P1,Ann,mail\nb,P1,Ann,desk\nc,P1,Ann,mail\n");
    let mut layout = Layout::of_ballots("id", "precinct", "vote");
    layout.columns.channel = "by".into();
    let file = BallotFile::open(&path, layout, &about(), [7; 32], 1).unwrap();
    let (_, truth) = sent(&file);
    assert_eq!(truth.tally_rows().collect::<Vec<_>>(), [("P1", "ann", "mail", 2), ("P1", "ann", "desk", 1)]);
}

#[test]
fn broken_ballots_name_line_column_and_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    for (text, expected) in [
        (
            "id,precinct,vote,kind\na,P1,Ann,maybe\n",
            expect![
                "line 2, column `kind`: found `maybe`, expected blank, true, yes or 1 (a blank ballot), null, spoilt, invalid or overvote (a spoilt one), vote, false, no, 0 or nothing (a vote)"
            ],
        ),
        ("id,precinct,vote,kind\n,P1,Ann,vote\n", expect!["line 2, column `id`: is empty; expected a value"]),
        ("id,precinct,vote,kind\na,,Ann,vote\n", expect!["line 2, column `precinct`: is empty; expected a value"]),
        ("id,precinct,vote\n", expect!["line 1: no column `kind`; the columns are id, precinct, vote"]),
    ] {
        let path = written(dir.path(), "cvr.csv", text);
        let error = BallotFile::open(&path, layout(), &about(), [7; 32], 1).unwrap_err().to_string();
        expected.assert_eq(error.split_once("cvr.csv, ").unwrap().1);
    }
}

#[test]
fn a_file_that_changes_while_it_is_replayed_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), "cvr.csv", "id,precinct,vote,kind\na,P1,Ann,\nb,P1,Ann,\n");
    let file = BallotFile::open(&path, layout(), &about(), [7; 32], 1).unwrap();
    for text in ["id,precinct,vote,kind\na,P1,Ann,\n", "id,precinct,vote,kind\na,P1,Ann,\nb,P1,Cleo,\n"] {
        written(dir.path(), "cvr.csv", text);
        let log = EmbeddedLog::open(&dir.path().join("log"), 1).unwrap();
        let (progress, stop) = (SendProgress::default(), AtomicBool::new(false));
        let delivery = Delivery { log: &log, speed: Speed::Max, threads: 1, progress: &progress, stop: &stop };
        let error = run(&file, &FaultRates::none(), &delivery).unwrap_err().to_string();
        assert!(error.contains("changed while it was being read"), "{error}");
    }
}

/// A killed run over a file of ballots resumes where it was.
#[test]
fn ballots_resume_where_the_log_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = "id,precinct,vote,kind\n".to_owned();
    (0..500).for_each(|row| text += &format!("v{},P{},C{},\n", row % 450, row % 7, row % 5));
    let path = written(dir.path(), "cvr.csv", &text);
    let file = BallotFile::open(&path, layout(), &about(), [7; 32], 1).unwrap();
    let faults = FaultRates { delay: 0.2, double_vote: 0.2, ..FaultRates::none() };
    let (progress, stop) = (SendProgress::default(), AtomicBool::new(false));
    let run_on = |log: &EmbeddedLog| {
        let delivery = Delivery { log, speed: Speed::Max, threads: 2, progress: &progress, stop: &stop };
        run(&file, &faults, &delivery).unwrap().unwrap()
    };
    let all = |log: &EmbeddedLog| -> Vec<RecordBuffer> {
        let mut all = vec![RecordBuffer::default(); 2];
        for (partition, buffer) in all.iter_mut().enumerate() {
            let mut reader = log.reader(&[(partition as u32, 0)]).unwrap();
            while (buffer.len() as u64) < log.offsets(partition as u32).unwrap().end {
                let batch = reader.fetch(Duration::from_secs(10)).unwrap().expect("the records are there");
                batch.records().for_each(|record| buffer.push(record.key, record.value));
            }
        }
        all
    };
    let whole = EmbeddedLog::open(&dir.path().join("whole"), 2).unwrap();
    let truth = run_on(&whole);
    assert_eq!(truth.counted, 450);
    let cut = EmbeddedLog::open(&dir.path().join("cut"), 2).unwrap();
    let mut beginning = vec![(0, RecordBuffer::default())];
    let mut reader = whole.reader(&[(0, 0)]).unwrap();
    let batch = reader.fetch(Duration::from_secs(10)).unwrap().unwrap();
    batch.records().take(100).for_each(|record| beginning[0].1.push(record.key, record.value));
    cut.writer(&[0]).unwrap().append(&mut beginning).unwrap();
    assert_eq!(run_on(&cut), truth);
    assert_eq!(all(&cut), all(&whole));

    // A single corrected vote, far from the end, makes it another file.
    let corrected = written(dir.path(), "cvr.csv", &text.replace("v3,P3,C3,", "v3,P3,C4,"));
    let file = BallotFile::open(&corrected, layout(), &about(), [7; 32], 1).unwrap();
    let delivery = Delivery { log: &whole, speed: Speed::Max, threads: 2, progress: &progress, stop: &stop };
    let error = run(&file, &faults, &delivery).unwrap_err().to_string();
    assert!(error.contains("holds votes of another run") && error.contains("file that it was started with"), "{error}");
}

/// A real file; if it does not exist, none and a message.
fn real_file(name: &str) -> Option<PathBuf> {
    file_of("data", name)
}

/// A file of the folder with real results and ballots, or of a folder next to it; if it does not exist, none and a
/// message.
pub(super) fn file_of(folder: &str, name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("SCRUTIN_TEST_DATA").map_or_else(beside, PathBuf::from);
    let path = if folder == "data" { data } else { data.join("..").join(folder) }.join(name);
    if path.exists() {
        return Some(path);
    }
    // Write directly to the terminal: the output of a passing test is not shown.
    let line = format!(
        "SKIPPED: {} is not there; set SCRUTIN_TEST_DATA to the folder with real data beside it\n",
        path.display()
    );
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
    None
}

#[test]
fn the_french_results_of_2022_are_reproduced_exactly() {
    let Some(path) = real_file("fr2022_t1_departements.csv") else { return };
    let (plan, _) = results::read(&path, &Layout::own(), &about(), 1).unwrap();
    assert_eq!((plan.election().regions.len(), plan.election().choices.len()), (107, 12));
    assert!(plan.election().choices.iter().all(|choice| choice.region.is_none()));
    assert_eq!((plan.election().registered(), plan.total()), (Some(48_747_876), 35_923_707));
    let sum = |code: &str| -> u64 {
        let cells = (0..plan.cells().len() as u32).filter(|cell| plan.cells().codes(*cell).1 == code);
        cells.map(|cell| u64::from(plan.ballots()[cell as usize])).sum()
    };
    assert_eq!((sum("BLANK"), sum("NULL")), (543_609, 247_151));
}

#[test]
fn the_minneapolis_ballots_of_2013_come_to_the_citys_figures() {
    let Some(path) = real_file("cvr_minneapolis2013_mayor.csv.gz") else { return };
    let Some(official) = real_file("cvr_minneapolis2013_mayor_official_round1.csv") else { return };
    let mut layout = Layout::of_ballots("ballot_id", "precinct", "first_choice");
    layout.columns.blank = "kind".into();
    let file = BallotFile::open(&path, layout, &about(), [7; 32], 1).unwrap();
    let (votes, truth) = sent(&file);
    assert_eq!((votes.len(), truth.counted, truth.rejected.len()), (80_101, 80_101, 0));
    let count = |code: &str| votes.iter().filter(|(_, choice, _)| choice == code).count() as u64;
    assert_eq!(count("BLANK"), 686);
    let mut official =
        scrutin_files::table::Table::open(&official, &scrutin_files::table::Form::default(), &[]).unwrap();
    let (name, figure) = (official.column("first_choice").unwrap(), official.column("official_round1_votes").unwrap());
    let mut checked = 0;
    while official.next_row().unwrap() {
        let choices = &crate::simulate::Ballots::election(&file).choices;
        let Some(choice) = choices.iter().find(|choice| choice.name == official.text(name)) else { continue };
        assert_eq!(count(&choice.code), official.number::<u64>(figure, "").unwrap().unwrap(), "{}", choice.name);
        checked += 1;
    }
    assert_eq!(checked, crate::simulate::Ballots::election(&file).choices.len());
}
