//! Sends a schedule to the log: in several threads, at a pace, resuming where the log ends.
//!
//! Every thread iterates over the whole schedule and writes the records of its own partitions, so each partition gets
//! the same bytes whatever the number of threads. The log is the only checkpoint: as many records as a partition
//! already holds are skipped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use scrutin_contract::record::RecordBuffer;
use scrutin_contract::truth::Truth;
use scrutin_log::LogWriter;

use super::ballots::Ballots;
use super::delivery::{Delivery, STOP_EVERY, Speed};
use super::encode::{Address, Encoder, Odd, Stamp};
use super::faults::FaultRates;
use super::held::{self, Held};
use super::schedule::{Event, Form, Schedule};
use super::truth::TruthCount;

/// How often, and at which buffer size, records are appended.
const BEAT: Duration = Duration::from_millis(20);
const BUFFER_BYTES: usize = 1 << 20;

/// Sends the ballots and the faults to the log and returns what a count of them must come to, or none if stopped before
/// the end.
///
/// Run again on the same log with the same ballots and faults, it resumes; with others it fails before it writes.
/// Blocks until done.
///
/// # Errors
///
/// If the faults or the speed are invalid, the log holds another run, or the log fails.
pub fn run<B: Ballots>(ballots: &B, faults: &FaultRates, delivery: &Delivery<'_>) -> anyhow::Result<Option<Truth>> {
    faults.check().map_err(anyhow::Error::msg)?;
    if let Speed::Times(times) = delivery.speed {
        ensure!(times.is_finite() && times > 0.0, "speed {times}; expected a number above 0, or max");
    }
    let partitions = delivery.log.partitions();
    let threads = delivery.threads.clamp(1, partitions as usize);
    let shares: Vec<Vec<u32>> =
        (0..threads as u32).map(|number| (number..partitions).step_by(threads).collect()).collect();
    // Opening a writer settles what its partitions hold, so open them before reading: only then is it certain whether a
    // batch that an earlier run wrote last, without seeing the acknowledgement, is in the log.
    let writers = shares.iter().map(|share| delivery.log.writer(share));
    let writers: Vec<Box<dyn LogWriter>> = writers.collect::<Result<_, _>>()?;
    let encoder = Encoder::new(ballots, partitions);
    let progress = delivery.progress;
    progress.ballots.store(ballots.total(), Ordering::Relaxed);
    let Some(Held { records: held, until_ms }) = held::find(ballots, faults, &encoder, delivery)? else {
        return Ok(None);
    };
    progress.resumed.store(held.iter().sum(), Ordering::Relaxed);
    let from_ms = match held.iter().all(|records| *records == 0) {
        true => ballots.election().opens_at_ms,
        false => until_ms,
    };
    let failed = AtomicBool::new(false);
    let clock = Clock { start: Instant::now(), from_ms, speed: delivery.speed };
    let job = Job { ballots, faults, delivery, encoder: &encoder, held: &held, clock, failed: &failed };
    let results: Vec<anyhow::Result<Option<Truth>>> = thread::scope(|scope| {
        let job = &job;
        let spawn = |(number, (share, writer)): (usize, (Vec<u32>, Box<dyn LogWriter>))| {
            let work = move || {
                let result = Worker::start(job, number == 0, share, writer).and_then(|worker| worker.work());
                job.failed.fetch_or(result.is_err(), Ordering::Relaxed);
                result
            };
            thread::Builder::new().name(format!("simulate-{number}")).spawn_scoped(scope, work)
        };
        let handles: Vec<_> = shares.into_iter().zip(writers).enumerate().map(spawn).collect();
        // If a thread does not start, stop the others: they cannot complete without it.
        failed.fetch_or(handles.iter().any(|handle| handle.is_err()), Ordering::Relaxed);
        let join = |handle: std::io::Result<thread::ScopedJoinHandle<'_, _>>| match handle {
            Ok(handle) => handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => Err(error).context("start a thread"),
        };
        handles.into_iter().map(join).collect()
    });
    let mut truth = None;
    let mut all_done = true;
    for (number, result) in results.into_iter().enumerate() {
        let ended = result?;
        all_done &= ended.is_some();
        if number == 0 {
            truth = ended;
        }
    }
    progress.done.store(all_done, Ordering::Relaxed);
    Ok(truth.filter(|_| all_done))
}

/// Maps the election's time to the clock.
#[derive(Clone, Copy)]
struct Clock {
    start: Instant,
    from_ms: i64,
    speed: Speed,
}

impl Clock {
    /// The election's time now, in milliseconds since 1970 UTC.
    fn now_ms(&self) -> i64 {
        match self.speed {
            Speed::Max => i64::MAX,
            Speed::Times(times) => {
                self.from_ms.saturating_add((self.start.elapsed().as_secs_f64() * 1000.0 * times) as i64)
            }
        }
    }
}

/// Shared by all threads of a run.
struct Job<'a, B> {
    ballots: &'a B,
    faults: &'a FaultRates,
    delivery: &'a Delivery<'a>,
    encoder: &'a Encoder<'a>,
    /// Records in each partition at the start.
    held: &'a [u64],
    clock: Clock,
    failed: &'a AtomicBool,
}

impl<B> Clone for Job<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Job<'_, B> {}

struct Worker<'a, B: Ballots> {
    job: &'a Job<'a, B>,
    schedule: Schedule<'a, B::Source<'a>>,
    writer: Box<dyn LogWriter>,
    buffers: Vec<(u32, RecordBuffer)>,
    /// By partition: the index of its buffer, if this thread writes it.
    places: Vec<Option<usize>>,
    /// By buffer: how many records to skip.
    held: Vec<u64>,
    stamp: Stamp,
    odd: Odd,
    /// Kept by the first thread only.
    truth: Option<TruthCount>,
    /// Records that arrive up to this moment of the election's time may be written.
    horizon_ms: i64,
    beats: u32,
}

impl<'a, B: Ballots> Worker<'a, B> {
    /// `keeps_truth` is set for one thread; all would come to the same truth.
    fn start(
        job: &'a Job<'a, B>,
        keeps_truth: bool,
        mine: Vec<u32>,
        writer: Box<dyn LogWriter>,
    ) -> anyhow::Result<Worker<'a, B>> {
        let mut places = vec![None; job.held.len()];
        for (place, partition) in mine.iter().enumerate() {
            places[*partition as usize] = Some(place);
        }
        Ok(Worker {
            job,
            schedule: Schedule::new(job.ballots, job.faults)?,
            writer,
            buffers: mine.iter().map(|partition| (*partition, RecordBuffer::default())).collect(),
            places,
            held: mine.iter().map(|partition| job.held[*partition as usize]).collect(),
            stamp: Stamp::new(),
            odd: Odd::default(),
            truth: keeps_truth.then(|| TruthCount::new(job.ballots)),
            horizon_ms: i64::MIN,
            beats: 0,
        })
    }

    /// Processes the schedule. Only the first thread's truth is complete, the others' is empty; none if stopped.
    fn work(mut self) -> anyhow::Result<Option<Truth>> {
        let mut countdown = STOP_EVERY;
        while let Some(event) = self.schedule.next()? {
            countdown -= 1;
            if countdown == 0 {
                countdown = STOP_EVERY;
                if self.stopped() {
                    self.finish()?;
                    return Ok(None);
                }
            }
            if event.arrives_at_ms > self.horizon_ms && event.arrives_at_ms >= self.job.clock.from_ms {
                self.reach(event.arrives_at_ms)?;
                if self.stopped() {
                    self.finish()?;
                    return Ok(None);
                }
            }
            if let Some(truth) = &mut self.truth {
                truth.add(&event);
            }
            self.write(&event)?;
        }
        self.finish()?;
        if self.truth.is_some() {
            self.job.delivery.progress.day_ppm.store(1_000_000, Ordering::Relaxed);
        }
        let truth = self.truth.take().unwrap_or_else(|| TruthCount::new(self.job.ballots));
        Ok(Some(truth.finish(self.job.ballots)))
    }

    #[inline]
    fn write(&mut self, event: &Event) -> anyhow::Result<()> {
        let encoder = self.job.encoder;
        let plain = event.form == Form::Plain;
        let Address { mut partition, key } = encoder.address(event.voter);
        if !plain {
            encoder.odd(event, &mut self.odd);
            partition = self.odd.partition;
        }
        let Some(place) = self.places[partition as usize] else { return Ok(()) };
        if self.held[place] > 0 {
            self.held[place] -= 1;
            return Ok(());
        }
        let buffer = &mut self.buffers[place].1;
        match plain {
            true => encoder.push(event, &key, &mut self.stamp, buffer),
            false => buffer.push(self.odd.key(), self.odd.value()),
        }
        if buffer.size() >= BUFFER_BYTES {
            self.note_day(event.arrives_at_ms);
            self.append()?;
        }
        Ok(())
    }

    /// Appends what is buffered and waits, beat by beat, until the election's time reaches `time_ms`.
    fn reach(&mut self, time_ms: i64) -> anyhow::Result<()> {
        self.horizon_ms = self.job.clock.now_ms();
        while self.horizon_ms < time_ms {
            self.append()?;
            self.note_day(self.horizon_ms);
            if self.stopped() {
                return Ok(());
            }
            // The next beat to come; if behind, missed beats are skipped.
            let elapsed = self.job.clock.start.elapsed();
            self.beats = self.beats.max((elapsed.as_millis() / BEAT.as_millis()) as u32) + 1;
            thread::sleep((BEAT * self.beats).saturating_sub(elapsed));
            self.horizon_ms = self.job.clock.now_ms();
        }
        Ok(())
    }

    fn note_day(&self, time_ms: i64) {
        if self.truth.is_none() {
            return;
        }
        let election = self.job.ballots.election();
        let length = i128::from(election.closes_at_ms - election.opens_at_ms);
        let passed = i128::from(time_ms.saturating_sub(election.opens_at_ms)).clamp(0, length);
        self.job.delivery.progress.day_ppm.store((passed * 1_000_000 / length) as u64, Ordering::Relaxed);
    }

    fn append(&mut self) -> anyhow::Result<()> {
        let records: usize = self.buffers.iter().map(|(_, buffer)| buffer.len()).sum();
        if records == 0 {
            return Ok(());
        }
        let log = self.job.delivery.log;
        self.writer.append(&mut self.buffers).with_context(|| format!("append votes to the log at {}", log.name()))?;
        self.job.delivery.progress.appended.fetch_add(records as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Appends what is buffered and waits until it is durable.
    fn finish(&mut self) -> anyhow::Result<()> {
        self.append()?;
        let log = self.job.delivery.log;
        self.writer.flush().with_context(|| format!("append votes to the log at {}", log.name()))
    }

    fn stopped(&self) -> bool {
        self.job.delivery.stop.load(Ordering::Relaxed) || self.job.failed.load(Ordering::Relaxed)
    }
}
