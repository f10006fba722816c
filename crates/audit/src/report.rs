//! The audit's findings, for the terminal and for table `audit`.

use std::collections::BTreeMap;
use std::fmt;

use scrutin_contract::vote::Reason;

/// How many differences are kept per table; more are only counted, so that one table cannot crowd out the others.
pub const KEPT_PER_TABLE: u64 = 200;

/// A row that differs from the recount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub table: &'static str,
    pub key: String,
    pub expected: String,
    pub found: String,
}

#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// The number of differences by table.
    pub totals: BTreeMap<&'static str, u64>,
    /// The first [`KEPT_PER_TABLE`] found in each table, unordered.
    pub kept: Vec<Difference>,
}

impl Differences {
    pub fn total(&self) -> u64 {
        self.totals.values().sum()
    }

    pub(super) fn push(
        &mut self,
        table: &'static str,
        key: String,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        let total = self.totals.entry(table).or_default();
        *total += 1;
        if *total <= KEPT_PER_TABLE {
            self.kept.push(Difference { table, key, expected: expected.to_string(), found: found.to_string() });
        }
    }

    pub(super) fn append(&mut self, mut other: Differences) {
        for (table, total) in other.totals {
            let before = self.totals.entry(table).or_default();
            let mut room = KEPT_PER_TABLE.saturating_sub(*before);
            *before += total;
            other.kept.retain(|difference| {
                let keep = difference.table != table || room > 0;
                room -= u64::from(keep && difference.table == table);
                keep
            });
        }
        self.kept.append(&mut other.kept);
    }
}

#[derive(Clone, Debug)]
pub struct AuditReport {
    pub counter: String,
    /// Records reread from the log.
    pub recounted: u64,
    /// Of these, counted votes.
    pub counted: u64,
    /// Of these, rejected votes by reason.
    pub rejected: BTreeMap<Reason, u64>,
    pub seconds: f64,
    /// Between the recount and the tables.
    pub differences: Differences,
    /// Between the generator's truth, if given, and the tables.
    pub truth: Option<TruthScore>,
    /// Why the outcome could not be recorded in table `audit`, if so.
    pub unrecorded: Option<String>,
}

#[derive(Clone, Debug)]
pub enum TruthScore {
    Scored(Differences),
    /// The counter has not counted exactly the truth's records.
    Incomplete {
        records: u64,
        recounted: u64,
    },
}

impl AuditReport {
    pub fn is_clean(&self) -> bool {
        self.total_differences() == 0
    }

    /// Differences from the log and from the truth together.
    pub fn total_differences(&self) -> u64 {
        let from_truth = match &self.truth {
            Some(TruthScore::Scored(differences)) => differences.total(),
            Some(TruthScore::Incomplete { .. }) | None => 0,
        };
        self.differences.total() + from_truth
    }

    /// The outcome in one line.
    pub fn verdict(&self) -> String {
        let outcome = match self.differences.total() {
            0 => "clean: every row in the tables matches the log".to_owned(),
            1 => "1 difference between the tables and the log".to_owned(),
            n => format!("{n} differences between the tables and the log"),
        };
        let rejected: u64 = self.rejected.values().sum();
        let truth = match &self.truth {
            None => String::new(),
            Some(TruthScore::Incomplete { records, recounted }) => format!(
                "; not scored against the ground truth, because the run is incomplete: {recounted} of {records} \
                 records have been counted"
            ),
            Some(TruthScore::Scored(differences)) => match differences.total() {
                0 => "; every total matches the ground truth".into(),
                1 => "; 1 difference from the ground truth".into(),
                n => format!("; {n} differences from the ground truth"),
            },
        };
        format!(
            "audit of `{}`: {outcome}; {} records recounted, {} counted, {rejected} rejected{truth}",
            self.counter, self.recounted, self.counted
        )
    }
}

impl fmt::Display for AuditReport {
    /// The verdict, then the differences as a table. Ends without a line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.verdict())?;
        write_differences(f, &self.differences)?;
        match &self.truth {
            Some(TruthScore::Scored(differences)) if differences.total() > 0 => {
                f.write_str("\nDifferences from the ground truth:")?;
                write_differences(f, differences)?;
            }
            _ => {}
        }
        match &self.unrecorded {
            Some(why) => write!(f, "\nThe page will not show this audit: {why}"),
            None => Ok(()),
        }
    }
}

fn write_differences(f: &mut fmt::Formatter<'_>, differences: &Differences) -> fmt::Result {
    if differences.total() == 0 {
        return Ok(());
    }
    let mut table = comfy_table::Table::new();
    *table.style_mut() = comfy_table::presets::UTF8_FULL_CONDENSED;
    table.set_header(["table", "key", "expected", "found"]);
    let mut kept: Vec<&Difference> = differences.kept.iter().collect();
    kept.sort_by_key(|difference| (difference.table, &difference.key));
    for difference in kept {
        table.add_row([difference.table, &difference.key, &difference.expected, &difference.found]);
    }
    write!(f, "\n{table}")?;
    for (name, total) in &differences.totals {
        if *total > KEPT_PER_TABLE {
            write!(f, "\n… and {} more in {name}", total - KEPT_PER_TABLE)?;
        }
    }
    Ok(())
}
