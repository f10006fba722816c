//! From the append of a record to the commit that made it visible.

use std::time::{SystemTime, UNIX_EPOCH};

/// Append-to-visible times of a commit, in milliseconds, with how many records each is of; ascending.
#[derive(Debug)]
pub struct Latencies {
    appends: Vec<(f64, u64)>,
    records: u64,
}

impl Latencies {
    /// `appended` are times of appends, in milliseconds since 1970 UTC, with how many records each is of.
    pub fn of(appended: &[(i64, u64)], committed_at: SystemTime) -> Latencies {
        let now_ms = committed_at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0);
        let mut appends: Vec<(f64, u64)> =
            appended.iter().map(|(at, records)| ((now_ms - *at as f64).max(0.0), *records)).collect();
        appends.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        Latencies { records: appends.iter().map(|(_, records)| records).sum(), appends }
    }

    /// Milliseconds in which that share of the records was visible; none of no records.
    pub fn percentile(&self, share: f64) -> Option<f64> {
        let rank = (self.records as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = self.appends.iter().find(|(_, records)| {
            seen += records;
            seen >= rank
        });
        found.map(|(ms, _)| *ms)
    }

    /// The times, in seconds, once each.
    pub fn seconds(&self) -> impl Iterator<Item = f64> {
        self.appends.iter().map(|(ms, _)| ms / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn percentiles_are_of_records_not_of_appends() {
        let committed_at = UNIX_EPOCH + Duration::from_millis(1000);
        let latencies = Latencies::of(&[(900, 98), (500, 1), (990, 1)], committed_at);
        assert_eq!(latencies.percentile(0.50), Some(100.0));
        assert_eq!(latencies.percentile(0.99), Some(100.0));
        assert_eq!(latencies.percentile(1.0), Some(500.0));
        assert_eq!(Latencies::of(&[], committed_at).percentile(0.5), None);
    }
}
