//! Produces votes: [`simulate`] generates those of a whole election, [`replay`] derives them from official results or
//! real ballots. Both write votes into a log, and both know the truth that a count must come to.

pub mod replay;
pub mod simulate;
