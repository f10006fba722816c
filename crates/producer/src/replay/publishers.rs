//! Files as publishers write them, recreated from their own descriptions, and read with the built-in layouts.

use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::detect::fitting;
use super::inspect::{Report, inspect};
use super::layout::Layout;
use super::tests::about;

/// A report in a few lines.
pub fn shown(report: &Report) -> String {
    let mut out = String::new();
    let verdict = if report.can_be_counted { "can be counted" } else { "is refused" };
    let _ = writeln!(out, "{verdict}, by `{}`", report.layout);
    if let Some(error) = &report.error {
        let _ = writeln!(out, "! {error}");
    }
    for finding in &report.findings {
        let _ = writeln!(out, "{} {}", if finding.is_refused { "!" } else { "-" }, finding.text());
    }
    for candidate in &report.candidates {
        let _ = writeln!(out, "{} {} in {}", candidate.name, candidate.votes, candidate.regions);
    }
    let known = |number: Option<u64>| number.map_or("?".to_owned(), |number| number.to_string());
    for region in report.regions.iter().take(4) {
        let _ = writeln!(out, "[{}] {}: {} of {}", region.code, region.name, region.ballots, known(region.registered));
    }
    let sums = &report.sums;
    let _ = write!(out, "blank {}, null {}, registered {}", sums.blank, sums.null, known(sums.registered));
    out
}

/// Reads a file with the built-in layout that fits it.
fn check(bytes: &[u8], change: impl Fn(&mut Layout), expected: Expect) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.csv");
    std::fs::write(&path, bytes).unwrap();
    let mut said = Layout::default();
    change(&mut said);
    let mut layout = fitting(&path, &said.file).unwrap().expect("a layout fits").clone();
    change(&mut layout);
    let report = inspect(&path, &layout, &about()).unwrap();
    expected.assert_eq(&shown(&report).replace(&format!("{}/", dir.path().display()), ""));
}

#[test]
fn openelections() {
    let text = "county,precinct,office,district,party,candidate,votes,early_voting,election_day\n\
        Elm,Oak 1,Registered Voters,,,Registered Voters,500,,\n\
        Elm,Oak 1,President,,DEM,Eva Lind,120,60,60\nElm,Oak 1,President,,WFP,Eva Lind,10,4,6\n\
        Elm,Oak 1,President,,REP,Finn Berg,90,40,50\nElm,Oak 1,President,,,Write-ins,2,1,1\n\
        Elm,Oak 1,President,,,Under Votes,3,,\nElm,Oak 1,U.S. House,2,DEM,Gus Dahl,99,,\n\
        Elm,Oak 2,President,,DEM,Eva Lind,20,10,10\nElm,Oak 2,President,,REP,Finn Berg,33,3,30\n\
        Elm,Oak 2,U.S. House,3,DEM,Hanna Ek,44,,\n";
    check(
        text.as_bytes(),
        |_| {},
        expect![[r#"
            is refused, by `openelections`
            ! line 8, column `office`: holds 3 contests: `President`, `U.S. House / 2`, `U.S. House / 3`; choose one with --contest 'President', or name their column with --contest-column (none: all rows are one contest)
            - registered voters are listed as a separate contest and taken from there
            - line 7, column `candidate`: `Under Votes` is read as blank ballots
            - 1 rows were added to another row with the same name and region
            Eva Lind 150 in 2
            Finn Berg 123 in 2
            Write-ins 2 in 1
            [Elm / Oak 1] Elm / Oak 1: 225 of 500
            [Elm / Oak 2] Elm / Oak 2: 53 of ?
            blank 3, null 0, registered ?"#]],
    );
    check(
        text.as_bytes(),
        |layout| layout.answers.contest = Some("President".into()),
        expect![[r#"
            can be counted, by `openelections`
            - registered voters are listed as a separate contest and taken from there
            - line 7, column `candidate`: `Under Votes` is read as blank ballots
            - 1 rows were added to another row with the same name and region
            - the number of registered voters is unknown in 1 of 2 regions; it is shown as unknown there and in total
            Eva Lind 150 in 2
            Finn Berg 123 in 2
            Write-ins 2 in 1
            [Elm / Oak 1] Elm / Oak 1: 225 of 500
            [Elm / Oak 2] Elm / Oak 2: 53 of ?
            blank 3, null 0, registered ?"#]],
    );
}

#[test]
fn medsl() {
    let head = "precinct,office,party_detailed,party_simplified,mode,votes,county_name,county_fips,jurisdiction_name,\
        jurisdiction_fips,candidate,district,dataverse,year,stage,state,special,writein,state_po,date,magnitude\n";
    let row = |precinct: &str, candidate: &str, mode: &str, votes: u32| {
        format!(
            "{precinct},US PRESIDENT,X,X,{mode},{votes},ELM,1,ELM,1,{candidate},,PRESIDENT,2020,GEN,STATE,FALSE,FALSE,ST,2020-11-03,1\n"
        )
    };
    let mut text = head.to_owned();
    text += &row("OAK 1", "EVA LIND", "ABSENTEE", 30);
    text += &row("OAK 1", "EVA LIND", "ELECTION DAY", 12);
    text += &row("OAK 1", "FINN BERG", "ABSENTEE", 20);
    text += &row("OAK 1", "FINN BERG", "ELECTION DAY", 25);
    text += &row("OAK 1", "OVERVOTES", "ELECTION DAY", 1);
    text += &row("OAK 1 \"\"X", "UNDERVOTES", "ELECTION DAY", 2);
    check(
        text.as_bytes(),
        |_| {},
        expect![[r#"
        can be counted, by `medsl`
        - line 6, column `candidate`: `OVERVOTES` is read as spoilt ballots
        - line 7, column `candidate`: `UNDERVOTES` is read as blank ballots
        - the number of registered voters is not given; it is shown as unknown, without turnout
        FINN BERG 45 in 1
        EVA LIND 42 in 1
        [ELM / OAK 1] ELM / OAK 1: 88 of ?
        [ELM / OAK 1 ""X] ELM / OAK 1 ""X: 2 of ?
        blank 2, null 1, registered ?"#]],
    );
    text += &row("OAK 1", "EVA LIND", "TOTAL", 42);
    check(
        text.as_bytes(),
        |_| {},
        expect![[r#"
        is refused, by `medsl`
        - line 6, column `candidate`: `OVERVOTES` is read as spoilt ballots
        - line 7, column `candidate`: `UNDERVOTES` is read as blank ballots
        ! line 8: `TOTAL` is a totals row next to the ways of voting it sums up; --totals leave-out omits such rows, --totals keep adds them too
        EVA LIND 84 in 1
        FINN BERG 45 in 1
        [ELM / OAK 1] ELM / OAK 1: 130 of ?
        [ELM / OAK 1 ""X] ELM / OAK 1 ""X: 2 of ?
        blank 2, null 1, registered ?"#]],
    );
}

#[test]
fn french_ministry_narrow() {
    let text = "Code du département;Libellé du département;Inscrits;Abstentions;Votants;Blancs;Nuls;Exprimés;Nom;Prénom;Voix\n\
        01;Ain;100;20;80;3;2;75;LIND;Eva;40\n01;Ain;100;20;80;3;2;75;BERG;Finn;35\n\
        2A;Corse-du-Sud;50;10;40;1;0;39;LIND;Eva;19\n2A;Corse-du-Sud;50;10;40;1;0;39;BERG;Finn;20\n";
    check(
        text.as_bytes(),
        |_| {},
        expect![[r#"
        can be counted, by `france`
        Eva LIND 59 in 2
        Finn BERG 55 in 2
        [01] Ain: 80 of 100
        [2A] Corse-du-Sud: 40 of 50
        blank 4, null 2, registered 150"#]],
    );
}

#[test]
fn french_ministry_wide_with_a_header_that_ends_early() {
    let text = "Code du département;Libellé du département;Etat saisie;Inscrits;Abstentions;% Abs/Ins;Votants;Blancs;Nuls;Exprimés;Sexe;Nom;Prénom;Voix;% Voix/Ins;% Voix/Exp\n\
        01;Ain;Complet;100;20;20,00;80;3;2;75;F;LIND;Eva;40;40,00;53,33;M;BERG;Finn;35;35,00;46,67\n\
        02;Aisne;Complet;50;10;20,00;40;1;0;39;F;LIND;Eva;19;38,00;48,72;M;BERG;Finn;20;40,00;51,28\n";
    check(
        text.as_bytes(),
        |_| {},
        expect![[r#"
            can be counted, by `france-wide`
            Eva LIND 59 in 2
            Finn BERG 55 in 2
            [01] Ain: 80 of 100
            [02] Aisne: 40 of 50
            blank 4, null 2, registered 150"#]],
    );
    let latin: Vec<u8> = text.chars().map(|letter| letter as u32 as u8).collect();
    check(
        &latin,
        |layout| layout.file.encoding = Some(scrutin_files::table::Encoding::Windows1252),
        expect![[r#"
        can be counted, by `france-wide`
        Eva LIND 59 in 2
        Finn BERG 55 in 2
        [01] Ain: 80 of 100
        [02] Aisne: 40 of 50
        blank 4, null 2, registered 150"#]],
    );
}

#[test]
fn french_ministry_numbered() {
    let text = "Code département;Libellé département;Inscrits;Votants;Abstentions;Exprimés;Blancs;Nuls;Numéro de panneau 1;Nom candidat 1;Prénom candidat 1;Voix 1;Numéro de panneau 2;Nom candidat 2;Prénom candidat 2;Voix 2\n\
        01;Ain;100;80;20;75;3;2;1;LIND;Eva;40;2;BERG;Finn;35\n02;Aisne;30;20;10;20;0;0;1;LIND;Eva;20;;;;\n";
    check(
        text.as_bytes(),
        |_| {},
        expect![[r#"
        can be counted, by `france-numbered`
        Eva LIND 60 in 2
        Finn BERG 35 in 1
        [01] Ain: 80 of 100
        [02] Aisne: 20 of 30
        blank 3, null 2, registered 130"#]],
    );
}

#[test]
fn house_of_commons() {
    let text = "ONS ID,ONS region ID,Constituency name,Party name,Party abbreviation,Candidate first name,Candidate surname,Votes,Share\n\
        W1,W,Aber,Labour,Lab,Eva,Lind,300,0.6\nW1,W,Aber,Plaid,PC,Jon,Smith,200,0.4\n\
        E1,E,Ely,Labour,Lab,Finn,Berg,20,0.1\nE1,E,Ely,Plaid,PC,Jon,Smith,180,0.9\n";
    check(
        text.as_bytes(),
        |_| {},
        expect![[r#"
        can be counted, by `uk-candidates`
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Eva Lind Lab 300 in 1
        Jon Smith PC 200 in 1
        Jon Smith PC 180 in 1
        Finn Berg Lab 20 in 1
        [W1] Aber: 500 of ?
        [E1] Ely: 200 of ?
        blank 0, null 0, registered ?"#]],
    );
    let wide = "ONS ID,Constituency name,Electorate,Valid votes,Invalid votes,Con,Lab,LD,Green,SNP,PC,DUP,SF,SDLP,UUP,APNI,All other candidates\n\
        W1,Aber,900,500,5,100,300,0,0,0,100,0,0,0,0,0,0\nE1,Ely,700,400,2,150,50,190,10,0,0,0,0,0,0,0,0\n";
    check(
        wide.as_bytes(),
        |_| {},
        expect![[r#"
        can be counted, by `uk-constituencies`
        Lab 350 in 2
        Con 250 in 2
        LD 190 in 2
        PC 100 in 2
        Green 10 in 2
        SNP 0 in 2
        DUP 0 in 2
        SF 0 in 2
        SDLP 0 in 2
        UUP 0 in 2
        APNI 0 in 2
        All other candidates 0 in 2
        [W1] Aber: 505 of 900
        [E1] Ely: 402 of 700
        blank 0, null 7, registered 1600"#]],
    );
}

#[test]
fn german_federal_returning_officer() {
    let text = "Bundestagswahl\n\n\
        Nr;Gebiet;gehört zu;Wahlberechtigte;;;;Ungültige Stimmen;;;;Gültige Stimmen;;;;Partei A;;;;Partei B;;;\n\
        ;;;Erststimmen;;Zweitstimmen;;Erststimmen;;Zweitstimmen;;Erststimmen;;Zweitstimmen;;Erststimmen;;Zweitstimmen;;Erststimmen;;Zweitstimmen;\n\
        ;;;Endgültig;Vorperiode;Endgültig;Vorperiode;Endgültig;Vorperiode;Endgültig;Vorperiode;Endgültig;Vorperiode;Endgültig;Vorperiode;Endgültig;Vorperiode;Endgültig;Vorperiode;Endgültig;Vorperiode;Endgültig;Vorperiode\n\
        1;Nord;1;100;99;100;99;2;1;3;1;70;60;69;60;40;30;39;30;30;30;30;30\n\
        2;Süd;1;200;99;200;99;1;1;2;1;90;60;89;60;50;30;59;30;40;30;30;30\n\
        1;Land;99;300;198;300;198;3;2;5;2;160;120;158;120;90;60;98;60;70;60;60;60\n\
        99;Bundesgebiet;;300;198;300;198;3;2;5;2;160;120;158;120;90;60;98;60;70;60;60;60\n";
    check(
        text.as_bytes(),
        |_| {},
        expect![[r#"
        is refused, by `germany-kerg`
        ! line 6: holds 2 contests: `Erststimmen`, `Zweitstimmen`; choose one with --contest 'Erststimmen', or name their column with --contest-column (none: all rows are one contest)
        Partei A 90 in 2
        Partei B 70 in 2
        [1] Nord: 72 of 100
        [2] Süd: 91 of 200
        blank 0, null 3, registered 300"#]],
    );
    check(
        text.as_bytes(),
        |layout| layout.answers.contest = Some("Zweitstimmen".into()),
        expect![[r#"
        can be counted, by `germany-kerg`
        Partei A 98 in 2
        Partei B 60 in 2
        [1] Nord: 72 of 100
        [2] Süd: 91 of 200
        blank 0, null 5, registered 300"#]],
    );
}

#[test]
fn cast_vote_records_of_es_s() {
    let text = "Cast Vote Record,Precinct,Ballot Style,Mayor,Council\n1,Oak,S1,Eva Lind,Gus\n2,Oak,S1,undervote,Gus\n3,Elm,S1,overvote,\n4,Elm,S1,write-in:,Gus\n";
    check(
        text.as_bytes(),
        |_| {},
        expect![[r#"
        is refused, by `ess-cvr`
        ! file.csv, line 1: has 2 columns that could be counted; pick one with --choice-column 'Mayor': Mayor, Council
        blank 0, null 0, registered ?"#]],
    );
    check(
        text.as_bytes(),
        |layout| layout.columns.choice = "Mayor".into(),
        expect![[r#"
        can be counted, by `ess-cvr`
        - line 3, column `Mayor`: `undervote` is read as a blank ballot; --marks choices reads it as a candidate
        - line 4, column `Mayor`: `overvote` is read as a spoilt ballot; --marks choices reads it as a candidate
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Eva Lind 1 in 2
        write-in: 1 in 2
        [Oak] Oak: 2 of ?
        [Elm] Elm: 2 of ?
        blank 1, null 1, registered ?"#]],
    );
}

#[test]
fn cast_vote_records_of_dominion() {
    let text = "Elm County,5.10,,,,,,,,,,\n\
        ,,,,,,,,Mayor (Vote For=1),Mayor (Vote For=1),Mayor (Vote For=1),Judge (Vote For=1)\n\
        ,,,,,,,,Eva Lind,Finn Berg,Write-in,Yes\n\
        CvrNumber,TabulatorNum,BatchId,RecordId,ImprintedId,CountingGroup,PrecinctPortion,BallotType,DEM,REP,,\n\
        1,1,1,1,1-1-1,Mail,Oak,T1,1,0,0,1\n2,1,1,2,1-1-2,Mail,Oak,T1,1,1,0,0\n3,1,1,3,1-1-3,Mail,Elm,T1,0,0,0,1\n4,1,1,4,1-1-4,Mail,Elm,T2,,,,1\n5,1,1,5,1-1-5,Mail,Elm,T1,0,1,0,\n";
    check(
        text.as_bytes(),
        |_| {},
        expect![[r#"
        is refused, by `dominion-cvr`
        ! file.csv, line 2: holds 2 contests: `Mayor (Vote For=1)`, `Judge (Vote For=1)`; choose one with --contest 'Mayor (Vote For=1)'
        blank 0, null 0, registered ?"#]],
    );
    check(
        text.as_bytes(),
        |layout| layout.answers.contest = Some("Mayor (Vote For=1)".into()),
        expect![[r#"
        can be counted, by `dominion-cvr`
        - omitted ballots without this contest: 1
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Eva Lind / DEM 1 in 2
        Finn Berg / REP 1 in 2
        Write-in 0 in 2
        [Oak] Oak: 2 of ?
        [Elm] Elm: 2 of ?
        blank 1, null 1, registered ?"#]],
    );
}

#[test]
fn scottish_wards() {
    let text = "3,2\n12,1,2\n7,2,\n5,3,1,2\n\"Candidate 1\",\"Eva Lind\",\"Green\"\n\"Candidate 2\",\"Finn Berg\",\"Labour\"\n\"Candidate 3\",\"Gus Dahl\",\"Ind\"\n\"Oak Ward\"\n";
    check(
        text.as_bytes(),
        |_| {},
        expect![[r#"
        can be counted, by `scotland-rankings`
        - only first choices are counted
        - the number of registered voters is not given; it is shown as unknown, without turnout
        Eva Lind 12 in 1
        Finn Berg 7 in 1
        Gus Dahl 5 in 1
        [oak-ward] Oak Ward: 24 of ?
        blank 0, null 0, registered ?"#]],
    );
}
