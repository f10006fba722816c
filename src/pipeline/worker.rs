//! Reads its share of the partitions and counts it.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::round::Shared;
use crate::engine::Engine;
use crate::log::{LogError, VoteLog};

/// How soon a stop is heard while no votes come.
const WAIT: Duration = Duration::from_millis(50);

/// Runs until a stop, an error, or, where `until` is given, each partition has reached its offset there.
pub(super) fn run(
    mut engine: Engine,
    log: &dyn VoteLog,
    share: Vec<(u32, u64)>,
    until: Option<BTreeMap<u32, u64>>,
    slot: usize,
    shared: &Shared,
) -> (Engine, Result<(), LogError>) {
    let result = read_and_count(&mut engine, log, share, until, slot, shared);
    if result.is_err() {
        shared.stop.ask();
    }
    shared.slots[slot].ended.store(true, Ordering::SeqCst);
    shared.wake.notify_one();
    (engine, result)
}

fn read_and_count(
    engine: &mut Engine,
    log: &dyn VoteLog,
    share: Vec<(u32, u64)>,
    until: Option<BTreeMap<u32, u64>>,
    slot: usize,
    shared: &Shared,
) -> Result<(), LogError> {
    let slot = &shared.slots[slot];
    let mut reader = log.reader(&share)?;
    let mut next: BTreeMap<u32, u64> = share.into_iter().collect();
    loop {
        let drained =
            until.as_ref().is_some_and(|until| next.iter().all(|(partition, next)| *next >= until[partition]));
        if drained || shared.stop.is_asked() || shared.closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let Some(batch) = reader.fetch(WAIT)? else { continue };
        next.insert(batch.partition, batch.next_offset);

        let mut changes = slot.lock();
        while shared.is_full(slot) {
            if shared.closed.load(Ordering::SeqCst) {
                return Ok(());
            }
            changes = slot.room.wait_timeout(changes, WAIT).unwrap_or_else(PoisonError::into_inner).0;
        }
        engine.apply(&batch, &mut changes);
        slot.measure(&changes);
        drop(changes);
        shared.wake.notify_one();
        reader.recycle(batch);
    }
}
