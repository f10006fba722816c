//! Interprets a file's rows: which are results, which are totals, who is one person, and how many are registered.
//!
//! Nothing is guessed. Whatever a file leaves open is a [`Finding`](super::finding::Finding) that refuses the file
//! until an answer settles it; until then, the sums shown include all rows.

use std::collections::{BTreeMap, HashMap};

use super::contests::choose;
use super::facts::{ABSTENTIONS_AT, BLANK_AT, Facts, NULL_AT, REGISTERED_AT, VoteFact};
use super::finding::Findings;
use super::layout::{Layout, Marks, Spelling, TotalsPolicy};
use super::settled::Settled;
use super::settling::Settling;
use super::totals;
use super::words::{self, Word};

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

impl Settling<'_> {
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
                (true, Some(TotalsPolicy::LeaveOut)) => left_out += 1,
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
                Some(TotalsPolicy::LeaveOut) => {
                    self.findings.note_at(line, column, format!("`{name}` is a total, and omitted"));
                    true
                }
                Some(TotalsPolicy::Keep) => false,
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
}
