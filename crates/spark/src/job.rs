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
use scrutin_contract::vote::Reason;
use scrutin_spark_connect::{QueryProgress, Relation, Session, SparkError};

use super::codes::{Codes, outcome};
use super::totals::Kind;

const RECORDS: &str = include_str!("sql/records.sql");
const PARSED: &str = include_str!("sql/parsed.sql");
const JUDGED: &str = include_str!("sql/judged.sql");
const TALLIES: &str = include_str!("sql/tallies.sql");

/// The white space between the tokens of JSON, as a regular expression.
const SPACE: &str = r"[ \t\n\r]*+";

/// The forms that fields of a vote usually have, as regular expressions. Spark reads a byte that is not UTF-8 as U+FFFD, so
/// a code with that character needs a closer look.
const CODE: &str = r#"[^"\\\x00-\x1F\uFFFD]*+"#;
const UUID: &str = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
const TIME: &str = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z";

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
        let codes = Codes::of(self.elections);
        let tables =
            [("elections", codes.elections_sql()), ("regions", codes.regions_sql()), ("choices", codes.choices_sql())];
        for (name, sql) in tables {
            session.create_view(name, Relation::sql(sql)).await?;
        }
        session.create_view("log", log).await?;
        for (name, sql) in [("records", RECORDS), ("parsed", PARSED), ("judged", JUDGED)] {
            session.create_view(name, Relation::sql(self.filled(sql))).await?;
        }
        // One task reads each partition, but no more tasks read than count: a small batch spends more on starting tasks than
        // on votes.
        let tasks = tasks(session).await?;
        // Spark keeps the first row it receives for each claim. Rows of a partition arrive in offset order: a task reads a
        // partition from start to end, and rows cannot overtake each other on the way from there.
        let judged = Relation::sql(format!("SELECT /*+ COALESCE({tasks}) */ * FROM judged"));
        let first_claims = judged.deduplicated(&["claim_high", "claim_low", "claim_in"]);
        session.create_view("first_claims", first_claims).await?;
        let shares: Vec<String> = (0..QUANTILES).map(|i| format!("{i}.5D / {QUANTILES}")).collect();
        let quantiles = format!("percentile_approx(appended_at_ms, array({})) AS at_ms", shares.join(", "));
        let columns = "partition, offset, appended_at_ms, appended_ms";
        let received = Relation::sql(format!("SELECT /*+ COALESCE({tasks}) */ {columns} FROM records"));
        session.create_view("received", received.observed(APPENDED, &[&quantiles])).await?;
        Ok(Relation::sql(self.filled(TALLIES)))
    }

    /// The SQL with its placeholders replaced.
    fn filled(&self, sql: &str) -> String {
        let narrowest = self.elections.iter().map(|election| election.bucket_seconds).min().unwrap_or(60);
        let bucket_ms = i64::from(narrowest) * 1000;
        let texts = [("{s}", SPACE), ("{code}", CODE), ("{uuid}", UUID), ("{time}", TIME), ("{count}", self.count)];
        let numbers = [("{bucket_ms}".to_owned(), bucket_ms), ("{partitions}".to_owned(), i64::from(self.partitions))];
        let kinds = Kind::ALL.iter().map(|kind| (format!("{{{}}}", kind.code()), i64::from(kind.number())));
        let counted = [("{counted}".to_owned(), i64::from(outcome(None)))];
        let reasons =
            Reason::ALL.iter().map(|reason| (format!("{{{}}}", reason.code()), i64::from(outcome(Some(*reason)))));
        let sql = texts.iter().fold(sql.to_owned(), |sql, (name, text)| sql.replace(name, text));
        numbers
            .into_iter()
            .chain(kinds)
            .chain(counted)
            .chain(reasons)
            .fold(sql, |sql, (name, number)| sql.replace(&name, &number.to_string()))
    }
}

/// The number of tasks of each stage after a shuffle, raised to two if it is one. With one task a stage, Spark has nothing to
/// shuffle and runs both stateful operators in one task, which fails: a thread can only have one state store open.
async fn tasks(session: &Session) -> Result<u32, SparkError> {
    const TASKS: &str = "spark.sql.shuffle.partitions";
    let tasks = session.get(TASKS).await?.and_then(|tasks| tasks.parse().ok());
    let tasks = tasks.unwrap_or(200).max(2);
    session.set(TASKS, &tasks.to_string()).await?;
    Ok(tasks)
}
