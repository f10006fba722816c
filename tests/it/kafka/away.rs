//! Unreachable brokers, missing topics and wrong settings.

use std::net::TcpListener;

use super::Stage;
use crate::kit::Kit;
use crate::run::{Place, Running};

const COMMANDS: [&str; 6] = ["setup", "simulate", "replay results results.csv", "count --drain", "audit", "status"];

/// Runs all commands side by side and returns the error message of each.
fn all_fail(place: &Place, options: &str) -> Vec<(&'static str, String)> {
    let running: Vec<(&str, Running)> =
        COMMANDS.iter().map(|line| (*line, place.start(&format!("{line} {options}")))).collect();
    running.into_iter().map(|(line, running)| (line, running.end().fails(4))).collect()
}

fn one_line(said: &str) -> bool {
    said.starts_with("scrutin: ") && said.ends_with('\n') && said.lines().count() == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_brokers_are_named_with_the_reason() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    for (line, said) in all_fail(&place, &format!("--log kafka://127.0.0.1:{port}/night")) {
        let begin = format!("scrutin: the log at kafka://127.0.0.1:{port}/night does not answer: ");
        assert!(said.starts_with(&begin) && said.contains("Connection refused"), "{line}: {said}");
        assert!(one_line(&said), "{line}: {said}");
    }
    // A broker that accepts connections but never responds.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for (line, said) in all_fail(&place, &format!("--log kafka://127.0.0.1:{port}")) {
        let begin = format!("scrutin: the log at kafka://127.0.0.1:{port}/votes does not answer: ");
        assert!(said.starts_with(&begin) && one_line(&said), "{line}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_brokers_may_be_unreachable() {
    let stage = Stage::new().await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let log = format!("--log kafka://127.0.0.1:{port},{}/{}", stage.topic.servers, stage.topic.name);
    stage.place.ok(&format!("setup --voters 5000 --day 1h {log}"));
    stage.place.ok(&format!("simulate --speed max {log}"));
    stage.place.ok(&format!("count --drain {log}"));
    for _ in 0..5 {
        let said = stage.place.ok(&format!("audit --truth scrutin-data/truth.json {log}"));
        assert!(said.contains("clean"), "{said}");
    }
    stage.place.ok(&format!("status {log}"));
}

/// The page reads only PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_served_while_the_brokers_are_unreachable() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let serving = place.start(&format!("serve --log kafka://127.0.0.1:{port}/night"));
    let page = serving.page();
    page.until("/readyz", |status, body| status == 503 && body.contains("does not answer: "));
    assert_eq!(page.ask("/healthz").0, 200);
    assert_eq!(page.ask("/").0, 200);
    serving.interrupted().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_for_a_missing_topic_names_setup() {
    let stage = Stage::new().await;
    stage.place.ok("setup --no-election --log elsewhere");
    for line in ["simulate", "count --drain", "audit", "status", "serve"] {
        let expected = format!(
            "scrutin: there is no topic `{}` at {}; `scrutin setup` makes it\n",
            stage.topic.name, stage.topic.servers
        );
        assert_eq!(stage.place.fails(line, 4), expected, "{line}");
    }
}

#[test]
fn the_demo_refuses_a_log_on_kafka() {
    let said = Place::bare().fails("demo --log kafka://127.0.0.1:1/votes", 2);
    assert!(
        said.contains("the demo keeps its votes in a folder; to use Kafka, run its parts: `scrutin setup`"),
        "{said}"
    );
}

#[test]
fn a_wrong_kafka_settings_file_exits_with_3() {
    let place = Place::bare();
    for (text, line, words) in [
        ("# mine\nclient.id=me\nsecurty.protocol=SSL\n", 3, "`securty.protocol`: "),
        ("acks=1\n", 1, "`acks` is set by the program, whose guarantees depend on it; leave it out"),
        ("\n\nisolation.level = read_uncommitted\n", 3, "`isolation.level` is set by the program"),
        ("client.id me\n", 1, "expected name=value"),
        ("linger.ms=soon\n", 1, "`linger.ms`: "),
    ] {
        place.write("kafka.properties", text);
        let said = place.fails("status --log kafka://127.0.0.1:1/votes --kafka-config kafka.properties", 3);
        let at = format!("kafka.properties, line {line}: ");
        assert!(said.contains(&at) && said.contains(words), "{text}: {said}");
    }
    let said = place.fails("status --log kafka://127.0.0.1:1/votes --kafka-config nowhere.properties", 3);
    assert!(said.contains("nowhere.properties"), "{said}");
}

#[test]
fn a_password_in_an_address_is_not_repeated() {
    let place = Place::bare();
    let said = place.fails("status --log kafka://me:hush-hush@127.0.0.1:1/votes", 3);
    assert!(said.contains("sasl.password into the file that --kafka-config names"), "{said}");
    assert!(!said.contains("hush"), "{said}");
}

#[test]
fn an_invalid_topic_name_exits_with_3() {
    let place = Place::bare();
    let said = place.fails("status --log kafka://127.0.0.1:1/a/b", 3);
    assert!(said.contains("`a/b` is not a valid topic name"), "{said}");
}
