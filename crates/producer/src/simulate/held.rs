//! Finds how much of a run the log already holds: the log is a run's only checkpoint.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{bail, ensure};
use scrutin_contract::record::{Batch, Record, RecordBuffer};
use scrutin_log::{LogReader, VoteLog};

use super::ballots::Ballots;
use super::delivery::{Delivery, STOP_EVERY};
use super::encode::{Address, Encoder, Odd, Stamp};
use super::faults::FaultRates;
use super::schedule::{Form, Schedule};

/// How long a log that responds may take to return some of its records.
const READ_BACK: Duration = Duration::from_secs(30);

/// The time between two attempts to read an unavailable log.
const RETRY: Duration = Duration::from_millis(500);

const WHAT_TO_DO: &str = "use the seed, voters, faults and file that it was started with, or a new log";

/// The part of a run that the log already holds.
pub(super) struct Held {
    /// Records in each partition.
    pub records: Vec<u64>,
    /// Arrival time of the first missing record, in milliseconds since 1970 UTC; `i64::MAX` if none is missing.
    pub until_ms: i64,
}

/// Checks record by record that the log holds the beginning of this run: correcting a single vote in a file makes it
/// another run. None if stopped.
pub(super) fn find<B: Ballots>(
    ballots: &B,
    faults: &FaultRates,
    encoder: &Encoder<'_>,
    delivery: &Delivery<'_>,
) -> anyhow::Result<Option<Held>> {
    let log = delivery.log;
    let shares = (0..log.partitions()).map(|partition| Share::open(log, partition, delivery.stop));
    let mut shares = shares.collect::<anyhow::Result<Vec<_>>>()?;
    let mut left = shares.iter().filter(|share| !share.is_over()).count();
    let mut until_ms = None;
    let mut schedule = Schedule::new(ballots, faults)?;
    let (mut odd, mut stamp, mut buffer) = (Odd::default(), Stamp::new(), RecordBuffer::default());
    let mut countdown = STOP_EVERY;
    while left > 0 || until_ms.is_none() {
        countdown -= 1;
        if countdown == 0 {
            countdown = STOP_EVERY;
            if delivery.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
        }
        let Some(event) = schedule.next()? else { break };
        let Address { mut partition, key } = encoder.address(event.voter);
        if event.form != Form::Plain {
            encoder.odd(&event, &mut odd);
            partition = odd.partition;
        }
        let share = &mut shares[partition as usize];
        let Some(record) = share.record() else {
            until_ms.get_or_insert(event.arrives_at_ms);
            continue;
        };
        buffer.clear();
        match event.form {
            Form::Plain => encoder.push(&event, &key, &mut stamp, &mut buffer),
            _ => buffer.push(odd.key(), odd.value()),
        }
        ensure!(
            buffer.records().eq([(record.key, record.value)]),
            "the log at {} holds votes of another run (partition {partition}, offset {}); {WHAT_TO_DO}",
            log.name(),
            record.offset
        );
        share.pass(log, delivery.stop)?;
        left -= usize::from(share.is_over());
    }
    if delivery.stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    if let Some(share) = shares.iter().find(|share| !share.is_over()) {
        bail!(
            "partition {} of the log at {} holds more than the {} records that this run has; {WHAT_TO_DO}",
            share.partition,
            log.name(),
            share.records
        );
    }
    let records = shares.iter().map(|share| share.records).collect();
    Ok(Some(Held { records, until_ms: until_ms.unwrap_or(i64::MAX) }))
}

/// The records of a partition, in order. Skips transaction markers and records of aborted transactions of other
/// producers, which have offsets too.
struct Share {
    partition: u32,
    reader: Box<dyn LogReader>,
    batch: Batch,
    /// The index of the next record in the batch.
    place: usize,
    /// The end offset when the run started.
    end: u64,
    /// Records passed so far.
    records: u64,
}

impl Share {
    fn open(log: &dyn VoteLog, partition: u32, stop: &AtomicBool) -> anyhow::Result<Share> {
        let offsets = log.offsets(partition)?;
        ensure!(
            offsets.start == 0,
            "partition {partition} of the log at {} starts at offset {}: earlier records are gone, so a run \
             cannot resume there; use a new log",
            log.name(),
            offsets.start
        );
        let reader = log.reader(&[(partition, 0)])?;
        let mut share =
            Share { partition, reader, batch: Batch::new(partition), place: 0, end: offsets.end, records: 0 };
        share.fill(log, stop)?;
        Ok(share)
    }

    fn is_over(&self) -> bool {
        self.place == self.batch.len()
    }

    fn record(&self) -> Option<Record<'_>> {
        (!self.is_over()).then(|| self.batch.record(self.place))
    }

    fn pass(&mut self, log: &dyn VoteLog, stop: &AtomicBool) -> anyhow::Result<()> {
        self.place += 1;
        self.records += 1;
        self.fill(log, stop)
    }

    /// Reads until there is a record or the end is reached, however long the log is unavailable; or until stopped.
    fn fill(&mut self, log: &dyn VoteLog, stop: &AtomicBool) -> anyhow::Result<()> {
        while self.is_over() && self.batch.next_offset < self.end && !stop.load(Ordering::Relaxed) {
            match self.reader.fetch(READ_BACK) {
                Ok(Some(batch)) => {
                    self.place = 0;
                    self.reader.recycle(std::mem::replace(&mut self.batch, batch));
                }
                Ok(None) => return Err(self.no_answer(log)),
                Err(error) if error.is_transient() => {
                    tracing::warn!("{error}; waiting to read the log");
                    std::thread::sleep(RETRY);
                    self.reader = log.reader(&[(self.partition, self.batch.next_offset)])?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn no_answer(&self, log: &dyn VoteLog) -> anyhow::Error {
        let (partition, offset, name) = (self.partition, self.batch.next_offset, log.name());
        match log.held_back(partition) {
            Err(error) => error.into(),
            Ok(Some(from)) => anyhow::anyhow!(
                "an open transaction holds back the records after offset {from} of partition {partition} of the log at \
                 {name}; run again once its producer has ended it"
            ),
            Ok(None) => anyhow::anyhow!(
                "the log at {name} did not return its records (partition {partition}, offset {offset}) within {} s; \
                 run again when it responds",
                READ_BACK.as_secs()
            ),
        }
    }
}
