//! Each command runs as a separate process, on one data folder and one database.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use nix::sys::signal::Signal;
use scrutin_log::{EmbeddedLog, VoteLog};
use serde_json::Value;

use crate::kit::Kit;
use crate::run::{Place, csv_rows};

/// Every kind of fault among few ballots, but no more of one kind than rejected records are kept.
const FAULTS: &str = "--faults none --fault redelivery=0.02 --fault double_vote=0.02 --fault malformed=0.05 \
    --fault misrouted=0.02 --fault unknown_election=0.01 --fault unknown_region=0.01 --fault unknown_choice=0.01 \
    --fault unknown_channel=0.01 --fault too_early=0.01 --fault too_late=0.01 --fault delay=0.02";

#[tokio::test(flavor = "multi_thread")]
async fn each_command_continues_where_the_others_stopped() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    let out = place.ok("setup --voters 20000 --day 10m --data-dir data --partitions 3");
    assert!(out.contains("data/log, 3 partitions") && out.contains("107 regions, 20\u{202f}000 registered"), "{out}");
    assert!(place.ok("setup --no-election --data-dir data").contains("3 partitions"), "the log is unchanged");

    place.ok(&format!("simulate --speed max --seed 5 {FAULTS} --truth truth.json --data-dir data"));
    let truth = place.json("truth.json");
    let records = truth["records"].as_u64().unwrap();
    assert!(!place.path("data/truth.json").exists());

    let out = place.ok("count --drain --data-dir data");
    assert!(out.contains("0 left in the log"), "{out}");
    let by_choice = csv_rows(&place.ok("results --format csv"));
    let votes: u64 = by_choice.iter().map(|row| row[2].parse::<u64>().unwrap()).sum();
    assert_eq!(Some(votes), truth["counted"].as_u64());
    let by_channel = csv_rows(&place.ok("results --by channel --format csv"));
    assert_eq!(by_channel.iter().map(|row| row[1].parse::<u64>().unwrap()).sum::<u64>(), votes);
    let table = place.ok("results");
    assert!(table.contains("of 20\u{202f}000 registered have voted"), "{table}");

    let status = place.ok("status --data-dir data");
    assert!(status.contains(&format!("counter     native: received {}", grouped(records))), "{status}");
    assert!(status.contains("all adds up"), "{status}");

    check_rejected(&place, &truth);

    let audit = place.ok("audit --truth truth.json --data-dir data");
    assert!(audit.contains(&format!("clean: every row in the tables matches the log; {records} records")), "{audit}");

    // A second count has nothing to do and changes nothing.
    assert!(place.ok("count --drain --data-dir data").starts_with("0 votes in "));
    place.ok("audit --truth truth.json --data-dir data");

    let serve = place.start("serve --data-dir data");
    let page = serve.page();
    assert_eq!(page.json("/healthz")["alive"], true);
    assert_eq!(page.ask("/readyz").0, 200);
    let results = page.json("/api/v1/results");
    let served = results["results"].as_array().unwrap().iter().map(|row| row["votes"].as_u64().unwrap());
    assert_eq!(served.sum::<u64>(), votes);
    serve.signal(Signal::SIGTERM);
    serve.end().ok();
}

fn grouped(number: u64) -> String {
    let text = number.to_string();
    let (head, tail) = text.split_at(text.len() - 3);
    format!("{head}\u{202f}{tail}")
}

/// Key and value of a record; `None` where it has none.
type Record = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Checks that every rejected record is exported exactly once, byte for byte as in the log.
fn check_rejected(place: &Place, truth: &Value) {
    let log = EmbeddedLog::open_existing(&place.path("data/log")).unwrap();
    let mut records: HashMap<(u64, u64), Record> = HashMap::new();
    for partition in 0..log.partitions() {
        let mut reader = log.reader(&[(partition, 0)]).unwrap();
        let end = log.offsets(partition).unwrap().end;
        let mut next = 0;
        while next < end {
            let batch = reader.fetch(Duration::from_secs(60)).unwrap().expect("the log returns its records");
            for record in batch.records() {
                let bytes = |field: Option<&[u8]>| field.map(<[u8]>::to_vec);
                records.insert((partition.into(), record.offset), (bytes(record.key), bytes(record.value)));
            }
            next = batch.next_offset;
        }
    }

    let json: Vec<Value> = serde_json::from_str(&place.ok("rejected --format json")).unwrap();
    let (mut by_reason, mut seen, mut noise) = (BTreeMap::new(), HashMap::new(), 0);
    for row in &json {
        let place = (row["partition"].as_u64().unwrap(), row["offset"].as_u64().unwrap());
        let (key, value) = &records[&place];
        assert_eq!(exported(row, "key"), *key, "{row}");
        assert_eq!(row["value_bytes"].as_u64(), value.as_ref().map(|value| value.len() as u64), "{row}");
        // Only the first 4096 bytes of a longer value are kept.
        let kept = value.as_ref().map(|value| value[..value.len().min(4096)].to_vec());
        assert_eq!(exported(row, "value"), kept, "{row}");
        noise += usize::from(row["value_base64"].is_string());
        assert_eq!(seen.insert(place, row), None, "{row}");
        *by_reason.entry(row["reason"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    let expected: BTreeMap<String, i32> = serde_json::from_value(truth["rejected"].clone()).unwrap();
    assert_eq!((by_reason, expected.len()), (expected.clone(), 9));
    assert!(noise > 10, "{noise}");

    let csv = csv_rows(&place.ok("rejected --format csv"));
    assert_eq!(csv.len(), json.len());
    for (row, json) in csv.iter().zip(&json) {
        let columns = ["partition", "offset", "reason", "appended_at", "key", "key_base64", "value", "value_base64"];
        for (cell, column) in row.iter().zip(columns) {
            let text = json[column].as_str().map_or_else(|| json[column].to_string(), str::to_owned);
            let text = if json[column].is_null() { String::new() } else { text };
            assert!(*cell == text || *cell == format!("'{text}"), "{cell}: {json}");
        }
    }
    let closed = csv_rows(&place.ok("rejected --reason closed --partition 1 --format csv"));
    assert!(closed.iter().all(|row| row[0] == "1" && row[2] == "closed"), "{closed:?}");
    let listed = closed.len();
    assert_eq!(listed, json.iter().filter(|row| row["reason"] == "closed" && row["partition"] == 1).count());
    assert_eq!(csv_rows(&place.ok("rejected --limit 7 --format csv")).len(), 7);
    assert!(place.ok("rejected").contains("partition"));
    let error = place.fails("rejected --counter nobody", 4);
    assert!(error.contains("there is no counter `nobody`"), "{error}");
}

/// A field of an exported record, decoded from its text or base64 form.
fn exported(row: &Value, field: &str) -> Option<Vec<u8>> {
    match (&row[field], &row[format!("{field}_base64")]) {
        (Value::Null, Value::Null) => None,
        (Value::String(text), Value::Null) => Some(text.clone().into_bytes()),
        (Value::Null, Value::String(base64)) => Some(decoded(base64)),
        both => panic!("{both:?}"),
    }
}

fn decoded(base64: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for digit in base64.trim_end_matches('=').bytes() {
        bits = bits << 6 | DIGITS.iter().position(|at| *at == digit).expect("a digit of base64") as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_are_counted_while_they_are_simulated() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.ok("setup --voters 60000 --day 10m --data-dir data");
    let serve = place.start("serve --data-dir data");
    let page = serve.page();
    assert_eq!(page.ask("/healthz").0, 200);
    let count = place.start("count --serve --data-dir data");
    let own_page = count.page();
    own_page.until("/readyz", |status, _| status == 200);

    let out = place.ok("simulate --speed 300 --data-dir data");
    assert!(out.contains("records are in the log"), "{out}");
    let truth = place.json("data/truth.json");
    let all = truth["records"].as_i64().unwrap();
    page.until("/api/v1/accounting", |_, body| {
        let body: Value = serde_json::from_str(body).unwrap();
        body["total"]["received"].as_i64() == Some(all)
    });
    let results = page.json("/api/v1/results");
    let served = results["results"].as_array().unwrap().iter().map(|row| row["votes"].as_u64().unwrap());
    assert_eq!(Some(served.sum::<u64>()), truth["counted"].as_u64());
    let status = place.ok("status --data-dir data");
    assert!(status.contains("native") && status.contains("all adds up"), "{status}");
    count.signal(Signal::SIGTERM);
    count.end().ok();
    place.ok("audit --truth data/truth.json --data-dir data");
    assert_eq!(page.ask("/readyz").0, 200, "the page still works");
    serve.interrupted().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_run_again_adds_nothing() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    let mut ballots = "id,ward,mayor,mark\n".to_owned();
    (0..3000).for_each(|n| ballots += &format!("{n},W{},{},\n", n % 9, ["Ann", "Bob", ""][n % 7 % 3]));
    place.write("ballots.csv", &ballots);
    let replay = "replay ballots ballots.csv --voter-column id --region-column ward --choice-column mayor \
        --blank-column mark --data-dir data --title Mayor";
    place.ok(replay);
    let first = place.read("data/truth.json");
    place.ok(replay);
    assert_eq!(place.read("data/truth.json"), first);
    place.ok("count --drain --data-dir data");
    let audit = place.ok("audit --truth data/truth.json --data-dir data");
    assert!(audit.contains("3000 records recounted, 3000 counted"), "{audit}");
    let rows = csv_rows(&place.ok("results --format csv"));
    let votes: BTreeMap<&str, u64> = rows.iter().map(|row| (row[0].as_str(), row[2].parse().unwrap())).collect();
    let of = |place: usize| (0..3000).filter(|n| n % 7 % 3 == place).count() as u64;
    assert_eq!(votes, BTreeMap::from([("ann", of(0)), ("bob", of(1)), ("BLANK", of(2)), ("NULL", 0)]));
}
