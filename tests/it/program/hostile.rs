//! Hostile input and other users of the machine: nobody learns a password from an address, reads or locks a log's
//! files, or controls a terminal or a spreadsheet.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use scrutin_contract::record::RecordBuffer;
use scrutin_log::{EmbeddedLog, VoteLog};

use crate::kit::Kit;
use crate::run::{Place, csv_rows};

/// Terminal control characters: erase the screen, ring the bell, return the carriage, reverse the text direction.
const STRANGE: &str = "a\u{1b}[2J\u{7}\u{9b}31m\r\nb\u{202e}c\u{2066}\u{85}\u{2028}\u{7f}";

#[track_caller]
fn must_be_plain(text: &str) {
    let is_strange = |c: char| STRANGE.contains(c) && !c.is_ascii_graphic() && c != '\n';
    assert_eq!(text.find(is_strange), None, "{text:?}");
}

#[test]
fn an_unreadable_address_exits_with_3_and_reveals_no_password() {
    let place = Place::bare();
    for password in ["se@cret", "se/cret", "se?cret", "se#cret@", "se:cret/5@x"] {
        for host in ["127.0.0.1:1/votes", "127.0.0.1:1,127.0.0.1:2/votes"] {
            for line in ["results", "serve", "status", "setup"] {
                // `status` opens the log first.
                place.write("scrutin-data/log/log.json", "{\"format\":1,\"id\":\"a log\",\"partitions\":1}");
                std::fs::create_dir_all(place.path("scrutin-data/log/0")).unwrap();
                let done = place.run(&format!("{line} --database-url postgresql://me:{password}@{host}"));
                assert!(!done.out.contains("cret") && !done.err.contains("cret"), "{password}: {done}");
                assert!(done.fails(3).contains("percent-encode"), "{password}");
            }
        }
    }
    let mut command = place.command("results");
    command.env("DATABASE_URL", "host=127.0.0.1 port=1 dbname=votes password=very se=cret");
    let message = crate::run::Running::start(command).end().fails(3);
    assert!(!message.contains("very") && !message.contains("cret"), "{message}");
    // Percent-encoded, the address is valid.
    place.fails("results --database-url postgresql://me:se%40cret@127.0.0.1:1/votes", 4);
    let help = place.ok("help setup");
    assert!(help.contains("`ps` shows"), "{help}");
}

fn modes(folder: &Path, found: &mut Vec<(String, u32)>) {
    let mode = std::fs::metadata(folder).unwrap().permissions().mode() & 0o777;
    found.push((folder.display().to_string(), mode));
    if folder.is_dir() {
        for entry in std::fs::read_dir(folder).unwrap() {
            modes(&entry.unwrap().path(), found);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_can_read_a_log_or_hold_its_locks() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    let log = place.path("data/log");
    place.ok("demo --voters 3000 --speed max --exit --data-dir data");
    let must_be_private = || {
        let mut found = Vec::new();
        modes(&log, &mut found);
        modes(&place.path("data/demo.lock"), &mut found);
        assert!(found.len() > 10, "{found:?}");
        for (path, mode) in found {
            let wanted = if Path::new(&path).is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, wanted, "{path}: {mode:o}");
        }
    };
    must_be_private();
    // Permissions that an earlier version left open are tightened.
    let open = |path: &str, mode| {
        std::fs::set_permissions(place.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open("data/log", 0o755);
    open("data/demo.lock", 0o644);
    place.ok("demo --voters 3000 --speed max --exit --data-dir data");
    must_be_private();
    // Access granted to a group is kept.
    open("data/log", 0o750);
    place.ok("simulate --data-dir data");
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o750);
}

#[test]
fn an_election_with_unprintable_names_is_refused() {
    const TOML: &str = "id = \"mayor\"\ntitle = \"Mayor\"\nopens_at = 2027-04-11T08:00:00+02:00\n\
        closes_at = 2027-04-11T20:00:00+02:00\ntime_zone = \"Europe/Paris\"\nchannels = [\"booth\"]\n";
    const REGIONS: &str = "code,name,registered\nN,North,1200\n";
    const CHOICES: &str = "code,name\nA,Ada\n";
    let place = Place::bare();
    for strange in ["\u{1b}[2J", "\u{9b}", "\u{7}", "\n", "\u{202e}", "\u{2066}", "\u{200f}", "\u{2028}"] {
        let escaped = strange.replace('\n', "\\n").replace('\u{1b}', "\\u001b").replace('\u{7}', "\\u0007");
        let files = [
            ("election.toml", TOML.replace("\"Mayor\"", &format!("\"May{escaped}or\"")), "column `title`"),
            ("regions.csv", REGIONS.replace("North", &format!("\"No{strange}rth\"")), "column `name`"),
            ("regions.csv", REGIONS.replace("N,", &format!("\"N{strange}N\",")), "column `code`"),
            ("choices.csv", CHOICES.replace("Ada", &format!("\"A{strange}da\"")), "column `name`"),
        ];
        for (name, text, words) in files {
            for (name, text) in [("election.toml", TOML), ("regions.csv", REGIONS), ("choices.csv", CHOICES)] {
                place.write(&format!("mayor/{name}"), text);
            }
            place.write(&format!("mayor/{name}"), text);
            let message = place.fails("setup --election mayor", 3);
            let is_refused = message.contains("unprintable") || strange == "\n" && message.contains("line break");
            assert!(message.contains(words) && is_refused, "{strange:?} in {name}: {message}");
            must_be_plain(&message);
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
    place.write("results.csv", "region_code,region_name,registered,abstentions,blank,null,candidate,votes\nN,North,100,90,0,0,A\u{1b}[2Jda,10\n");
    must_be_plain(&place.fails("setup --results results.csv", 3));
}

/// Names can reach the database unchecked, and anybody may send votes.
#[tokio::test(flavor = "multi_thread")]
async fn names_and_votes_cannot_control_a_terminal_or_a_spreadsheet() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    place.ok("setup --voters 3000 --day 10m");
    let log = EmbeddedLog::open_existing(&place.path("scrutin-data/log")).unwrap();
    let formulas = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", ";=1+1", "\",\"=1+1", "plain, with \"quotes\""];
    let mut buffers = [(0, RecordBuffer::default())];
    for value in formulas {
        buffers[0].1.push(Some(value.as_bytes()), Some(value.as_bytes()));
    }
    buffers[0].1.push(Some(STRANGE.as_bytes()), Some(STRANGE.as_bytes()));
    log.writer(&[0]).unwrap().append(&mut buffers).unwrap();
    place.ok("count --drain");

    for format in ["table", "csv", "json"] {
        must_be_plain(&place.ok(&format!("rejected --partition 0 --limit 10 --format {format}")));
    }
    assert!(place.ok("rejected --partition 0 --limit 10").contains("a\\u{1b}[2J"));
    // One line per record; every text is quoted, and no spreadsheet takes one for a formula.
    let csv = place.ok("rejected --partition 0 --limit 10 --format csv");
    assert_eq!(csv.lines().count(), 11, "{csv}");
    let rows = csv_rows(&csv);
    for (row, value) in rows.iter().zip(formulas) {
        let (key, text) = (&row[4], &row[6]);
        assert_eq!(key, text);
        assert!(!text.starts_with(['=', '+', '-', '@', '\t', '\r']), "{text:?}");
        let is_kept = text.is_empty() || *text == value || text.strip_prefix('\'') == Some(value);
        assert!(is_kept, "{text:?} of {value:?}");
        assert_eq!(text.is_empty(), !row[7].is_empty(), "text that is not plain is in base64: {row:?}");
    }
    assert!(csv.contains("\";=1+1\"") && csv.contains("\"\"\",\"\"=1+1\""), "{csv}");
    let json: serde_json::Value =
        serde_json::from_str(&place.ok("rejected --partition 0 --limit 10 --format json")).unwrap();
    assert_eq!((&json[0]["value"], &json[6]["value"]), (&"=1+1".into(), &";=1+1".into()), "unchanged");

    let owner = kit.owner().await;
    for sql in ["UPDATE election SET title = $1", "UPDATE region SET name = $1", "UPDATE choice SET name = $1 || code"]
    {
        let sql = sql.replace("|| code", "|| choice");
        owner.execute(&sql, &[&STRANGE]).await.unwrap();
    }
    let lines = |line: &str| {
        let said = place.ok(line);
        must_be_plain(&said);
        said.lines().count()
    };
    assert_eq!(lines("results"), 13, "the header, the rule under it, ten choices and the turnout");
    lines("results --by region --format json");
    assert!(lines("results --by region") > 100);
    assert!(place.ok("setup").contains("a\\u{1b}[2J"));
    must_be_plain(&place.ok("setup"));
}
