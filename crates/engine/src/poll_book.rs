//! Who has voted: an exact set of 128-bit ids that grows in small steps.
//!
//! The set is split into shards by hash. Each shard is a flat table that grows on its own, so the whole set is never
//! copied at once. A table consists of groups of slots. An id is in the group that its hash selects, or, where that is
//! full, in one behind it. Each slot has a tag, seven bits of its id's hash, and the tags of a group lie together: a voter
//! who has not voted yet costs one access to memory, however full the table is. Just after a shard has grown, memory is
//! highest, at 17 / 0.92 × 1.24 = 22.9 bytes a voter.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use scrutin_contract::vote::VoterId;

/// Who has voted in one partition of one election.
#[derive(Debug)]
pub struct PollBook {
    seed: [u64; 2],
    shards: Vec<Shard>,
    len: usize,
}

#[derive(Debug, Default)]
struct Shard {
    groups: Box<[Group]>,
    len: usize,
}

/// Slots of a group.
const SLOTS: usize = 16;

#[derive(Clone, Debug)]
struct Group {
    /// A byte for each slot: 0 if it is free, else [`tag_of`] its id. The first slot has the lowest byte.
    tags: u128,
    ids: [u128; SLOTS],
}

const FREE: Group = Group { tags: 0, ids: [0; SLOTS] };

/// The lowest and the highest bit of each byte.
const LOW: u128 = u128::MAX / 0xff;
const HIGH: u128 = LOW << 7;

const SHARD_BITS: u32 = 8;

impl PollBook {
    /// An empty poll book. The seed must be unknown to those who cast votes, or they could make the set slow.
    pub fn new(seed: [u64; 2]) -> PollBook {
        let shards = core::iter::repeat_with(Shard::default).take(1 << SHARD_BITS).collect();
        PollBook { seed, shards, len: 0 }
    }

    /// Makes room for this many more voters.
    pub fn reserve(&mut self, voters: usize) {
        // Shards fill unevenly, so a few will still grow.
        let each = (self.len + voters) / self.shards.len();
        for shard in &mut self.shards {
            shard.resize(each * 8 / 7 / SLOTS + 1);
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
        if !shard.groups.is_empty() {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: the pointer is to tags of the shard; a prefetch reads nothing.
            unsafe { _mm_prefetch((&raw const shard.groups[shard.group_of(hash)].tags).cast::<i8>(), _MM_HINT_T0) };
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
        let shard = &mut self.shards[shard_of(hash)];
        if shard.is_full() {
            let seed = self.seed;
            shard.grow(|id| hash_of(seed, id));
        }
        let new = shard.insert(voter.0, hash);
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

/// The tag of an id, which is never 0.
#[inline(always)]
fn tag_of(hash: u64) -> u8 {
    hash as u8 | 0x80
}

/// The slots whose byte has its highest bit set, in ascending order.
#[inline(always)]
fn slots_in(mut bytes: u128) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let slot = (bytes != 0).then(|| bytes.trailing_zeros() as usize / 8)?;
        bytes &= bytes - 1;
        Some(slot)
    })
}

/// Written here, in order. Left to be zeroed by the system on first touch, the groups would be touched at random, at a
/// page fault or two each.
fn free_groups(len: usize) -> Box<[Group]> {
    vec![FREE; len].into()
}

impl Group {
    /// The slots whose id may have this tag. A slot right after a match may be among them without having it.
    #[inline(always)]
    fn slots_with(&self, tag: u8) -> impl Iterator<Item = usize> + use<> {
        let differing = self.tags ^ (LOW * u128::from(tag));
        slots_in(differing.wrapping_sub(LOW) & !differing & HIGH)
    }

    /// Puts an id into a free slot. Returns whether there was one.
    #[inline(always)]
    fn add(&mut self, id: u128, tag: u8) -> bool {
        let Some(slot) = slots_in(!self.tags & HIGH).next() else { return false };
        self.tags |= u128::from(tag) << (8 * slot);
        self.ids[slot] = id;
        true
    }
}

impl Shard {
    /// At most 0.92 of the slots are taken.
    #[inline(always)]
    fn is_full(&self) -> bool {
        self.len * 25 >= self.groups.len() * SLOTS * 23
    }

    #[inline(always)]
    fn group_of(&self, hash: u64) -> usize {
        ((u128::from(hash << SHARD_BITS) * self.groups.len() as u128) >> 64) as usize
    }

    #[inline(always)]
    fn insert(&mut self, id: u128, hash: u64) -> bool {
        let tag = tag_of(hash);
        let mut place = self.group_of(hash);
        loop {
            let group = &mut self.groups[place];
            if group.slots_with(tag).any(|slot| group.ids[slot] == id) {
                return false;
            }
            if group.add(id, tag) {
                self.len += 1;
                return true;
            }
            place = if place + 1 == self.groups.len() { 0 } else { place + 1 };
        }
    }

    #[cold]
    fn grow(&mut self, hash: impl Fn(u128) -> u64) {
        let groups = (self.groups.len() * 31 / 25).max(self.groups.len() + 1);
        let old = core::mem::replace(&mut self.groups, free_groups(groups));
        for group in &old {
            for slot in slots_in(group.tags & HIGH) {
                let id = group.ids[slot];
                let hash = hash(id);
                let mut place = self.group_of(hash);
                // No id is there twice.
                while !self.groups[place].add(id, tag_of(hash)) {
                    place = if place + 1 == groups { 0 } else { place + 1 };
                }
            }
        }
    }

    /// Sets the number of groups of an empty shard.
    fn resize(&mut self, groups: usize) {
        if self.len == 0 && groups > self.groups.len() {
            self.groups = free_groups(groups);
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
    fn takes_less_than_23_bytes_per_voter() {
        let mut poll_book = PollBook::new([1, 2]);
        for id in 1..=3_000_000_u128 {
            poll_book.insert(VoterId(id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)));
            if id > 100_000 && id % 50_021 == 0 {
                let bytes: usize = poll_book.shards.iter().map(|shard| size_of_val(&*shard.groups)).sum();
                assert!(bytes < 23 * poll_book.len(), "{bytes} bytes for {} voters", poll_book.len());
            }
        }
    }
}
