//! Spreads a plan's ballots over the voting day, in the order in which they are cast.
//!
//! The day is divided into ticks. Each tick takes from each cell what the cell's arrival curve says, so that all its
//! ballots are cast exactly once by the end; then the tick's ballots are shuffled. Memory holds one tick: about 2,000
//! ballots on average, or one of each cell if those are more; at most about eight times that.

use scrutin_contract::election::Election;
use scrutin_files::FileError;

use super::ballots::{Attempt, Ballot, Ballots, Source};
use super::cells::Cells;
use super::channel_mix::ChannelMix;
use super::curve::{Lean, ONE, Pace};
use super::plan::Plan;
use super::random::{Kind, Random, VoterIds, derive, mix};

/// The minimum number of ticks, for small elections: one per minute of a twelve-hour day.
const TICKS_MIN: u64 = 720;
/// The average number of ballots in a tick.
const TICK_BALLOTS: u64 = 2048;

pub struct Day<'a> {
    plan: &'a Plan,
    ids: VoterIds,
    paces: Vec<Pace>,
    leans: Vec<Lean>,
    channels: ChannelMix,
    salt_seed: u64,
    round_seed: u64,
    shuffle_seed: u64,
    ticks: u64,
    /// The tick after the current one.
    next_tick: u64,
    /// Ballots of each cell in all ticks so far.
    taken: Vec<u32>,
    /// The cells of the current tick's ballots, in order.
    tick: Vec<u32>,
    /// The index of the next one.
    at: usize,
    /// The time of the tick's first ballot in milliseconds, and the time between two in milliseconds × 2^32.
    start_ms: i64,
    step: u64,
    /// Ballots so far.
    number: u64,
}

impl<'a> Day<'a> {
    pub fn new(plan: &'a Plan) -> Day<'a> {
        let seed = plan.seed();
        let mut random = Random::new(derive(seed, "pace"));
        let paces = plan.election().regions.iter().map(|_| Pace::draw(&mut random)).collect();
        let ticks = plan.total() / TICK_BALLOTS.max(plan.cells().len() as u64);
        Day {
            plan,
            ids: VoterIds::new(seed),
            paces,
            leans: draw_leans(plan),
            channels: ChannelMix::new(plan.election().channels.len()),
            salt_seed: derive(seed, "ballot"),
            round_seed: derive(seed, "rounding"),
            shuffle_seed: derive(seed, "shuffle"),
            ticks: ticks.max(TICKS_MIN),
            next_tick: 0,
            taken: vec![0; plan.cells().len()],
            tick: Vec::new(),
            at: 0,
            start_ms: 0,
            step: 0,
            number: 0,
        }
    }

    /// When a tick begins. The tick after the last begins when the election closes.
    fn tick_starts_ms(&self, tick: u64) -> i64 {
        let election = self.plan.election();
        let length = (election.closes_at_ms - election.opens_at_ms) as u128;
        election.opens_at_ms + (length * u128::from(tick) / u128::from(self.ticks)) as i64
    }

    fn fill_tick(&mut self) {
        let tick = self.next_tick;
        self.next_tick += 1;
        let end = ((u128::from(self.next_tick) << 32) / u128::from(self.ticks)) as u64;
        self.tick.clear();
        self.at = 0;
        for (region, pace) in self.paces.iter().enumerate() {
            let share = pace.share_at(end);
            for cell in self.plan.cells().of_region(region as u32) {
                let lean = self.leans[self.plan.cells().cell(cell).choice as usize];
                let ballots = u64::from(self.plan.ballots()[cell as usize]);
                // Each cell rounds its fraction of a ballot at its own threshold; otherwise all cells would step at
                // once.
                let rounding = mix(self.round_seed ^ u64::from(cell)) >> 32;
                let due = ((ballots * lean.share_at(share) + rounding) >> 32) as u32;
                let taken = &mut self.taken[cell as usize];
                let new = due.saturating_sub(*taken);
                *taken += new;
                self.tick.extend(std::iter::repeat_n(cell, new as usize));
            }
        }
        Random::new(mix(self.shuffle_seed ^ tick)).shuffle(&mut self.tick);
        self.start_ms = self.tick_starts_ms(tick).min(self.plan.election().closes_at_ms - 1);
        let length = (self.tick_starts_ms(tick + 1) - self.start_ms) as u128;
        self.step = ((length << 32) / (self.tick.len() as u128).max(1)) as u64;
        self.channels.set_time((u128::from(tick) * u128::from(ONE) / u128::from(self.ticks)) as u64);
    }
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

impl Source for Day<'_> {
    #[inline]
    fn next(&mut self) -> Result<Option<Ballot>, FileError> {
        while self.at == self.tick.len() {
            if self.next_tick == self.ticks {
                return Ok(None);
            }
            self.fill_tick();
        }
        let salt = mix(self.salt_seed ^ self.number);
        let into_tick = (u128::from(self.step) * self.at as u128) >> 32;
        let ballot = Ballot {
            voter: self.ids.id(Kind::Voter, self.number),
            cell: self.tick[self.at],
            channel: self.channels.pick(salt as u32),
            cast_at_ms: self.start_ms + into_tick as i64,
            salt,
            attempt: Attempt::Once,
        };
        self.at += 1;
        self.number += 1;
        Ok(Some(ballot))
    }
}

/// When the voters of each choice come, by index in [`Cells::choices`](super::cells::Cells::choices).
///
/// Voters of the first of the two front-runners come at both ends of the day, voters of the second in its third
/// quarter. This makes the lead change where the result is close.
fn draw_leans(plan: &Plan) -> Vec<Lean> {
    let mut random = Random::new(derive(plan.seed(), "lean"));
    let mut leans: Vec<Lean> = plan
        .cells()
        .choices()
        .iter()
        .map(|_| Lean { early: random.around(-14_000, 14_000), ends: random.around(-6000, 6000) })
        .collect();
    if let [first, second] = plan.front()[..] {
        leans[first as usize] = Lean { early: random.around(-4000, 0), ends: 14_000 };
        leans[second as usize] = Lean { early: random.around(0, 4000), ends: -14_000 };
    }
    leans
}

#[cfg(test)]
mod tests {
    use scrutin_contract::election::Election;

    use super::*;
    use crate::simulate::scaled;

    #[test]
    fn a_tick_does_not_grow_with_the_election() {
        for voters in [1_000_000, 10_000_000] {
            let plan = Plan::draw(scaled(&Election::built_in(), voters), 1).unwrap();
            let mut day = Day::new(&plan);
            let (mut ballots, mut most) = (0, 0);
            while day.next_tick < day.ticks {
                day.fill_tick();
                ballots += day.tick.len() as u64;
                most = most.max(day.tick.len());
            }
            assert_eq!(ballots, plan.total());
            assert!(most <= 8 * TICK_BALLOTS as usize, "{most} in one tick");
        }
    }
}
