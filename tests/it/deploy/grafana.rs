//! Sends a query as Grafana does: replaces variables and macros of the PostgreSQL data source as its documentation
//! describes, then runs the query as the reader.
//!
//! <https://grafana.com/docs/grafana/latest/datasources/postgres/> documents the macros, and
//! <https://grafana.com/docs/grafana/latest/dashboards/variables/variable-syntax/> the variable formats.

use std::collections::BTreeMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

/// The selection of a variable.
#[derive(Clone, Debug)]
pub enum Choice {
    /// Everything selected; the dashboard says what to substitute.
    All(String),
    These(Vec<String>),
}

/// The time range and the variables of a view of a dashboard.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub variables: BTreeMap<String, Choice>,
    /// RFC 3339.
    pub from: String,
    pub to: String,
    pub interval_seconds: u32,
}

impl View {
    /// The SQL that is sent to PostgreSQL.
    pub fn expand(&self, sql: &str) -> String {
        let mut sent = String::new();
        let mut rest = sql;
        while let Some((before, behind)) = rest.split_once('$') {
            sent.push_str(before);
            rest = if let Some(variable) = behind.strip_prefix('{') {
                let (variable, rest) = variable.split_once('}').expect("a variable ends");
                sent.push_str(&self.variable(variable));
                rest
            } else {
                self.macro_of(behind, &mut sent)
            };
        }
        sent + rest
    }

    fn variable(&self, variable: &str) -> String {
        let (name, format) = variable.split_once(':').unwrap_or((variable, "none"));
        // Only this format quotes, so that no value can alter the query.
        assert_eq!(format, "sqlstring", "the format of the variable {name}");
        match self.variables.get(name).unwrap_or_else(|| panic!("no variable {name}")) {
            Choice::All(value) => value.clone(),
            Choice::These(values) => {
                let quoted: Vec<String> =
                    values.iter().map(|value| format!("'{}'", value.replace('\'', "''"))).collect();
                quoted.join(",")
            }
        }
    }

    /// Replaces the macro that the text starts with; returns the rest.
    fn macro_of<'a>(&self, text: &'a str, sent: &mut String) -> &'a str {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        match name {
            "__interval" => sent.push_str(&format!("{}s", self.interval_seconds)),
            "__interval_ms" => sent.push_str(&(self.interval_seconds * 1000).to_string()),
            "__timeFrom" => {
                sent.push_str(&format!("'{}'", self.from));
                return rest.strip_prefix("()").expect(name);
            }
            "__timeFilter" | "__timeGroupAlias" => {
                // Up to the first closing parenthesis, whatever it belongs to.
                let (arguments, rest) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).expect(name);
                let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
                let column = arguments[0];
                assert!(column.chars().all(|c| c.is_alphanumeric() || c == '_'), "{name} of a column: {column}");
                if name == "__timeFilter" {
                    assert_eq!(arguments.len(), 1, "{name}");
                    sent.push_str(&format!("{column} BETWEEN '{}' AND '{}'", self.from, self.to));
                } else {
                    assert_eq!(arguments[1], "$__interval", "{name}");
                    assert!(matches!(arguments[2..], [] | ["0" | "NULL" | "previous"]), "{name}: {arguments:?}");
                    let seconds = self.interval_seconds;
                    sent.push_str(&format!("floor(extract(epoch from {column})/{seconds})*{seconds} AS \"time\""));
                }
                return rest;
            }
            other => panic!("no such macro: ${other}"),
        }
        rest
    }
}

/// The type of a column, as far as panels distinguish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Number,
    Text,
    Time,
    Bool,
}

#[derive(Debug)]
pub struct Table {
    pub columns: Vec<(String, Kind)>,
    pub rows: Vec<Vec<Option<String>>>,
}

impl Table {
    /// Runs a query that is already in PostgreSQL's syntax.
    pub async fn ask(client: &Client, sql: &str) -> Table {
        let prepared = client.prepare(sql).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
        let columns = prepared.columns().iter().map(|column| {
            let kind = match *column.type_() {
                Type::INT2 | Type::INT4 | Type::INT8 | Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => Kind::Number,
                Type::TEXT | Type::VARCHAR => Kind::Text,
                Type::TIMESTAMPTZ => Kind::Time,
                Type::BOOL => Kind::Bool,
                ref other => panic!("Grafana does not support {other} in {}\n{sql}", column.name()),
            };
            (column.name().to_owned(), kind)
        });
        let answers = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
        let rows = answers.iter().filter_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|n| row.get(n).map(str::to_owned)).collect()),
            _ => None,
        });
        Table { columns: columns.collect(), rows: rows.collect() }
    }

    pub fn kind(&self, column: &str) -> Option<Kind> {
        self.columns.iter().find(|(name, _)| name == column).map(|(_, kind)| *kind)
    }

    /// The values of a required column.
    #[track_caller]
    pub fn values(&self, column: &str) -> Vec<Option<&str>> {
        let place = self.columns.iter().position(|(name, _)| name == column);
        let place = place.unwrap_or_else(|| panic!("no column {column} in {:?}", self.columns));
        self.rows.iter().map(|row| row[place].as_deref()).collect()
    }
}

#[test]
fn queries_are_expanded_as_grafana_does() {
    let these = |values: &[&str]| Choice::These(values.iter().map(|value| (*value).to_owned()).collect());
    let view = View {
        variables: [
            ("region".to_owned(), these(&["75", "d'Or"])),
            ("candidate".to_owned(), Choice::All("''".to_owned())),
        ]
        .into(),
        from: "2027-04-11T06:00:00Z".to_owned(),
        to: "2027-04-11T18:00:00Z".to_owned(),
        interval_seconds: 10,
    };
    for (sql, sent) in [
        ("SELECT 1", "SELECT 1"),
        ("region IN (${region:sqlstring})", "region IN ('75','d''Or')"),
        ("'' IN (${candidate:sqlstring}) OR 1", "'' IN ('') OR 1"),
        ("SELECT $__timeFrom()::timestamptz", "SELECT '2027-04-11T06:00:00Z'::timestamptz"),
        ("$__timeFilter(at) AND", "at BETWEEN '2027-04-11T06:00:00Z' AND '2027-04-11T18:00:00Z' AND"),
        (
            "SELECT $__timeGroupAlias(at, $__interval, 0), 1 / $__interval_ms",
            "SELECT floor(extract(epoch from at)/10)*10 AS \"time\", 1 / 10000",
        ),
    ] {
        assert_eq!(view.expand(sql), sent);
    }
}
