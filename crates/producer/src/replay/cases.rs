//! Files that were once misread, or could be: each fault in a small file of its own, with the correct reading.

mod damaged; // randomly damaged files
mod given; // files from the folder of cases, if it exists

use std::path::Path;

use expect_test::{Expect, expect};

use super::inspect::{Report, inspect};
use super::layout::{Layout, Marks, OverRegistered, SameName, Spelling, Thousands, TotalsPolicy};
use super::publishers::shown;
use super::tests::about;

fn inspected(path: &Path, layout: &Layout) -> Report {
    inspect(path, layout, &about()).unwrap()
}

fn check_bytes(layout: &Layout, bytes: &[u8], expected: Expect) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.csv");
    std::fs::write(&path, bytes).unwrap();
    let text = shown(&inspected(&path, layout)).replace(&format!("{}/", dir.path().display()), "");
    expected.assert_eq(&text);
}

fn check(text: &str, expected: Expect) {
    check_bytes(&Layout::own(), text.as_bytes(), expected);
}

fn check_with(change: impl Fn(&mut Layout), text: &str, expected: Expect) {
    let mut layout = Layout::own();
    change(&mut layout);
    check_bytes(&layout, text.as_bytes(), expected);
}

#[test]
fn totals_rows_are_detected_by_name_and_by_sum() {
    let rows = "region_code,candidate,votes\nN,Eva,30\nN,Finn,50\nS,Eva,7\nS,Finn,3\nW,Eva,1\nW,Finn,9\n";
    let by_sum = format!("{rows}Land,Eva,38\nLand,Finn,62\n");
    check(
        &by_sum,
        expect![[r#"
        is refused, by `scrutin`
        ! line 8, column `region_code`: region `Land` equals the sum of all others (100 votes): probably a totals row; --totals leave-out omits such rows, --totals keep counts them
        Finn 124 in 4
        Eva 76 in 4
        [N] N: 80 of ?
        [S] S: 10 of ?
        [W] W: 10 of ?
        [Land] Land: 100 of ?
        blank 0, null 0, registered ?"#]],
    );
    check_with(
        |layout| layout.answers.totals = Some(TotalsPolicy::LeaveOut),
        &by_sum,
        expect![[r#"
        can be counted, by `scrutin`
        - line 8, column `region_code`: region `Land` equals the sum of all others (100 votes), and is omitted
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Finn 62 in 3
        Eva 38 in 3
        [N] N: 80 of ?
        [S] S: 10 of ?
        [W] W: 10 of ?
        blank 0, null 0, registered ?"#]],
    );
    check_with(
        |layout| layout.answers.totals = Some(TotalsPolicy::Keep),
        &by_sum,
        expect![[r#"
        can be counted, by `scrutin`
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Finn 124 in 4
        Eva 76 in 4
        [N] N: 80 of ?
        [S] S: 10 of ?
        [W] W: 10 of ?
        [Land] Land: 100 of ?
        blank 0, null 0, registered ?"#]],
    );
    check(
        &format!("{rows}Gesamt,Eva,38\nGesamt,Finn,63\n"),
        expect![[r#"
        is refused, by `scrutin`
        ! line 8, column `region_code`: region `Gesamt` is named like a total (101 votes): probably a totals row; --totals leave-out omits such rows, --totals keep counts them
        Finn 125 in 4
        Eva 76 in 4
        [N] N: 80 of ?
        [S] S: 10 of ?
        [W] W: 10 of ?
        [Gesamt] Gesamt: 101 of ?
        blank 0, null 0, registered ?"#]],
    );
    check(
        &format!("{rows}N,,80\n"),
        expect![[r#"
        is refused, by `scrutin`
        ! line 8, column `candidate`: is empty, and the row's 80 votes are the sum of the others in region `N`: probably a totals row; --totals leave-out omits such rows
        Finn 62 in 3
        Eva 38 in 3
        [N] N: 80 of ?
        [S] S: 10 of ?
        [W] W: 10 of ?
        blank 0, null 0, registered ?"#]],
    );
    check(
        &format!("{rows}N,Votes cast,80\n"),
        expect![[r#"
        is refused, by `scrutin`
        ! line 8, column `candidate`: `Votes cast` names a total, not a candidate; --totals leave-out omits such rows, --totals keep treats them as candidates
        Votes cast 80 in 1
        Finn 62 in 3
        Eva 38 in 3
        [N] N: 160 of ?
        [S] S: 10 of ?
        [W] W: 10 of ?
        blank 0, null 0, registered ?"#]],
    );
    // Groups of regions, each followed by its sum.
    let groups = "region_code,candidate,votes\na,Eva,3\na,Finn,5\nb,Eva,7\nb,Finn,3\nA,Eva,10\nA,Finn,8\n\
                  c,Eva,1\nc,Finn,2\nd,Eva,4\nd,Finn,4\nC,Eva,5\nC,Finn,6\n";
    check(
        groups,
        expect![[r#"
        is refused, by `scrutin`
        ! line 6, column `region_code`: region `A` equals the sum of its neighbours (18 votes): probably a totals row; --totals leave-out omits such rows, --totals keep counts them
        ! line 12, column `region_code`: region `C` equals the sum of its neighbours (11 votes): probably a totals row; --totals leave-out omits such rows, --totals keep counts them
        Eva 30 in 6
        Finn 28 in 6
        [a] a: 8 of ?
        [b] b: 10 of ?
        [A] A: 18 of ?
        [c] c: 3 of ?
        blank 0, null 0, registered ?"#]],
    );
}

#[test]
fn contests_of_one_file_are_not_one_race() {
    let text =
        "region_code,office,candidate,votes\nN,Mayor,Eva,30\nN,Mayor,Finn,50\nN,Sheriff,Gus,70\nN,Sheriff,Hanna,9\n";
    check(
        text,
        expect![[r#"
        is refused, by `scrutin`
        ! line 4, column `office`: holds 2 contests: `Mayor`, `Sheriff`; choose one with --contest 'Mayor', or name their column with --contest-column (none: all rows are one contest)
        Finn 50 in 1
        Eva 30 in 1
        [N] N: 80 of ?
        blank 0, null 0, registered ?"#]],
    );
    check_with(
        |layout| layout.answers.contest = Some("sheriff".into()),
        text,
        expect![[r#"
        can be counted, by `scrutin`
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Gus 70 in 1
        Hanna 9 in 1
        [N] N: 79 of ?
        blank 0, null 0, registered ?"#]],
    );
    check_with(
        |layout| layout.answers.contest = Some("Shreiff".into()),
        text,
        expect![[r#"
        is refused, by `scrutin`
        ! line 1, column `office`: no contest `Shreiff` (did you mean `Sheriff`?); the contests are `Mayor`, `Sheriff`
        Finn 50 in 1
        Eva 30 in 1
        [N] N: 80 of ?
        blank 0, null 0, registered ?"#]],
    );
    check_with(
        |layout| layout.columns.contest = "none".into(),
        text,
        expect![[r#"
        can be counted, by `scrutin`
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Gus 70 in 1
        Finn 50 in 1
        Eva 30 in 1
        Hanna 9 in 1
        [N] N: 159 of ?
        blank 0, null 0, registered ?"#]],
    );
    check(
        "region_code,office,candidate,votes\nN,Mayor,Eva,30\nS,Mayor,Eva,50\n",
        expect![[r#"
        can be counted, by `scrutin`
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Eva 80 in 2
        [N] N: 30 of ?
        [S] S: 50 of ?
        blank 0, null 0, registered ?"#]],
    );
}

#[test]
fn marks_are_not_candidates() {
    let text =
        "region_code,candidate,votes\nN,Eva,30\nN,Finn,50\nN,Under Votes,4\nN,OVERVOTES,2\nN,Registered Voters,100\n";
    check(
        text,
        expect![[r#"
        is refused, by `scrutin`
        ! line 4, column `candidate`: `Under Votes` is not a candidate's name; --marks ballots reads it as blank ballots, --marks choices as a candidate
        ! line 5, column `candidate`: `OVERVOTES` is not a candidate's name; --marks ballots reads it as spoilt ballots, --marks choices as a candidate
        ! line 6, column `candidate`: `Registered Voters` is not a candidate's name; --marks ballots reads it as the registered voters, --marks choices as a candidate
        Registered Voters 100 in 1
        Finn 50 in 1
        Eva 30 in 1
        Under Votes 4 in 1
        OVERVOTES 2 in 1
        [N] N: 186 of ?
        blank 0, null 0, registered ?"#]],
    );
    check_with(
        |layout| layout.answers.marks = Some(Marks::Ballots),
        text,
        expect![[r#"
        can be counted, by `scrutin`
        - line 4, column `candidate`: `Under Votes` is read as blank ballots
        - line 5, column `candidate`: `OVERVOTES` is read as spoilt ballots
        - line 6, column `candidate`: `Registered Voters` is read as the registered voters
        Finn 50 in 1
        Eva 30 in 1
        [N] N: 86 of 100
        blank 4, null 2, registered 100"#]],
    );
    check_with(
        |layout| layout.answers.marks = Some(Marks::Choices),
        text,
        expect![[r#"
        can be counted, by `scrutin`
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Registered Voters 100 in 1
        Finn 50 in 1
        Eva 30 in 1
        Under Votes 4 in 1
        OVERVOTES 2 in 1
        [N] N: 186 of ?
        blank 0, null 0, registered ?"#]],
    );
}

#[test]
fn one_person_is_one_whatever_the_spelling() {
    check(
        "region_code,candidate,votes\nN,Andre\u{301},3\nN,Finn,5\nS,Andr\u{e9},4\nS,Finn,1\n",
        expect![[r#"
        can be counted, by `scrutin`
        - names on 1 rows are not in Unicode's composed form; they are normalised, so that one name is one person
        - the number of registered voters is not given; it is shown as unknown, without turnout
        André 7 in 2
        Finn 6 in 2
        [N] N: 8 of ?
        [S] S: 5 of ?
        blank 0, null 0, registered ?"#]],
    );
    let text = "region_code,candidate,votes\nN,Eva Lind,3\nN,Finn,5\nS,EVA  LIND,4\nS,Finn,1\n";
    check(
        text,
        expect![[r#"
        is refused, by `scrutin`
        ! line 4, column `candidate`: `EVA  LIND` and `Eva Lind` (line 2) differ only in case or spaces; --spelling join treats them as one, --spelling apart as two
        Finn 6 in 2
        EVA  LIND 4 in 1
        Eva Lind 3 in 1
        [N] N: 8 of ?
        [S] S: 5 of ?
        blank 0, null 0, registered ?"#]],
    );
    check_with(
        |layout| layout.answers.spelling = Some(Spelling::Join),
        text,
        expect![[r#"
        can be counted, by `scrutin`
        - line 4, column `candidate`: `EVA  LIND` and `Eva Lind` (line 2) differ only in case or spaces, and are treated as one
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Eva Lind 7 in 2
        Finn 6 in 2
        [N] N: 8 of ?
        [S] S: 5 of ?
        blank 0, null 0, registered ?"#]],
    );
    check_with(
        |layout| layout.answers.spelling = Some(Spelling::Apart),
        text,
        expect![[r#"
        can be counted, by `scrutin`
        - line 4, column `candidate`: `EVA  LIND` and `Eva Lind` (line 2) differ only in case or spaces, and are treated as two
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Finn 6 in 2
        EVA  LIND 4 in 1
        Eva Lind 3 in 1
        [N] N: 8 of ?
        [S] S: 5 of ?
        blank 0, null 0, registered ?"#]],
    );
}

#[test]
fn the_user_decides_which_rows_are_one_person() {
    let by_id =
        "region_code,candidate,candidate_id,votes\nN,Eva,e1,3\nN,Eva,e2,2\nN,Finn,f,4\nS,Eva,e1,1\nS,Finn,f,1\n";
    check(
        by_id,
        expect![[r#"
        is refused, by `scrutin`
        ! line 3, column `candidate`: `Eva` is already in region `N` on line 2, with another id; --same-name one adds them up as one person, --same-name several keeps them apart
        Finn 5 in 2
        Eva 4 in 2
        Eva 2 in 1
        [N] N: 9 of ?
        [S] S: 2 of ?
        blank 0, null 0, registered ?"#]],
    );
    check_with(
        |layout| layout.answers.same_name = Some(SameName::One),
        by_id,
        expect![[r#"
            can be counted, by `scrutin`
            - 1 rows were added to another row with the same name and region
            - the number of registered voters is not given; it is shown as unknown, without turnout
            Eva 6 in 2
            Finn 5 in 2
            [N] N: 9 of ?
            [S] S: 2 of ?
            blank 0, null 0, registered ?"#]],
    );
    check_with(
        |layout| layout.answers.same_name = Some(SameName::Several),
        by_id,
        expect![[r#"
        can be counted, by `scrutin`
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Finn 5 in 2
        Eva 4 in 2
        Eva 2 in 1
        [N] N: 9 of ?
        [S] S: 2 of ?
        blank 0, null 0, registered ?"#]],
    );
    let by_name = "region_code,candidate,votes\nN,List,3\nN,List,2\nN,Finn,4\nS,List,1\nS,Finn,1\n";
    check(
        by_name,
        expect![[r#"
            is refused, by `scrutin`
            ! line 3, column `candidate`: `List` is already in region `N` on line 2; --same-name one adds them up as one person, --same-name several keeps them apart; if a column distinguishes them, name it with --choice-id-column or --part-column
            List 6 in 2
            Finn 5 in 2
            [N] N: 9 of ?
            [S] S: 2 of ?
            blank 0, null 0, registered ?"#]],
    );
    check_with(
        |layout| layout.answers.same_name = Some(SameName::One),
        by_name,
        expect![[r#"
            can be counted, by `scrutin`
            - 1 rows were added to another row with the same name and region
            - the number of registered voters is not given; it is shown as unknown, without turnout
            List 6 in 2
            Finn 5 in 2
            [N] N: 9 of ?
            [S] S: 2 of ?
            blank 0, null 0, registered ?"#]],
    );
    check_with(
        |layout| layout.answers.same_name = Some(SameName::Several),
        by_name,
        expect![[r#"
        can be counted, by `scrutin`
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Finn 5 in 2
        List 3 in 1
        List 2 in 1
        List 1 in 1
        [N] N: 9 of ?
        [S] S: 2 of ?
        blank 0, null 0, registered ?"#]],
    );
}

#[test]
fn registered_voters_are_never_invented() {
    check(
        "region_code,candidate,votes\nN,Eva,3\nN,Finn,5\n",
        expect![[r#"
        can be counted, by `scrutin`
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Finn 5 in 1
        Eva 3 in 1
        [N] N: 8 of ?
        blank 0, null 0, registered ?"#]],
    );
    check(
        "region_code,abstentions,candidate,votes\nN,92,Eva,3\nN,92,Finn,5\n",
        expect![[r#"
        can be counted, by `scrutin`
        Finn 5 in 1
        Eva 3 in 1
        [N] N: 8 of 100
        blank 0, null 0, registered 100"#]],
    );
    check(
        "region_code,registered,candidate,votes\nN,10,Eva,3\nS,,Eva,5\nW,0,Eva,2\n",
        expect![[r#"
            can be counted, by `scrutin`
            - line 4, column `registered`: region `W` has 2 ballots and 0 registered voters; the number is treated as unknown
            - the number of registered voters is unknown in 2 of 3 regions; it is shown as unknown there and in total
            Eva 10 in 3
            [N] N: 3 of 10
            [S] S: 5 of ?
            [W] W: 2 of ?
            blank 0, null 0, registered ?"#]],
    );
    let over = "region_code,registered,candidate,votes\nN,4,Eva,5\nS,10,Eva,5\n";
    check(
        over,
        expect![[r#"
        is refused, by `scrutin`
        ! line 2: region `N`: blank 0 + null 0 + votes 5 = 5 ballots of 4 registered; expected at most as many, or --over-registered allow, which counts them with a warning
        Eva 10 in 2
        [N] N: 5 of 4
        [S] S: 5 of 10
        blank 0, null 0, registered 14"#]],
    );
    check_with(
        |layout| layout.answers.over_registered = Some(OverRegistered::Allow),
        over,
        expect![[r#"
        can be counted, by `scrutin`
        - line 2: region `N`: blank 0 + null 0 + votes 5 = 5 ballots of 4 registered
        Eva 10 in 2
        [N] N: 5 of 4
        [S] S: 5 of 10
        blank 0, null 0, registered 14"#]],
    );
}

#[test]
fn numbers_are_read_in_the_declared_format() {
    let text = "region_code;candidate;votes\nN;Eva;1.234\nN;Finn;12\n";
    check(
        text,
        expect![[r#"
        is refused, by `scrutin`
        ! file.csv, line 2, column `votes`: found `1.234`, expected a whole number of zero or more; if the dot groups thousands, use --thousands dot
        blank 0, null 0, registered ?"#]],
    );
    check_with(
        |layout| layout.thousands = Some(Thousands::Dot),
        text,
        expect![[r#"
        can be counted, by `scrutin`
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Eva 1234 in 1
        Finn 12 in 1
        [N] N: 1246 of ?
        blank 0, null 0, registered ?"#]],
    );
    check(
        "region_code;candidate;votes\nN;Eva;12.0\n",
        expect![[r#"
        is refused, by `scrutin`
        ! file.csv, line 2, column `votes`: found `12.0`, expected a whole number of zero or more
        blank 0, null 0, registered ?"#]],
    );
    check(
        "region_code,candidate,votes\nN,Eva,\"12,34\"\n",
        expect![[r#"
        is refused, by `scrutin`
        ! file.csv, line 2, column `votes`: found `12,34`, expected a whole number of zero or more
        blank 0, null 0, registered ?"#]],
    );
    check(
        "region_code\tcandidate\tvotes\nN\tEva\t1\u{202f}234\n",
        expect![[r#"
        is refused, by `scrutin`
        ! file.csv, line 2, column `votes`: found `1 234`, expected a whole number of zero or more; if the space groups thousands, use --thousands space
        blank 0, null 0, registered ?"#]],
    );
    check(
        "region_code\tcandidate\tvotes\nN\tEva\t+5\n",
        expect![[r#"
        is refused, by `scrutin`
        ! file.csv, line 2, column `votes`: found `+5`, expected a whole number of zero or more
        blank 0, null 0, registered ?"#]],
    );
}

#[test]
fn a_candidate_without_a_row_somewhere_has_one_colour() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.csv");
    std::fs::write(
        &path,
        "region_code,candidate,votes\nN,Eva,30\nN,Finn,20\nS,Finn,20\nS,Gus,90\nW,Eva,1\nW,Finn,2\nW,Gus,3\n",
    )
    .unwrap();
    let (plan, _) = super::results::read(&path, &Layout::own(), &about(), 1).unwrap();
    let mut colors: Vec<(&str, &str)> =
        plan.election().choices.iter().map(|choice| (choice.name.as_str(), choice.color.as_str())).collect();
    colors.sort_unstable();
    colors.dedup();
    assert_eq!(colors.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["Eva", "Finn", "Gus"], "{colors:?}");
}

#[test]
fn marks_and_spellings_are_detected_in_ballots_too() {
    let layout = Layout::of_ballots("no", "place", "first");
    check_bytes(
        &layout,
        b"no,place,first,second\n1,P,Eva,Finn\n2,P,undervote,\n3,P,overvote,\n4,P,\"Eva\nFinn\",\n5,P,,\n6,Q,Write-in,\n",
        expect![[r#"
            can be counted, by ``
            - line 3, column `first`: `undervote` is read as a blank ballot; --marks choices reads it as a candidate
            - line 4, column `first`: `overvote` is read as a spoilt ballot; --marks choices reads it as a candidate
            - line 5, column `first`: `Eva` and `Finn` is read as a spoilt ballot: more than one choice
            - the number of registered voters is not given; it is shown as unknown, without turnout
            Eva 1 in 2
            Write-in 1 in 2
            [P] P: 5 of ?
            [Q] Q: 1 of ?
            blank 2, null 2, registered ?"#]],
    );
    check_bytes(
        &layout,
        b"no,place,first\n1,P,Eva\n2,P,EVA\n",
        expect![[r#"
        is refused, by ``
        ! file.csv, line 3, column `first`: `EVA` and `Eva` (line 2) differ only in case or spaces; --spelling join treats them as one, --spelling apart as two
        blank 0, null 0, registered ?"#]],
    );
    check_bytes(
        &layout,
        b"no,place,first,note\n1,P,Eva,\n2,P,Finn,\"x\n3,P,Finn,\n",
        expect![[r#"
        is refused, by ``
        ! file.csv, line 3, column `note`: a quote opens here and is never closed; remove it, or close it on its line
        blank 0, null 0, registered ?"#]],
    );
    check_bytes(
        &layout,
        b"nr,place,choice\n1,P,Eva\n",
        expect![[r#"
        is refused, by ``
        ! file.csv, line 1: no columns `no`, `first`; the columns are nr, place, choice
        blank 0, null 0, registered ?"#]],
    );
}
