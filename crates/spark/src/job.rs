//! The count as SQL: its views, one per file in `sql/`, and the streaming query over them.
//!
//! ```text
//! log ─▶ records ─▶ parsed ─▶ judged ─▶ first_claims ─▶ tallies
//!            └───────────────▶ received ─────────────────┘
//! ```
//!
//! All of them are views in the session, so each can be queried there.
//!
//! Every record gets the same outcome as in the native count, with one exception: Spark does not read JSON of more than
//! a thousand levels, so a vote with an extra field nested deeper is malformed.

use scrutin_contract::election::Election;
use scrutin_contract::vote::{BLANK, NULL};
use scrutin_spark_connect::{QueryProgress, Relation, Session, SparkError};
use serde_json::json;

const RECORDS: &str = include_str!("sql/records.sql");
const PARTITION_OF: &str = include_str!("sql/partition_of.sql");
const PARSED: &str = include_str!("sql/parsed.sql");
const JUDGED: &str = include_str!("sql/judged.sql");
const TALLIES: &str = include_str!("sql/tallies.sql");

/// The metric observed for each batch: a hundred quantiles of the append times, each for a hundredth of the records.
const APPENDED: &str = "appended";
const QUANTILES: u32 = 100;

/// The append times of a batch's records, in milliseconds since 1970 UTC, each with its number of records times a
/// hundred, so that it is an integer.
pub fn appended(batch: &QueryProgress) -> Vec<(i64, u64)> {
    let times = batch.observed_metrics.get(APPENDED).and_then(|observed| observed.get("at_ms")?.as_array());
    let share = batch.num_input_rows();
    times.into_iter().flatten().filter_map(|at| Some((at.as_i64()?, share))).collect()
}

/// What to count.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    pub elections: &'a [Election],
    /// Partitions of the log.
    pub partitions: u32,
    /// The count's id, in the key of each total; unique to this count.
    pub count: &'a str,
}

impl Job<'_> {
    /// Creates the views. `log` has the columns `key`, `value`, `partition`, `offset` and `timestamp`, as in Spark's
    /// Kafka source. Returns the last view, with the columns `key` and `value`.
    ///
    /// # Errors
    ///
    /// If Spark rejects a view or the connection fails.
    pub async fn define(&self, session: &Session, log: Relation) -> Result<Relation, SparkError> {
        session.create_view("log", log).await?;
        let records = RECORDS
            .replace("{partitions}", &self.partitions.to_string())
            .replace("{bucket_ms}", &self.rejection_bucket_ms().to_string());
        session.create_view("records", Relation::sql(records)).await?;
        for (name, table) in [("elections", self.elections()), ("regions", self.regions()), ("choices", self.choices())]
        {
            session.create_view(name, table).await?;
        }
        session.sql(PARTITION_OF).await?;
        session.create_view("parsed", Relation::sql(PARSED)).await?;
        session.create_view("judged", Relation::sql(JUDGED)).await?;
        // Spark keeps the first row it receives for each claim. Rows of a partition arrive in offset order: one task
        // reads each partition, and rows cannot overtake each other on the way from there.
        let first_claims = Relation::sql("SELECT * FROM judged").deduplicated(&["claim"]);
        session.create_view("first_claims", first_claims).await?;
        let shares: Vec<String> = (0..QUANTILES).map(|i| format!("{i}.5D / {QUANTILES}")).collect();
        let quantiles = format!("percentile_approx(appended_at_ms, array({})) AS at_ms", shares.join(", "));
        let received = Relation::sql("SELECT * FROM records").observed(APPENDED, &[&quantiles]);
        session.create_view("received", received).await?;
        Ok(Relation::sql(TALLIES.replace("{count}", self.count)))
    }

    fn rejection_bucket_ms(&self) -> i64 {
        let narrowest = self.elections.iter().map(|election| election.bucket_seconds).min().unwrap_or(60);
        i64::from(narrowest) * 1000
    }

    fn elections(&self) -> Relation {
        let rows = self.elections.iter().map(|election| {
            json!({
                "election": election.id,
                "opens_at_ms": election.opens_at_ms,
                "closes_at_ms": election.closes_at_ms,
                "bucket_ms": i64::from(election.bucket_seconds) * 1000,
                "channels": election.channels,
            })
        });
        table(
            "election STRING, opens_at_ms BIGINT, closes_at_ms BIGINT, bucket_ms BIGINT, channels ARRAY<STRING>",
            rows.collect(),
        )
    }

    fn regions(&self) -> Relation {
        let rows = self.elections.iter().flat_map(|election| {
            election.regions.iter().map(|region| json!({"election": election.id, "region": region.code}))
        });
        table("election STRING, region STRING", rows.collect())
    }

    /// Each code once, with the regions it stands in; '' means everywhere.
    fn choices(&self) -> Relation {
        let mut rows = Vec::new();
        for election in self.elections {
            let mut regions: std::collections::BTreeMap<&str, Vec<&str>> =
                [BLANK, NULL].map(|code| (code, vec![""])).into();
            for choice in &election.choices {
                regions.entry(&choice.code).or_default().push(choice.region.as_deref().unwrap_or_default());
            }
            let row = |(choice, regions)| json!({"election": election.id, "choice": choice, "regions": regions});
            rows.extend(regions.into_iter().map(row));
        }
        table("election STRING, choice STRING, regions ARRAY<STRING>", rows)
    }
}

/// A table of a few rows. The rows are hex-encoded, so that no code can be interpreted as SQL.
fn table(columns: &str, rows: Vec<serde_json::Value>) -> Relation {
    use std::fmt::Write as _;
    let json = serde_json::Value::Array(rows).to_string();
    let mut hex = String::with_capacity(json.len() * 2);
    json.bytes().for_each(|byte| write!(hex, "{byte:02x}").expect("writing to a string cannot fail"));
    let json = format!("CAST(unhex('{hex}') AS STRING)");
    Relation::sql(format!("SELECT inline(from_json({json}, 'ARRAY<STRUCT<{columns}>>'))"))
}
