//! Reads the topic of the tallies.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use scrutin_log::{KafkaLog, LogError, LogReader, VoteLog};

use super::codes::Codes;
use super::totals::RunningTotals;

/// How long one fetch may take, and how long to wait for records that must be there.
const WAIT: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(10);

/// A reader of the topic, from its start, and the totals read so far.
pub(super) struct Tallies {
    log: KafkaLog,
    reader: Box<dyn LogReader>,
    next: BTreeMap<u32, u64>,
    pub totals: RunningTotals,
}

impl Tallies {
    /// Opens the topic at its start. Each start rereads all of a count's totals: the topic is compacted, and no other
    /// state has to be kept.
    pub fn open(log: KafkaLog, count: &str, codes: Codes) -> Result<Tallies, LogError> {
        let starts = (0..log.partitions()).map(|partition| Ok((partition, log.offsets(partition)?.start)));
        let from = starts.collect::<Result<Vec<_>, LogError>>()?;
        let reader = log.reader(&from)?;
        Ok(Tallies { log, reader, next: from.into_iter().collect(), totals: RunningTotals::new(count, codes) })
    }

    pub fn name(&self) -> String {
        self.log.name()
    }

    /// Reads everything now in the topic. Blocks.
    pub fn read(&mut self) -> Result<(), LogError> {
        self.log.check()?;
        let mut ends = BTreeMap::new();
        for &partition in self.next.keys() {
            ends.insert(partition, self.log.offsets(partition)?.end);
        }
        let mut last = Instant::now();
        while self.next.iter().any(|(partition, next)| *next < ends[partition]) {
            let fetched = match self.reader.fetch(WAIT) {
                Ok(fetched) => fetched,
                Err(error) => {
                    let from: Vec<_> = self.next.iter().map(|(partition, next)| (*partition, *next)).collect();
                    self.reader = self.log.reader(&from)?;
                    return Err(error);
                }
            };
            let Some(batch) = fetched else {
                if last.elapsed() > PATIENCE {
                    let why = format!("no record arrived for {} s", PATIENCE.as_secs());
                    return Err(LogError::Away { log: self.log.name(), why });
                }
                continue;
            };
            last = Instant::now();
            for record in batch.records() {
                self.totals.take(record.key, record.value).map_err(|what| {
                    LogError::Unusable(format!(
                        "the record at offset {} of partition {} in {} is not a total ({what}); make sure that nothing \
                         else writes to that topic, or name another one with --tallies",
                        record.offset,
                        batch.partition,
                        self.log.name()
                    ))
                })?;
            }
            self.next.insert(batch.partition, batch.next_offset);
            self.reader.recycle(batch);
        }
        Ok(())
    }
}
