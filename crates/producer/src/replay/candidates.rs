//! Who is one candidate: by id, by name, or by name in one region.

use std::collections::{HashMap, HashSet};

use super::codes::Codes;
use super::facts::VoteFact;
use super::layout::SameName;
use super::settled::{Candidate, CandidateRow};
use super::settling::Settling;

/// Identifies the candidate of a row.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Person {
    Id(u32),
    Name(u32),
    /// Stands in one region only, and may have a namesake there.
    Local {
        name: u32,
        region: usize,
        number: usize,
    },
}

impl Settling<'_> {
    /// Groups rows by candidate.
    pub fn candidates(&mut self, is_local: bool) -> Vec<Candidate> {
        let doubled = self.doubled_names();
        let mut candidates: Vec<(Person, Vec<(VoteFact, u64)>)> = Vec::new();
        let mut place_of: HashMap<Person, usize> = HashMap::new();
        let mut row_of: HashMap<(Person, usize), usize> = HashMap::new();
        let mut numbers: HashMap<(usize, u32), usize> = HashMap::new();
        for at in 0..self.votes.len() {
            let vote = self.votes[at];
            let Some(name) = vote.choice else { continue };
            let number = numbers.entry((vote.region, name)).or_insert(0);
            *number += 1;
            let number = *number;
            let person = match (vote.id, self.answers.same_name) {
                (Some(_), Some(SameName::One)) if doubled.contains(&name) => Person::Name(name),
                (Some(id), _) => Person::Id(id),
                (None, Some(SameName::Several)) if doubled.contains(&name) => {
                    Person::Local { name, region: vote.region, number }
                }
                (None, _) if is_local => Person::Local { name, region: vote.region, number: 1 },
                (None, _) => Person::Name(name),
            };
            let place = *place_of.entry(person).or_insert_with(|| {
                candidates.push((person, Vec::new()));
                candidates.len() - 1
            });
            let rows = &mut candidates[place].1;
            match row_of.get(&(person, vote.region)) {
                Some(row) => {
                    let first = rows[*row].0;
                    rows[*row].1 += vote.votes;
                    self.check_again(&vote, &first);
                }
                None => {
                    row_of.insert((person, vote.region), rows.len());
                    rows.push((vote, vote.votes));
                }
            }
        }
        if self.added > 0 {
            let what = format!("{} rows were added to another row with the same name and region", self.added);
            self.findings.note(what);
        }
        self.named(candidates)
    }

    /// Names that occur more than once in a region. If their ids differ, it is unclear whether they are one person.
    fn doubled_names(&mut self) -> HashSet<u32> {
        let mut first_of: HashMap<(usize, u32), VoteFact> = HashMap::new();
        let mut doubled = HashSet::new();
        let column = self.choice_column();
        for at in 0..self.votes.len() {
            let vote = self.votes[at];
            let Some(name) = vote.choice else { continue };
            let first = *first_of.entry((vote.region, name)).or_insert(vote);
            if first.line == vote.line && first.id == vote.id && first.votes == vote.votes && first.part == vote.part {
                continue;
            }
            if first.part == vote.part || first.id != vote.id {
                let is_open = first.id != vote.id && self.answers.same_name.is_none();
                if is_open && doubled.insert(name) {
                    let what = format!(
                        "`{}` is already in region `{}` on line {}, with another id; --same-name one adds them up as \
                         one person, --same-name several keeps them apart",
                        self.name(name),
                        self.regions[vote.region].code,
                        first.line
                    );
                    self.findings.refuse(vote.line, column, what);
                }
                doubled.insert(name);
            }
        }
        doubled
    }

    /// A person's second row in a region.
    fn check_again(&mut self, vote: &VoteFact, first: &VoteFact) {
        let is_other_part = self.facts.has_parts && vote.part != first.part;
        if is_other_part || self.answers.same_name == Some(SameName::One) {
            self.added += u64::from(!is_other_part);
            return;
        }
        let (name, region) = (vote.choice.map_or("", |choice| self.name(choice)), &self.regions[vote.region].code);
        let what = match vote.id {
            Some(id) => format!(
                "`{}` is already in region `{region}` on line {}; expected each id once per region, or --same-name \
                 one, which adds them up",
                self.facts.texts.text(id),
                first.line
            ),
            None => format!(
                "`{name}` is already in region `{region}` on line {}; --same-name one adds them up as one person, \
                 --same-name several keeps them apart; if a column distinguishes them, name it with \
                 --choice-id-column or --part-column",
                first.line
            ),
        };
        let column = if vote.id.is_some() { self.facts.id_column.as_deref() } else { self.choice_column() };
        self.findings.refuse(vote.line, column, what);
    }

    fn named(&self, candidates: Vec<(Person, Vec<(VoteFact, u64)>)>) -> Vec<Candidate> {
        let mut codes = Codes::default();
        let regions = self.regions.len();
        let named = candidates.into_iter().map(|(person, rows)| {
            let first = rows[0].0;
            let text = |vote: &VoteFact| vote.choice.map_or("", |choice| self.name(choice));
            let code = match first.id {
                Some(id) => self.facts.texts.text(id).to_owned(),
                None => codes.give(text(&first), "candidate"),
            };
            // A candidate has at most one row per region, so as many rows as regions means every region.
            let is_everywhere = rows.len() == regions
                && (first.id.is_none() || regions > 1)
                && !matches!(person, Person::Local { .. })
                && rows.iter().all(|(row, _)| row.choice == first.choice);
            let rows = rows.iter().map(|(row, votes)| CandidateRow {
                region: row.region,
                name: text(row).to_owned(),
                votes: *votes,
            });
            Candidate { code, rows: rows.collect(), is_everywhere }
        });
        named.collect()
    }
}
