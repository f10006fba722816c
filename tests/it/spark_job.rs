//! The count in SQL against the native count: the same outcome for every record.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use scrutin_contract::election::{Choice, Election};
use scrutin_contract::partitioner::partition_of;
use scrutin_contract::record::{Batch, Record};
use scrutin_contract::vote::{Reason, Vote, format_millis};
use scrutin_engine::{Changes, Engine, Partition, PollBook, Rules};
use scrutin_spark::job::Job;
use scrutin_spark_connect::{Relation, Session};
use serde_json::{Value, json};

use crate::parser;
use crate::spark_server::Spark;

const PARTITIONS: u32 = 3;

#[derive(Clone, Debug)]
struct Sample {
    about: String,
    partition: u32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

/// The built-in election with a choice that stands in only two regions, and a short election beside it.
fn elections() -> Vec<Election> {
    let mut first = Election::built_in();
    for region in ["75", "2A"] {
        let color = "#000000".to_owned();
        first.choices.push(Choice { code: "L'\\u0041".into(), name: "L".into(), color, region: Some(region.into()) });
    }
    let mut second = Election::built_in();
    (second.id, second.bucket_seconds) = ("é".into(), 3600);
    second.closes_at_ms = second.opens_at_ms + 1;
    vec![first, second]
}

/// The native count's outcome for one record.
fn native(rules: &Arc<Rules>, sample: &Sample) -> &'static str {
    let mut poll_books = Vec::new();
    poll_books.resize_with(rules.elections.len(), || PollBook::new([1, 2]));
    let partition = Partition { partition: sample.partition, next_offset: 0, rejected_records: [0; 9], poll_books };
    let mut batch = Batch::new(sample.partition);
    let (key, value) = (sample.key.as_deref(), sample.value.as_deref());
    batch.push(Record { offset: 0, appended_at_ms: 0, key, value });
    batch.next_offset = 1;
    let mut changes = Changes::new(rules);
    Engine::new(Arc::clone(rules), vec![partition]).apply(&batch, &mut changes);
    changes.totals.rejections.keys().next().map_or("counted", |(reason, _)| reason.code())
}

/// A record in the partition it belongs to, if it is a vote.
fn at_home(about: impl Into<String>, value: impl Into<Vec<u8>>) -> Sample {
    let value = value.into();
    let voter = Vote::parse_any(&value).map_or_else(|_| "nobody".into(), |vote| vote.voter.to_string());
    let partition = partition_of(voter.as_bytes(), PARTITIONS);
    Sample { about: about.into(), partition, key: Some(voter.into_bytes()), value: Some(value) }
}

fn samples() -> Vec<Sample> {
    let vote = r#"{"election":"pres-2027","voter":"6f1d2c3b-4a59-4687-9786-a5b4c3d2e1f0","region":"75","choice":"C03","channel":"booth","cast_at":"2027-04-11T08:31:12.345Z"}"#;
    let with = |from: &str, to: &str| {
        let changed = vote.replacen(from, to, 1);
        assert_ne!(changed, vote, "{from}");
        changed
    };
    let mut samples: Vec<Sample> =
        parser::good().into_iter().chain(parser::bad()).map(|(about, value)| at_home(about, value)).collect();

    // Where a parser might be more lenient or stricter than the contract.
    for (from, to) in [
        ("{", r#"{"note":NaN,"#),
        ("{", r#"{"note":-Infinity,"#),
        ("{", r#"{"note":+1,"#),
        ("{", r#"{"note":01,"#),
        ("{", r#"{"note":1.,"#),
        ("{", r#"{"note":.5,"#),
        ("{", r#"{"note":-0,"#),
        ("{", r#"{"note":1e999,"#),
        ("{", r#"{"note":'x',"#),
        ("{", r#"{note:1,"#),
        ("{", r#"{/* no */"#),
        ("{", r#"{"note":"\x",:"#),
        ("{", r#"{"note":"\u12g4","#),
        ("{", r#"{"note":"\ud800","#),
        ("{", r#"{"note":{"\ud800":1},"#),
        ("{", r#"{"\ud800":1,"#),
        ("{", r#"{"\udc00\ud800":1,"#),
        ("{", r#"{"\\ud800":1,"#),
        ("{", r#"{"\ud83d\ude00":1,"#),
        ("{", r#"{"\\ud83d\ude00":1,"#),
        ("{", r#"{"\ud83d\ude00":"\ud800","#),
        ("{", r#"{"note":1,"note":2,"#),
        ("{", r#"{"note":[1,],"#),
        ("{", r#"{"note":[1}],"#),
        ("{", r#"{"note":{"region":"x","region":"y"},"#),
        ("{", r#"{"Region":"x","#),
        ("{", r#"{"":"x","#),
        ("{", "\u{c}{"),
        ("{", "\u{a0}{"),
        ("{", "\u{feff}{"),
        ("\"75\"", r#""\u0037\u0035""#),
        ("\"75\"", r#""75\u0000""#),
        ("\"75\"", "\"75\u{0}\""),
        ("\"75\"", "\"75\u{7f}\""),
        ("\"75\"", r#""\ud800""#),
        ("\"75\"", r#""?""#),
        ("\"75\"", "true"),
        ("\"75\"", "[\"75\"]"),
        ("\"75\"", "{}"),
        ("\"75\"", "'75'"),
        ("\"region\"", r#""\u0072egion""#),
        ("\"region\"", "'region'"),
        ("\"region\"", "region"),
        ("booth\"", "booth\","),
        ("Z\"}", "Z\"},"),
        ("Z\"}", "Z\"}]"),
        ("Z\"}", "Z\"}}"),
        ("Z\"}", "Z\"}\n"),
        ("Z\"}", "Z\"}\u{0}"),
        ("Z\"}", "Z\n\"}"),
        ("Z\"}", "Z\\n\"}"),
        ("Z\"}", "Z\"} ]["),
        ("Z\"}", "Z\"} }{"),
        ("Z\"}", "Z\"} // x"),
        ("Z\"}", "Z\"},\"a\":1"),
        ("Z\"}", "Z\"}],[{}"),
        ("e1f0", "e1f0\\n"),
        ("e1f0", "E1f0"),
        ("e1f0", "e1f"),
        ("08:31:12.345", "24:00:00.000"),
        ("08:31:12.345", "08:60:12.345"),
        ("08:31:12.345", "08:31:60.345"),
        ("08:31:12.345", "08:31:12.3456"),
        ("08:31:12.345", "08:31:12,345"),
        ("T08", "t08"),
        ("T08", " 08"),
        ("345Z", "345z"),
        ("345Z", "345"),
        ("2027-04-11", "2027-4-11"),
        ("2027-04-11", "2027-04-31"),
        ("2027-04-11", "2027-00-11"),
        ("2027-04-11", "2027-13-11"),
        ("2027-04-11", "2027-04-00"),
        ("2027-04-11", "2023-02-29"),
        ("2027-04-11", "2024-02-29"),
        ("2027-04-11", "1900-02-29"),
        ("2027-04-11", "2000-02-29"),
        ("2027-04-11", "0000-02-29"),
        ("2027-04-11", "0000-01-01"),
        ("2027-04-11", "9999-12-31"),
        ("2027-04-11", "1582-10-10"),
        ("2027-04-11", "+027-04-11"),
        ("2027-04-11", "\u{0662}027-04-11"),
        // What the election knows, and what it does not.
        ("pres-2027", "pres-2028"),
        ("pres-2027", "Pres-2027"),
        ("pres-2027", "pres-2027 "),
        ("pres-2027", "é"),
        ("pres-2027", "e\u{301}"),
        ("pres-2027", "\\u00e9"),
        ("75", "99"),
        ("75", ""),
        ("C03", "C99"),
        ("C03", "BLANK"),
        ("C03", "NULL"),
        ("C03", "null"),
        ("C03", "c03"),
        ("C03", ""),
        ("C03", r"L'\\u0041"),
        ("booth", "pigeon"),
        ("booth", ""),
        ("booth", "Booth"),
    ] {
        samples.push(at_home(format!("{from} as {to}"), with(from, to)));
    }
    samples.push(at_home("a number of 3,000 digits", with("{", &format!("{{\"note\":-1{}.5e7,", "0".repeat(3000)))));
    samples.push(at_home("a wrong number of 3,000 digits", with("{", &format!("{{\"note\":0{},", "0".repeat(3000)))));
    let elsewhere = with("C03", r"L'\\u0041").replacen("\"75\"", "\"01\"", 1);
    samples.push(at_home("a choice where it does not stand", elsewhere));
    for election in elections() {
        for at in [election.opens_at_ms - 1, election.opens_at_ms, election.closes_at_ms - 1, election.closes_at_ms] {
            let at = format_millis(at);
            let value = with("2027-04-11T08:31:12.345Z", &at).replacen("pres-2027", &election.id, 1);
            samples.push(at_home(format!("{} at {at}", election.id), value));
        }
    }

    let home = at_home("at home", vote);
    samples.push(Sample { about: "no value".into(), value: None, ..home.clone() });
    for key in [None, Some(&b""[..]), Some(b"6F1D2C3B-4A59-4687-9786-A5B4C3D2E1F0"), Some(b"\xff"), Some(b"x")] {
        let key = key.map(<[u8]>::to_vec);
        samples.push(Sample { about: format!("key {key:?}"), key, ..home.clone() });
    }
    for partition in 0..PARTITIONS {
        samples.push(Sample { about: format!("in partition {partition}"), partition, ..home.clone() });
    }

    for digit in "0123456789abcdef".chars() {
        let voter = "6f1d2c3b-4a59-4687-9786-a5b4c3d2e1f0".replace(|it| it != '-', &digit.to_string());
        samples.push(at_home(format!("voter {voter}"), with("6f1d2c3b-4a59-4687-9786-a5b4c3d2e1f0", &voter)));
    }

    // Each prefix of a vote, and a great many damaged ones.
    samples.extend((0..vote.len()).map(|len| at_home(format!("{len} bytes of a vote"), &vote.as_bytes()[..len])));
    let mut rng = Rng::with_seed(7);
    for number in 0..2_000 {
        let mut key = home.key.clone().unwrap();
        for _ in 0..rng.usize(1..6) {
            let at = rng.usize(..key.len());
            match rng.u8(..3) {
                0 => key[at] = rng.u8(..),
                1 => key.insert(at, *rng.choice(b"-+ .09afzAZ\0\xff").unwrap()),
                _ => key.truncate(at.max(1)),
            }
        }
        samples.push(Sample { about: format!("damaged key {number}"), key: Some(key), ..home.clone() });
    }
    let mut input = Vec::new();
    for number in 0..20_000 {
        parser::make_input(&mut rng, &mut input);
        let mut sample = at_home(format!("input {number}"), input.clone());
        if rng.u8(..32) == 0 {
            sample.partition = rng.u32(..PARTITIONS);
        }
        samples.push(sample);
    }
    samples
}

/// The SQL's outcome for each record.
async fn judged(session: &Session, samples: &[Sample]) -> Vec<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("records.json"), folder.path().join("judged"));
    let hex = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    let lines = samples.iter().enumerate().map(|(offset, sample)| {
        let row = json!({"offset": offset, "partition": sample.partition, "key": hex(&sample.key), "value": hex(&sample.value)});
        row.to_string() + "\n"
    });
    std::fs::write(&input, lines.collect::<String>()).unwrap();
    let log = Relation::sql(format!(
        "SELECT unhex(key) AS key, unhex(value) AS value, CAST(partition AS INT) AS partition, offset, timestamp_millis(0) AS timestamp
           FROM json.`{}`",
        input.display()
    ));
    let elections = elections();
    let job = Job { elections: &elections, partitions: PARTITIONS, count: "test" };
    job.define(session, log).await.unwrap_or_else(|error| panic!("{error}"));
    let table = format!("judged_{:016x}", fastrand::u64(..));
    let sql = format!("CREATE TABLE {table} USING json LOCATION '{}' AS SELECT * FROM judged", output.display());
    session.sql(&sql).await.unwrap_or_else(|error| panic!("{error}"));
    let mut outcomes = BTreeMap::new();
    for file in std::fs::read_dir(&output).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            for line in std::fs::read_to_string(path).unwrap().lines() {
                let row: Value = serde_json::from_str(line).unwrap();
                let outcome = row["outcome"].as_u64().unwrap() as usize;
                let reason = outcome.checked_sub(1).map(|at| Reason::ALL[at].code());
                outcomes.insert(row["offset"].as_u64().unwrap(), reason.unwrap_or("counted"));
            }
        }
    }
    session.sql(&format!("DROP TABLE {table}")).await.unwrap();
    assert_eq!(outcomes.len(), samples.len(), "each record has one outcome");
    outcomes.into_values().collect()
}

#[tokio::test]
async fn every_record_has_the_outcome_that_the_native_count_gives_it() {
    let samples = samples();
    let rules = Arc::new(Rules::new(&elections(), PARTITIONS).unwrap());
    let session = Spark::shared().session().await;
    let found = judged(&session, &samples).await;
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (sample, found) in samples.iter().zip(found) {
        let expected = native(&rules, sample);
        *seen.entry(expected).or_default() += 1;
        if found != expected {
            let value = sample.value.as_deref().map(<[u8]>::escape_ascii);
            wrong.push(format!(
                "{}: {found}, not {expected}: {}",
                sample.about,
                value.map_or("null".into(), |it| it.to_string())
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), samples.len(), wrong[..wrong.len().min(30)].join("\n"));
    assert_eq!(seen.len(), 9, "every outcome but already_voted: {seen:?}");
    session.close().await.unwrap();
}
