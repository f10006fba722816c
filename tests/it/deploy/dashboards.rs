//! Every query of every dashboard, run on a real count as the reader, returns rows with the columns that its panel
//! needs.

use std::collections::{BTreeMap, BTreeSet};

use scrutin_store::Role;
use serde_json::Value;
use tokio_postgres::Client;

use super::files::{dashboards, list, text};
use super::grafana::{Choice, Kind, Table, View};
use crate::architecture::relations;
use crate::kit::Kit;
use crate::run::Place;

/// How many candidates a chart has slots for, each with a query for name and colour.
const SLOTS: usize = 12;

const FAULTS: [&str; 8] = [
    "malformed",
    "misrouted",
    "unknown_election",
    "unknown_region",
    "unknown_choice",
    "unknown_channel",
    "too_early",
    "too_late",
];

/// A day of votes with every kind of fault, counted twice and audited, in its own kit.
pub async fn counted_day() -> (Kit, Place) {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.ok("setup --voters 20000 --day 10m");
    // More faults than in the demo, so that every reason to reject a vote occurs.
    let faults = FAULTS.map(|kind| format!(" --fault {kind}=0.002")).concat();
    place.ok(&format!("simulate --speed max --fault double_vote=0.01{faults} --truth truth.json"));
    place.ok("count --drain");
    place.ok("count --drain --counter spark");
    place.ok("audit --truth truth.json");
    (kit, place)
}

/// More candidates than a chart has slots for, in one region, counted twice.
pub async fn fifteen_candidates() -> (Kit, Place) {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    let rows = (1..=15).map(|n| format!("N,North,1510,300,5,5,Candidate {n},{}\n", 10 * n));
    let head = "region_code,region_name,registered,abstentions,blank,null,candidate,votes\n";
    place.write("many.csv", head.to_owned() + &rows.collect::<String>());
    place.ok("replay results many.csv --day 10m --speed max --fault double_vote=0.05");
    place.ok("count --drain");
    place.ok("count --drain --counter spark");
    (kit, place)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_gives_what_its_panel_needs() {
    let (kit, _place) = counted_day().await;
    show_all_of(&kit).await;
}

/// Before the first vote a dashboard may be empty, but not broken.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_fails_before_the_first_vote() {
    let kit = Kit::empty().await;
    Place::of(&kit).ok("setup");
    let reader = kit.db().connect(Role::Reader).await.unwrap();
    for (_, board) in dashboards() {
        let view = open(&reader, &board, false).await;
        for (_, sql) in queries(&board) {
            Table::ask(&reader, &view.expand(sql)).await;
        }
    }
}

/// Registered voters are known in one region only.
#[tokio::test(flavor = "multi_thread")]
async fn an_election_with_unknown_registered_voters_is_shown() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.write(
        "some.csv",
        "region_code,region_name,registered,candidate,votes\nN,North,1000,Ada,400\nN,North,1000,Ben,290\n\
         S,South,,Ada,300\nS,South,,Ben,310\n",
    );
    place.ok("replay results some.csv --day 10m --speed max --fault double_vote=0.05");
    place.ok("count --drain");
    place.ok("count --drain --counter spark");
    show_all_of(&kit).await;
}

/// An election with three candidates in two regions, where each region reuses the codes for other people, and no map.
#[tokio::test(flavor = "multi_thread")]
async fn an_election_with_local_candidates_is_shown() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.write(
        "mayors.csv",
        "region_code,region_name,registered,abstentions,blank,null,candidate,candidate_id,votes\n\
         N,North,1000,300,5,5,Ada O'Neil,1,400\nN,North,1000,300,5,5,Ben,2,290\nS,South,900,200,0,0,Cleo,1,700\n",
    );
    place.ok("replay results mayors.csv --day 10m --speed max --fault double_vote=0.05");
    place.ok("count --drain");
    place.ok("count --drain --counter spark");
    show_all_of(&kit).await;
}

/// PostgreSQL is configured to sort by bytes, which puts é after z.
#[tokio::test(flavor = "multi_thread")]
async fn regions_are_in_dictionary_order() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    let names = ["Zuydcoote", "Étretat", "Ardennes", "Ardèche"];
    let rows = names
        .iter()
        .enumerate()
        .map(|(n, name)| format!("{n},{name},100,50,0,0,Ada,30\n{n},{name},100,50,0,0,Ben,20\n"));
    let head = "region_code,region_name,registered,abstentions,blank,null,candidate,votes\n";
    place.write("towns.csv", head.to_owned() + &rows.collect::<String>());
    place.ok("replay results towns.csv --day 10m --speed max");
    place.ok("count --drain");
    let reader = kit.db().connect(Role::Reader).await.unwrap();
    let boards = dashboards();
    let (_, night) = boards.iter().find(|(name, _)| name == "election-night").unwrap();
    let view = look_at(&reader, night, true).await;
    for (asks, column) in [("variable region", "__text"), ("Regions", "Region")] {
        let (_, sql) = queries(night).into_iter().find(|(name, _)| name == asks).unwrap();
        let table = Table::ask(&reader, &view.expand(sql)).await;
        let found: Vec<&str> = table.values(column).into_iter().flatten().collect();
        assert_eq!(found, ["Ardèche", "Ardennes", "Étretat", "Zuydcoote"], "{asks}");
    }
}

/// With more candidates than slots, those with the most votes get them.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_candidates_the_first_twelve_have_a_line() {
    let (kit, _place) = fifteen_candidates().await;
    show_all_of(&kit).await;

    let reader = kit.db().connect(Role::Reader).await.unwrap();
    let boards = dashboards();
    let (_, night) = boards.iter().find(|(name, _)| name == "election-night").unwrap();
    let view = look_at(&reader, night, true).await;
    let mut lines = Vec::new();
    for (panel, sql) in queries(night) {
        if panel == "Shares over time" && sql.starts_with("SELECT name, color") {
            lines.extend(
                Table::ask(&reader, &view.expand(sql)).await.values("name").into_iter().flatten().map(str::to_owned),
            );
        }
    }
    let expected: Vec<String> = (4..=15).map(|n| format!("Candidate {n}")).collect();
    assert_eq!(lines, expected, "in the order of the ballot");
}

/// Records that the log is being watched, however long the test takes: `waiting` is unknown after a minute without.
pub async fn keep_watch(kit: &Kit) {
    let sql =
        "INSERT INTO log_end SELECT DISTINCT log, 0, 0, now() + interval '1 day' FROM counter ON CONFLICT DO NOTHING";
    kit.owner().await.batch_execute(sql).await.unwrap();
}

/// Checks all dashboards on the count in a kit's database, with everything selected and with one of each.
pub async fn show_all_of(kit: &Kit) {
    keep_watch(kit).await;
    let reader = kit.db().connect(Role::Reader).await.unwrap_or_else(|error| panic!("{error}"));
    let views: BTreeSet<String> = {
        let sql = "SELECT viewname::text FROM pg_views WHERE schemaname = 'scrutin'";
        reader.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    for (name, board) in dashboards() {
        for (_, sql) in queries(&board) {
            let read = relations(sql);
            let strange = read.iter().find(|relation| !views.contains(**relation));
            assert_eq!(strange, None, "{name} reads something other than a view: {sql}");
        }
        for choose_all in [true, false] {
            let view = look_at(&reader, &board, choose_all).await;
            for annotation in list(&board["annotations"], "list") {
                let table = Table::ask(&reader, &view.expand(text(&annotation["target"], "rawSql"))).await;
                let kinds = [table.kind("time"), table.kind("text")];
                assert_eq!(kinds, [Some(Kind::Time), Some(Kind::Text)], "{annotation}");
            }
            for panel in asking_panels(&board) {
                Shown::of(&reader, &view, panel).await.check(&format!("{name}, {}", text(panel, "title")));
            }
        }
    }
}

/// A time range that contains all votes and commits.
async fn whole_day(reader: &Client) -> View {
    let sql = "SELECT rfc3339(least(min(opens_at), now()) - interval '1 minute'), rfc3339(greatest(max(closes_at), now()) + interval '1 minute')
                 FROM elections";
    let row = reader.query_one(sql, &[]).await.unwrap();
    View { from: row.get(0), to: row.get(1), interval_seconds: 10, ..View::default() }
}

/// The dashboard as it opens once every variable has something to select.
pub async fn look_at(reader: &Client, board: &Value, choose_all: bool) -> View {
    let view = open(reader, board, choose_all).await;
    for (name, choice) in &view.variables {
        assert!(!matches!(choice, Choice::These(values) if values == &[""]), "there is nothing to select in {name}");
    }
    view
}

/// The dashboard as it opens: each variable is queried with those before it, and is empty if its query returns nothing.
pub async fn open(reader: &Client, board: &Value, choose_all: bool) -> View {
    let mut view = whole_day(reader).await;
    for variable in asking_variables(board) {
        let (name, sql) = (text(variable, "name"), text(variable, "query"));
        let table = Table::ask(reader, &view.expand(sql)).await;
        let column = if table.kind("__value").is_some() { "__value" } else { &table.columns[0].0 };
        let first = table.values(column).first().map_or("", |value| value.expect("a value")).to_owned();
        let chosen = match variable["allValue"].as_str() {
            Some(all) if choose_all => Choice::All(all.to_owned()),
            _ => Choice::These(vec![first]),
        };
        view.variables.insert(name.to_owned(), chosen);
    }
    view
}

/// All variables except the data source.
fn asking_variables(board: &Value) -> impl Iterator<Item = &Value> {
    list(&board["templating"], "list").iter().filter(|variable| variable["type"] == "query")
}

/// All annotations except those that Grafana fills itself, as with its alerts.
pub fn asking_panels(board: &Value) -> impl Iterator<Item = &Value> {
    list(board, "panels").iter().filter(|panel| panel["targets"].is_array())
}

/// All SQL of a dashboard, each with its purpose.
fn queries(board: &Value) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    for variable in asking_variables(board) {
        found.push((format!("variable {}", text(variable, "name")), text(variable, "query")));
    }
    for annotation in list(&board["annotations"], "list") {
        found.push((format!("annotation {}", text(annotation, "name")), text(&annotation["target"], "rawSql")));
    }
    for panel in list(board, "panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push((text(panel, "title").to_owned(), text(target, "rawSql")));
        }
    }
    found
}

/// A panel and the answers to its queries.
pub struct Shown<'a> {
    panel: &'a Value,
    /// By query id: the format and the answer.
    pub answers: BTreeMap<&'a str, (&'a str, Table)>,
}

impl<'a> Shown<'a> {
    pub async fn of(reader: &Client, view: &View, panel: &'a Value) -> Shown<'a> {
        let mut answers = BTreeMap::new();
        for target in list(panel, "targets") {
            let table = Table::ask(reader, &view.expand(text(target, "rawSql"))).await;
            answers.insert(text(target, "refId"), (text(target, "format"), table));
        }
        Shown { panel, answers }
    }

    fn check(&self, name: &str) {
        let transformations: Vec<&Value> = self.panel["transformations"].as_array().into_iter().flatten().collect();
        let configs: BTreeSet<&str> =
            transformations.iter().filter_map(|it| it["options"]["configRefId"].as_str()).collect();
        // The data itself, without the queries that only style it.
        let data: Vec<(&str, &Table)> = self
            .answers
            .iter()
            .filter(|(id, _)| !configs.contains(*id))
            .map(|(_, (format, table))| (*format, table))
            .collect();
        assert!(!data.is_empty(), "{name}");
        let fields: BTreeSet<String> = data.iter().flat_map(|(format, table)| fields(name, format, table)).collect();
        let numbers = |table: &Table| table.columns.iter().filter(|(_, kind)| *kind == Kind::Number).count();
        for (_, table) in &data {
            assert!(!table.rows.is_empty(), "{name} is empty");
            assert!(table.columns.iter().all(|(_, kind)| *kind != Kind::Bool), "{name}: a boolean column");
        }
        let (format, table) = data[0];
        let is_in_rows = transformations.iter().any(|it| it["id"] == "rowsToFields");
        match text(self.panel, "type") {
            "timeseries" => {
                assert!(data.iter().all(|(format, table)| *format == "time_series" && numbers(table) > 0), "{name}");
            }
            "state-timeline" => {
                assert_eq!((format, table.columns.len()), ("table", 2), "{name}");
                assert_eq!((table.columns[0].1, table.columns[1].1), (Kind::Time, Kind::Text), "{name}");
            }
            "geomap" => {
                for layer in list(&self.panel["options"], "layers") {
                    for column in [text(&layer["location"], "latitude"), text(&layer["location"], "longitude")] {
                        assert_eq!(table.kind(column), Some(Kind::Number), "{name}: {column}");
                        assert!(table.values(column).iter().all(Option::is_some), "{name}: {column}");
                    }
                    let style = &layer["config"]["style"];
                    assert_eq!(table.kind(text(&style["size"], "field")), Some(Kind::Number), "{name}");
                    assert_eq!(table.kind(text(&style["color"], "field")), Some(Kind::Text), "{name}");
                }
            }
            "barchart" => {
                let x = text(&self.panel["options"], "xField");
                assert!(table.kind(x).is_some_and(|kind| kind != Kind::Number) && numbers(table) > 0, "{name}: {x}");
            }
            "stat" | "bargauge" | "piechart" if is_in_rows => {}
            "stat" => assert_eq!(table.rows.len(), 1, "{name}"),
            "table" => assert_eq!(format, "table", "{name}"),
            other => panic!("{name}: unknown panel type {other}"),
        }
        for transformation in &transformations {
            self.check_transformation(name, transformation, &fields, data[0].1);
        }
        // A series may be missing; Grafana's own matchers check that each occurs in some view, see drawing.rs.
        if self.panel["type"] == "table" {
            for rule in list(&self.panel["fieldConfig"], "overrides") {
                assert_eq!(rule["matcher"]["id"], "byName", "{name}");
                let field = text(&rule["matcher"], "options");
                assert!(fields.contains(field), "{name}: an override of {field}, which is not among {fields:?}");
            }
        }
    }

    fn check_transformation(&self, name: &str, it: &Value, fields: &BTreeSet<String>, data: &Table) {
        let options = &it["options"];
        let mapped = |key: &str| {
            let found = list(options, "mappings").iter().find(|mapping| mapping["handlerKey"] == key);
            found.map(|mapping| text(mapping, "fieldName"))
        };
        match text(it, "id") {
            "rowsToFields" => {
                let (label, value) = (mapped("field.name").unwrap(), mapped("field.value").unwrap());
                assert_eq!(data.kind(label), Some(Kind::Text), "{name}: {label}");
                let labels: BTreeSet<_> = data.values(label).into_iter().map(Option::unwrap).collect();
                assert_eq!(labels.len(), data.rows.len(), "{name}: two rows with the same name");
                assert!(data.values(value).iter().all(Option::is_some), "{name}: {value}");
                // Texts are shown only if the panel asks for more than numbers.
                let shows_words = self.panel["options"]["reduceOptions"]["fields"] == "/.*/";
                assert_eq!(data.kind(value) == Some(Kind::Text), shows_words, "{name}");
                if let Some(color) = mapped("color") {
                    are_colors(name, data, color);
                }
            }
            "configFromData" => {
                let (_, config) = &self.answers[text(options, "configRefId")];
                let matcher = &options["applyTo"];
                let (label, color) = match mapped("displayName") {
                    Some(label) => (label, mapped("color").unwrap()),
                    None => (mapped("mappings.value").unwrap(), mapped("mappings.color").unwrap()),
                };
                assert_eq!(config.kind(label), Some(Kind::Text), "{name}: {label}");
                are_colors(name, config, color);
                let wanted = text(matcher, "options");
                if matcher["id"] == "byName" {
                    // One slot for each candidate, up to the last slot.
                    let number: usize = wanted.parse().expect("the slot of a candidate");
                    assert!((1..=SLOTS).contains(&number), "{name}");
                    assert_eq!(config.rows.len() == 1, fields.contains(wanted), "{name}: place {wanted}");
                } else {
                    assert_eq!(matcher["id"], "byRegexp", "{name}");
                    let names = wanted.trim_matches('/').trim_start_matches('^').trim_end_matches('$');
                    for field in names.trim_matches(['(', ')']).split('|') {
                        let known: BTreeSet<_> = config.values(label).into_iter().collect();
                        let shown = data.values(field);
                        let strange = shown.iter().find(|value| value.is_some() && !known.contains(*value));
                        assert_eq!(strange, None, "{name}: {field} has a value without a colour");
                    }
                }
            }
            other => panic!("{name}: unknown transformation {other}"),
        }
    }
}

/// Grafana's names for the columns, or for the series if drawn over time.
fn fields(name: &str, format: &str, table: &Table) -> Vec<String> {
    let columns = table.columns.iter().map(|(column, _)| column.clone());
    if format == "table" {
        return columns.collect();
    }
    let time = table.kind("time");
    assert!(time == Some(Kind::Time) || time == Some(Kind::Number), "{name}: {:?}", table.columns);
    let times: Vec<Option<&str>> = table.values("time");
    assert!(times.iter().all(Option::is_some), "{name}");
    let number = |text: &str| text.parse::<f64>().ok();
    let is_sorted = times.is_sorted_by(|a, b| match (a.and_then(number), b.and_then(number)) {
        (Some(a), Some(b)) => a <= b,
        _ => a <= b,
    });
    assert!(is_sorted, "{name}: the times are not in order");
    let texts: Vec<&str> =
        table.columns.iter().filter(|(_, kind)| *kind == Kind::Text).map(|(column, _)| column.as_str()).collect();
    match texts[..] {
        [] => columns.filter(|column| column != "time").collect(),
        // The values of `metric` name the series.
        ["metric"] => table.values("metric").into_iter().flatten().map(str::to_owned).collect(),
        _ => panic!("{name}: only `metric` may be a text column of a series: {texts:?}"),
    }
}

fn are_colors(name: &str, table: &Table, column: &str) {
    for color in table.values(column).into_iter().flatten() {
        let is_color = color.len() == 7 && color.starts_with('#');
        assert!(is_color, "{name}: {color} is not a colour");
    }
}
