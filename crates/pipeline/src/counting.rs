//! A count from start to end, in rounds; each round counts the partitions that are assigned to the process at the time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use scrutin_engine::{Engine, Partition};
use scrutin_log::{LogError, Membership, VoteLog};
use scrutin_store::positions::{self, Position};
use scrutin_store::{CommitError, Role, StoreError, counters};
use tokio::task::JoinHandle;

use super::clock::Clock;
use super::end_offsets::EndOffsets;
use super::job::{Job, Positions};
use super::retry::Retry;
use super::round::Shared;
use super::worker::{self, Work};
use super::{CountError, LOG, POSTGRESQL, Stop, WATCH_INTERVAL, blocking, committer, joined, resume, witness};

/// How often positions are published to the group.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// How often a process that has drained its assignment checks the progress of the others.
const OTHERS_INTERVAL: Duration = Duration::from_millis(250);

/// A process that was considered dead finds its partitions taken over, and learns that from the group within this time.
/// Otherwise the partitions are still its own: the process that took them had been considered dead itself, and this one
/// takes them back.
const TAKEN_OVER_WAIT: Duration = Duration::from_secs(10);

/// A running count, over all its rounds.
pub(super) struct Counting {
    job: Job,
    /// The engine's state at the end of the last round, valid as long as no other process has counted since.
    kept: BTreeMap<u32, Partition>,
    /// Remembers between rounds that it was set.
    clock: Clock,
}

/// Why a round has ended.
enum Ended {
    /// The round ended by itself: `until` is reached, or a stop was requested.
    Done,
    /// The group wants to change the assignment.
    Rebalance,
}

impl Counting {
    pub fn new(job: Job) -> Counting {
        Counting { job, kept: BTreeMap::new(), clock: Clock::default() }
    }

    pub async fn run(mut self, mut membership: Box<dyn Membership>) -> Result<(), CountError> {
        loop {
            // The assignment may be empty; it is known once the group has decided. Meanwhile, check that the log
            // answers: the group's decision comes from the same brokers.
            if membership.partitions().is_none() {
                let (log, telemetry) = (Arc::clone(&self.job.log), Arc::clone(&self.job.telemetry));
                let end_offsets = EndOffsets::watch(log, BTreeMap::new(), telemetry, Arc::default());
                while membership.partitions().is_none() {
                    if self.job.stop.is_asked() {
                        return Ok(());
                    }
                    end_offsets.check()?;
                    membership = changed(membership, WATCH_INTERVAL).await?.0;
                }
            }
            let (back, ended) = self.round(membership).await;
            membership = back;
            match ended {
                Ok(Ended::Done) => match &self.job.until {
                    Some(until) if !self.job.stop.is_asked() => {
                        let until = until.clone();
                        let is_drained;
                        (membership, is_drained) = self.wait_for_others(membership, &until).await?;
                        if is_drained {
                            return Ok(());
                        }
                    }
                    _ => return Ok(()),
                },
                Ok(Ended::Rebalance) => {}
                Err(CountError::Commit(error @ CommitError::SetBack { .. })) => {
                    tracing::warn!("{error}");
                    self.reload_totals().await?;
                    continue;
                }
                Err(CountError::Commit(error @ CommitError::Superseded { .. })) => {
                    if !membership.is_shared() {
                        return Err(error.into());
                    }
                    tracing::warn!("{error}");
                    self.kept.clear();
                    let deadline = Instant::now() + TAKEN_OVER_WAIT;
                    let mut is_changed = false;
                    while !is_changed && !self.job.stop.is_asked() && Instant::now() < deadline {
                        (membership, is_changed) = changed(membership, WATCH_INTERVAL).await?;
                    }
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.job.telemetry.metrics.rebalances.inc();
            membership = changed(membership, Duration::ZERO).await?.0;
        }
    }

    /// Called when this process's own assignment is counted up to `until`. Waits until the others have counted theirs,
    /// or until the group changes the assignment, as when one of them has died. True if everything is counted or a stop
    /// was requested.
    async fn wait_for_others(
        &self,
        mut membership: Box<dyn Membership>,
        until: &BTreeMap<u32, u64>,
    ) -> Result<(Box<dyn Membership>, bool), CountError> {
        let mut retry = Retry::new(&self.job.telemetry, &self.job.stop);
        let mut is_reported = false;
        loop {
            let reached = async {
                let client = self.job.database.connect(Role::Counter).await?;
                positions::next_offsets(&client, &self.job.counter).await
            };
            match reached.await {
                Ok(reached) if until.iter().all(|(partition, end)| reached.get(partition) >= Some(end)) => {
                    return Ok((membership, true));
                }
                Ok(_) => {
                    self.job.telemetry.set_ready(POSTGRESQL);
                    if !std::mem::replace(&mut is_reported, true) {
                        tracing::info!("this process has counted its assignment; waiting for the others");
                    }
                }
                Err(error) if error.is_transient() => retry.wait_for_postgresql(&error).await?,
                Err(error) => return Err(error.into()),
            }
            let deadline = Instant::now() + OTHERS_INTERVAL;
            while Instant::now() < deadline {
                if self.job.stop.is_asked() {
                    return Ok((membership, true));
                }
                let is_changed;
                (membership, is_changed) = changed(membership, WATCH_INTERVAL).await?;
                if is_changed {
                    return Ok((membership, false));
                }
            }
        }
    }

    /// Counts the assigned partitions until a stop is requested or the assignment is to change.
    async fn round(&mut self, membership: Box<dyn Membership>) -> (Box<dyn Membership>, Result<Ended, CountError>) {
        let partitions = membership.partitions().cloned().unwrap_or_default();
        let stop = Arc::new(Stop::default());
        let positions = Positions::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let watch = self.watch(membership, Arc::clone(&stop), Arc::clone(&positions), Arc::clone(&is_over));
        let over = Over(is_over);
        let result = self.count_assigned(&partitions, &stop, &positions).await;
        drop(over);
        let (membership, is_change_due) = joined(watch.await);
        if result.is_err() {
            self.kept.clear();
        }
        let ended = match (result, is_change_due) {
            (_, Err(error)) => Err(error.into()),
            // No votes are lost: the process that takes over the partitions counts whatever was not committed.
            (Ok(()) | Err(CountError::GaveUp(_)), Ok(true)) if !self.job.stop.is_asked() => Ok(Ended::Rebalance),
            (result, _) => result.map(|()| Ended::Done),
        };
        (membership, ended)
    }

    /// Ends the round when the program is to stop or the group wants a change, and returns whether it was a change.
    fn watch(
        &self,
        mut membership: Box<dyn Membership>,
        round: Arc<Stop>,
        positions: Positions,
        is_over: Arc<AtomicBool>,
    ) -> JoinHandle<(Box<dyn Membership>, Result<bool, LogError>)> {
        let stop = Arc::clone(&self.job.stop);
        tokio::task::spawn_blocking(move || {
            let mut published = Instant::now();
            let mut publish = |membership: &mut Box<dyn Membership>, is_last: bool| {
                if is_last || published.elapsed() >= PUBLISH_INTERVAL {
                    published = Instant::now();
                    membership.publish(&positions.lock().unwrap_or_else(PoisonError::into_inner));
                }
            };
            let mut is_change_due = Ok(false);
            while !is_over.load(Ordering::SeqCst) {
                if stop.is_asked() {
                    round.ask();
                }
                match is_change_due {
                    Ok(false) => is_change_due = membership.is_change_due(WATCH_INTERVAL),
                    // The work in hand is being committed.
                    _ => std::thread::sleep(WATCH_INTERVAL / 10),
                }
                if !matches!(is_change_due, Ok(false)) {
                    round.ask();
                }
                publish(&mut membership, false);
            }
            publish(&mut membership, true);
            (membership, is_change_due)
        })
    }

    async fn count_assigned(
        &mut self,
        partitions: &BTreeSet<u32>,
        stop: &Arc<Stop>,
        published: &Positions,
    ) -> Result<(), CountError> {
        if let Some(strange) = partitions.last().filter(|partition| **partition >= self.job.rules.partitions) {
            let (log, had) = (self.job.log.name(), self.job.rules.partitions);
            return Err(LogError::Repartitioned { log, had, found: strange + 1 }.into());
        }
        // Other processes report the lag of the partitions that they count now.
        self.job.telemetry.metrics.lag_votes.clear();
        if partitions.is_empty() {
            if self.job.until.is_none() {
                stop.asked().await;
            }
            return Ok(());
        }
        let positions = self.take(partitions, stop).await?;
        let end_offsets = self.check_positions(&positions, stop).await?;
        let assignments = assign(&positions, self.job.workers.clamp(1, partitions.len()));
        let engines = self.resume_engines(&assignments, stop).await?;
        self.job.telemetry.metrics.poll_book_voters.set(engines.iter().map(Engine::voters).sum::<u64>() as i64);
        self.job.telemetry.set_ready(LOG);
        self.job.telemetry.set_ready(POSTGRESQL);

        let shared = Arc::new(Shared::new(&self.job.rules, assignments.len(), Arc::clone(stop)));
        let mut workers = Vec::new();
        for (slot, (engine, assignment)) in engines.into_iter().zip(assignments).enumerate() {
            let work = Work {
                engine,
                log: Arc::clone(&self.job.log),
                assignment: assignment.into_iter().collect(),
                until: self.job.until.clone(),
                slot,
                shared: Arc::clone(&shared),
                telemetry: Arc::clone(&self.job.telemetry),
            };
            let worker = worker::start(work).map_err(|error| {
                shared.close();
                CountError::Unusable(format!("cannot start a thread for worker {slot} ({error}); use fewer --workers"))
            })?;
            workers.push(worker);
        }
        let end_offsets = EndOffsets::watch(
            Arc::clone(&self.job.log),
            end_offsets,
            Arc::clone(&self.job.telemetry),
            Arc::clone(stop),
        );
        witness::note(&end_offsets, self.job.log.id(), self.job.database.clone(), Role::Counter);
        let (end, published) = (Arc::clone(&end_offsets), Arc::clone(published));
        let mut committer = committer::Committer::new(&self.job, positions, end, published, self.clock);
        let mut result = committer.run(&shared).await;
        self.clock = committer.clock();
        shared.close();
        for worker in workers {
            let (engine, ended) = worker.await.expect("a worker reports how it ended");
            self.kept.extend(engine.into_partitions().into_iter().map(|partition| (partition.partition, partition)));
            result = result.and(ended.map_err(CountError::from));
        }
        result.and(end_offsets.check().map_err(CountError::from))
    }

    /// Reloads the totals from the tables.
    async fn reload_totals(&self) -> Result<(), CountError> {
        let mut retry = Retry::new(&self.job.telemetry, &self.job.stop);
        loop {
            let totals = async {
                let client = self.job.database.connect(Role::Counter).await?;
                counters::totals(&client, &self.job.counter).await
            };
            match totals.await {
                Err(error) if error.is_transient() => retry.wait_for_postgresql(&error).await?,
                totals => {
                    let (counted, rejected) = totals?;
                    self.job.progress.counted.store(counted, Ordering::Relaxed);
                    self.job.progress.rejected.store(rejected, Ordering::Relaxed);
                    return Ok(());
                }
            }
        }
    }

    /// Takes over the partitions: from now on no other process that has counted them can commit.
    async fn take(&self, partitions: &BTreeSet<u32>, stop: &Stop) -> Result<BTreeMap<u32, Position>, CountError> {
        let mut retry = Retry::new(&self.job.telemetry, stop);
        loop {
            let taken = async {
                let mut client = self.job.database.connect(Role::Counter).await?;
                positions::take(&mut client, &self.job.counter, partitions).await
            };
            match taken.await {
                Err(error) if error.is_transient() => retry.wait_for_postgresql(&error).await?,
                taken => return Ok(taken?),
            }
        }
    }

    /// Checks that the log still holds the records to be counted next, and returns its end offsets.
    async fn check_positions(
        &self,
        positions: &BTreeMap<u32, Position>,
        stop: &Stop,
    ) -> Result<BTreeMap<u32, u64>, CountError> {
        let mut retry = Retry::new(&self.job.telemetry, stop);
        let found: BTreeMap<u32, Range<u64>> = loop {
            let (log, partitions) = (Arc::clone(&self.job.log), positions.keys().copied().collect::<Vec<_>>());
            let ask = move || {
                log.check()?;
                partitions.iter().map(|partition| Ok((*partition, log.offsets(*partition)?))).collect::<Result<_, _>>()
            };
            match blocking(ask).await {
                Err(error) if LogError::is_transient(&error) => retry.wait(LOG, &error).await?,
                found => break found?,
            }
        };
        for (partition, offsets) in &found {
            check_position(&*self.job.log, *partition, positions[partition].next_offset, offsets.start, offsets.end)?;
        }
        Ok(found.into_iter().map(|(partition, offsets)| (partition, offsets.end)).collect())
    }

    async fn resume_engines(
        &mut self,
        assignments: &[Vec<(u32, u64)>],
        stop: &Stop,
    ) -> Result<Vec<Engine>, CountError> {
        let mut retry = Retry::new(&self.job.telemetry, stop);
        let mut kept = std::mem::take(&mut self.kept);
        let mut engines = Vec::with_capacity(assignments.len());
        // All are read in parallel; those that a failed attempt has not read are read again.
        'again: loop {
            let mut tasks = Vec::new();
            for assignment in assignments.iter().skip(engines.len()) {
                let assignment: Vec<(u32, u64, Option<Partition>)> = assignment
                    .iter()
                    .map(|&(partition, next)| {
                        let as_left = kept.remove(&partition).filter(|kept| kept.next_offset == next);
                        (partition, next, as_left)
                    })
                    .collect();
                let (database, counter, rules, seed) =
                    (self.job.database.clone(), self.job.counter.clone(), Arc::clone(&self.job.rules), self.job.seed);
                tasks.push(tokio::spawn(async move {
                    let client = database.connect(Role::Counter).await?;
                    let mut partitions = Vec::with_capacity(assignment.len());
                    for (partition, next, as_left) in assignment {
                        partitions.push(match as_left {
                            Some(as_left) => as_left,
                            None => resume::partition(&client, &counter, &rules, partition, next, seed).await?,
                        });
                    }
                    Ok::<_, StoreError>(Engine::new(rules, partitions))
                }));
            }
            for task in tasks {
                match joined(task.await) {
                    Ok(engine) => engines.push(engine),
                    Err(error) if error.is_transient() => {
                        retry.wait_for_postgresql(&error).await?;
                        continue 'again;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            return Ok(engines);
        }
    }
}

/// Ends the watch however the round ends, even by a panic; otherwise the program would wait for it for ever.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Waits for the group to want a change, and accepts it. True if there was one.
async fn changed(mut membership: Box<dyn Membership>, wait: Duration) -> Result<(Box<dyn Membership>, bool), LogError> {
    blocking(move || {
        let is_due = membership.is_change_due(wait)?;
        if is_due {
            membership.accept()?;
        }
        Ok((membership, is_due))
    })
    .await
}

/// Distributes the partitions among the workers, each with its next offset.
fn assign(positions: &BTreeMap<u32, Position>, workers: usize) -> Vec<Vec<(u32, u64)>> {
    let mut assignments = vec![Vec::new(); workers];
    for (place, (&partition, position)) in positions.iter().enumerate() {
        assignments[place % workers].push((partition, position.next_offset));
    }
    assignments
}

fn check_position(log: &dyn VoteLog, partition: u32, next: u64, start: u64, end: u64) -> Result<(), CountError> {
    if next < start {
        return Err(LogError::Truncated { partition, wanted: next, start }.into());
    }
    if next > end {
        return Err(CountError::Unusable(format!(
            "partition {partition} of the log at {} end_offsets at offset {end}, but the count has reached {next}: \
             this is another log, or it has lost votes; point the count at its own log, or use another counter name",
            log.name()
        )));
    }
    Ok(())
}
