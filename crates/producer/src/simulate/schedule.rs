//! Turns ballots into records in order of arrival, and injects the faults.
//!
//! Decides everything about a record but its bytes, including how it is to be counted. Independent of the number of
//! threads and partitions.
//!
//! Records that arrive later wait in a queue of at most [`WAITING_MAX`]; while it is full, no fault that needs it is
//! injected. Votes cast too late are only counted when drawn, and generated one by one after the day.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use scrutin_contract::vote::{Reason, VoterId};
use scrutin_files::FileError;

use super::ballots::{Attempt, Ballot, Ballots, Source};
use super::cells::Cells;
use super::faults::{Fault, FaultDraw, FaultRates};
use super::random::{Kind, Random, VoterIds, derive, mix};

pub const WAITING_MAX: usize = 1 << 17;

/// A record to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it arrives at the log, in the election's time; never earlier than the one before.
    pub arrives_at_ms: i64,
    pub voter: VoterId,
    pub cell: u32,
    pub channel: u32,
    pub cast_at_ms: i64,
    /// Random bits for its form.
    pub salt: u64,
    pub form: Form,
    /// None if it counts.
    pub rejected: Option<Reason>,
}

/// How a record differs from a plain vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Plain,
    Malformed,
    Misrouted,
    UnknownElection,
    UnknownRegion,
    UnknownChoice,
    UnknownChannel,
}

/// A queued record. Ordered by arrival; records that arrive together keep the order of insertion.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    order: (i64, u64),
    event: Event,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Waiting) -> bool {
        self.order == other.order
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Waiting) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

pub struct Schedule<'a, S> {
    source: S,
    cells: &'a Cells,
    draw: FaultDraw,
    strangers: VoterIds,
    late_seed: u64,
    opens_at_ms: i64,
    closes_at_ms: i64,
    channels: u64,
    /// The next ballot, not released yet, and whether `source` has ended.
    ahead: Option<Ballot>,
    ended: bool,
    /// Arrives together with the record before it.
    beside: Option<Event>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    /// Arrival of the first queued record.
    first_waiting_ms: i64,
    waited: u64,
    strange: u64,
    /// Votes cast too late: how many were drawn, and how many have been generated.
    late: u64,
    late_made: u64,
}

impl<'a, S: Source> Schedule<'a, S> {
    pub fn new<B: Ballots<Source<'a> = S>>(ballots: &'a B, faults: &FaultRates) -> Result<Self, FileError> {
        let election = ballots.election();
        Ok(Schedule {
            source: ballots.start()?,
            cells: ballots.cells(),
            draw: FaultDraw::new(faults),
            strangers: VoterIds::new(ballots.seed()),
            late_seed: derive(ballots.seed(), "late"),
            opens_at_ms: election.opens_at_ms,
            closes_at_ms: election.closes_at_ms,
            channels: election.channels.len() as u64,
            ahead: None,
            ended: false,
            beside: None,
            waiting: BinaryHeap::new(),
            first_waiting_ms: i64::MAX,
            waited: 0,
            strange: 0,
            late: 0,
            late_made: 0,
        })
    }

    /// The next record, or none after the last.
    #[inline]
    pub fn next(&mut self) -> Result<Option<Event>, FileError> {
        loop {
            if let Some(event) = self.beside.take() {
                return Ok(Some(event));
            }
            if self.ahead.is_none() && !self.ended {
                self.ahead = self.source.next()?;
                self.ended = self.ahead.is_none();
            }
            let Some(ballot) = self.ahead else { return Ok(self.after_the_day()) };
            if self.first_waiting_ms <= ballot.cast_at_ms {
                return Ok(self.pop_waiting());
            }
            self.ahead = None;
            let event = Event {
                arrives_at_ms: ballot.cast_at_ms,
                voter: ballot.voter,
                cell: ballot.cell,
                channel: ballot.channel,
                cast_at_ms: ballot.cast_at_ms,
                salt: ballot.salt,
                form: Form::Plain,
                rejected: None,
            };
            match ballot.attempt {
                Attempt::Repeated => return Ok(Some(Event { rejected: Some(Reason::AlreadyVoted), ..event })),
                // Never delay it: a later ballot of the same voter would count in its place.
                Attempt::First => return Ok(Some(event)),
                Attempt::Once => {}
            }
            match self.draw.pick((ballot.salt >> 32) as u32) {
                None => return Ok(Some(event)),
                Some(fault) => {
                    if let Some(event) = self.inject(fault, event) {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    /// What arrives now for a ballot with a fault; none if all of it arrives later.
    #[cold]
    fn inject(&mut self, fault: Fault, ballot: Event) -> Option<Event> {
        let mut random = Random::new(ballot.salt);
        let day = (self.closes_at_ms - self.opens_at_ms) as u64;
        match fault {
            Fault::Redelivery | Fault::DoubleVote | Fault::Delay if self.waiting.len() >= WAITING_MAX => Some(ballot),
            Fault::Redelivery => {
                // Usually soon, sometimes much later.
                let after = day >> (3 + random.below(10));
                let arrives_at_ms = self.later(ballot, 1 + random.below(after + 1));
                self.wait(Event { arrives_at_ms, rejected: Some(Reason::AlreadyVoted), ..ballot });
                Some(ballot)
            }
            Fault::DoubleVote => {
                let after = day >> (3 + random.below(10));
                let arrives_at_ms = self.later(ballot, 1 + random.below(after + 1));
                let region = self.cells.of_region(self.cells.cell(ballot.cell).region);
                let others = u64::from(region.end - region.start) - 1;
                let step = 1 + random.below(others) as u32;
                let cell = region.start + (ballot.cell - region.start + step) % (others as u32 + 1);
                let cast_at_ms = arrives_at_ms.min(self.closes_at_ms - 1);
                self.wait(Event { arrives_at_ms, cell, cast_at_ms, rejected: Some(Reason::AlreadyVoted), ..ballot });
                Some(ballot)
            }
            Fault::Delay => {
                let arrives_at_ms = self.later(ballot, day / 64 + 1 + random.below(day / 5 + 1));
                self.wait(Event { arrives_at_ms, ..ballot });
                None
            }
            Fault::TooLate => {
                self.late += 1;
                Some(ballot)
            }
            Fault::TooEarly => {
                let early = if random.below(16) == 0 { 0 } else { random.below(3_600_000) };
                let cast_at_ms = self.opens_at_ms - 1 - early as i64;
                self.before(ballot, Event { cast_at_ms, ..ballot }, Form::Plain, Reason::NotOpen)
            }
            Fault::Malformed => self.before(ballot, ballot, Form::Malformed, Reason::Malformed),
            Fault::Misrouted => self.before(ballot, ballot, Form::Misrouted, Reason::Misrouted),
            Fault::UnknownElection => self.before(ballot, ballot, Form::UnknownElection, Reason::UnknownElection),
            Fault::UnknownRegion => self.before(ballot, ballot, Form::UnknownRegion, Reason::UnknownRegion),
            Fault::UnknownChoice => self.before(ballot, ballot, Form::UnknownChoice, Reason::UnknownChoice),
            Fault::UnknownChannel => self.before(ballot, ballot, Form::UnknownChannel, Reason::UnknownChannel),
        }
    }

    /// Sends a rejected record just before a ballot. Half of them are of the ballot's own voter, whose vote they must
    /// not use up; the others are of strangers who never vote.
    fn before(&mut self, ballot: Event, rejected: Event, form: Form, reason: Reason) -> Option<Event> {
        self.beside = Some(ballot);
        let salt = mix(ballot.salt);
        let voter = if salt & 1 == 0 { ballot.voter } else { self.stranger() };
        Some(Event { form, rejected: Some(reason), voter, salt, ..rejected })
    }

    fn stranger(&mut self) -> VoterId {
        self.strange += 1;
        self.strangers.id(Kind::Stranger, self.strange - 1)
    }

    /// An arrival time `after_ms` after a ballot; the part after the closing is compressed.
    fn later(&self, ballot: Event, after_ms: u64) -> i64 {
        let at = ballot.cast_at_ms + after_ms as i64;
        if at <= self.closes_at_ms { at } else { self.closes_at_ms + (at - self.closes_at_ms) / 4 }
    }

    fn wait(&mut self, event: Event) {
        self.waiting.push(Reverse(Waiting { order: (event.arrives_at_ms, self.waited), event }));
        self.waited += 1;
        self.first_waiting_ms = self.first_waiting_ms.min(event.arrives_at_ms);
    }

    fn pop_waiting(&mut self) -> Option<Event> {
        let event = self.waiting.pop().map(|Reverse(waiting)| waiting.event);
        self.first_waiting_ms = self.waiting.peek().map_or(i64::MAX, |Reverse(first)| first.order.0);
        event
    }

    /// What is still queued, merged with the votes cast too late, spread over a fortieth of a day.
    fn after_the_day(&mut self) -> Option<Event> {
        if self.late_made == self.late {
            return self.pop_waiting();
        }
        let tail = (self.closes_at_ms - self.opens_at_ms) as u128 / 40;
        let arrives_at_ms = self.closes_at_ms + (tail * u128::from(self.late_made) / u128::from(self.late)) as i64;
        if self.first_waiting_ms <= arrives_at_ms {
            return self.pop_waiting();
        }
        let salt = mix(self.late_seed ^ self.late_made);
        let mut random = Random::new(salt);
        // The first is cast exactly at the closing time, which is already too late.
        let late = if self.late_made == 0 { 0 } else { random.below(3_600_000) as i64 };
        self.late_made += 1;
        Some(Event {
            arrives_at_ms,
            voter: self.stranger(),
            cell: random.below(self.cells.len() as u64) as u32,
            channel: random.below(self.channels) as u32,
            cast_at_ms: self.closes_at_ms + late,
            salt,
            form: Form::Plain,
            rejected: Some(Reason::Closed),
        })
    }
}
