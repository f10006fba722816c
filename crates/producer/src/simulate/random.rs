//! Pseudorandom numbers that are the same for the same seed, on every machine and for ever.
//!
//! Not for secrets. A seed determines the bytes of a whole log, so nothing here may change its results.

use scrutin_contract::vote::VoterId;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014, with Stafford's "Mix13" constants): a bijection.
#[inline]
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Derives a seed for one use of another seed.
pub fn derive(seed: u64, label: &str) -> u64 {
    label.bytes().fold(mix(seed.wrapping_add(GOLDEN)), |state, byte| mix(state.wrapping_mul(GOLDEN) ^ u64::from(byte)))
}

/// splitmix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `bound`; 0 if `bound` is 0. Its bias is below `bound` / 2^64.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `low..=high`; those in the middle are more likely (the sum of two dice).
    pub fn around(&mut self, low: i64, high: i64) -> i64 {
        let span = (high - low) as u64;
        low + ((self.below(span + 1) + self.below(span + 1)) / 2) as i64
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// Generates voter ids: version 4 UUIDs, distinct for every number below 2^59 and either kind.
#[derive(Clone, Copy, Debug)]
pub struct VoterIds {
    high: u64,
    low: u64,
}

/// Whose id it is; ids of different kinds never collide.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A voter who casts a ballot.
    Voter = 0,
    /// A voter who appears only in an injected fault.
    Stranger = 1,
}

impl VoterIds {
    pub fn new(seed: u64) -> VoterIds {
        VoterIds { high: derive(seed, "voter, high half"), low: derive(seed, "voter, low half") }
    }

    #[inline]
    pub fn id(&self, kind: Kind, number: u64) -> VoterId {
        // Each step is a bijection on 60 bits, and the version takes the other four: different numbers already differ
        // in the high half.
        const BITS: u64 = (1 << 60) - 1;
        let numbered = number << 1 | kind as u64;
        let mut high = (numbered ^ self.high) & BITS;
        high = (high ^ high >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9) & BITS;
        high = (high ^ high >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) & BITS;
        high ^= high >> 31;
        let high = (high >> 12) << 16 | 0x4000 | (high & 0xfff);
        let low = mix(numbered.wrapping_mul(GOLDEN) ^ self.low) >> 2 | 1 << 63;
        VoterId(u128::from(high) << 64 | u128::from(low))
    }
}

/// Splits a whole in proportion to the weights, by largest remainders (the first of equal ones), or equally if all
/// weights are 0. The parts sum to the whole.
pub fn apportion(whole: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    if sum == 0 {
        return if weights.is_empty() { Vec::new() } else { apportion(whole, &vec![1; weights.len()]) };
    }
    let share = |weight: u64| u128::from(whole) * u128::from(weight);
    let mut parts: Vec<u64> = weights.iter().map(|&weight| (share(weight) / sum) as u64).collect();
    let missing = whole - parts.iter().sum::<u64>();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&place| std::cmp::Reverse(share(weights[place]) % sum));
    order.iter().take(missing as usize).for_each(|&place| parts[place] += 1);
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// A seed must always give the same votes: these values never change.
    #[test]
    fn a_seed_always_gives_the_same_votes() {
        let mut random = Random::new(0);
        // The first outputs of the published splitmix64 from state 0.
        assert_eq!([random.draw(), random.draw()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
        let ids = VoterIds::new(1);
        expect_test::expect![[r#"
            [
                "0d3e9dc5-1fab-41fd-a302-35114db8fb04",
                "fa60c410-b829-468c-a8bf-1d11c92b2bb2",
            ]
        "#]]
        .assert_debug_eq(&[ids.id(Kind::Voter, 0).to_string(), ids.id(Kind::Stranger, 0).to_string()]);
    }

    #[test]
    fn ids_are_distinct_version_4_uuids() {
        let ids = VoterIds::new(7);
        let mut highs = HashSet::new();
        for number in 0..200_000 {
            for kind in [Kind::Voter, Kind::Stranger] {
                let id = ids.id(kind, number);
                let text = id.text();
                assert!(text[14] == b'4' && b"89ab".contains(&text[19]), "{id}");
                assert!(highs.insert((id.0 >> 64) as u64), "{id} comes twice");
            }
        }
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_whole(whole in 0_u64..1 << 40, weights in prop::collection::vec(0_u64..1 << 40, 1..40)) {
            let parts = apportion(whole, &weights);
            prop_assert_eq!(parts.iter().sum::<u64>(), whole);
            let sum: u64 = weights.iter().sum();
            for (part, weight) in parts.iter().zip(&weights) {
                if sum > 0 {
                    let fair = whole as f64 * *weight as f64 / sum as f64;
                    prop_assert!((*part as f64 - fair).abs() <= 1.001 + fair * 1e-9, "{} for {}", part, fair);
                }
            }
        }
    }
}
