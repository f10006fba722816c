//! The audit finds every kind of tampering, reports exactly what changed, and reports nothing on an untouched count.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use scrutin_audit::{self as audit, AuditReport, TruthScore};
use scrutin_contract::election::{Choice, Election, Region};
use scrutin_contract::partitioner::partition_of;
use scrutin_contract::record::RecordBuffer;
use scrutin_contract::vote::{Reason, Vote, VoterId, format_millis};
use scrutin_log::{EmbeddedLog, VoteLog};
use scrutin_pipeline::{self as pipeline, CountOptions};
use scrutin_producer::simulate::{self, Delivery, FaultRates, Plan, SendProgress, Speed, scaled};
use scrutin_store::elections;
use scrutin_telemetry::Telemetry;

use crate::kit::Kit;

const PARTITIONS: u32 = 3;
const OPENS: i64 = 1_800_000_000_000;

fn election(id: &str, bucket_seconds: u32) -> Election {
    let region = |code: &str| Region {
        code: code.into(),
        name: code.into(),
        registered: Some(1000),
        expected_turnout: None,
        point: None,
        tile: None,
    };
    let choice = |code: &str, region: Option<&str>| Choice {
        code: code.into(),
        name: code.into(),
        color: "#123456".into(),
        region: region.map(str::to_owned),
    };
    Election {
        id: id.into(),
        title: id.into(),
        opens_at_ms: OPENS,
        closes_at_ms: OPENS + 600_000,
        time_zone: "UTC".into(),
        channels: vec!["booth".into(), "post".into()],
        bucket_seconds,
        expected_turnout: None,
        regions: ["R1", "R2", "R3"].map(region).into(),
        choices: vec![choice("A", None), choice("B", None), choice("C", Some("R2")), choice("D", Some("R3"))],
    }
}

/// Fills the log with records of every outcome, generated from a seed.
fn fill(log: &EmbeddedLog) {
    let mut random = fastrand::Rng::with_seed(7);
    let mut buffers: Vec<(u32, RecordBuffer)> = (0..PARTITIONS).map(|p| (p, RecordBuffer::default())).collect();
    let mut value = Vec::new();
    for number in 0..12_000_u32 {
        // A third of the voters vote again.
        let voter = VoterId(u128::from(random.u32(0..9000)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let mut vote = Vote {
            election: (*random.choice(&["e1", "e1", "e2"]).unwrap()).into(),
            voter,
            region: (*random.choice(&["R1", "R2", "R3"]).unwrap()).into(),
            choice: (*random.choice(&["A", "B", "BLANK", "NULL", "C"]).unwrap()).into(),
            channel: (*random.choice(&["booth", "post"]).unwrap()).into(),
            cast_at_ms: OPENS + random.i64(-30_000..630_000),
        };
        match number % 40 {
            0 => vote.election = "e3".into(),
            1 => vote.region = "R9".into(),
            2 => vote.choice = "Z".into(),
            3 => vote.channel = "pigeon".into(),
            _ => {}
        }
        value.clear();
        vote.write(&mut value);
        let key = voter.text();
        let home = partition_of(&key, PARTITIONS) as usize;
        match number % 50 {
            10 => buffers[home].1.push(Some(&key), Some(&value[..value.len() - 1])),
            11 => buffers[home].1.push(Some(&key), None),
            12 => buffers[home].1.push(Some(&key), Some(&value.repeat(50))),
            13 => buffers[(home + 1) % 3].1.push(Some(&key), Some(&value)),
            14 => buffers[home].1.push(None, Some(&value)),
            15 => buffers[home].1.push(Some(b"\xff\x00"), Some(b"\xfe\x00\x01")),
            _ => buffers[home].1.push(Some(&key), Some(&value)),
        }
        if number % 1000 == 999 {
            append(log, &mut buffers);
        }
    }
    // More rejections of one reason than the number of rejected records kept.
    for _ in 0..1100 {
        buffers[0].1.push(None, Some(b"{}"));
    }
    append(log, &mut buffers);
}

fn append(log: &EmbeddedLog, buffers: &mut [(u32, RecordBuffer)]) {
    log.writer(&[0, 1, 2]).unwrap().append(buffers).unwrap();
}

/// Counts the whole log.
async fn count(kit: &Kit, log: &EmbeddedLog) {
    let options = CountOptions { counter: "native".into(), workers: 2, drain: true };
    pipeline::count(
        Arc::new(log.clone()),
        kit.db().clone(),
        &options,
        Telemetry::new(),
        Arc::default(),
        Arc::default(),
    )
    .await
    .unwrap_or_else(|error| panic!("{error}"));
}

/// Returns a filled log and a database with its count.
async fn counted(folder: &Path) -> (Kit, EmbeddedLog) {
    let kit = Kit::new().await;
    let mut owner = kit.owner().await;
    for election in [election("e1", 60), election("e2", 7)] {
        elections::save(&mut owner, &election).await.unwrap();
    }
    let log = EmbeddedLog::open(folder, PARTITIONS).unwrap();
    fill(&log);
    count(&kit, &log).await;
    (kit, log)
}

fn audit(kit: &Kit, log: &EmbeddedLog) -> AuditReport {
    audit::run(log, kit.db(), "native", None, &|done, total| assert!(done <= total))
        .unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn an_untouched_count_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    let (kit, log) = counted(folder.path()).await;
    let report = audit(&kit, &log);
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.recounted, 13_100);
    assert_eq!(report.counted + report.rejected.values().sum::<u64>(), 13_100);
    assert_eq!(report.rejected.keys().copied().collect::<Vec<_>>(), Reason::ALL, "not every reason occurs");
    let verdict = "audit of `native`: clean: every row in the tables matches the log; 13100 records recounted";
    assert!(report.to_string().starts_with(verdict), "{report}");

    // Votes appended after the count are out of scope.
    let mut buffers = [(1, RecordBuffer::default())];
    buffers[0].1.push(None, None);
    append(&log, &mut buffers);
    assert!(audit(&kit, &log).is_clean());
    count(&kit, &log).await;
    assert_eq!(audit(&kit, &log).recounted, 13_101);

    let rows =
        kit.owner().await.query("SELECT recounted, differences, summary FROM audit ORDER BY audited_at", &[]).await;
    let rows = rows.unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!((rows[2].get::<_, i64>(0), rows[2].get::<_, i64>(1)), (13_101, 0));
    assert!(rows[2].get::<_, &str>(2).contains("clean"));
}

/// One change to one table, and the differences the audit must report: table, key, expected and found. `*` matches any
/// text and `?` any character.
const TAMPERED: &[(&str, &[[&str; 4]])] = &[
    (
        "UPDATE votes_by_channel SET votes = votes + 1000000 WHERE (election, region, choice, channel) = ('e1', 'R2', 'C', 'post')",
        &[["tally", "e1 R2 C post", "*", "1000*"]],
    ),
    (
        "DELETE FROM votes_by_channel WHERE (election, region, choice, channel) = ('e2', 'R1', 'A', 'booth')",
        &[["tally", "e2 R1 A booth", "*", "none"]],
    ),
    // More numbers than choices on the ballot.
    (
        "UPDATE tally SET votes = votes || 5::bigint WHERE (election, region, channel) = ('e1', 'R3', 'post')",
        &[["tally", "e1 R3 ? post", "none", "5"]],
    ),
    ("INSERT INTO tally VALUES ('native', 'e9', 'R3', 'post', '{5}')", &[["tally", "e9 R3 ? post", "none", "5"]]),
    (
        "UPDATE votes_by_channel SET votes = votes + CASE channel WHEN 'post' THEN 3 ELSE -3 END
          WHERE (election, region, choice) = ('e1', 'R1', 'B')",
        &[["tally", "e1 R1 B booth", "*", "*"], ["tally", "e1 R1 B post", "*", "*"]],
    ),
    (
        "UPDATE votes_by_bucket SET votes = votes + 1 WHERE (election, region, choice) = ('e1', 'R1', 'A')
            AND bucket = '2027-01-15 08:03:00Z'",
        &[["timeline", "e1 2027-01-15T08:03:00.000Z R1 A", "*", "*"]],
    ),
    (
        "DELETE FROM votes_by_bucket WHERE (election, region, choice) = ('e1', 'R1', 'A') AND bucket = '2027-01-15 08:03:00Z'",
        &[["timeline", "e1 2027-01-15T08:03:00.000Z R1 A", "*", "none"]],
    ),
    (
        "UPDATE votes_by_bucket SET bucket = bucket + interval '1 microsecond'
          WHERE (election, region, choice) = ('e1', 'R1', 'A') AND bucket = '2027-01-15 08:03:00Z'",
        &[
            ["timeline", "e1 2027-01-15T08:03:00.000Z + 1 µs R1 A", "none", "*"],
            ["timeline", "e1 2027-01-15T08:03:00.000Z R1 A", "*", "none"],
        ],
    ),
    (
        "UPDATE tally_sum SET votes = votes + 7 WHERE (election, choice, channel) = ('e1', 'A', 'post')",
        &[["tally_sum", "e1 A post", "*", "*"]],
    ),
    (
        "DELETE FROM timeline_sum WHERE (election, choice) = ('e1', 'B') AND bucket = '2027-01-15 08:03:00Z'",
        &[["timeline_sum", "e1 2027-01-15T08:03:00.000Z B", "*", "0"]],
    ),
    (
        "INSERT INTO timeline_sum VALUES ('native', 'e1', '2020-01-01Z', 'B', 3)",
        &[["timeline_sum", "e1 2020-01-01T00:00:00.000Z B", "0", "3"]],
    ),
    ("INSERT INTO rejection VALUES ('native', 'closed', '2020-01-01Z', 1)", &[["rejection", "closed 2020-*", "none", "1"]]),
    ("INSERT INTO rejection VALUES ('native', 'mislaid', '2020-01-01Z', 1)", &[["rejection", "mislaid 20*", "none", "1"]]),
    (
        "DELETE FROM rejection WHERE reason = 'unknown_channel' AND bucket = (SELECT min(bucket) FROM rejection
          WHERE reason = 'unknown_channel')",
        &[["rejection", "unknown_channel *", "*", "none"]],
    ),
    (
        "UPDATE position SET counted = counted - 1, rejected = rejected + 1 WHERE partition = 1",
        &[["position", "partition 1 counted", "*", "*"], ["position", "partition 1 rejected", "*", "*"]],
    ),
    (
        "UPDATE position SET gaps = gaps + 1, next_offset = next_offset + 1 WHERE partition = 2",
        &[["position", "partition 2 gaps", "0", "1"], ["position", "partition 2 next_offset", "at most *", "*"]],
    ),
    (
        "INSERT INTO position (counter, partition, first_offset, next_offset, end_offset) VALUES ('native', 7, 0, 0, 0)",
        &[["position", "partition 7", "none", "1 rows"]],
    ),
    (
        "UPDATE poll_book SET ids = substr(ids, 17) WHERE ctid = (SELECT min(ctid) FROM poll_book WHERE partition = 1)",
        &[["poll_book", "partition 1 e* ????????-*", "in the poll book", "none"]],
    ),
    (
        "UPDATE poll_book SET ids = ids || '\\x00112233445566778899aabbccddeeff'::bytea
          WHERE ctid = (SELECT min(ctid) FROM poll_book WHERE partition = 1 AND election = 'e2')",
        &[["poll_book", "partition 1 e2 00112233-4455-6677-8899-aabbccddeeff", "none", "in the poll book*"]],
    ),
    (
        "UPDATE poll_book SET ids = ids || substr(ids, 1, 16) WHERE ctid = (SELECT min(ctid) FROM poll_book WHERE partition = 0)",
        &[["poll_book", "partition 0 e* ????????-*", "none", "in the poll book, or in it twice"]],
    ),
    (
        "INSERT INTO poll_book VALUES ('native', 'e1', 4, 0, '\\x00112233445566778899aabbccddeeff')",
        &[["poll_book", "partition 4", "none", "1 rows"]],
    ),
    (
        "DELETE FROM rejected_vote WHERE (partition, \"offset\") =
           (SELECT partition, max(\"offset\") FROM rejected_vote WHERE partition = 0 GROUP BY partition)",
        &[["rejected_vote", "partition 0 offset *", "m*", "none"]],
    ),
    (
        "UPDATE rejected_vote SET value = '{}', reason = 'malformed' WHERE (partition, \"offset\") =
           (SELECT partition, min(\"offset\") FROM rejected_vote WHERE reason = 'closed' AND partition = 2 GROUP BY partition)",
        &[["rejected_vote", "partition 2 offset *", "closed, value of *", "malformed, value \"{}\""]],
    ),
    (
        "UPDATE rejected_vote SET appended_at = appended_at + interval '1ms', value_bytes = 7 WHERE (partition, \"offset\") =
           (SELECT partition, min(\"offset\") FROM rejected_vote WHERE value IS NULL GROUP BY partition LIMIT 1)",
        &[["rejected_vote", "partition * offset *", "appended *, value_bytes null", "appended *, value_bytes 7"]],
    ),
    (
        "INSERT INTO rejected_vote VALUES ('native', 0, 1000000, 'closed', now())",
        &[["rejected_vote", "partition 0 offset 1000000", "none", "closed"]],
    ),
    (
        "UPDATE election SET fingerprint = 'another' WHERE election = 'e2'",
        &[["election", "e2 fingerprint", "*", "another"]],
    ),
];

#[tokio::test]
async fn each_tampering_is_found_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (kit, log) = counted(folder.path()).await;
    let owner = kit.owner_of_votes().await;
    let tables = [
        "tally",
        "timeline",
        "rejection",
        "position",
        "poll_book",
        "rejected_vote",
        "election",
        "tally_sum",
        "timeline_sum",
    ];
    for table in tables {
        owner.batch_execute(&format!("CREATE TABLE public.{table} AS SELECT * FROM {table}")).await.unwrap();
    }
    for (sql, expected) in TAMPERED {
        let changed = owner.execute(*sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert!(changed > 0, "nothing to change: {sql}");
        let report = audit(&kit, &log);
        let kept = report.differences.kept.iter();
        let mut found: Vec<[&str; 4]> = kept
            .map(|difference| [difference.table, &*difference.key, &*difference.expected, &*difference.found])
            .collect();
        found.sort_unstable();
        let same = found.len() == expected.len()
            && found.iter().flatten().zip(expected.iter().flatten()).all(|(text, pattern)| fits(text, pattern));
        assert!(same && report.differences.total() == expected.len() as u64, "{sql}\n{report}");
        for line in found {
            assert!(report.to_string().contains(line[0]), "{report}");
        }
        // Restore the counted state.
        for table in tables {
            let restore = match table {
                "election" => "UPDATE election e SET fingerprint = p.fingerprint FROM public.election p
                                WHERE p.election = e.election"
                    .to_owned(),
                _ => format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM public.{table}"),
            };
            owner.batch_execute(&restore).await.unwrap();
        }
    }
    assert!(audit(&kit, &log).is_clean(), "not everything was restored");
}

#[tokio::test]
async fn many_differences_are_counted_and_the_first_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (kit, log) = counted(folder.path()).await;
    let owner = kit.owner().await;
    let removed = owner.execute("DELETE FROM rejected_vote", &[]).await.unwrap();
    assert!(removed > audit::KEPT_PER_TABLE);
    let report = audit(&kit, &log);
    assert_eq!((report.differences.total(), report.differences.kept.len() as u64), (removed, audit::KEPT_PER_TABLE));
    let more = format!("… and {} more in rejected_vote", removed - audit::KEPT_PER_TABLE);
    assert!(report.to_string().ends_with(&more), "{}", report.verdict());
    assert!(report.verdict().contains(&format!("{removed} differences")));
    // They do not hide other differences. A partition without a position is not recounted.
    owner.batch_execute("DELETE FROM position WHERE partition = 0").await.unwrap();
    let report = audit(&kit, &log);
    let position: Vec<_> = report.differences.kept.iter().filter(|found| found.table == "position").collect();
    assert_eq!(position.len(), 1, "{}", report.verdict());
    assert_eq!((&*position[0].key, &*position[0].found), ("partition 0", "none"));
}

#[tokio::test]
async fn an_impossible_audit_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (kit, log) = counted(folder.path()).await;
    let error = audit::run(&log, kit.db(), "other", None, &|_, _| {}).unwrap_err().to_string();
    assert_eq!(error, "there is no counter `other`; existing counters: native");
    let small = EmbeddedLog::open(&folder.path().join("small"), 1).unwrap();
    let error = audit::run(&small, kit.db(), "native", None, &|_, _| {}).unwrap_err().to_string();
    assert!(error.contains("has counted another log than the one at ") && error.contains("its own log"), "{error}");
}

/// The generator knows the correct totals; the audit compares the tables with them.
#[tokio::test]
async fn the_tables_are_scored_against_the_ground_truth() {
    let folder = tempfile::tempdir().unwrap();
    let kit = Kit::new().await;
    let owner = kit.owner().await;
    let plan = Plan::draw(scaled(&Election::built_in(), 20_000), 11).unwrap();
    elections::save(&mut kit.owner().await, plan.election()).await.unwrap();
    let log = EmbeddedLog::open(folder.path(), PARTITIONS).unwrap();
    let (progress, stop) = (SendProgress::default(), AtomicBool::new(false));
    let delivery = Delivery { log: &log, speed: Speed::Max, threads: 2, progress: &progress, stop: &stop };
    let rates = FaultRates { double_vote: 0.05, malformed: 0.02, too_late: 0.02, delay: 0.05, ..FaultRates::demo() };
    let truth = simulate::run(&plan, &rates, &delivery).unwrap().expect("not stopped");
    count(&kit, &log).await;

    let score = || {
        let report = audit::run(&log, kit.db(), "native", Some(&truth), &|_, _| {});
        report.unwrap_or_else(|error| panic!("{error}"))
    };
    let report = score();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.recounted, report.counted), (truth.records, truth.counted));
    assert!(report.verdict().ends_with("every total matches the ground truth"), "{report}");

    // Tables and log may agree and still differ from the truth.
    let mut other = truth.clone();
    let bucket = other.timeline[0].start_ms;
    other.timeline[0].votes[0].1 += 1;
    other.rejected.insert("closed".into(), 1);
    let cell = other.tally.iter().position(|votes| votes[0] > 0).unwrap();
    other.tally[cell][0] = 0;
    let report = audit::run(&log, kit.db(), "native", Some(&other), &|_, _| {}).unwrap();
    let Some(TruthScore::Scored(differences)) = &report.truth else { panic!("{report}") };
    let keys: Vec<&str> = differences.kept.iter().map(|difference| &*difference.key).collect();
    let id = &truth.election;
    let (region, choice) = &truth.cells[cell];
    let (early_region, early_choice) = &truth.cells[truth.timeline[0].votes[0].0 as usize];
    let expected = [
        format!("{id} {region} {choice} {}", truth.channels[0]),
        format!("{id} {} {early_region} {early_choice}", format_millis(bucket)),
        "closed".to_owned(),
    ];
    assert_eq!(keys, expected, "{report}");
    assert_eq!((report.differences.total(), report.is_clean()), (0, false));
    assert!(report.to_string().contains("3 differences from the ground truth"), "{report}");

    owner.batch_execute("DELETE FROM tally").await.unwrap();
    let report = score();
    let Some(TruthScore::Scored(differences)) = &report.truth else { panic!("{report}") };
    assert_eq!(differences.total(), truth.tally_rows().count() as u64);
    assert_eq!(report.total_differences(), 2 * differences.total(), "also different from the log");

    let mut buffers = [(0, RecordBuffer::default())];
    buffers[0].1.push(None, None);
    append(&log, &mut buffers);
    count(&kit, &log).await;
    let verdict = score().verdict();
    assert!(verdict.contains("not scored against the ground truth, because the run is incomplete"), "{verdict}");
}

/// Whether `text` matches `pattern`, in which `*` matches any text and `?` any character.
fn fits(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let start = parts.next().unwrap_or_default();
    let at = |text: &str, part: &str| {
        text.len() >= part.len()
            && text.is_char_boundary(part.len())
            && text.bytes().zip(part.bytes()).all(|(byte, wanted)| wanted == b'?' || byte == wanted)
    };
    if !at(text, start) {
        return false;
    }
    let mut rest = &text[start.len()..];
    let mut open = false;
    for part in parts {
        open = true;
        if part.is_empty() {
            continue;
        }
        let Some(place) = rest.char_indices().map(|(place, _)| place).find(|place| at(&rest[*place..], part)) else {
            return false;
        };
        rest = &rest[place + part.len()..];
        open = false;
    }
    rest.is_empty() || open
}
