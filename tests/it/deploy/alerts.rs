//! Each alert is silent while all is well and fires when it should; and how Grafana's alerting is provisioned.

use std::collections::{BTreeMap, BTreeSet};

use scrutin_store::Role;
use serde_json::Value;
use tokio_postgres::Client;

use super::dashboards::{counted_day, keep_watch};
use super::files::{dashboards, list, text, yaml};
use super::grafana::{Kind, Table};
use crate::architecture::relations;

const PROVISIONING: &str = "deploy/grafana/provisioning";

/// An alert as written in its file: a query, and the limit for its figure.
struct Rule {
    uid: String,
    sql: String,
    limit: f64,
}

fn rules() -> Vec<Rule> {
    let file = yaml(&format!("{PROVISIONING}/alerting/rules.yaml"));
    let rules = list(&file, "groups").iter().flat_map(|group| list(group, "rules"));
    let rules = rules.map(|rule| {
        let [query, condition] = list(rule, "data") else { panic!("a query and a condition: {rule}") };
        assert_eq!((text(query, "refId"), text(query, "datasourceUid")), ("A", "scrutin-alerts"));
        assert_eq!((text(condition, "refId"), text(condition, "datasourceUid")), ("C", "__expr__"));
        assert_eq!((text(rule, "condition"), text(&condition["model"], "expression")), ("C", "A"));
        let evaluator = &condition["model"]["conditions"][0]["evaluator"];
        assert_eq!(text(evaluator, "type"), "gt");
        Rule {
            uid: text(rule, "uid").to_owned(),
            sql: text(&query["model"], "rawSql").to_owned(),
            limit: evaluator["params"][0].as_f64().unwrap(),
        }
    });
    rules.collect()
}

/// The firing alerts, each with the names it fires for.
async fn firing(reader: &Client) -> BTreeMap<String, Vec<String>> {
    let mut firing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for rule in rules() {
        // In a provisioning file, Grafana would expand `$` as an environment variable.
        assert!(!rule.sql.contains('$'), "{}", rule.sql);
        let table = Table::ask(reader, &rule.sql).await;
        let kinds: Vec<Kind> = table.columns.iter().map(|(_, kind)| *kind).collect();
        assert_eq!(kinds, [Kind::Text, Kind::Number], "{}: a name and its figure", rule.uid);
        assert!(!table.rows.is_empty(), "{}", rule.uid);
        for row in &table.rows {
            let figure: f64 = row[1].as_deref().expect("a figure").parse().unwrap();
            if figure > rule.limit {
                firing.entry(rule.uid.clone()).or_default().push(row[0].clone().unwrap());
            }
        }
    }
    firing
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_fire_when_they_should_and_only_then() {
    let (kit, _place) = counted_day().await;
    keep_watch(&kit).await;
    let owner = kit.owner_of_votes().await;
    let reader = kit.db().connect(Role::Reader).await.unwrap();
    let none: [&str; 0] = [];
    let fire = async |sql: &str| {
        owner.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
        let firing = firing(&reader).await;
        firing.into_iter().map(|(uid, names)| format!("{uid} {}", names.join(", "))).collect::<Vec<_>>()
    };
    assert_eq!(fire("SELECT 1").await, none);

    let cell = "(election, region, choice, channel) = 
                    (SELECT election, region, choice, channel FROM votes_by_channel WHERE counter = 'native' ORDER BY 1, 2, 3, 4 LIMIT 1)";
    let change =
        |by: &str| format!("UPDATE votes_by_channel SET votes = votes {by} WHERE counter = 'native' AND {cell}");
    let apart = ["scrutin-differ native and spark", "scrutin-identity native", "scrutin-rows native and spark"];
    assert_eq!(fire(&change("+ 1")).await, apart);
    assert_eq!(fire(&change("- 1")).await, none);

    // A vote in the wrong region, which no sum over the regions shows.
    let elsewhere = |n: i32| {
        format!(
            "UPDATE votes_by_channel SET votes = votes + CASE region WHEN (SELECT min(region) FROM region) THEN {n} ELSE -({n}) END
              WHERE counter = 'native' AND (choice, channel) = ('C01', 'booth')
                AND region IN ((SELECT min(region) FROM region), (SELECT max(region) FROM region))"
        )
    };
    assert_eq!(fire(&elsewhere(1)).await, ["scrutin-rows native and spark"]);
    assert_eq!(fire(&elsewhere(-1)).await, none);

    // A region with fewer registered voters than votes.
    let register =
        |by: &str| format!("UPDATE region SET registered = {by} WHERE region = (SELECT min(region) FROM region)");
    assert_eq!(fire(&register("1 + 0 * registered")).await, ["scrutin-over-registered native, spark"]);
    assert_eq!(fire(&register("NULL")).await, none);

    // The other counter sees the end of the log, though the stopped one does not.
    let ahead = "UPDATE position SET updated_at = now() - interval '61 seconds' WHERE counter = 'native';
                 UPDATE position SET end_offset = end_offset + 5 WHERE counter = 'spark' AND partition = 0";
    assert_eq!(fire(ahead).await, ["scrutin-stalled native"]);
    let behind = "UPDATE position SET end_offset = end_offset - 5 WHERE counter = 'spark' AND partition = 0";
    assert_eq!(fire(behind).await, none);

    let waiting = "UPDATE position SET end_offset = end_offset + 10001, updated_at = now() WHERE counter = 'native' AND partition = 1;
                   INSERT INTO batch VALUES ('native', now() - interval '90 seconds', 0, 0, 0, 5000),
                                            ('native', now() - interval '30 seconds', 0, 0, 0, 10001),
                                            ('spark', now() - interval '90 seconds', 0, 0, 0, 20000),
                                            ('spark', now() - interval '30 seconds', 0, 0, 0, 10001)";
    assert_eq!(fire(waiting).await, ["scrutin-lag native"]);
    let caught_up = "UPDATE position SET end_offset = next_offset";
    assert_eq!(fire(caught_up).await, none);

    // No counter runs any more while votes come in: the page's server has seen them.
    let stopped = "UPDATE position SET updated_at = now() - interval '61 seconds';
                   SELECT note_log_end(log, '{0}', ARRAY[(SELECT max(next_offset) + 5 FROM position WHERE partition = 0)])
                     FROM counter WHERE counter = 'native'";
    assert_eq!(fire(stopped).await, ["scrutin-stalled native, spark"]);
    let counted = "UPDATE log_end SET end_offset = 0; UPDATE position SET updated_at = now()";
    assert_eq!(fire(counted).await, none);

    // Nobody has watched the log for two minutes, so it is unknown whether votes wait.
    let unseen = "UPDATE log_end SET seen_at = now() - interval '2 minutes';
                  UPDATE position SET updated_at = now() - interval '2 minutes'";
    assert_eq!(fire(unseen).await, ["scrutin-stalled native, spark"]);
    let seen = "UPDATE log_end SET seen_at = now(); UPDATE position SET updated_at = now()";
    assert_eq!(fire(seen).await, none);

    // A count that never started.
    assert_eq!(fire("INSERT INTO log_end VALUES ('another log', 0, 5, now())").await, ["scrutin-stalled nobody"]);
    // Nor does anybody watch a log that is gone.
    let gone = "UPDATE log_end SET seen_at = now() - interval '2 minutes' WHERE log = 'another log'";
    assert_eq!(fire(gone).await, none);

    let refused = "INSERT INTO batch VALUES ('spark', now(), 20000, 10000, 10000, 0)";
    assert_eq!(fire(refused).await, ["scrutin-rejections spark"]);
}

#[test]
fn grafana_is_provisioned_to_read_and_to_alert() {
    let sources = yaml(&format!("{PROVISIONING}/datasources/scrutin.yaml"));
    let sources = list(&sources, "datasources");
    // The alerts have their own connections: a viewer can break one of the others, or keep them all busy.
    assert_eq!(sources.iter().map(|source| text(source, "uid")).collect::<Vec<_>>(), ["scrutin", "scrutin-alerts"]);
    for source in sources {
        assert_eq!((text(source, "type"), text(source, "user")), ("grafana-postgresql-datasource", "scrutin_reader"));
        assert_eq!((&source["editable"], source["isDefault"] == true), (&false.into(), source["uid"] == "scrutin"));
        assert_eq!(text(&source["secureJsonData"], "password"), "$__file{/run/secrets/reader-password}");
    }

    let boards = yaml(&format!("{PROVISIONING}/dashboards/scrutin.yaml"));
    let provider = &list(&boards, "providers")[0];
    assert_eq!((&provider["allowUiUpdates"], &provider["disableDeletion"]), (&false.into(), &true.into()));

    let file = yaml(&format!("{PROVISIONING}/alerting/rules.yaml"));
    let groups = list(&file, "groups");
    for group in groups {
        // Two folders of the same title would be created.
        assert_ne!(text(group, "folder"), text(provider, "folder"));
        // `comparison` reads every row.
        let reads_rows = group.to_string().contains("FROM comparison");
        assert_eq!(text(group, "interval"), if reads_rows { "10m" } else { "30s" });
    }
    let uids: BTreeSet<String> = rules().into_iter().map(|rule| rule.uid).collect();
    assert_eq!(uids.len(), 7);
    let boards = dashboards();
    for rule in groups.iter().flat_map(|group| list(group, "rules")) {
        // Grafana uses these two to make links and to draw the alert into the panel.
        let annotations = &rule["annotations"];
        let board = boards.iter().find(|(_, board)| board["uid"] == annotations["__dashboardUid__"]);
        let panels = list(&board.unwrap_or_else(|| panic!("no such dashboard: {rule}")).1, "panels");
        let id = text(annotations, "__panelId__");
        let panel = panels.iter().find(|it| it["id"].as_u64() == id.parse().ok());
        draws_the_limit(panel.unwrap_or_else(|| panic!("no such panel: {rule}")), rule);
        assert!(["critical", "warning"].contains(&text(&rule["labels"], "severity")), "{rule}");
        let sql = text(&rule["data"][0]["model"], "rawSql");
        assert!(
            relations(sql).iter().all(|view| [
                "health",
                "logs",
                "comparison",
                "quick_comparison",
                "over_registered_regions"
            ]
            .contains(view)),
            "{sql}"
        );
    }
}

/// A time series of what an alert watches draws a line at the alert's limit, or at a limit in its query.
fn draws_the_limit(panel: &Value, rule: &Value) {
    if panel["type"] != "timeseries" {
        return;
    }
    let defaults = &panel["fieldConfig"]["defaults"];
    assert_eq!(defaults["custom"]["thresholdsStyle"]["mode"], "dashed", "{}", panel["title"]);
    let steps = list(&defaults["thresholds"], "steps");
    let limit = &rule["data"][1]["model"]["conditions"][0]["evaluator"]["params"][0];
    let sql = text(&rule["data"][0]["model"], "rawSql");
    let is_limit = |line: f64| limit.as_f64() == Some(line) || sql.contains(&format!("> {line} "));
    assert!(steps.iter().filter_map(|step| step["value"].as_f64()).any(is_limit), "{}", panel["title"]);
}

/// The text of an annotation with a label from the query, or without one, as when the query has failed.
fn rendered(template: &str, label: Option<(&str, &str)>) -> String {
    let Some((before, rest)) = template.split_once("{{ with .Labels.") else { return template.to_owned() };
    let (name, rest) = rest.split_once(" }}").unwrap();
    let (with, rest) = rest.split_once("{{ else }}").expect("a text for a failed query");
    let (without, after) = rest.split_once("{{ end }}").unwrap();
    let chosen = match label {
        Some((label, value)) => {
            assert_eq!(name, label, "the query returns no such label");
            with.replace("{{ . }}", value)
        }
        None => without.to_owned(),
    };
    [before, &chosen, after].concat()
}

/// Regression: "[no value] have counted as far, and differ" was sent whenever PostgreSQL could not be queried.
#[tokio::test(flavor = "multi_thread")]
async fn an_alert_claims_nothing_that_a_failed_query_cannot_know() {
    let (kit, _place) = counted_day().await;
    let reader = kit.db().connect(Role::Reader).await.unwrap();
    let file = yaml(&format!("{PROVISIONING}/alerting/rules.yaml"));
    for rule in list(&file, "groups").iter().flat_map(|group| list(group, "rules")) {
        let asked = Table::ask(&reader, text(&rule["data"][0]["model"], "rawSql")).await;
        let label = Some((asked.columns[0].0.as_str(), asked.rows[0][0].as_deref().unwrap()));
        for annotation in ["summary", "description"] {
            let template = text(&rule["annotations"], annotation);
            let (fired, failed) = (rendered(template, label), rendered(template, None));
            for text in [&fired, &failed] {
                assert!(text.len() > 10 && !text.contains("{{"), "{text}");
            }
            assert_ne!(fired, failed);
        }
        assert!(rendered(text(&rule["annotations"], "summary"), None).contains("unknown"));
    }
}
