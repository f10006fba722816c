//! deploy/grafana/start: what it passes to Grafana according to .env, and who receives alerts.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::compose::settled;
use super::files::{dashboards, list, parse_yaml, read, root, text, yaml};
use crate::kit::Kit;
use crate::run::{Place, Running};

/// Grafana's environment for these settings in .env, or why it is not started. There is no page.
pub fn environment(settings: &[(&str, &str)]) -> Result<BTreeMap<String, String>, String> {
    start(settings, &Place::bare(), "http://127.0.0.1:1")
}

/// The same, with the dashboards written to a place and the page at an address.
fn start(settings: &[(&str, &str)], place: &Place, page: &str) -> Result<BTreeMap<String, String>, String> {
    let compose = yaml("compose.yaml");
    let service = &compose["services"]["grafana"];
    let [shell, script, _] = list(service, "entrypoint") else { panic!("not a shell, a script and a program") };
    let mut command = Command::new(shell.as_str().unwrap());
    command.arg(root().join(on_this_side(script.as_str().unwrap()))).arg("env");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    for (name, value) in service["environment"].as_object().unwrap() {
        let value = value.as_str().unwrap();
        let set = settings.iter().find(|(name, _)| value.starts_with(&format!("${{{name}:-")));
        command.env(name, set.map_or_else(|| settled(value), |(_, value)| (*value).to_owned()));
    }
    command.env("DASHBOARDS", place.path("dashboards")).env("PAGE", page);
    let done = Running::start(command).end();
    match done.code {
        Some(0) => {
            let pairs = done.out.lines().filter_map(|line| line.split_once('='));
            Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
        }
        Some(2) => Err(done.err),
        _ => panic!("{done}"),
    }
}

/// The path in the repository of a path in the container.
fn on_this_side(path: &str) -> String {
    let compose = yaml("compose.yaml");
    let volumes = list(&compose["services"]["grafana"], "volumes").iter().filter_map(Value::as_str);
    let mut places = volumes.filter_map(|volume| volume.strip_prefix("./")?.strip_suffix(":ro,z")?.split_once(':'));
    let (here, there) = places.next().expect("no folder of the repository is mounted there");
    path.replacen(there, here, 1)
}

#[test]
fn grafana_finds_its_files() {
    let place = Place::bare();
    let given = start(&[], &place, "http://127.0.0.1:1").unwrap();
    assert!(root().join(on_this_side(&given["GF_PATHS_PROVISIONING"])).exists());
    let boards = yaml("deploy/grafana/provisioning/dashboards/scrutin.yaml");
    assert_eq!(list(&boards, "providers")[0]["options"]["path"], "${DASHBOARDS}");
    let compose = yaml("compose.yaml");
    let there = text(&compose["services"]["grafana"]["environment"], "DASHBOARDS");
    let home = given["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].strip_prefix(there).unwrap();
    assert!(place.path(&format!("dashboards{home}")).exists());
    for (name, board) in dashboards() {
        assert_eq!(place.json(&format!("dashboards/{name}.json")), board, "changed without a page");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn election_night_opens_with_the_whole_voting_day() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.ok("setup --day 12h");
    let server = place.start("serve --listen 127.0.0.1:0");
    let page = server.page();
    start(&[], &place, &format!("http://{}", page.address())).unwrap();
    let day = page.json("/api/v1/election");
    for (name, board) in dashboards() {
        let time = &place.json(&format!("dashboards/{name}.json"))["time"];
        if name.starts_with("election-night") {
            assert_eq!((&time["from"], &time["to"]), (&day["opens_at"], &day["closes_at"]), "{name}");
        } else {
            assert_eq!(time, &board["time"], "{name}");
        }
    }
}

/// Grafana refuses to start if the sender's domain has no dot, even if it sends no mail.
#[test]
fn grafana_is_given_mail_settings_only_with_a_mail_server() {
    let smtp = |settings: &[(&str, &str)]| {
        let mut given = environment(settings).unwrap();
        given.retain(|name, _| name.starts_with("GF_SMTP_"));
        given.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(smtp(&[]), [""; 0]);
    assert_eq!(smtp(&[("SMTP_USER", "me"), ("SMTP_PASSWORD", "secret")]), [""; 0]);
    assert_eq!(
        smtp(&[("SMTP_HOST", "mail.example.org:587"), ("SMTP_USER", "me"), ("SMTP_PASSWORD", "my secret")]),
        [
            "GF_SMTP_ENABLED=true",
            "GF_SMTP_FROM_ADDRESS=scrutin@localhost.localdomain",
            "GF_SMTP_HOST=mail.example.org:587",
            "GF_SMTP_PASSWORD=my secret",
            "GF_SMTP_USER=me",
        ]
    );
    let refused = environment(&[("SMTP_HOST", "mail:25"), ("SMTP_FROM", "scrutin@localhost")]).unwrap_err();
    assert!(refused.contains("SMTP_FROM is 'scrutin@localhost'"), "{refused}");
    let refused = environment(&[("ALERT_EMAIL", "desk@example.org")]).unwrap_err();
    assert!(refused.contains("set SMTP_HOST too"), "{refused}");
}

/// Without recipients no delivery is attempted: each failure would add a line to the log, every minute.
#[test]
fn only_configured_recipients_receive_alerts() {
    let mail = [("SMTP_HOST", "mail:25"), ("ALERT_EMAIL", "desk@example.org")];
    let hook = [("ALERT_WEBHOOK", "https://chat.example.org/hook"), ("ALERT_WEBHOOK_TOKEN", "secret")];
    assert_eq!(recipients(&[]), [""; 0]);
    assert_eq!(recipients(&mail), ["desk@example.org"]);
    assert_eq!(recipients(&hook), ["https://chat.example.org/hook"]);
    assert_eq!(recipients(&[mail, hook].concat()), ["desk@example.org", "https://chat.example.org/hook"]);
}

/// Who receives an alert according to the contact points and policies, as Grafana reads them.
fn recipients(settings: &[(&str, &str)]) -> Vec<String> {
    let given = environment(settings).unwrap();
    let provisioning = |name: &str| {
        let mut file = read(&root().join("deploy/grafana/provisioning/alerting").join(name));
        for (name, value) in &given {
            file = file.replace(&format!("${{{name}}}"), value);
        }
        parse_yaml(&file).unwrap()
    };
    let points = provisioning("contact-points.yaml");
    let points: BTreeMap<&str, &Value> =
        list(&points, "contactPoints").iter().map(|point| (text(point, "name"), &point["receivers"][0])).collect();
    let policies = provisioning("policies.yaml");
    let timings: BTreeMap<&str, &Value> = list(&policies, "muteTimes")
        .iter()
        .map(|timing| (text(timing, "name"), &timing["time_intervals"][0]))
        .collect();
    assert_eq!(
        (&timings["always"]["times"][0]["start_time"], &timings["always"]["times"][0]["end_time"]),
        (&"00:00".into(), &"24:00".into())
    );
    assert_eq!(timings["never"]["years"][0], "1970");

    let policy = &list(&policies, "policies")[0];
    assert!(points.contains_key(text(policy, "receiver")));
    let routes = list(policy, "routes");
    let mut recipients = Vec::new();
    for (n, route) in routes.iter().enumerate() {
        // Each route takes all alerts, and all but the last pass them on.
        assert!(route["object_matchers"].is_null() && route["matchers"].is_null(), "{route}");
        assert_eq!(route["continue"] == true, n + 1 < routes.len(), "{route}");
        let settings = &points[text(route, "receiver")]["settings"];
        let who = settings["addresses"].as_str().or(settings["url"].as_str()).expect("an address or a URL");
        assert!(!who.is_empty(), "Grafana refuses a contact point without one");
        let [timing] = list(route, "mute_time_intervals") else { panic!("{route}") };
        match timing.as_str().unwrap() {
            "never" => recipients.push(who.to_owned()),
            timing => assert!(timings.contains_key(timing), "{timing}"),
        }
    }
    recipients
}

/// Any viewer can read a contact point's settings, except those that Grafana encrypts.
#[test]
fn the_webhooks_token_is_where_grafana_hides_it() {
    let points = yaml("deploy/grafana/provisioning/alerting/contact-points.yaml");
    let hook =
        list(&points, "contactPoints").iter().map(|point| &point["receivers"][0]).find(|it| it["type"] == "webhook");
    let settings = hook.expect("a webhook")["settings"].as_object().unwrap();
    for (name, value) in settings {
        assert_eq!(value.to_string().contains("TOKEN"), name == "authorization_credentials", "{name}: {value}");
    }
    assert_eq!(settings["authorization_credentials"], "${ALERT_WEBHOOK_TOKEN}");
}
