//! Runs each panel through Grafana's own library with the answers of real counts: transformations, matchers, units and
//! colours.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use scrutin_store::Role;
use serde_json::{Map, Value, json};
use tokio_postgres::Client;

use super::dashboards::{Shown, asking_panels, counted_day, fifteen_candidates, keep_watch, look_at, open};
use super::files::{dashboards, root};
use super::grafana::{Kind, Table, View};
use crate::kit::Kit;
use crate::run::Place;

/// tools/check-dashboards reports what is wrong. Without Node.js it reports that it was skipped.
#[tokio::test(flavor = "multi_thread")]
async fn grafana_can_draw_what_each_query_gives() {
    let (day, _day_place) = counted_day().await;
    let (many, _many_place) = fifteen_candidates().await;
    let before = Kit::empty().await;
    Place::of(&before).ok("setup");
    let mut views = looks_at(&day, "a day").await;
    views.push(looks_before(&before).await);
    views.extend(looks_at(&many, "fifteen candidates").await);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(json!({ "views": views }).to_string().as_bytes()).unwrap();
    check(file.path()).await;
}

/// The answers to all queries of all dashboards, with everything selected and with one of each.
async fn looks_at(kit: &Kit, name: &str) -> Vec<Value> {
    keep_watch(kit).await;
    let reader = kit.db().connect(Role::Reader).await.unwrap();
    let mut views = Vec::new();
    for choose_all in [true, false] {
        let mut answers = Map::new();
        for (board_name, board) in dashboards() {
            let view = look_at(&reader, &board, choose_all).await;
            answers.insert(board_name, panels(&reader, &board, &view).await);
        }
        let chosen = if choose_all { "everything chosen" } else { "one of each chosen" };
        views.push(json!({ "name": format!("{name}, {chosen}"), "answers": answers }));
    }
    views
}

/// The same, before the first vote.
async fn looks_before(kit: &Kit) -> Value {
    let reader = kit.db().connect(Role::Reader).await.unwrap();
    let mut answers = Map::new();
    for (name, board) in dashboards() {
        let view = open(&reader, &board, true).await;
        answers.insert(name, panels(&reader, &board, &view).await);
    }
    json!({ "name": "before the first vote", "answers": answers })
}

/// The answers to the queries of each panel.
async fn panels(reader: &Client, board: &Value, view: &View) -> Value {
    let mut panels = Map::new();
    for panel in asking_panels(board) {
        let shown = Shown::of(reader, view, panel).await;
        let given = shown.answers.iter().map(|(id, (format, table))| ((*id).to_owned(), answer(format, table)));
        panels.insert(panel["id"].to_string(), Value::Object(given.collect()));
    }
    Value::Object(panels)
}

/// Grafana's names for the field kinds.
fn answer(format: &str, table: &Table) -> Value {
    let columns = table.columns.iter().map(|(name, kind)| {
        let kind = match kind {
            Kind::Number => "number",
            Kind::Text => "string",
            Kind::Time => "time",
            Kind::Bool => "boolean",
        };
        json!({ "name": name, "type": kind })
    });
    json!({ "format": format, "columns": columns.collect::<Vec<_>>(), "rows": table.rows })
}

async fn check(answers: &Path) {
    let mut command = Command::new(root().join("tools/check-dashboards"));
    command.arg(answers);
    let done =
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("run tools/check-dashboards");
    let said = [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(done.status.success(), "tools/check-dashboards: {}\n{said}", done.status);
    if said.contains("SKIPPED") {
        // Write to the terminal directly: the output of a passing test is captured.
        std::io::stderr().write_all(said.as_bytes()).unwrap();
    }
}
