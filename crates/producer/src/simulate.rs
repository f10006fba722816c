//! Simulates the votes of a whole election: seeded, offline, and byte-identical on every run.
//!
//! A [`Plan`] states how many ballots are cast for what, [`day`] spreads them over the voting day, [`schedule`] injects
//! the faults, [`encode`] writes the records and [`run`](mod@run) sends them to a log. The
//! [`Truth`](scrutin_contract::truth::Truth) is what a count must come to. The clock is read only to keep a pace, and
//! memory use does not grow with the number of voters.

pub mod ballots;
pub mod cells;
pub mod channel_mix;
mod curve;
mod day;
mod delivery;
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
pub use delivery::{Delivery, SendProgress, Speed};
pub use faults::FaultRates;
pub use plan::{Plan, scaled};
pub use run::run;
