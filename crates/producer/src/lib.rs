//! Where votes come from: [`simulate`] makes those of a whole election, [`replay`] makes them from official results or from
//! real ballots. Both write them into a log, and both know the truth that a count must come to.

pub mod replay;
pub mod simulate;
