//! How many ballots are cast for what, and where: drawn at random from a seed, or given by a result.
//!
//! Knows nothing about faults or time; [`Day`](super::day::Day) spreads the ballots over the voting day.

use scrutin_contract::election::Election;

use super::cells::Cells;
use super::random::{Random, apportion, derive};

/// An exact number of ballots for every cell of an election.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    election: Election,
    cells: Cells,
    /// Ballots of each cell.
    ballots: Vec<u32>,
    seed: u64,
}

impl Plan {
    /// A plan with given counts, one for each of [`Cells::of`] the election.
    ///
    /// The seed decides order, voters and channels.
    ///
    /// # Errors
    ///
    /// If the election is invalid or has too many cells, or the counts do not match them.
    pub fn new(election: Election, ballots: Vec<u32>, seed: u64) -> Result<Plan, String> {
        election.check()?;
        let cells = Cells::of(&election)?;
        if cells.len() != ballots.len() {
            return Err(format!("{} counts for {} pairs of a region and a choice", ballots.len(), cells.len()));
        }
        Ok(Plan { election, cells, ballots, seed })
    }

    /// Draws a plausible result: turnout between 65 and 82 % by region, about 1.5 % blank and 0.7 % null, choices with
    /// strongholds, and two front-runners within a point of each other.
    ///
    /// # Errors
    ///
    /// If the election is invalid, has too many cells, or a region's registered voters are unknown or too many.
    pub fn draw(election: Election, seed: u64) -> Result<Plan, String> {
        election.check()?;
        let cells = Cells::of(&election)?;
        for region in &election.regions {
            match region.registered {
                None => {
                    return Err(format!(
                        "region `{}` has no number of registered voters, which a simulation needs",
                        region.code
                    ));
                }
                Some(registered) if registered > u64::from(u32::MAX) => {
                    return Err(format!(
                        "region `{}` has {registered} registered; expected at most {}",
                        region.code,
                        u32::MAX
                    ));
                }
                Some(_) => {}
            }
        }
        let ballots = draw_ballots(&election, &cells, seed);
        Ok(Plan { election, cells, ballots, seed })
    }

    pub fn election(&self) -> &Election {
        &self.election
    }

    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    /// Ballots of each cell.
    pub fn ballots(&self) -> &[u32] {
        &self.ballots
    }

    /// The total number of ballots.
    pub fn total(&self) -> u64 {
        self.ballots.iter().map(|&ballots| u64::from(ballots)).sum()
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The two choices with the most votes, as indices into [`Cells::choices`]; fewer if fewer have any.
    pub fn front(&self) -> Vec<u32> {
        let valid = self.cells.choices().len() - 2;
        let mut votes: Vec<(u64, u32)> = (0..valid as u32).map(|choice| (0, choice)).collect();
        for (cell, &ballots) in self.ballots.iter().enumerate() {
            if let Some(votes) = votes.get_mut(self.cells.cell(cell as u32).choice as usize) {
                votes.0 += u64::from(ballots);
            }
        }
        votes.retain(|(votes, _)| *votes > 0);
        votes.sort_by_key(|&(votes, choice)| (std::cmp::Reverse(votes), choice));
        votes.iter().take(2).map(|(_, choice)| *choice).collect()
    }
}

/// The same election with a given total of registered voters, distributed over the regions in proportion.
pub fn scaled(election: &Election, voters: u64) -> Election {
    let weights: Vec<u64> = election.regions.iter().map(|region| region.registered.unwrap_or(0)).collect();
    let mut election = election.clone();
    let known =
        election.regions.iter_mut().zip(apportion(voters, &weights)).filter(|(region, _)| region.registered.is_some());
    for (region, registered) in known {
        region.registered = Some(registered);
    }
    election
}

fn draw_ballots(election: &Election, cells: &Cells, seed: u64) -> Vec<u32> {
    let mut random = Random::new(derive(seed, "result"));
    let valid_choices = cells.choices().len() - 2;
    let mut rank: Vec<usize> = (0..valid_choices).collect();
    random.shuffle(&mut rank);
    let mut ballots = vec![0; cells.len()];
    for (region, about) in election.regions.iter().enumerate() {
        let range = cells.of_region(region as u32);
        let range = range.start as usize..range.end as usize;
        let valid = range.len() - 2;
        // `around` sums two dice; the mean is near 74 %.
        let turnout = part(about.registered.unwrap_or(0), random.around(6500, 8200), &mut random);
        let blank = part(turnout, random.around(90, 210), &mut random).min(turnout);
        let null = part(turnout, random.around(40, 100), &mut random).min(turnout - blank);
        // The ranks of the choices that stand here, without gaps.
        let mut here: Vec<usize> = range.clone().take(valid).collect();
        here.sort_by_key(|&cell| rank[cells.cell(cell as u32).choice as usize]);
        let duel = random.around(-300, 300);
        let mut weights = vec![0; valid];
        for (place, cell) in here.into_iter().enumerate() {
            let swing = match place {
                0 => duel,
                1 => -duel,
                _ => random.around(-450, 550),
            };
            weights[cell - range.start] = strength(place) * (1000 + swing) as u64;
        }
        let valid_votes = if valid == 0 { 0 } else { turnout - blank - null };
        for (offset, votes) in apportion(valid_votes, &weights).into_iter().enumerate() {
            ballots[range.start + offset] = votes as u32;
        }
        ballots[range.end - 2] = blank as u32;
        ballots[range.end - 1] = null as u32;
    }
    tighten(election, cells, &rank, &mut ballots, &mut random);
    ballots
}

/// That many ten-thousandths of a number, rounded up or down at random.
fn part(whole: u64, ten_thousandths: i64, random: &mut Random) -> u64 {
    ((whole * ten_thousandths as u64 + random.below(10_000)) / 10_000).min(whole)
}

/// The strength of the choice with this rank: two front-runners, then each a fifth weaker than the one before.
fn strength(rank: usize) -> u64 {
    let mut strength = 100_000;
    for _ in 1..rank.min(40) {
        strength = strength * 4 / 5;
    }
    strength
}

/// Moves votes between the two front-runners until the first leads by 0.2 to 0.7 points of the valid votes.
fn tighten(election: &Election, cells: &Cells, rank: &[usize], ballots: &mut [u32], random: &mut Random) {
    let everywhere = election.choices.iter().enumerate().filter(|(_, choice)| choice.region.is_none());
    // Choices that stand everywhere have distinct codes, so they keep their order in `choices`.
    let place_of = |code: &str| cells.choices().iter().position(|choice| choice == code);
    let mut front: Vec<usize> = everywhere.filter_map(|(_, choice)| place_of(&choice.code)).collect();
    front.sort_by_key(|&place| rank[place]);
    let [first, second, ..] = front[..] else { return };
    let pairs: Vec<(usize, usize)> = (0..cells.regions().len() as u32)
        .filter_map(|region| Some((cells.find(region, first as u32)?, cells.find(region, second as u32)?)))
        .map(|(first, second)| (first as usize, second as usize))
        .collect();
    let votes = |of: &dyn Fn(&(usize, usize)) -> usize, ballots: &[u32]| -> Vec<u64> {
        pairs.iter().map(|pair| u64::from(ballots[of(pair)])).collect()
    };
    let (firsts, seconds) = (votes(&|pair| pair.0, ballots), votes(&|pair| pair.1, ballots));
    let valid: u64 = (0..cells.len() as u32)
        .filter(|cell| (cells.cell(*cell).choice as usize) < rank.len())
        .map(|cell| u64::from(ballots[cell as usize]))
        .sum();
    let wanted = (valid * (20 + random.below(50)) / 10_000) as i64;
    let lead = firsts.iter().sum::<u64>() as i64 - seconds.iter().sum::<u64>() as i64;
    let moved = (lead - wanted) / 2;
    // Taken from the regions in proportion, so that no count becomes negative.
    let source = if moved > 0 { &firsts } else { &seconds };
    let moved_in = apportion(moved.unsigned_abs().min(source.iter().sum()), source);
    for (&(first, second), votes) in pairs.iter().zip(moved_in) {
        let (from, to) = if moved > 0 { (first, second) } else { (second, first) };
        let votes = (votes as u32).min(ballots[from]);
        ballots[from] -= votes;
        ballots[to] += votes;
    }
}
