//! Ballots to be cast, wherever they come from: a plan, or a file of real ones.

use scrutin_contract::election::Election;
use scrutin_contract::vote::VoterId;
use scrutin_files::FileError;

use super::cells::Cells;

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
    pub turn: Turn,
}

/// How a ballot stands to the others of its voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The only one.
    Once,
    /// The first of several.
    First,
    /// Not the first: it will be rejected.
    Repeated,
}
