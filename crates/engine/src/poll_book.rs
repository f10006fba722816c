//! Who has voted: an exact set of 128-bit ids that grows in small steps.
//!
//! The set is split into shards by hash. Each shard is a flat table with open addressing that grows on its own. So the
//! whole set is never copied at once, and memory stays under 32 bytes a voter (16 / 0.8 × 1.4 = 28 just after a shard
//! has grown).

use alloc::boxed::Box;
use alloc::vec::Vec;

use scrutin_contract::vote::VoterId;

/// Who has voted in one partition of one election.
#[derive(Debug)]
pub struct PollBook {
    seed: [u64; 2],
    shards: Vec<Shard>,
    /// Whether the nil id is in the set; the shards use it to mark empty slots.
    has_nil: bool,
    len: usize,
}

#[derive(Debug, Default)]
struct Shard {
    slots: Box<[u128]>,
    len: usize,
}

const SHARD_BITS: u32 = 8;
const SLOTS_MIN: usize = 16;

impl PollBook {
    /// An empty poll book. The seed must be unknown to those who cast votes, or they could make the set slow.
    pub fn new(seed: [u64; 2]) -> PollBook {
        let shards = core::iter::repeat_with(Shard::default).take(1 << SHARD_BITS).collect();
        PollBook { seed, shards, has_nil: false, len: 0 }
    }

    /// Makes room for this many more voters.
    pub fn reserve(&mut self, voters: usize) {
        // Shards fill unevenly, so a few will still grow.
        let each = (self.len + voters) / self.shards.len();
        for shard in &mut self.shards {
            shard.resize(each + each / 4);
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    pub fn hash(&self, voter: VoterId) -> u64 {
        hash_of(self.seed, voter.0)
    }

    /// Prefetches the memory that a look-up will need.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64) {
        let shard = &self.shards[shard_of(hash)];
        #[cfg(target_arch = "x86_64")]
        if !shard.slots.is_empty() {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: the pointer is to a slot of the shard; a prefetch reads nothing.
            unsafe { _mm_prefetch((&raw const shard.slots[shard.slot_of(hash)]).cast::<i8>(), _MM_HINT_T0) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = shard;
    }

    /// Marks a voter; false if the voter was already marked.
    pub fn insert(&mut self, voter: VoterId) -> bool {
        self.insert_hashed(voter, self.hash(voter))
    }

    /// [`PollBook::insert`] for a hash that is already computed.
    #[inline]
    pub fn insert_hashed(&mut self, voter: VoterId, hash: u64) -> bool {
        let new = match voter.0 {
            0 => !core::mem::replace(&mut self.has_nil, true),
            id => {
                let shard = &mut self.shards[shard_of(hash)];
                if shard.is_full() {
                    let seed = self.seed;
                    shard.grow(|id| hash_of(seed, id));
                }
                shard.insert(id, hash)
            }
        };
        self.len += usize::from(new);
        new
    }

    /// Marks many voters, in groups, so that memory is prefetched before it is needed.
    pub fn insert_all(&mut self, voters: impl Iterator<Item = VoterId>) {
        let mut group = Vec::with_capacity(64);
        let mut voters = voters;
        loop {
            group.clear();
            for voter in voters.by_ref().take(64) {
                let hash = self.hash(voter);
                self.prefetch(hash);
                group.push((voter, hash));
            }
            if group.is_empty() {
                return;
            }
            for &(voter, hash) in &group {
                self.insert_hashed(voter, hash);
            }
        }
    }
}

#[inline(always)]
fn hash_of(seed: [u64; 2], id: u128) -> u64 {
    let product = u128::from(id as u64 ^ seed[0]) * u128::from((id >> 64) as u64 ^ seed[1]);
    (product >> 64) as u64 ^ product as u64
}

#[inline(always)]
fn shard_of(hash: u64) -> usize {
    (hash >> (64 - SHARD_BITS)) as usize
}

/// Zeroed here, in order. Left to be zeroed by the system on first touch, the slots would be touched at random, at a
/// page fault or two each.
fn empty_slots(len: usize) -> Box<[u128]> {
    let mut slots = Box::new_uninit_slice(len);
    for slot in &mut slots {
        slot.write(0);
    }
    // SAFETY: every slot was written.
    unsafe { slots.assume_init() }
}

impl Shard {
    /// At most 0.8 of the slots are taken.
    #[inline(always)]
    fn is_full(&self) -> bool {
        self.len * 5 >= self.slots.len() * 4
    }

    #[inline(always)]
    fn slot_of(&self, hash: u64) -> usize {
        ((u128::from(hash << SHARD_BITS) * self.slots.len() as u128) >> 64) as usize
    }

    #[inline(always)]
    fn insert(&mut self, id: u128, hash: u64) -> bool {
        let mut slot = self.slot_of(hash);
        loop {
            match self.slots[slot] {
                0 => {
                    self.slots[slot] = id;
                    self.len += 1;
                    return true;
                }
                taken if taken == id => return false,
                _ => slot = if slot + 1 == self.slots.len() { 0 } else { slot + 1 },
            }
        }
    }

    #[cold]
    fn grow(&mut self, hash: impl Fn(u128) -> u64) {
        let slots = (self.slots.len() * 7 / 5).max(SLOTS_MIN);
        let old = core::mem::replace(&mut self.slots, empty_slots(slots));
        self.len = 0;
        for id in old.into_iter().filter(|id| *id != 0) {
            self.insert(id, hash(id));
        }
    }

    /// Sets the number of slots of an empty shard.
    fn resize(&mut self, slots: usize) {
        if self.len == 0 && slots > self.slots.len() {
            self.slots = empty_slots(slots.max(SLOTS_MIN));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_a_set(seed in any::<[u64; 2]>(), ids in proptest::collection::vec(0_u128..5000, 0..6000), reserve in 0_usize..5000) {
            let mut poll_book = PollBook::new(seed);
            poll_book.reserve(reserve);
            let mut naive = HashSet::new();
            for id in ids {
                // Small ids, and ids that differ in one half only, must work like any others.
                for id in [id, id << 64, id << 64 | id] {
                    prop_assert_eq!(poll_book.insert(VoterId(id)), naive.insert(id));
                }
            }
            prop_assert_eq!(poll_book.len(), naive.len());
        }
    }

    #[test]
    fn takes_less_than_32_bytes_per_voter() {
        let mut poll_book = PollBook::new([1, 2]);
        for id in 1..=3_000_000_u128 {
            poll_book.insert(VoterId(id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)));
            if id > 100_000 && id % 50_021 == 0 {
                let bytes: usize = poll_book.shards.iter().map(|shard| shard.slots.len() * 16).sum();
                assert!(bytes < 32 * poll_book.len(), "{bytes} bytes for {} voters", poll_book.len());
            }
        }
    }
}
