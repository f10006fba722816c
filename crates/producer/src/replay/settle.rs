//! Interprets a file's rows: which are results, which are totals, who is one person, and how many are registered.
//!
//! Nothing is guessed. Whatever a file leaves open is a [`Finding`](super::finding::Finding) that refuses the file
//! until an answer settles it; until then, the sums shown include all rows.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::codes::Codes;
use super::contests::choose;
use super::facts::{ABSTENTIONS_AT, BLANK_AT, Facts, NULL_AT, REGISTERED_AT, RegionFacts, VoteFact};
use super::finding::Findings;
use super::layout::{Answers, Layout, Marks, OverRegistered, SameName, Spelling, Totals};
use super::totals;
use super::words::{self, Word};

/// Results, ready to be counted.
pub struct Settled {
    pub contest: Option<String>,
    pub contests: Vec<String>,
    pub regions: Vec<RegionSum>,
    pub candidates: Vec<Candidate>,
    pub findings: Findings,
}

pub struct RegionSum {
    pub code: String,
    pub name: String,
    /// None if unknown.
    pub registered: Option<u64>,
    pub abstentions: Option<u64>,
    pub blank: u64,
    pub null: u64,
    pub valid: u64,
    pub line: u64,
}

impl RegionSum {
    /// The total number of ballots.
    pub fn cast(&self) -> u64 {
        self.valid + self.blank + self.null
    }
}

/// A person, or anything else that can be voted for.
pub struct Candidate {
    pub code: String,
    pub rows: Vec<CandidateRow>,
    pub is_everywhere: bool,
}

pub struct CandidateRow {
    pub region: usize,
    pub name: String,
    pub votes: u64,
}

impl Candidate {
    pub fn votes(&self) -> u64 {
        self.rows.iter().map(|row| row.votes).sum()
    }
}

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

/// Rows being turned into results.
pub(super) struct Settling<'a> {
    pub facts: &'a Facts,
    pub answers: &'a Answers,
    pub regions: Vec<RegionFacts>,
    pub votes: Vec<VoteFact>,
    pub findings: Findings,
    /// Rows that were added to another row with the same name and region.
    added: u64,
}

pub fn settle(facts: &Facts, layout: &Layout) -> Settled {
    let mut findings = Findings::default();
    let chosen = choose(facts, &layout.answers, &mut findings);
    let mut settling = Settling::of_contest(facts, &layout.answers, chosen.contest, findings);
    if facts.recomposed > 0 {
        settling.findings.note(format!(
            "names on {} rows are not in Unicode's composed form; they are normalised, so that one name is one person",
            facts.recomposed
        ));
    }
    settling.settle_nameless();
    settling.settle_words();
    totals::settle_parts(&mut settling);
    totals::settle_regions(&mut settling);
    totals::settle_candidates(&mut settling);
    settling.settle_spelling();
    let candidates = settling.candidates(layout.local);
    let regions = settling.region_sums();
    Settled { contest: chosen.label, contests: chosen.labels, regions, candidates, findings: settling.findings }
}

impl<'a> Settling<'a> {
    fn of_contest(
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

    /// Rows without a name.
    fn settle_nameless(&mut self) {
        let nameless: Vec<VoteFact> = self.votes.iter().filter(|vote| vote.choice.is_none()).copied().collect();
        if nameless.is_empty() {
            return;
        }
        let mut sums = vec![0; self.regions.len()];
        self.votes.iter().filter(|vote| vote.choice.is_some()).for_each(|vote| sums[vote.region] += vote.votes);
        let column = self.choice_column();
        let mut left_out = 0;
        for vote in nameless {
            let is_sum = vote.votes > 0 && vote.votes == sums[vote.region];
            match (is_sum, self.answers.totals) {
                (true, Some(Totals::LeaveOut)) => left_out += 1,
                (true, _) => {
                    let what = format!(
                        "is empty, and the row's {} votes are the sum of the others in region `{}`: probably a totals \
                         row; --totals leave-out omits such rows",
                        vote.votes, self.regions[vote.region].code
                    );
                    self.findings.refuse(vote.line, column, what);
                }
                (false, _) => self.findings.refuse(vote.line, column, "is empty; expected a value".into()),
            }
        }
        if left_out > 0 {
            self.findings.note(format!("{left_out} rows without a candidate are sums of others, and omitted"));
        }
        self.votes.retain(|vote| vote.choice.is_some());
    }

    /// Names that are words with another meaning.
    fn settle_words(&mut self) {
        let mut word_of: BTreeMap<u32, (Word, u64)> = BTreeMap::new();
        for vote in &self.votes {
            if let Some(choice) = vote.choice
                && let Some(word) = words::of_choice(self.name(choice))
            {
                word_of.entry(choice).or_insert((word, vote.line));
            }
        }
        let mut gone: HashMap<u32, Word> = HashMap::new();
        for (choice, (word, line)) in word_of {
            if self.settle_word(self.name(choice), word, line) {
                gone.insert(choice, word);
            }
        }
        let (moved, kept): (Vec<VoteFact>, Vec<VoteFact>) =
            self.votes.iter().partition(|vote| vote.choice.is_some_and(|choice| gone.contains_key(&choice)));
        self.votes = kept;
        self.count_marks(&moved, &gone);
    }

    /// Whether the rows of a word are not a candidate's.
    fn settle_word(&mut self, name: &str, word: Word, line: u64) -> bool {
        let column = self.choice_column();
        if word == Word::Total {
            return match self.answers.totals {
                Some(Totals::LeaveOut) => {
                    self.findings.note_at(line, column, format!("`{name}` is a total, and omitted"));
                    true
                }
                Some(Totals::Keep) => false,
                None => {
                    let what = format!(
                        "`{name}` names a total, not a candidate; --totals leave-out omits such rows, --totals \
                         keep treats them as candidates"
                    );
                    self.findings.refuse(line, column, what);
                    false
                }
            };
        }
        let meaning = match word {
            Word::Blank => "blank ballots",
            Word::Null => "spoilt ballots",
            Word::Registered => "the registered voters",
            _ => "those who did not vote",
        };
        match self.answers.marks {
            Some(Marks::Ballots) => {
                self.findings.note_at(line, column, format!("`{name}` is read as {meaning}"));
                true
            }
            Some(Marks::Choices) => false,
            None => {
                let what = format!(
                    "`{name}` is not a candidate's name; --marks ballots reads it as {meaning}, --marks choices as a \
                     candidate"
                );
                self.findings.refuse(line, column, what);
                false
            }
        }
    }

    /// Adds the votes for words to their regions' figures.
    fn count_marks(&mut self, moved: &[VoteFact], word_of: &HashMap<u32, Word>) {
        let mut counted: BTreeMap<(usize, usize), (u64, u64)> = BTreeMap::new();
        for vote in moved {
            let at = match vote.choice.and_then(|choice| word_of.get(&choice)) {
                Some(Word::Blank) => BLANK_AT,
                Some(Word::Null) => NULL_AT,
                Some(Word::Registered) => REGISTERED_AT,
                Some(Word::Abstentions) => ABSTENTIONS_AT,
                _ => continue,
            };
            let (sum, line) = counted.entry((vote.region, at)).or_insert((0, vote.line));
            (*sum, *line) = (*sum + vote.votes, (*line).min(vote.line));
        }
        for ((region, at), (sum, line)) in counted {
            let row = &mut self.regions[region];
            match row.figures[at] {
                Some(given) if given != sum => {
                    let name = super::places::FIGURES[at];
                    let what = format!(
                        "rows give {sum} as {name} for region `{}`, but a column gives {given}; expected the same",
                        row.code
                    );
                    self.findings.refuse(line, None, what);
                }
                _ => row.figures[at] = Some(sum),
            }
        }
    }

    /// Names that differ only in case and spaces.
    fn settle_spelling(&mut self) {
        let mut first_of: HashMap<(Option<u32>, String), (u32, u64)> = HashMap::new();
        let mut same_as: HashMap<(Option<u32>, u32), u32> = HashMap::new();
        let column = self.choice_column();
        for at in 0..self.votes.len() {
            let VoteFact { id, choice: Some(choice), line, .. } = self.votes[at] else { continue };
            if same_as.contains_key(&(id, choice)) {
                continue;
            }
            let name = self.name(choice);
            let (first, first_line) = *first_of.entry((id, words::spelling(name))).or_insert((choice, line));
            same_as.insert((id, choice), first);
            if first == choice {
                continue;
            }
            let pair = format!("`{name}` and `{}` (line {first_line}) differ only in case or spaces", self.name(first));
            match self.answers.spelling {
                None => {
                    let what = format!("{pair}; --spelling join treats them as one, --spelling apart as two");
                    self.findings.refuse(line, column, what);
                }
                Some(Spelling::Join) => self.findings.note_at(line, column, format!("{pair}, and are treated as one")),
                Some(Spelling::Apart) => self.findings.note_at(line, column, format!("{pair}, and are treated as two")),
            }
        }
        if self.answers.spelling == Some(Spelling::Join) {
            for vote in &mut self.votes {
                vote.choice = vote.choice.map(|choice| same_as.get(&(vote.id, choice)).copied().unwrap_or(choice));
            }
        }
    }

    /// Groups rows by candidate.
    fn candidates(&mut self, is_local: bool) -> Vec<Candidate> {
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

    /// Checks that ballots do not exceed the registered voters, and match the abstentions.
    fn region_sums(&mut self) -> Vec<RegionSum> {
        let mut valid = vec![0; self.regions.len()];
        self.votes.iter().for_each(|vote| valid[vote.region] += vote.votes);
        let mut codes = Codes::default();
        let fits = |code: &str| scrutin_contract::election::check_code(code).is_ok();
        self.regions.iter().filter(|region| fits(&region.code)).for_each(|region| codes.reserve(&region.code));
        let sums = self.regions.iter().zip(valid).map(|(region, valid)| RegionSum {
            code: if fits(&region.code) { region.code.clone() } else { codes.give(&region.code, "region") },
            name: region.name.clone(),
            registered: region.figures[REGISTERED_AT],
            abstentions: region.figures[ABSTENTIONS_AT],
            blank: region.figures[BLANK_AT].unwrap_or(0),
            null: region.figures[NULL_AT].unwrap_or(0),
            valid,
            line: region.line,
        });
        let mut sums: Vec<RegionSum> = sums.collect();
        // Unsettled findings may be the reason for figures that do not match.
        if self.findings.has_refused() {
            return sums;
        }
        sums.iter_mut().for_each(|region| self.settle_registered(region));
        self.note_unknown(&sums);
        self.note_alike(&sums);
        sums
    }

    fn settle_registered(&mut self, region: &mut RegionSum) {
        let cast = region.cast();
        if region.registered == Some(0) && cast > 0 {
            region.registered = None;
            let what = format!(
                "region `{}` has {cast} ballots and 0 registered voters; the number is treated as unknown",
                region.code
            );
            self.findings.note_at(region.line, Some("registered"), what);
        }
        let Some(registered) = region.registered else {
            region.registered = region.abstentions.map(|abstentions| abstentions + cast);
            return;
        };
        let parts = format!("blank {} + null {} + votes {} = {cast}", region.blank, region.null, region.valid);
        let what = match region.abstentions.map(|abstentions| (abstentions, registered.checked_sub(abstentions))) {
            _ if cast > registered => {
                let over = format!("{parts} ballots of {registered} registered");
                if self.answers.over_registered == Some(OverRegistered::Allow) {
                    self.findings.note_at(region.line, None, format!("region `{}`: {over}", region.code));
                    return;
                }
                format!(
                    "{over}; expected at most as many, or --over-registered allow, which counts them with a warning"
                )
            }
            Some((abstentions, None)) => {
                format!("{abstentions} abstentions of {registered} registered; expected no more")
            }
            Some((abstentions, Some(voted))) if voted != cast => {
                format!("registered {registered} − abstentions {abstentions} = {voted}, but {parts}; expected the same")
            }
            _ => return,
        };
        self.findings.refuse(region.line, None, format!("region `{}`: {what}", region.code));
    }

    /// Regions whose names differ only in case and spaces.
    fn note_alike(&mut self, regions: &[RegionSum]) {
        let mut first_of: HashMap<String, &RegionSum> = HashMap::new();
        for region in regions {
            let first = first_of.entry(words::spelling(&region.code)).or_insert(region);
            if first.code != region.code {
                let what = format!(
                    "regions `{}` and `{}` differ only in case or spaces, and are treated as two",
                    first.code, region.code
                );
                self.findings.note_at(region.line, Some(&self.facts.region_column), what);
            }
        }
    }

    fn note_unknown(&mut self, regions: &[RegionSum]) {
        let unknown = regions.iter().filter(|region| region.registered.is_none()).count();
        if unknown == regions.len() {
            self.findings
                .note("the number of registered voters is not given; it is shown as unknown, without turnout".into());
        } else if unknown > 0 {
            self.findings.note(format!(
                "the number of registered voters is unknown in {unknown} of {} regions; it is shown as unknown \
                 there and in total",
                regions.len()
            ));
        }
    }
}
