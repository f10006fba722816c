//! The time from a record's append to the commit that made it visible.

use super::clock::Clock;

/// Append-to-visible times of a commit, in milliseconds, each with its number of records; ascending.
#[derive(Debug)]
pub struct Latencies {
    appends: Vec<(f64, u64)>,
    records: u64,
}

impl Latencies {
    /// `appended` holds append times, in milliseconds since 1970 UTC, each with its number of records. Those whose
    /// latency the clock cannot tell are left out.
    pub fn of(appended: &[(i64, u64)], clock: &Clock) -> Latencies {
        let known = appended.iter().filter_map(|(at, records)| Some((clock.since(*at)?, *records)));
        let mut appends: Vec<(f64, u64)> = known.collect();
        appends.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        Latencies { records: appends.iter().map(|(_, records)| records).sum(), appends }
    }

    /// The time, in milliseconds, within which that share of the records was visible; `None` without records.
    pub fn percentile(&self, share: f64) -> Option<f64> {
        let rank = (self.records as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = self.appends.iter().find(|(_, records)| {
            seen += records;
            seen >= rank
        });
        found.map(|(ms, _)| *ms)
    }

    /// The times, in seconds, each once.
    pub fn seconds(&self) -> impl Iterator<Item = f64> {
        self.appends.iter().map(|(ms, _)| ms / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_records_not_of_appends() {
        let clock = Clock::at_ms(1000);
        let latencies = Latencies::of(&[(900, 98), (500, 1), (990, 1)], &clock);
        assert_eq!(latencies.percentile(0.50), Some(100.0));
        assert_eq!(latencies.percentile(0.99), Some(100.0));
        assert_eq!(latencies.percentile(1.0), Some(500.0));
        assert_eq!(Latencies::of(&[], &clock).percentile(0.5), None);
    }
}
