//! Ballots to be cast, whatever their source: a plan, or a file of real ballots.

use scrutin_contract::election::Election;
use scrutin_contract::vote::VoterId;
use scrutin_files::FileError;

use super::cells::Cells;

/// Ballots that can be iterated repeatedly, with the same result each time.
pub trait Ballots: Sync {
    type Source<'a>: Source
    where
        Self: 'a;

    fn election(&self) -> &Election;

    /// Everything that a ballot can contain.
    fn cells(&self) -> &Cells;

    /// The total number of ballots.
    fn total(&self) -> u64;

    fn seed(&self) -> u64;

    /// Starts at the first ballot.
    ///
    /// # Errors
    ///
    /// If the file of the ballots cannot be read.
    fn start(&self) -> Result<Self::Source<'_>, FileError>;
}

/// Yields ballots in the order in which they are cast.
pub trait Source {
    /// The next ballot, or none after the last.
    ///
    /// # Errors
    ///
    /// If the file of the ballots cannot be read.
    fn next(&mut self) -> Result<Option<Ballot>, FileError>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballot {
    pub voter: VoterId,
    pub cell: u32,
    /// Index into the election's channels.
    pub channel: u32,
    /// Milliseconds since 1970 UTC; never earlier than the ballot before.
    pub cast_at_ms: i64,
    /// Random bits for this ballot.
    pub salt: u64,
    pub attempt: Attempt,
}

/// Whether a ballot is the voter's only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The only one.
    Once,
    /// The first of several.
    First,
    /// Not the first; it will be rejected.
    Repeated,
}
