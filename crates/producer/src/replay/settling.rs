//! A file's rows while they are turned into results, step by step.

use std::collections::HashMap;

use super::facts::{Facts, REGISTERED_AT, RegionFacts, VoteFact};
use super::finding::Findings;
use super::layout::Answers;
use super::words::{self, Word};

/// Rows being turned into results.
pub(super) struct Settling<'a> {
    pub facts: &'a Facts,
    pub answers: &'a Answers,
    pub regions: Vec<RegionFacts>,
    pub votes: Vec<VoteFact>,
    pub findings: Findings,
    /// Rows that were added to another row with the same name and region.
    pub added: u64,
}

impl<'a> Settling<'a> {
    /// The rows of one contest, or of all.
    pub fn of_contest(
        facts: &'a Facts,
        answers: &'a Answers,
        contest: Option<usize>,
        mut findings: Findings,
    ) -> Settling<'a> {
        let mut place_of = HashMap::new();
        let mut regions = Vec::new();
        for (place, region) in facts.regions.iter().enumerate() {
            if contest.is_none_or(|contest| contest == region.contest) {
                place_of.insert(place, regions.len());
                regions.push(region.clone());
            }
        }
        if let Some(contest) = contest {
            add_registered(facts, contest, &mut regions, &mut findings);
        }
        let votes = facts
            .votes
            .iter()
            .filter_map(|vote| place_of.get(&vote.region).map(|region| VoteFact { region: *region, ..*vote }));
        Settling { facts, answers, votes: votes.collect(), regions, findings, added: 0 }
    }

    pub fn choice_column(&self) -> Option<&'a str> {
        self.facts.choice_column.as_deref()
    }

    pub fn name(&self, choice: u32) -> &'a str {
        self.facts.texts.text(choice)
    }
}

/// Takes the registered voters from a separate office, as some publishers list them.
fn add_registered(facts: &Facts, contest: usize, regions: &mut [RegionFacts], findings: &mut Findings) {
    let mut of_code: HashMap<&str, u64> = HashMap::new();
    for vote in &facts.votes {
        let region = &facts.regions[vote.region];
        let label = facts.contests[region.contest].parts.first().map_or("", String::as_str);
        if region.contest != contest && words::of_choice(label) == Some(Word::Registered) {
            *of_code.entry(region.code.as_str()).or_default() += vote.votes;
        }
    }
    for region in regions.iter_mut().filter(|region| region.figures[REGISTERED_AT].is_none()) {
        region.figures[REGISTERED_AT] = of_code.get(region.code.as_str()).copied();
    }
    if !of_code.is_empty() {
        findings.note("registered voters are listed as a separate contest and taken from there".into());
    }
}
