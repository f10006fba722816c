//! Faults that are injected on purpose, how often, and how each is to be counted.

use serde::{Deserialize, Serialize};

/// How often each kind of fault is injected: a share of the ballots, 0 to 1. A ballot has at most one fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultRates {
    /// The same bytes arrive again later: `already_voted`.
    pub redelivery: f64,
    /// The voter votes again later, for another choice: `already_voted`.
    pub double_vote: f64,
    /// Not a vote: cut off, wrong types, noise, too long, null, and more: `malformed`.
    pub malformed: f64,
    /// Another voter's key, no key, or a partition that is not the key's: `misrouted`.
    pub misrouted: f64,
    pub unknown_election: f64,
    pub unknown_region: f64,
    /// No such choice, or one that stands in another region only.
    pub unknown_choice: f64,
    pub unknown_channel: f64,
    /// Cast before the opening: `not_open`.
    pub too_early: f64,
    /// Cast at or after the closing: `closed`. These arrive after the day.
    pub too_late: f64,
    /// The ballot itself arrives up to hours after it was cast, maybe after the closing. It counts.
    pub delay: f64,
}

/// A kind of fault, in the order of the fields of [`FaultRates`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Redelivery,
    DoubleVote,
    Malformed,
    Misrouted,
    UnknownElection,
    UnknownRegion,
    UnknownChoice,
    UnknownChannel,
    TooEarly,
    TooLate,
    Delay,
}

impl Fault {
    pub const ALL: [Fault; 11] = [
        Fault::Redelivery,
        Fault::DoubleVote,
        Fault::Malformed,
        Fault::Misrouted,
        Fault::UnknownElection,
        Fault::UnknownRegion,
        Fault::UnknownChoice,
        Fault::UnknownChannel,
        Fault::TooEarly,
        Fault::TooLate,
        Fault::Delay,
    ];
}

impl FaultRates {
    /// No faults.
    pub const fn none() -> FaultRates {
        FaultRates {
            redelivery: 0.0,
            double_vote: 0.0,
            malformed: 0.0,
            misrouted: 0.0,
            unknown_election: 0.0,
            unknown_region: 0.0,
            unknown_choice: 0.0,
            unknown_channel: 0.0,
            too_early: 0.0,
            too_late: 0.0,
            delay: 0.0,
        }
    }

    /// Some of every kind in a hundred thousand ballots.
    pub const fn demo() -> FaultRates {
        FaultRates {
            redelivery: 1e-3,
            double_vote: 5e-4,
            malformed: 3e-4,
            misrouted: 1e-4,
            unknown_election: 5e-5,
            unknown_region: 5e-5,
            unknown_choice: 1e-4,
            unknown_channel: 5e-5,
            too_early: 1e-4,
            too_late: 1e-4,
            delay: 2e-3,
        }
    }

    /// The rates in the order of [`Fault::ALL`].
    pub fn rates(&self) -> [f64; 11] {
        [
            self.redelivery,
            self.double_vote,
            self.malformed,
            self.misrouted,
            self.unknown_election,
            self.unknown_region,
            self.unknown_choice,
            self.unknown_channel,
            self.too_early,
            self.too_late,
            self.delay,
        ]
    }

    /// Checks that every rate is in 0 to 1, and so is their sum.
    ///
    /// # Errors
    ///
    /// If a rate or the sum is not in 0 to 1.
    pub fn check(&self) -> Result<(), String> {
        let rates = self.rates();
        if let Some(at) = rates.iter().position(|rate| !(0.0..=1.0).contains(rate)) {
            return Err(format!("the rate of {:?} is {}; expected 0 to 1", Fault::ALL[at], rates[at]));
        }
        let sum: f64 = rates.iter().sum();
        if sum > 1.0 {
            return Err(format!("the fault rates sum to {sum}; expected at most 1, as a ballot has one fault"));
        }
        Ok(())
    }
}

/// Decides which ballots get a fault.
#[derive(Clone, Copy, Debug)]
pub struct FaultDraw {
    /// By kind: draws below this limit pick this kind or an earlier one; out of 2^32.
    limits: [u64; 11],
}

impl FaultDraw {
    pub fn new(rates: &FaultRates) -> FaultDraw {
        let mut so_far = 0;
        // A product with a power of two is exact, so the limits are the same on every machine.
        let limits = rates.rates().map(|rate| {
            so_far += (rate * 4_294_967_296.0) as u64;
            so_far
        });
        FaultDraw { limits }
    }

    #[inline]
    pub fn pick(&self, draw: u32) -> Option<Fault> {
        let draw = u64::from(draw);
        if draw >= self.limits[10] {
            return None;
        }
        self.limits.iter().position(|&limit| draw < limit).map(|place| Fault::ALL[place])
    }
}
