//! Ballots to be cast, wherever they come from: a plan, or a file of real ones.

use super::cells::Cells;
use super::curve::ONE;
use super::day::Day;
use super::plan::Plan;
use crate::csv_file::FileError;
use crate::election::Election;
use crate::vote::VoterId;

/// Ballots that can be gone through again and again, the same each time.
pub trait Ballots: Sync {
    type Source<'a>: Source
    where
        Self: 'a;

    fn election(&self) -> &Election;

    /// All that a ballot can say.
    fn cells(&self) -> &Cells;

    /// Ballots in all.
    fn total(&self) -> u64;

    fn seed(&self) -> u64;

    /// From the first ballot on.
    fn start(&self) -> Result<Self::Source<'_>, FileError>;
}

/// Goes through ballots in the order in which they are cast.
pub trait Source {
    fn next(&mut self) -> Result<Option<Ballot>, FileError>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballot {
    pub voter: VoterId,
    pub cell: u32,
    /// Place in the election's channels.
    pub channel: u32,
    /// Milliseconds since 1970 UTC; never earlier than that of the ballot before.
    pub cast_at_ms: i64,
    /// What chance decides about this ballot.
    pub salt: u64,
    pub standing: Standing,
}

/// How a ballot stands to the others of its voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The only one.
    Once,
    /// The first of several.
    First,
    /// Not the first: it will be refused.
    Repeated,
}

impl Ballots for Plan {
    type Source<'a> = Day<'a>;

    fn election(&self) -> &Election {
        Plan::election(self)
    }

    fn cells(&self) -> &Cells {
        Plan::cells(self)
    }

    fn total(&self) -> u64 {
        Plan::total(self)
    }

    fn seed(&self) -> u64 {
        Plan::seed(self)
    }

    fn start(&self) -> Result<Day<'_>, FileError> {
        Ok(Day::new(self))
    }
}

/// Which channel a ballot comes by. Most come by the first; the second grows over the day, the third shrinks,
/// and so on in turn.
#[derive(Clone, Debug)]
pub struct ChannelMix {
    /// By channel but the last: up to which draw it is this or an earlier one.
    limits: Vec<u32>,
}

impl ChannelMix {
    /// Of at least one channel.
    pub fn new(channels: usize) -> ChannelMix {
        let mut mix = ChannelMix { limits: vec![0; channels.saturating_sub(1)] };
        mix.set_time(0);
        mix
    }

    /// Sets the time of the day, in 0..=[`ONE`].
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
