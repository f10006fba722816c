//! Moments worth reporting: the lead changes, or a region passes half or nine tenths of its votes.
//!
//! Found by comparing the count with the previous one, so only from this server's start on. What is already true at the
//! first look is not a moment.

use std::collections::HashMap;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Moments kept; older ones are dropped.
pub const MOMENTS_MAX: usize = 60;

/// Minimum lead to report, as a share of the valid votes, so that a lead that flips by single votes is ignored.
const LEAD: f64 = 0.001;
/// Shares of the expected votes below which the leader means little.
const EARLY_ELECTION: f64 = 0.01;
const EARLY_REGION: f64 = 0.1;

const MARKS: [f64; 2] = [0.5, 0.9];

/// A region or the whole election, as counted so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Race {
    pub votes: u64,
    pub valid: u64,
    /// Leader and runner-up: place in the election's list, and votes.
    pub first: Option<(u32, u64)>,
    pub second: Option<(u32, u64)>,
    /// None: not known.
    pub registered: Option<u64>,
    /// Expected votes; none: not known.
    pub expected: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Moment {
    /// The lead of the election changed.
    Leader {
        place: u32,
        before: u32,
    },
    RegionLeader {
        region: String,
        place: u32,
        before: u32,
    },
    /// A region passed a share of its expected votes, or else of its registered voters.
    Turnout {
        region: String,
        share: f64,
        of: Of,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    Expected,
    Registered,
}

#[derive(Default)]
pub struct Moments {
    election: Option<Known>,
    regions: HashMap<String, Known>,
    /// Number, time and moment, newest last.
    reported: VecDeque<(u64, String, Moment)>,
    next: u64,
}

/// The last observation of a race.
#[derive(Clone, Copy)]
struct Known {
    leader: Option<u32>,
    marks: [bool; MARKS.len()],
}

impl Moments {
    /// Forgets everything but the numbering, for another election.
    pub fn forget(&mut self) {
        *self = Moments { next: self.next, ..Moments::default() };
    }

    /// Compares with the previous observation; `at` is the current time (RFC 3339).
    pub fn observe(&mut self, at: &str, election: Race, regions: impl IntoIterator<Item = (String, Race)>) {
        let mut found = Vec::new();
        let known = self.election.map(|known| known.leader);
        let leader = election.leader(EARLY_ELECTION).or(known.flatten());
        if let (Some(Some(before)), Some(place)) = (known, leader)
            && before != place
        {
            found.push(Moment::Leader { place, before });
        }
        self.election = Some(Known { leader, marks: [true; MARKS.len()] });
        for (region, race) in regions {
            let known = self.regions.get(&region).copied();
            let leader = race.leader(EARLY_REGION).or(known.and_then(|known| known.leader));
            let marks = MARKS.map(|share| race.has(share));
            if let Some(known) = known {
                if let (Some(before), Some(place)) = (known.leader, leader)
                    && before != place
                {
                    found.push(Moment::RegionLeader { region: region.clone(), place, before });
                }
                // A race that passes both marks at once reports the higher one.
                let passed = (0..MARKS.len()).rev().find(|&mark| marks[mark] && !known.marks[mark]);
                if let Some(mark) = passed {
                    let of = if race.expected.is_some() { Of::Expected } else { Of::Registered };
                    found.push(Moment::Turnout { region: region.clone(), share: MARKS[mark], of });
                }
            }
            self.regions.insert(region, Known { leader, marks });
        }
        for moment in found {
            self.reported.push_back((self.next, at.to_owned(), moment));
            self.next += 1;
        }
        let many = self.reported.len().saturating_sub(MOMENTS_MAX);
        self.reported.drain(..many);
    }

    /// The kept moments, oldest first: number, time, moment.
    pub fn reported(&self) -> impl Iterator<Item = &(u64, String, Moment)> {
        self.reported.iter()
    }
}

impl Race {
    /// The place of the clear leader, once enough is counted.
    fn leader(&self, early: f64) -> Option<u32> {
        let (place, votes) = self.first?;
        let lead = votes.saturating_sub(self.second.map_or(0, |(_, votes)| votes));
        let clear = lead > 0 && lead as f64 >= LEAD * self.valid as f64;
        (clear && self.has(early)).then_some(place)
    }

    /// Whether that share of the expected votes, or else of the registered voters, is counted.
    fn has(&self, share: f64) -> bool {
        let Some(all) = self.expected.or(self.registered) else { return false };
        all > 0 && self.votes as f64 >= share * all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn race(first: (u32, u64), second: (u32, u64), expected: Option<u64>) -> Race {
        let votes = first.1 + second.1;
        Race { votes, valid: votes, first: Some(first), second: Some(second), registered: Some(1000), expected }
    }

    fn reported(moments: &Moments) -> Vec<Moment> {
        moments.reported().map(|(_, _, moment)| moment.clone()).collect()
    }

    #[test]
    fn what_is_true_at_the_start_is_not_reported() {
        let mut moments = Moments::default();
        let region = race((0, 600), (1, 300), None);
        moments.observe("t", region, [("N".to_owned(), region)]);
        moments.observe("t", region, [("N".to_owned(), region)]);
        assert_eq!(reported(&moments), []);
    }

    #[test]
    fn a_change_of_lead_is_reported_once_it_is_clear_and_enough_is_counted() {
        let mut moments = Moments::default();
        let mut see = |first, second| {
            let now = race(first, second, None);
            moments.observe("t", Race::default(), [("N".to_owned(), now)]);
            reported(&moments).len()
        };
        assert_eq!(see((0, 2), (1, 1)), 0, "too early to say who leads");
        assert_eq!(see((1, 60), (0, 50)), 0, "the first leader is no change");
        assert_eq!(see((0, 100), (1, 100)), 0, "level");
        assert_eq!(see((0, 150), (1, 100)), 1);
        assert_eq!(see((0, 160), (1, 100)), 1, "reported once");
        assert_eq!(reported(&moments), [Moment::RegionLeader { region: "N".into(), place: 0, before: 1 }]);
    }

    #[test]
    fn marks_are_shares_of_expected_or_else_registered() {
        let mut moments = Moments::default();
        let mut see = |votes: u64, expected| {
            moments.observe("t", Race::default(), [("N".to_owned(), race((0, votes), (1, 0), expected))]);
        };
        see(100, Some(300));
        see(149, Some(300));
        see(150, Some(300));
        see(480, None);
        see(990, None);
        let turnout = |share, of| Moment::Turnout { region: "N".into(), share, of };
        assert_eq!(reported(&moments), [turnout(0.5, Of::Expected), turnout(0.9, Of::Registered)]);
    }

    #[test]
    fn the_newest_are_kept_and_numbering_continues() {
        let mut moments = Moments::default();
        let all = 3 * MOMENTS_MAX as u64;
        for n in 0..=all {
            let place = (n % 2) as u32;
            moments.observe(&n.to_string(), race((place, 600), (1 - place, 100), None), []);
        }
        let numbers: Vec<u64> = moments.reported().map(|(number, _, _)| *number).collect();
        assert_eq!(numbers, (all - MOMENTS_MAX as u64..all).collect::<Vec<_>>());
        moments.forget();
        assert_eq!(moments.reported().count(), 0);
        assert_eq!(moments.next, all);
    }
}
