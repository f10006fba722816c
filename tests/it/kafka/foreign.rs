//! Votes written by other programs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use scrutin_contract::partitioner::partition_of;
use serde_json::Value;

use super::{Stage, ballot};

/// The voter in the documentation's examples.
const VOTER: &str = "6f1d0c3a-4f0e-4b7e-9c55-2f6a1d3b8e90";

/// A Python with confluent-kafka, installed by `tools/kafka clients` together with kcat.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let done = Command::new(root.join("tools/kafka")).arg("clients").output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        PathBuf::from(String::from_utf8(done.stdout).unwrap().trim())
    })
}

/// The example in this language from `docs/kafka.md`.
fn example(language: &str) -> &'static str {
    let (_, section) = include_str!("../../../docs/kafka.md").split_once("## Votes from elsewhere\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let (_, code) = section.split_once(&format!("```{language}\n")).unwrap();
    code.split("```").next().unwrap()
}

/// Runs an example as printed, except for the broker, the topic and the voter.
fn run(stage: &Stage, language: &str, code: &str, voter: &str) {
    let (program, option) = if language == "sh" { (Path::new("/bin/sh"), "-ec") } else { (python(), "-c") };
    let topic = &stage.topic.name;
    for needed in ["localhost:9092", VOTER] {
        assert!(code.contains(needed), "{needed} is not in the example:\n{code}");
    }
    let code = code.replace("localhost:9092", &stage.topic.servers).replace(VOTER, voter);
    let code = code.replace("-t votes ", &format!("-t {topic} ")).replace("\"votes\"", &format!("\"{topic}\""));
    assert!(code.contains(topic.as_str()), "{code}");
    let done = Command::new(program).arg(option).arg(&code).output().unwrap();
    assert!(done.status.success(), "{code}\n{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_examples_need_their_partitioner_setting() {
    python();
    let stage = Stage::new().await;
    stage.place.ok("setup");
    let (mut misrouted, mut voters) = (BTreeSet::new(), 0);
    for (language, setting) in
        [("sh", " -X partitioner=murmur2_random"), ("python", "\"partitioner\": \"murmur2_random\", ")]
    {
        let code = example(language);
        let without = code.replace(setting, "");
        assert_ne!(code, without, "{language}: the example no longer has the setting");
        for code in [code, &without] {
            for _ in 0..5 {
                let voter = ballot(voters, "C03").voter;
                run(&stage, language, code, &voter);
                voters += 1;
                // librdkafka's default partitioner.
                let is_right = partition_of(voter.as_bytes(), 4) == crc32fast::hash(voter.as_bytes()) % 4;
                if code == without && !is_right {
                    misrouted.insert(voter);
                }
            }
        }
    }
    assert!(misrouted.len() > 5, "{misrouted:?}");
    stage.place.ok("count --drain");
    let rejected: Vec<Value> = serde_json::from_str(&stage.place.ok("rejected --format json")).unwrap();
    let keys: BTreeSet<String> = rejected.iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect();
    assert!(rejected.iter().all(|row| row["reason"] == "misrouted"), "{rejected:?}");
    assert_eq!(keys, misrouted);
    let counted = stage.figure("SELECT counted FROM accounting WHERE holds").await;
    assert_eq!(counted, i64::from(voters) - misrouted.len() as i64);
    stage.place.ok("audit");

    let listed = stage.place.ok("rejected");
    let advice = "misrouted: the key is not the voter's id, or the partition is not the one that Kafka's default \
                  partitioner assigns to the key (murmur2); librdkafka's own default is CRC32, so kcat and Python's client \
                  need partitioner=murmur2_random";
    assert!(listed.contains(advice), "{listed}");
    assert!(!listed.contains("already_voted"), "only listed reasons are explained: {listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_not_votes_are_rejected_with_a_reason_and_kept() {
    let stage = Stage::new().await;
    stage.place.ok("setup");
    let vote = ballot(1, "C03");
    let (key, value) = (vote.voter.as_bytes(), vote.value.as_bytes());
    let right = partition_of(key, 4) as i32;
    let wrong = (right + 1) % 4;
    let long = vote.value.replace("\"election\"", &format!("\"note\":\"{}\",\"election\"", "x".repeat(5000)));
    let other = ballot(2, "C03");
    let records = [
        (right, Some(key), None, "malformed"),
        (right, Some(key), Some(&b"{\"election\":"[..]), "malformed"),
        (right, Some(key), Some(&b"\xff\xfe\x00"[..]), "malformed"),
        (right, Some(key), Some(&b""[..]), "malformed"),
        (right, Some(key), Some(long.as_bytes()), "malformed"),
        (right, None, Some(value), "misrouted"),
        (right, Some(&b""[..]), Some(value), "misrouted"),
        (right, Some(other.voter.as_bytes()), Some(value), "misrouted"),
        (wrong, Some(key), Some(value), "misrouted"),
    ];
    stage.topic.append(records.iter().map(|(partition, key, value, _)| (*partition, *key, *value))).await;
    // None of these marked the voter in the poll book, and voting again in another partition gains nothing.
    let again = ballot(1, "C01");
    let last = [(right, Some(key), Some(value)), (wrong, Some(key), Some(again.value.as_bytes()))];
    stage.topic.append(last).await;
    stage.topic.append([(right, Some(key), Some(again.value.as_bytes()))]).await;

    stage.place.ok("count --drain");
    assert_eq!(stage.figure("SELECT counted FROM accounting WHERE holds").await, 1);
    assert_eq!(stage.figure("SELECT votes FROM results WHERE choice = 'C03'").await, 1);
    let rejected = stage.refused().await;
    let reasons: Vec<(&str, i64)> = rejected.iter().map(|(reason, votes)| (reason.as_str(), *votes)).collect();
    assert_eq!(reasons, [("already_voted", 1), ("malformed", 5), ("misrouted", 5)]);
    stage.place.ok("audit");

    let rows: Vec<Value> = serde_json::from_str(&stage.place.ok("rejected --format json")).unwrap();
    let in_right: Vec<&Value> = rows.iter().filter(|row| row["partition"] == right).collect();
    for ((_, key, value, reason), row) in records.iter().filter(|(at, ..)| *at == right).zip(in_right) {
        assert_eq!(row["reason"], *reason, "{row}");
        assert_eq!(row["key"].as_str().map(str::as_bytes), *key, "{row}");
        assert_eq!(row["value_bytes"].as_u64(), value.map(|value| value.len() as u64), "{row}");
        assert_eq!(
            (row["value"].is_null(), row["value_base64"].is_null()),
            match value {
                None => (true, true),
                Some(value) => (std::str::from_utf8(value).is_err(), std::str::from_utf8(value).is_ok()),
            }
        );
    }
}
