//! Makes the votes of a whole election: seeded, offline, the same bytes for ever.
//!
//! A [`Plan`] says how many ballots say what, [`day`] lays them over the voting day, [`schedule`] adds the
//! faults, [`encode`] writes the records and [`run`](mod@run) sends them to a log. The [`Truth`](scrutin_contract::truth::Truth) says what a count must
//! come to. Reads no clock but to keep a pace, and memory does not grow with the number of voters.

pub mod ballots;
pub mod cells;
pub mod channel_mix;
mod curve;
mod day;
mod encode;
mod faults;
mod held;
mod plan;
pub mod random;
mod run;
mod schedule;
mod truth;

#[cfg(test)]
mod tests;

pub use ballots::Ballots;
pub use faults::FaultRates;
pub use plan::{Plan, scaled};
pub use run::{Delivery, SendProgress, Speed, run};
