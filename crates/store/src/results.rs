//! The results as rows, as `scrutin results` prints them and the API exports them.

use serde_json::Value;
use tokio_postgres::Row;

/// What the votes are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Choice,
    /// By region and choice.
    Region,
    Channel,
}

impl By {
    pub const fn columns(self) -> &'static [&'static str] {
        match self {
            By::Choice => &["choice", "name", "votes"],
            By::Region => &["region", "choice", "name", "votes"],
            By::Channel => &["channel", "votes"],
        }
    }

    /// The query for these columns, for counter $1 and election $2. Choices are ordered from first to last, regions and
    /// their choices as on the ballot.
    pub const fn sql(self) -> &'static str {
        match self {
            By::Choice => {
                "SELECT choice, name, votes FROM results WHERE counter = $1 AND election = $2
                  ORDER BY valid DESC, CASE WHEN valid THEN -votes END, place, choice"
            }
            By::Region => {
                "SELECT v.region, v.choice, v.name, v.votes FROM results_by_region v
                   JOIN region r ON r.election = v.election AND r.region = v.region
                  WHERE v.counter = $1 AND v.election = $2 ORDER BY r.place, v.place, v.choice"
            }
            By::Channel => {
                "SELECT channel, votes FROM results_by_channel WHERE counter = $1 AND election = $2
                  ORDER BY votes DESC, channel"
            }
        }
    }

    /// The values of a row, column by column.
    ///
    /// # Errors
    ///
    /// If a column has an unexpected type.
    pub fn values(self, row: &Row) -> Result<Vec<Value>, tokio_postgres::Error> {
        let value = |(place, column): (usize, &&str)| match *column {
            "votes" => row.try_get::<_, i64>(place).map(Value::from),
            _ => row.try_get::<_, &str>(place).map(Value::from),
        };
        self.columns().iter().enumerate().map(value).collect()
    }
}
