//! How the dashboards are written: what Grafana needs, what its linter checks, and a newsroom's vocabulary.

use std::collections::BTreeSet;

use serde_json::Value;

use super::files::{dashboards, list, text, yaml};

/// Each refresh cancels the one before, so with faster refreshes panels stay empty on a day of twelve hours.
const REFRESH_SECONDS_MIN: u32 = 5;

#[test]
fn the_dashboards_are_whole() {
    let boards = dashboards();
    let uids: BTreeSet<&str> = boards.iter().map(|(_, board)| text(board, "uid")).collect();
    assert_eq!(uids.len(), boards.len());
    for (name, board) in &boards {
        assert_eq!(text(board, "uid"), format!("scrutin-{name}"));
        assert_eq!((&board["schemaVersion"], &board["editable"]), (&42.into(), &false.into()), "{name}");
        assert!(board.get("id").is_none(), "{name}: Grafana assigns the id");
        assert!(!text(board, "description").is_empty() && list(board, "tags").contains(&"scrutin".into()), "{name}");
        let links = list(board, "links");
        assert!(links.iter().any(|link| link["type"] == "dashboards" && link["tags"][0] == "scrutin"), "{name}");
        check_addresses(name, board, &uids);

        let mut ids = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in list(board, "panels") {
            let title = text(panel, "title");
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}, {title}: another panel has the same id");
            let place = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            assert!(place("x") + place("w") <= 24, "{name}, {title} is too wide");
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(cells.insert((x, y)), "{name}, {title} overlaps another panel");
                }
            }
        }
        let height = cells.iter().map(|(_, y)| y + 1).max().unwrap();
        assert_eq!(cells.len() as u64, 24 * height, "{name} has a hole");
        check_variables(name, board);
        let refreshes = list(&board["timepicker"], "refresh_intervals").iter().chain([&board["refresh"]]);
        let seconds = refreshes.filter_map(|it| it.as_str()?.strip_suffix('s')?.parse::<u32>().ok());
        assert_eq!(seconds.min(), Some(REFRESH_SECONDS_MIN), "{name}");
    }
    let compose = yaml("compose.yaml");
    let least = &compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_MIN_REFRESH_INTERVAL"];
    assert_eq!(*least, format!("{REFRESH_SECONDS_MIN}s"));
    let night = &boards.iter().find(|(name, _)| name == "election-night").unwrap().1;
    // Each refresh cancels the one before, so with faster refreshes panels stay empty on a long day.
    assert_eq!(night["refresh"], "5s");
    let asked: Vec<&str> = list(&night["templating"], "list").iter().map(|it| text(it, "name")).collect();
    assert!(["election", "counter", "region", "candidate"].iter().all(|name| asked.contains(name)), "{asked:?}");
}

/// The rules are at <https://github.com/grafana/dashboard-linter>. Omitted are those for Prometheus, and the one that
/// requires every variable to refresh as time passes: here only the counter does, and the variables that depend on it
/// follow.
#[test]
fn the_rules_of_grafanas_linter_hold() {
    for (name, board) in dashboards() {
        let source = &list(&board["templating"], "list")[0];
        assert_eq!((text(source, "name"), text(source, "type")), ("datasource", "datasource"), "{name}");
        assert_eq!(source["query"], "grafana-postgresql-datasource", "{name}");
        // The file names the data source used here; when imported elsewhere, the user selects one.
        assert_eq!(source["current"]["value"], "scrutin", "{name}");
        let is_chosen = |it: &Value| it["datasource"]["uid"] == "${datasource}";
        let variables = list(&board["templating"], "list").iter().filter(|it| it["type"] == "query");
        assert!(variables.chain(list(&board["annotations"], "list")).all(is_chosen), "{name}");
        assert_eq!(board["editable"], false, "{name}");
        for panel in list(&board, "panels") {
            let title = text(panel, "title");
            assert!(!title.is_empty() && text(panel, "description").len() > 10, "{name}, {title} has no description");
            if panel["type"] != "alertlist" {
                let targets = list(panel, "targets");
                assert!(!targets.is_empty() && targets.iter().all(is_chosen) && is_chosen(panel), "{name}, {title}");
                check_unit(&name, panel);
            }
        }
    }
}

/// A newsroom reads these aloud: the difference of two shares is in points, and no label is a database term.
#[test]
fn election_night_uses_the_vocabulary_of_a_newsroom() {
    let boards = dashboards();
    let board = |name: &str| &boards.iter().find(|(it, _)| it == name).unwrap().1;
    let night = board("election-night");
    let labels: Vec<&str> = list(&night["templating"], "list").iter().map(|it| text(it, "label")).collect();
    assert!(labels.contains(&"Counted by") && !labels.contains(&"Counter"), "{labels:?}");
    for panel in list(night, "panels") {
        let (title, sql) = (text(panel, "title"), panel["targets"].to_string());
        assert!(!sql.contains("\\\"Null\\\""), "{title} calls a spoilt ballot null");
        let config = &panel["fieldConfig"];
        let unit = |field: &str| {
            let rules = config["overrides"].as_array().into_iter().flatten();
            let mut properties =
                rules.filter(|it| it["matcher"]["options"] == field).flat_map(|it| list(it, "properties"));
            properties.find(|it| it["id"] == "unit").map(|it| it["value"].clone())
        };
        match title {
            "Lead" => assert_eq!(unit("Of the valid votes").unwrap(), "suffix: points"),
            "Map" => assert_eq!(unit("Margin").unwrap(), "suffix: points"),
            "Regions" => assert_eq!(unit("Margin, points").unwrap(), "none"),
            "Lead over time" => assert_eq!(config["defaults"]["unit"], "suffix: points"),
            _ => {}
        }
    }
    let rejections = list(board("trust"), "panels").iter().find(|it| it["title"] == "Rejections over time").unwrap();
    // Next to it is the sum of the whole day, which may differ.
    assert!(text(&rejections["fieldConfig"]["defaults"], "noValue").contains("in this time range"));
}

/// Numbers have a unit; texts have none.
fn check_unit(name: &str, panel: &Value) {
    let unit = &panel["fieldConfig"]["defaults"]["unit"];
    let shows_words = panel["options"]["reduceOptions"]["fields"].as_str().is_some_and(|fields| !fields.is_empty())
        || panel["type"] == "state-timeline"
        || panel["title"] == "Where they differ"
        || panel["title"] == "Où ils diffèrent";
    assert!(unit.is_string() || shows_words, "{name}, {} has no unit", panel["title"]);
}

fn check_variables(name: &str, board: &Value) {
    let variables = list(&board["templating"], "list");
    let counter = variables.iter().find(|it| it["name"] == "counter").expect("a variable for the counter");
    // Opened before the first count, it and the variables after it are empty: it refreshes as time passes, and they
    // follow.
    assert_eq!(counter["refresh"], 2, "{name}");
    let known: BTreeSet<&str> = list(&board["templating"], "list").iter().map(|it| text(it, "name")).collect();
    let all = board.to_string();
    for used in all.split("${").skip(1) {
        let used = used.split([':', '}']).next().unwrap();
        assert!(known.contains(used) || used.starts_with("__"), "{name} uses ${{{used}}}, which is not a variable");
    }
    for variable in known {
        let uses = all.matches(&format!("${{{variable}:")).count() + all.matches(&format!("${{{variable}}}")).count();
        assert!(uses > 0, "{name}: nothing uses the variable {variable}");
    }
}

/// Links to dashboards lead to existing ones.
fn check_addresses(name: &str, value: &Value, uids: &BTreeSet<&str>) {
    match value {
        Value::Object(fields) => fields.values().for_each(|value| check_addresses(name, value, uids)),
        Value::Array(values) => values.iter().for_each(|value| check_addresses(name, value, uids)),
        Value::String(text) => {
            if let Some(rest) = text.strip_prefix("/d/") {
                let uid = rest.split(['?', '/']).next().unwrap();
                assert!(uids.contains(uid), "{name} leads to {uid}, which is not there");
            }
        }
        _ => {}
    }
}
