//! Error messages say what is wrong, where, and what was expected or what to do; exit codes are the documented ones.

use std::net::TcpListener;
use std::process::Stdio;

use expect_test::{Expect, expect};
use serde_json::Value;

use crate::kit::Kit;
use crate::run::{Place, Running};

const TOML: &str = "id = \"mayor\"\ntitle = \"Mayor\"\nopens_at = 2027-04-11T08:00:00+02:00\n\
    closes_at = 2027-04-11T20:00:00+02:00\ntime_zone = \"Europe/Paris\"\nchannels = [\"booth\", \"post\"]\n";
const REGIONS: &str = "code,name,registered\nN,North,1200\nS,South,800\n";
const CHOICES: &str = "code,name,color,region\nA,Ada,#1b6ca8,\nB,Ben,,S\n";

/// Checks an error message, with the test's folder stripped from its paths.
fn check(place: &Place, line: &str, code: i32, expected: Expect) {
    let folder = place.path("").canonicalize().unwrap();
    expected.assert_eq(&place.fails(line, code).replace(&format!("{}/", folder.display()), ""));
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let place = Place::bare();
    for line in [
        "",
        "cuont",
        "count --drian",
        "demo --voters many",
        "demo --day 0s",
        "demo --speed 0",
        "demo --speed 1e-300",
        "demo --speed 1e300",
        "demo --results a.csv --voters 5",
        "setup --no-election --voters 5",
        "replay",
        "replay results",
        "rejected --reason none",
        "results --by moon",
        "serve --listen nowhere",
    ] {
        let message = place.fails(line, 2);
        assert!(message.contains("--help") || message.contains("Usage:"), "{line}: {message}");
        assert!(!place.path("scrutin-data").exists(), "{line}");
    }
    check(
        &place,
        "demo --voter-column id",
        2,
        expect![[r#"
        scrutin: options for reading a file (--layout, --voter-column and so on) need --results or --ballots
    "#]],
    );
    check(
        &place,
        "demo --ballots b.csv --voter-column id --region-column r",
        2,
        expect![[r#"
        scrutin: --choice-column is missing; it names a column of the file of ballots
    "#]],
    );
    check(
        &place,
        "simulate --fault lost=0.1",
        2,
        expect![[r#"
        scrutin: --fault lost=0.1: no such kind; `scrutin help simulate` lists them
    "#]],
    );
    check(
        &place,
        "demo --fault delay=2",
        2,
        expect![[r#"
        scrutin: --fault delay=2: expected a number from 0 to 1 after the =
    "#]],
    );
    check(
        &place,
        "simulate --fault delay",
        2,
        expect![[r#"
        scrutin: --fault delay: expected KIND=RATE
    "#]],
    );
    check(
        &place,
        "simulate --truth there/truth.json",
        2,
        expect![[r#"
        scrutin: --truth there/truth.json: there is no folder there
    "#]],
    );
}

#[test]
fn a_broken_election_folder_exits_with_3() {
    let place = Place::bare();
    let check_with = |name: &str, text: Option<&str>, expected: Expect| {
        for (name, text) in [("election.toml", TOML), ("regions.csv", REGIONS), ("choices.csv", CHOICES)] {
            place.write(&format!("mayor/{name}"), text);
        }
        match text {
            Some(text) => place.write(&format!("mayor/{name}"), text),
            None => std::fs::remove_file(place.path("mayor").join(name)).unwrap(),
        }
        let message = place.fails("setup --election mayor", 3);
        expected.assert_eq(&message);
        let folder = place.path("").canonicalize().unwrap();
        assert_eq!(place.fails("demo --election mayor", 3).replace(&format!("{}/", folder.display()), ""), message);
        assert!(!place.path("scrutin-data/log").exists() && !place.path("scrutin-data/postgres").exists());
        assert!(!place.path("scrutin-data/run.json").exists());
    };
    check_with(
        "regions.csv",
        None,
        expect![[r#"
        scrutin: cannot read mayor/regions.csv: No such file or directory (os error 2)
    "#]],
    );
    check_with(
        "regions.csv",
        Some("code,name\nN,North\n"),
        expect![[r#"
        scrutin: mayor/regions.csv, line 1: no column `registered`; the columns are code, name
    "#]],
    );
    check_with(
        "regions.csv",
        Some("code,name,registered\nN,North,12OO\n"),
        expect![[r#"
        scrutin: mayor/regions.csv, line 2, column `registered`: found `12OO`, expected a whole number of zero or more
    "#]],
    );
    check_with(
        "regions.csv",
        Some("code,name,registered\nN,North,1\nN,South,2\n"),
        expect![[r#"
        scrutin: mayor/regions.csv, line 3, column `code`: `N` is already on line 2; expected each code once
    "#]],
    );
    check_with(
        "regions.csv",
        Some("code,name,registered\nN,North\n"),
        expect![[r#"
        scrutin: mayor/regions.csv, line 2: found 2 fields, expected 3 as in the header
    "#]],
    );
    check_with(
        "choices.csv",
        Some("code,name,color\nA,Ada,#1b6ca\n"),
        expect![[r#"
        scrutin: mayor/choices.csv, line 2, column `color`: found `#1b6ca`, expected a colour such as #1a2b3c
    "#]],
    );
    check_with(
        "choices.csv",
        Some("code,name,region\nA,Ada,N\nB,Ben,W\n"),
        expect![[r#"
        scrutin: mayor/choices.csv, line 3, column `region`: found `W`, expected a code from regions.csv, or nothing
    "#]],
    );
    let toml = |find: &str, by: &str| Some(TOML.replacen(find, by, 1)).filter(|text| text != TOML).unwrap();
    check_with(
        "election.toml",
        Some(&toml("2027-04-11T08", "2027-04-31T08")),
        expect![[r#"
        scrutin: mayor/election.toml, line 3: invalid date, expected day between 01 and 30
    "#]],
    );
    check_with(
        "election.toml",
        Some(&toml("T20:00:00+02:00", "T20:00:00")),
        expect![[r#"
        scrutin: mayor/election.toml, line 4, column `closes_at`: found `2027-04-11T20:00:00`, expected a date, a time and an offset, such as 2027-04-11T08:00:00+02:00
    "#]],
    );
    check_with(
        "election.toml",
        Some(&toml("T20", "T07")),
        expect![[r#"
        scrutin: mayor/election.toml, line 4, column `closes_at`: is not after opens_at; expected a later time
    "#]],
    );
    check_with(
        "election.toml",
        Some(&toml("title =", "titel =")),
        expect![[r#"
            scrutin: mayor/election.toml, line 2: unknown field `titel`, expected one of `id`, `title`, `opens_at`, `closes_at`, `time_zone`, `channels`, `bucket_seconds`, `expected_turnout`
        "#]],
    );
    check(
        &place,
        "setup --election nowhere",
        3,
        expect![[r#"
        scrutin: cannot read nowhere/election.toml: No such file or directory (os error 2)
    "#]],
    );
}

#[test]
fn a_broken_results_file_exits_with_3() {
    let place = Place::bare();
    let check_with = |text: &str, expected: Expect| {
        place.write("r.csv", text);
        check(&place, "demo --results r.csv", 3, expected);
        assert!(!place.path("scrutin-data/log").exists() && !place.path("scrutin-data/run.json").exists());
    };
    check_with(
        "",
        expect![[r#"
            scrutin: r.csv, line 1: is empty; expected a header with the columns `region_code`, `candidate`, `votes`
        "#]],
    );
    check_with(
        "region_code,votes\nN,5\n",
        expect![[r#"
        scrutin: r.csv, line 1: no column `candidate`; the columns are region_code, votes
    "#]],
    );
    check_with(
        "region_code,candidate,votes\nN,Ann,5\nN,Bob,-3\n",
        expect![[r#"
        scrutin: r.csv, line 3, column `votes`: found `-3`, expected a whole number of zero or more
    "#]],
    );
    check_with(
        "region_code,candidate,votes\nN,Ann,5\nN,Ann,3\n",
        expect![[r#"
            scrutin: r.csv, line 3, column `candidate`: `Ann` is already in region `N` on line 2; --same-name one adds them up as one person, --same-name several keeps them apart; if a column distinguishes them, name it with --choice-id-column or --part-column
        "#]],
    );
    check_with(
        "region_code,candidate,votes\n,Ann,5\n",
        expect![[r#"
        scrutin: r.csv, line 2, column `region_code`: is empty; expected a value
    "#]],
    );
    check_with(
        "region_code,candidate,votes,registered\nN,Ann,5,100\nN,Bob,6,101\n",
        expect![[r#"
        scrutin: r.csv, line 3, column `registered`: found 101, expected 100 as on line 2 for region `N`
    "#]],
    );
    check_with(
        "region_code,candidate,votes,registered\nN,Ann,5,4\n",
        expect![[r#"
            scrutin: r.csv, line 2: region `N`: blank 0 + null 0 + votes 5 = 5 ballots of 4 registered; expected at most as many, or --over-registered allow, which counts them with a warning
        "#]],
    );
    check_with(
        "region_code,candidate,votes,registered,abstentions\nN,Ann,5,10,4\n",
        expect![[r#"
            scrutin: r.csv, line 2: region `N`: registered 10 − abstentions 4 = 6, but blank 0 + null 0 + votes 5 = 5; expected the same
        "#]],
    );
    check_with(
        "region_code,candidate,votes\nN,Ann,5000000000\n",
        expect![[r#"
        scrutin: r.csv, line 2, column `votes`: found 5000000000, expected at most 4294967295
    "#]],
    );
    check_with(
        "region_code,candidate,votes\nN,Ann\n",
        expect![[r#"
        scrutin: r.csv, line 2: found 2 fields, expected 3 as in the header
    "#]],
    );
    check(
        &place,
        "demo --results none.csv",
        3,
        expect![[r#"
        scrutin: cannot read none.csv: No such file or directory (os error 2)
    "#]],
    );
}

#[test]
fn a_broken_ballots_file_exits_with_3() {
    let place = Place::bare();
    let check_with = |text: &[u8], expected: Expect| {
        place.write("b.csv", text);
        let columns = "--voter-column id --region-column ward --choice-column mayor --blank-column mark";
        check(&place, &format!("demo --ballots b.csv {columns}"), 3, expected);
        assert!(!place.path("scrutin-data/log").exists() && !place.path("scrutin-data/run.json").exists());
    };
    check_with(
        b"id,ward,mayor\n1,W1,Ann\n",
        expect![[r#"
        scrutin: b.csv, line 1: no column `mark`; the columns are id, ward, mayor
    "#]],
    );
    check_with(
        b"id,ward,mayor,mark\n1,W1,Ann,\n,W1,Bob,\n",
        expect![[r#"
        scrutin: b.csv, line 3, column `id`: is empty; expected a value
    "#]],
    );
    check_with(
        b"id,ward,mayor,mark\n1,,Ann,\n",
        expect![[r#"
        scrutin: b.csv, line 2, column `ward`: is empty; expected a value
    "#]],
    );
    check_with(
        b"id,ward,mayor,mark\n1,W1,Ann,maybe\n",
        expect![[r#"
        scrutin: b.csv, line 2, column `mark`: found `maybe`, expected blank, true, yes or 1 (a blank ballot), null, spoilt, invalid or overvote (a spoilt one), vote, false, no, 0 or nothing (a vote)
    "#]],
    );
    check_with(
        b"id,ward,mayor,mark\n1,W1,Ann,\n2,W1,\xff\xfe,\n",
        expect![[r#"
            scrutin: b.csv, line 3, column `mayor`: the byte 0xff is not UTF-8; if the file is in a Western European encoding, use --encoding windows-1252 (or latin-1)
        "#]],
    );
    check_with(
        b"id,ward,mayor,mark\n1,W1,,\n",
        expect![[r#"
        scrutin: b.csv: has no vote for any choice; expected one row per ballot
    "#]],
    );
    place.write("b.csv.gz", b"id,ward,mayor\n");
    check(
        &place,
        "demo --ballots b.csv.gz --voter-column id --region-column ward --choice-column mayor",
        3,
        expect![[r#"
            scrutin: b.csv.gz: has no vote for any choice; expected one row per ballot
        "#]],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_log_schema_or_election_exits_with_4() {
    let place = Place::bare();
    for line in ["count --drain", "simulate", "audit", "status"] {
        assert_eq!(
            place.fails(line, 4),
            "scrutin: there is no log at scrutin-data/log; `scrutin setup` makes one\n",
            "{line}"
        );
    }
    for line in ["results", "rejected", "serve"] {
        assert_eq!(
            place.fails(line, 4),
            "scrutin: there is no data folder scrutin-data; create one with `scrutin demo` or `scrutin setup`, \
             or name another with --data-dir\n",
            "{line}"
        );
    }
    assert!(!place.path("scrutin-data").exists(), "reading creates nothing");

    // A database without the schema.
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.write("scrutin-data/log/log.json", "{\"format\":1,\"id\":\"a log\",\"partitions\":1}");
    std::fs::create_dir(place.path("scrutin-data/log/0")).unwrap();
    for line in ["count --drain", "simulate", "audit", "results", "rejected", "serve", "status"] {
        let message = place.fails(line, 4);
        assert!(message.contains("has not been set up; run `scrutin setup`"), "{line}: {message}");
    }
    place.ok("setup --no-election");
    for (line, words) in [
        ("count --drain", "there is no election in the database; `scrutin setup"),
        ("simulate", "there is no election in the database; `scrutin setup"),
        ("results", "counter `native` has counted nothing yet; run `scrutin count`"),
        ("audit", "native"),
    ] {
        let message = place.fails(line, 4);
        assert!(message.contains(words), "{line}: {message}");
    }
}

#[test]
fn an_unreachable_postgresql_exits_with_4() {
    let place = Place::bare();
    place.write("scrutin-data/log/log.json", "{\"format\":1,\"id\":\"a log\",\"partitions\":1}");
    std::fs::create_dir(place.path("scrutin-data/log/0")).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let url = format!("postgresql://me:secret@127.0.0.1:{port}/votes");
    let reach =
        format!("cannot reach PostgreSQL at 127.0.0.1:{port} (connection refused); start it, or check DATABASE_URL");
    for line in ["setup", "count", "results", "rejected", "audit", "demo --voters 1000", "simulate"] {
        let message = place.fails(&format!("{line} --database-url {url}"), 4);
        assert_eq!(message, format!("scrutin: {reach}\n"), "{line}");
    }
    let status = place.run(&format!("status --database-url {url}"));
    assert_eq!(status.code, Some(4));
    assert!(status.out.contains(&reach), "{status}");
    // The page is served and reports it.
    let serve = place.start(&format!("serve --database-url {url}"));
    let page = serve.page();
    assert_eq!(page.ask("/healthz").0, 200);
    page.until("/readyz", |status, _| status == 503);
    // Anyone may query the page, so only the log names PostgreSQL's address and user.
    serve.says(&reach);
    for path in ["/readyz", "/api/v1/status", "/api/v1/results"] {
        let (status, said) = page.ask(path);
        assert!(status == 503 && said.contains("cannot reach PostgreSQL"), "{said}");
        assert!(
            ["127.0.0.1", &port.to_string(), "secret", "refused"].iter().all(|word| !said.contains(word)),
            "{said}"
        );
    }
    serve.interrupted().ok();

    let message = place.fails("results --database-url mysql://me:secret@db/votes", 3);
    assert!(message.contains("expected postgresql://") && !message.contains("secret"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_exits_with_4() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    place.ok("setup --voters 1000");
    let owner = kit.owner().await;
    owner.batch_execute("INSERT INTO migration (version, name, digest) VALUES (99, 'future', '')").await.unwrap();
    for line in
        ["setup", "demo --voters 1000", "count --drain", "simulate", "results", "audit", "rejected", "status", "serve"]
    {
        let message = place.fails(line, 4);
        assert!(
            message.contains("has schema version 99 (`future`), but this program only knows versions up to"),
            "{line}: {message}"
        );
        assert!(message.contains("use the newer scrutin that made it"), "{line}: {message}");
    }
    let counters = owner.query_one("SELECT count(*) FROM counter", &[]).await.unwrap();
    assert_eq!(counters.get::<_, i64>(0), 0);
}

/// Two processes run the same counter: the last to start takes over, the other exits, and no vote counts twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_counter_taken_over_by_another_process_exits_with_5() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    place.ok("setup --voters 60000 --day 10m");
    let mut counts = [place.start("count --serve"), place.start("count --serve")];
    counts.iter().for_each(|count| count.page().until("/readyz", |status, _| status == 200));
    place.ok("simulate");
    // By the time all votes are counted, at least one has run into the other's commits.
    let one_ended = || counts.iter_mut().position(|count| !count.is_running());
    let deadline = std::time::Instant::now() + crate::run::PATIENCE;
    let mut one_ended = one_ended;
    let loser = loop {
        if let Some(loser) = one_ended() {
            break loser;
        }
        assert!(std::time::Instant::now() < deadline, "both are still counting");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    let [first, second] = counts;
    let (loser, winner) = if loser == 0 { (first, second) } else { (second, first) };
    let message = loser.end().fails(5);
    assert!(message.contains("was taken over by another process of counter `native`"), "{message}");
    // Each may have lost a partition to the other.
    let winner = winner.interrupted();
    assert!([Some(0), Some(5)].contains(&winner.code), "{winner}");
    place.ok("count --drain");
    let truth = place.json("scrutin-data/truth.json");
    let audit = place.ok("audit --truth scrutin-data/truth.json");
    assert!(
        audit.contains(&format!("{} records recounted, {} counted", truth["records"], truth["counted"])),
        "{audit}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_differ_from_the_log_exit_with_1() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    place.ok("demo --voters 3000 --speed max --exit --data-dir data");
    let owner = kit.owner().await;
    let tamper = "UPDATE tally SET votes[1] = votes[1] + 1 WHERE ctid = (SELECT ctid FROM tally LIMIT 1)";
    owner.batch_execute(tamper).await.unwrap();
    let audit = place.run("audit --data-dir data");
    assert_eq!(audit.code, Some(1), "{audit}");
    assert!(audit.out.contains("between the tables and the log") && audit.out.contains("tally"), "{audit}");
    let status = place.run("status --data-dir data");
    assert!(status.code == Some(1) && status.out.contains("DOES NOT ADD UP; run `scrutin audit`"), "{status}");
    let demo = place.run("demo --speed max --exit --data-dir data");
    assert_eq!(demo.code, Some(1), "{demo}");
}

/// Even where log and tables agree, the truth may show that the count is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_differ_from_the_truth_exit_with_1() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    place.ok("demo --voters 3000 --speed max --exit --data-dir data");
    let mut truth = place.json("data/truth.json");
    // Moving a vote from one cell to another keeps every sum.
    let votes = |truth: &Value, cell: usize| truth["tally"][cell][0].as_u64().unwrap();
    let from = (0..).find(|cell| votes(&truth, *cell) > 0).unwrap();
    truth["tally"][from][0] = (votes(&truth, from) - 1).into();
    truth["tally"][from + 1][0] = (votes(&truth, from + 1) + 1).into();
    place.write("truth.json", truth.to_string());
    let audit = place.run("audit --data-dir data --truth truth.json");
    assert_eq!(audit.code, Some(1), "{audit}");
    assert!(audit.out.contains("tally") && audit.out.contains("truth"), "{audit}");
    place.ok("audit --data-dir data --truth data/truth.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_truth_file_exits_with_3() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    place.ok("demo --voters 3000 --speed max --exit --data-dir data");
    place.write("half.json", &place.read("data/truth.json")[..100]);
    place.write("damaged.json", place.read("data/truth.json").replacen("\"records\":", "\"records\":9", 1));
    for (name, words) in [
        ("none.json", "scrutin: cannot read none.json: No such file"),
        ("half.json", "scrutin: half.json: expected a ground-truth file of simulate or replay, but "),
        ("damaged.json", "scrutin: damaged.json: the ground truth is damaged: "),
    ] {
        let message = place.fails(&format!("audit --data-dir data --truth {name}"), 3);
        assert!(message.contains(words), "{message}");
    }
}

/// The reader of the output may close the pipe at any time.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_output_pipe_is_not_an_error() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    for line in ["setup --voters 1000", "simulate", "count --drain", "results", "status", "audit"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = place.command(line);
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let status = command.status().unwrap();
        assert_eq!(status.code(), Some(0), "{line}");
    }
    let out: Value = serde_json::from_str(&Running::start(place.command("results --format json")).end().ok()).unwrap();
    assert!(!out.as_array().unwrap().is_empty());
}
