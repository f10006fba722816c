//! Picks the contest to count.

use scrutin_files::table::{folded, nearest};

use super::facts::Facts;
use super::finding::Findings;
use super::layout::Answers;
use super::words;

/// The contest to count, and all contests of the file.
pub struct Chosen {
    /// Index into the facts; if none, all rows are one contest.
    pub contest: Option<usize>,
    pub label: Option<String>,
    pub labels: Vec<String>,
}

/// How many contests a message lists.
const LISTED: usize = 12;

/// Picks the only contest, or the requested one; adds a refusing finding if neither is certain.
pub fn choose(facts: &Facts, answers: &Answers, findings: &mut Findings) -> Chosen {
    let labels = labels(facts);
    let fits =
        |place: &usize| answers.contest.as_deref().is_none_or(|asked| is_named(facts, *place, &labels[*place], asked));
    // Registered voters and ballots cast may be listed as an office, but are no contest.
    let is_office = |place: &usize| answers.contest.is_some() || words::of_choice(&labels[*place]).is_none();
    let fitting: Vec<usize> = (0..labels.len()).filter(is_office).filter(fits).collect();
    let column = facts.contest_column.as_deref();
    let contest = match (fitting.as_slice(), &answers.contest) {
        ([only], _) => *only,
        ([], Some(asked)) => {
            let near = nearest(asked, labels.iter().map(String::as_str));
            let near = near.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
            findings.refuse(
                facts.found.header_line,
                column,
                format!("no contest `{asked}`{near}; the contests are {}", list(&labels)),
            );
            0
        }
        ([], None) => return Chosen { contest: None, label: None, labels },
        ([first, second, ..], _) => {
            let some: Vec<String> = fitting.iter().map(|place| labels[*place].clone()).collect();
            let what = format!(
                "holds {} contests: {}; choose one with --contest '{}', or name their column with --contest-column \
                 (none: all rows are one contest)",
                some.len(),
                list(&some),
                labels[*first]
            );
            findings.refuse(facts.contests[*second].line, column, what);
            *first
        }
    };
    Chosen { contest: Some(contest), label: labels.get(contest).cloned().filter(|label| !label.is_empty()), labels }
}

/// Labels made of the parts that distinguish the contests, or of all parts if there is only one.
fn labels(facts: &Facts) -> Vec<String> {
    let contests = &facts.contests;
    let width = contests.iter().map(|contest| contest.parts.len()).max().unwrap_or_default();
    let differs =
        |place: &usize| contests.iter().any(|contest| contest.parts.get(*place) != contests[0].parts.get(*place));
    let differing: Vec<usize> = (0..width).filter(differs).collect();
    let shown = if differing.is_empty() { (0..width).collect() } else { differing };
    let label = |parts: &Vec<String>| {
        let parts = shown.iter().filter_map(|place| parts.get(*place)).filter(|part| !part.is_empty());
        parts.map(String::as_str).collect::<Vec<_>>().join(" / ")
    };
    contests.iter().map(|contest| label(&contest.parts)).collect()
}

fn is_named(facts: &Facts, place: usize, label: &str, asked: &str) -> bool {
    let asked = folded(asked);
    let all =
        facts.contests[place].parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" / ");
    folded(label) == asked
        || folded(&all) == asked
        || facts.contests[place].parts.iter().any(|part| folded(part) == asked)
}

fn list(labels: &[String]) -> String {
    let mut list: Vec<String> = labels.iter().take(LISTED).map(|label| format!("`{label}`")).collect();
    if labels.len() > LISTED {
        list.push(format!("and {} more", labels.len() - LISTED));
    }
    list.join(", ")
}
