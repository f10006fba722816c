//! What is asked of Spark: what to read, and what to do with it for ever.

use std::time::Duration;

use super::proto;

/// A table that Spark is to make, of rows that are there or that come.
#[derive(Clone, Debug, PartialEq)]
pub struct Relation(pub(super) proto::Relation);

impl Relation {
    /// A query.
    pub fn sql(query: impl Into<String>) -> Relation {
        Relation::of(proto::RelType::Sql(proto::Sql { query: query.into() }))
    }

    /// What comes from a source, as `kafka` or `rate`, with its options.
    pub fn stream<'a>(format: &str, options: impl IntoIterator<Item = (&'a str, &'a str)>) -> Relation {
        let options = options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let source = proto::DataSource { format: Some(format.to_owned()), schema: None, options };
        Relation::of(proto::RelType::Read(proto::Read { data_source: Some(source), is_streaming: true }))
    }

    /// With these columns, as `a INT, b STRING`: of a [`Relation::stream`] whose source does not know its own.
    #[must_use]
    pub fn with_schema(mut self, ddl: &str) -> Relation {
        if let Some(proto::RelType::Read(proto::Read { data_source: Some(source), .. })) = &mut self.0.rel_type {
            source.schema = Some(ddl.to_owned());
        }
        self
    }

    /// The first row of each value of these columns, for ever: of a stream, Spark keeps all values that it has seen.
    #[must_use]
    pub fn deduplicated(self, columns: &[&str]) -> Relation {
        Relation::of(proto::RelType::Deduplicate(Box::new(proto::Deduplicate {
            input: Some(Box::new(self.0)),
            column_names: columns.iter().map(|&column| column.to_owned()).collect(),
        })))
    }

    /// With aggregates over the rows that pass through, as `count(*) AS n`, which change nothing of them: each batch of a
    /// stream has its own in [`QueryProgress::observed_metrics`](super::QueryProgress), by this name.
    #[must_use]
    pub fn observed(self, name: &str, aggregates: &[&str]) -> Relation {
        let expression = |sql: &&str| {
            let expression = proto::ExpressionString { expression: (*sql).to_owned() };
            proto::Expression { expr_type: Some(proto::ExprType::ExpressionString(expression)) }
        };
        Relation::of(proto::RelType::CollectMetrics(Box::new(proto::CollectMetrics {
            input: Some(Box::new(self.0)),
            name: name.to_owned(),
            metrics: aggregates.iter().map(expression).collect(),
        })))
    }

    fn of(rel_type: proto::RelType) -> Relation {
        Relation(proto::Relation { rel_type: Some(rel_type) })
    }
}

/// Which rows go to the sink with a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputMode {
    /// New rows, which will not change.
    #[default]
    Append,
    /// Those that are new or have changed.
    Update,
    /// All.
    Complete,
}

/// When there is a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trigger {
    /// As soon as the one before is done and something has come.
    #[default]
    AsSoonAsPossible,
    /// At most once in that time.
    Every(Duration),
    /// Until all is done that is there at the start; then the query ends.
    AvailableNow,
}

/// A streaming query that is to be started: see [`Session::start`](super::Session::start).
#[derive(Clone, Debug, PartialEq)]
pub struct StreamWrite(pub(super) proto::WriteStreamOperationStart);

impl StreamWrite {
    /// All of a relation into a sink, as `kafka` or `noop`.
    pub fn new(format: &str, input: Relation) -> StreamWrite {
        let write = proto::WriteStreamOperationStart {
            input: Some(input.0),
            format: format.to_owned(),
            output_mode: "append".to_owned(),
            ..Default::default()
        };
        StreamWrite(write)
    }

    /// Of the sink.
    #[must_use]
    pub fn option(mut self, key: &str, value: &str) -> StreamWrite {
        self.0.options.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The folder, of the server's or of a store that all of Spark reaches, that says how far the query is, and holds
    /// what it has to remember. A query goes on from there; without one it begins anew each time.
    #[must_use]
    pub fn checkpoint(self, folder: &str) -> StreamWrite {
        self.option("checkpointLocation", folder)
    }

    /// By which people know the query.
    #[must_use]
    pub fn name(mut self, name: &str) -> StreamWrite {
        self.0.query_name = name.to_owned();
        self
    }

    #[must_use]
    pub fn output_mode(mut self, mode: OutputMode) -> StreamWrite {
        self.0.output_mode = match mode {
            OutputMode::Append => "append",
            OutputMode::Update => "update",
            OutputMode::Complete => "complete",
        }
        .to_owned();
        self
    }

    #[must_use]
    pub fn trigger(mut self, trigger: Trigger) -> StreamWrite {
        self.0.trigger = match trigger {
            Trigger::AsSoonAsPossible => None,
            Trigger::Every(time) => {
                Some(proto::TriggerType::ProcessingTimeInterval(format!("{} milliseconds", time.as_millis())))
            }
            Trigger::AvailableNow => Some(proto::TriggerType::AvailableNow(true)),
        };
        self
    }
}
