//! When people vote: cumulative arrival curves over a voting day.
//!
//! Times and shares are fixed-point numbers in 0..=[`ONE`], and all arithmetic is on integers, so that a curve has the
//! same value on every machine. Every curve rises from 0 to `ONE` and never falls.

use super::random::Random;

/// The whole day, or all votes.
pub const ONE: u64 = 1 << 32;

/// The share of the day's votes cast by the end of each twenty-fourth of the day, in 1/10,000. The shape follows the
/// turnout that France publishes at 12:00 and 17:00 for a day from 8:00 to 20:00: a third and six sevenths of the
/// total.
const BASE: [u32; 25] = [
    0, 250, 600, 1030, 1520, 2020, 2500, 2950, 3350, 3680, 4000, 4400, 4900, 5540, 6200, 6850, 7460, 8020, 8530, 8960,
    9310, 9590, 9800, 9930, 10_000,
];

/// How the voters of one region arrive.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Early if positive, late if negative; in 1/65,536, at most half of one either way.
    early: i64,
    /// The number of waves per day, and the share of the flow that is in them (1/65,536).
    waves: u64,
    wave_share: u64,
    /// When a crowd arrives, and its share of the day's votes.
    burst_at: u64,
    burst_share: u64,
}

/// How much of the day a burst lasts.
const BURST_LASTS: u64 = ONE / 64;

impl Pace {
    pub fn draw(random: &mut Random) -> Pace {
        Pace {
            early: random.around(-26_000, 26_000),
            waves: 3 + random.below(12),
            // Half of the regions have a steady flow.
            wave_share: if random.below(2) == 0 { 0 } else { 16_000 + random.below(36_000) },
            burst_at: ONE / 8 + random.below(ONE / 4 * 3),
            burst_share: random.below(ONE / 64),
        }
    }

    /// The share of the region's votes that have been cast by a time of day.
    pub fn share_at(&self, time: u64) -> u64 {
        // Rounding below must not lose the last vote.
        if time >= ONE {
            return ONE;
        }
        let own_time = bend(time, self.early);
        let wave = staircase(own_time, self.waves) as i64 - own_time as i64;
        let own_time = (own_time as i64 + ((wave * self.wave_share as i64) >> 16)).clamp(0, ONE as i64) as u64;
        let burst = time.saturating_sub(self.burst_at).min(BURST_LASTS) * (self.burst_share / 4) / (BURST_LASTS / 4);
        let steady = base(own_time);
        (steady - ((u128::from(steady) * u128::from(self.burst_share)) >> 32) as u64 + burst).min(ONE)
    }
}

/// How the arrival of one choice's voters differs from that of all voters of their region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lean {
    /// Earlier if positive; in 1/65,536. With `ends` together at most 60 % of one, so that no curve ever falls.
    pub early: i64,
    /// At the beginning and the end of the day if positive, in its third quarter if negative; in 1/65,536.
    pub ends: i64,
}

impl Lean {
    /// The share of the choice's votes that have been cast when this share of the region's have.
    #[inline]
    pub fn share_at(self, share: u64) -> u64 {
        bend(share, self.early + ((self.ends * (ONE as i64 - 2 * share as i64)) >> 32))
    }
}

/// x + bend · x · (1 − x).
#[inline]
fn bend(x: u64, bend: i64) -> u64 {
    let hump = (x * (ONE - x)) >> 32;
    (x as i64 + ((hump as i64 * bend) >> 16)).clamp(0, ONE as i64) as u64
}

/// `steps` equal steps from 0 to `ONE`, each smooth (3 f² − 2 f³).
fn staircase(x: u64, steps: u64) -> u64 {
    let whole = x * steps;
    let (step, part) = (whole >> 32, whole & (ONE - 1));
    let square = (part * part) >> 32;
    let smooth = (square * (3 * ONE - 2 * part) / ONE).min(ONE);
    ((step << 32) + smooth) / steps
}

fn base(time: u64) -> u64 {
    let whole = time * 24;
    let (place, part) = ((whole >> 32) as usize, whole & (ONE - 1));
    let Some(next) = BASE.get(place + 1) else { return ONE };
    let (from, to) = (u64::from(BASE[place]), u64::from(*next));
    ((from << 32) + (to - from) * part) / 10_000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rises_from_none_to_all(seed: u64, early in -22_000_i64..22_000, ends in -17_000_i64..17_000) {
            let pace = Pace::draw(&mut Random::new(seed));
            let lean = Lean { early, ends };
            let at = |time| lean.share_at(pace.share_at(time));
            prop_assert_eq!(at(0), 0);
            prop_assert_eq!(at(ONE), ONE);
            let mut last = 0;
            for step in 0..=20_000_u64 {
                let share = at(ONE / 20_000 * step);
                prop_assert!(share + 4 >= last, "falls from {} to {} at step {}", last, share, step);
                // The size of a tick relies on this.
                prop_assert!(share.saturating_sub(last) < ONE / 20_000 * 8, "steep at step {}", step);
                last = share;
            }
        }
    }

    #[test]
    fn has_the_shape_of_a_real_day() {
        let at_hour = |hour: u64| base(ONE / 12 * (hour - 8)) as f64 / ONE as f64;
        // France 2022, first round: 25.5 % at 12:00, 65.0 % at 17:00, 76.2 % in the end.
        assert!((at_hour(12) - 25.5 / 76.2).abs() < 0.01, "{}", at_hour(12));
        assert!((at_hour(17) - 65.0 / 76.2).abs() < 0.01, "{}", at_hour(17));
    }
}
