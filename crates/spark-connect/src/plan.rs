//! Builders for the plans sent to Spark: what to read, and what to do with it.

use std::time::Duration;

use super::proto;

/// A table for Spark to compute, from existing rows or from a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Relation(pub(super) proto::Relation);

impl Relation {
    /// The result of an SQL query.
    pub fn sql(query: impl Into<String>) -> Relation {
        Relation::of(proto::RelType::Sql(proto::Sql { query: query.into() }))
    }

    /// A stream from a source, such as `kafka` or `rate`, with options.
    pub fn stream<'a>(format: &str, options: impl IntoIterator<Item = (&'a str, &'a str)>) -> Relation {
        let options = options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let source = proto::DataSource { format: Some(format.to_owned()), schema: None, options };
        Relation::of(proto::RelType::Read(proto::Read { data_source: Some(source), is_streaming: true }))
    }

    /// Sets the columns (`a INT, b STRING`) of a [`Relation::stream`] whose source does not define its own.
    #[must_use]
    pub fn with_schema(mut self, ddl: &str) -> Relation {
        if let Some(proto::RelType::Read(proto::Read { data_source: Some(source), .. })) = &mut self.0.rel_type {
            source.schema = Some(ddl.to_owned());
        }
        self
    }

    /// Keeps the first row for each value of these columns. For a stream, Spark remembers all values for ever.
    #[must_use]
    pub fn deduplicated(self, columns: &[&str]) -> Relation {
        Relation::of(proto::RelType::Deduplicate(Box::new(proto::Deduplicate {
            input: Some(Box::new(self.0)),
            column_names: columns.iter().map(|&column| column.to_owned()).collect(),
        })))
    }

    /// Observes aggregates, such as `count(*) AS n`, over the rows passing through, without changing the rows. Each
    /// batch of a stream has its values in [`QueryProgress::observed_metrics`](super::QueryProgress), under this name.
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

/// Which rows each batch writes to the sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputMode {
    /// New rows, which will not change later.
    #[default]
    Append,
    /// New and changed rows.
    Update,
    /// All rows.
    Complete,
}

/// When to process a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trigger {
    /// As soon as the previous batch is done and there is data.
    #[default]
    AsSoonAsPossible,
    /// At most once per interval.
    Every(Duration),
    /// Processes everything available at the start; then the query ends.
    AvailableNow,
}

/// A streaming query to start with [`Session::start`](super::Session::start).
#[derive(Clone, Debug, PartialEq)]
pub struct StreamWrite(pub(super) proto::WriteStreamOperationStart);

impl StreamWrite {
    /// Writes a relation to a sink, such as `kafka` or `noop`.
    pub fn new(format: &str, input: Relation) -> StreamWrite {
        let write = proto::WriteStreamOperationStart {
            input: Some(input.0),
            format: format.to_owned(),
            output_mode: "append".to_owned(),
            ..Default::default()
        };
        StreamWrite(write)
    }

    /// Sets an option of the sink.
    #[must_use]
    pub fn option(mut self, key: &str, value: &str) -> StreamWrite {
        self.0.options.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets the folder, on the server or in a store that all of Spark can access, that holds the query's progress and
    /// state. A query resumes from its checkpoint; without one it starts over each time.
    #[must_use]
    pub fn checkpoint(self, folder: &str) -> StreamWrite {
        self.option("checkpointLocation", folder)
    }

    /// Sets the name that identifies the query to people.
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
