//! Detects rows that are sums of others, by name and by figures.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::facts::VoteFact;
use super::layout::TotalsPolicy;
use super::settling::Settling;
use super::words::is_total_region;

/// Votes by candidate.
type Votes = BTreeMap<u32, u64>;

/// Why a row is taken for a sum.
enum Why {
    /// The sum of all others, or of the region's.
    Sum,
    /// The sum of its neighbours.
    GroupSum,
    Name,
    /// Its name is a prefix of other regions' names.
    Whole,
}

/// Ways of voting that are the sum of the candidate's other ones.
pub(super) fn settle_parts(settling: &mut Settling<'_>) {
    let mut parts: HashMap<(usize, Option<u32>, Option<u32>), usize> = HashMap::new();
    let key = |vote: &VoteFact| (vote.region, vote.choice, vote.id);
    settling.votes.iter().filter(|vote| vote.part.is_some()).for_each(|vote| *parts.entry(key(vote)).or_default() += 1);
    let texts = &settling.facts.texts;
    let is_sum = |vote: &VoteFact| {
        vote.part.is_some_and(|part| is_total_region(texts.text(part)))
            && parts.get(&key(vote)).is_some_and(|rows| *rows > 1)
    };
    let Some(first) = settling.votes.iter().find(|vote| is_sum(vote)).copied() else { return };
    match settling.answers.totals {
        Some(TotalsPolicy::LeaveOut) => {
            let before = settling.votes.len();
            settling.votes.retain(|vote| !is_sum(vote));
            let left_out = before - settling.votes.len();
            settling.findings.note(format!("{left_out} rows are totals over the ways of voting, and omitted"));
        }
        Some(TotalsPolicy::Keep) => {}
        None => {
            let part = first.part.map_or("", |part| texts.text(part));
            let what = format!(
                "`{part}` is a totals row next to the ways of voting it sums up; --totals leave-out omits such rows, \
                 --totals keep adds them too"
            );
            settling.findings.refuse(first.line, None, what);
        }
    }
}

/// Regions that are sums of others.
pub(super) fn settle_regions(settling: &mut Settling<'_>) {
    let found = sums_of_regions(settling);
    let column = settling.facts.region_column.as_str();
    let mut gone = HashSet::new();
    let mut votes = vec![0; settling.regions.len()];
    settling.votes.iter().for_each(|vote| votes[vote.region] += vote.votes);
    for (region, why) in found {
        let row = &settling.regions[region];
        let why = match why {
            Why::Sum => "equals the sum of all others",
            Why::GroupSum => "equals the sum of its neighbours",
            Why::Name => "is named like a total",
            Why::Whole => "contains other regions",
        };
        let what = format!("region `{}` {why} ({} votes)", row.name, votes[region]);
        match settling.answers.totals {
            None => {
                let what = format!(
                    "{what}: probably a totals row; --totals leave-out omits such rows, --totals keep counts them"
                );
                settling.findings.refuse(row.line, Some(column), what);
            }
            Some(TotalsPolicy::LeaveOut) => {
                settling.findings.note_at(row.line, Some(column), format!("{what}, and is omitted"));
                gone.insert(region);
            }
            Some(TotalsPolicy::Keep) => {}
        }
    }
    leave_out(settling, &gone);
}

fn leave_out(settling: &mut Settling<'_>, gone: &HashSet<usize>) {
    if gone.is_empty() {
        return;
    }
    let mut place_of = HashMap::new();
    let mut regions = Vec::new();
    for (place, region) in std::mem::take(&mut settling.regions).into_iter().enumerate() {
        if !gone.contains(&place) {
            place_of.insert(place, regions.len());
            regions.push(region);
        }
    }
    settling.regions = regions;
    settling.votes.retain_mut(|vote| match place_of.get(&vote.region) {
        Some(place) => {
            vote.region = *place;
            true
        }
        None => false,
    });
}

fn sums_of_regions(settling: &Settling<'_>) -> Vec<(usize, Why)> {
    let regions = &settling.regions;
    let mut votes = vec![Votes::new(); regions.len()];
    for vote in settling.votes.iter().filter(|vote| vote.votes > 0) {
        if let Some(choice) = vote.choice {
            *votes[vote.region].entry(choice).or_default() += vote.votes;
        }
    }
    let depth = regions.iter().map(|region| region.depth).max().unwrap_or_default();
    let mut found: BTreeMap<usize, Why> = BTreeMap::new();
    for (place, region) in regions.iter().enumerate() {
        let is_whole = || {
            region.depth < depth && regions.iter().any(|other| other.code.starts_with(&format!("{} / ", region.code)))
        };
        if is_total_region(&region.code) || is_total_region(&region.name) {
            found.insert(place, Why::Name);
        } else if is_whole() {
            found.insert(place, Why::Whole);
        }
    }
    let rest: Vec<usize> =
        (0..regions.len()).filter(|place| !found.contains_key(place) && !votes[*place].is_empty()).collect();
    for (place, why) in found.iter_mut().filter(|(_, why)| matches!(why, Why::Name)) {
        if votes[*place] == sum(rest.iter().map(|other| &votes[*other])) {
            *why = Why::Sum;
        }
    }
    if let Some(whole) = sum_of_all(&rest, &votes) {
        found.insert(whole, Why::Sum);
    }
    let rest: Vec<usize> = rest.into_iter().filter(|place| !found.contains_key(place)).collect();
    found.extend(sums_of_groups(&rest, &votes).into_iter().map(|place| (place, Why::GroupSum)));
    found.into_iter().collect()
}

fn sum<'a>(votes: impl Iterator<Item = &'a Votes>) -> Votes {
    votes.fold(Votes::new(), |mut sum, votes| {
        votes.iter().for_each(|(choice, votes)| *sum.entry(*choice).or_default() += votes);
        sum
    })
}

/// The region whose votes equal those of all others together, if there are several others.
fn sum_of_all(places: &[usize], votes: &[Votes]) -> Option<usize> {
    if places.len() < 3 {
        return None;
    }
    let all = sum(places.iter().map(|place| &votes[*place]));
    let is_half = |place: &&usize| {
        let votes = &votes[**place];
        votes.len() > 1
            && votes.len() == all.len()
            && all.iter().all(|(choice, sum)| votes.get(choice).is_some_and(|votes| votes * 2 == *sum))
    };
    places.iter().find(is_half).copied()
}

/// The regions after groups whose votes equal the group's sum; none unless all regions are in such groups.
fn sums_of_groups(places: &[usize], votes: &[Votes]) -> Vec<usize> {
    let behind = groups(places.iter().copied(), votes);
    if !behind.is_empty() {
        return behind;
    }
    groups(places.iter().rev().copied(), votes)
}

fn groups(places: impl Iterator<Item = usize>, votes: &[Votes]) -> Vec<usize> {
    let (mut found, mut group, mut size) = (Vec::new(), Votes::new(), 0);
    for place in places {
        if size > 1 && group.len() > 1 && votes[place] == group {
            found.push(place);
            (group, size) = (Votes::new(), 0);
        } else {
            group = sum([&group, &votes[place]].into_iter());
            size += 1;
        }
    }
    if size == 0 && found.len() > 1 { found } else { Vec::new() }
}

/// A candidate who has as many votes as all others together in every region. With fewer than three regions this may be
/// chance.
pub(super) fn settle_candidates(settling: &mut Settling<'_>) {
    let regions = settling.regions.len();
    if regions < 3 || settling.answers.totals == Some(TotalsPolicy::Keep) {
        return;
    }
    let mut sums = vec![0; regions];
    let mut of: HashMap<u32, Vec<u64>> = HashMap::new();
    let mut first_line: HashMap<u32, u64> = HashMap::new();
    for vote in &settling.votes {
        let Some(choice) = vote.choice else { continue };
        sums[vote.region] += vote.votes;
        of.entry(choice).or_insert_with(|| vec![0; regions])[vote.region] += vote.votes;
        first_line.entry(choice).or_insert(vote.line);
    }
    let is_sum = |votes: &Vec<u64>| {
        votes.iter().zip(&sums).all(|(votes, sum)| votes * 2 == *sum) && votes.iter().any(|votes| *votes > 0)
    };
    if of.len() < 4 {
        return;
    }
    let Some(choice) = of.iter().find(|(_, votes)| is_sum(votes)).map(|(choice, _)| *choice) else { return };
    let what = format!("`{}` equals the sum of all others in each region", settling.name(choice));
    let (line, column) = (first_line[&choice], settling.choice_column());
    if settling.answers.totals == Some(TotalsPolicy::LeaveOut) {
        settling.findings.note_at(line, column, format!("{what}, and is omitted"));
        settling.votes.retain(|vote| vote.choice != Some(choice));
    } else {
        let what =
            format!("{what}: probably a total; --totals leave-out omits it, --totals keep treats it as a candidate");
        settling.findings.refuse(line, column, what);
    }
}
