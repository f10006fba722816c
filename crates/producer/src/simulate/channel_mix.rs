//! Picks the channel of a ballot.

use super::curve::ONE;

/// Picks the channel of a ballot. Most come by the first; the second grows over the day, the third shrinks, and so on
/// in turn.
#[derive(Clone, Debug)]
pub struct ChannelMix {
    /// For each channel but the last: draws below this limit pick this channel or an earlier one.
    limits: Vec<u32>,
}

impl ChannelMix {
    /// A mix of at least one channel.
    pub fn new(channels: usize) -> ChannelMix {
        let mut mix = ChannelMix { limits: vec![0; channels.saturating_sub(1)] };
        mix.set_time(0);
        mix
    }

    /// Sets the time of day, in 0..=[`ONE`].
    pub fn set_time(&mut self, time: u64) {
        let weight = |channel: u64| match channel {
            0 => 7 * ONE,
            odd if odd % 2 == 1 => (ONE + 2 * time) / odd,
            even => (3 * ONE - 2 * time) / even,
        };
        let sum: u128 = (0..=self.limits.len() as u64).map(|channel| u128::from(weight(channel))).sum();
        let mut so_far = 0;
        for (channel, limit) in self.limits.iter_mut().enumerate() {
            so_far += u128::from(weight(channel as u64));
            *limit = ((so_far << 32) / sum) as u32;
        }
    }

    /// The channel for a draw from the whole range.
    #[inline]
    pub fn pick(&self, draw: u32) -> u32 {
        self.limits.iter().take_while(|&&limit| draw >= limit).count() as u32
    }
}
