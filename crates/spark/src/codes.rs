//! Numbers in place of codes, which make the rows that Spark moves and keeps small.

use std::collections::BTreeMap;

use scrutin_contract::election::Election;
use scrutin_contract::vote::{BLANK, NULL, Reason};

/// The number of an outcome: 0 for a counted vote, else that of the reason for rejecting it.
pub const fn outcome(reason: Option<Reason>) -> u32 {
    match reason {
        None => 0,
        Some(reason) => reason as u32 + 1,
    }
}

/// The reason with the number of an outcome; none for a counted vote, and for any other number.
pub fn reason(number: u32) -> Option<Reason> {
    Reason::ALL.into_iter().find(|reason| outcome(Some(*reason)) == number)
}

/// The codes of a count's elections by their numbers, which depend on nothing but the elections and their order.
#[derive(Clone, Debug)]
pub struct Codes {
    elections: Vec<Election>,
    /// The elections' places and the regions' codes, over all elections: a region's number tells its election.
    regions: Vec<(usize, String)>,
    /// Over all elections, each code of an election once.
    choices: Vec<Choice>,
    /// By region, the numbers of the choices on its ballot: see [`Election::ballots`].
    ballots: Vec<Vec<u32>>,
}

#[derive(Clone, Debug)]
struct Choice {
    election: usize,
    code: String,
    /// The numbers of the regions where it stands; none if it stands everywhere.
    regions: Option<Vec<usize>>,
}

impl Codes {
    pub fn of(elections: &[Election]) -> Codes {
        let mut codes =
            Codes { elections: elections.to_vec(), regions: Vec::new(), choices: Vec::new(), ballots: Vec::new() };
        for (place, election) in elections.iter().enumerate() {
            let first = codes.regions.len();
            codes.regions.extend(election.regions.iter().map(|region| (place, region.code.clone())));
            let numbers: BTreeMap<&str, usize> =
                (first..).zip(&election.regions).map(|(n, it)| (&*it.code, n)).collect();
            let mut choices: BTreeMap<&str, Option<Vec<usize>>> = [BLANK, NULL].map(|code| (code, None)).into();
            for choice in &election.choices {
                let stands = choices.entry(&choice.code).or_insert_with(|| Some(Vec::new()));
                match &choice.region {
                    Some(region) => stands.iter_mut().for_each(|stands| stands.extend(numbers.get(&**region))),
                    None => *stands = None,
                }
            }
            let choice_numbers: BTreeMap<&str, u32> =
                choices.keys().copied().zip(codes.choices.len() as u32..).collect();
            let ballots = election.ballots().into_iter();
            codes.ballots.extend(ballots.map(|ballot| ballot.iter().map(|code| choice_numbers[code]).collect()));
            let choice = |(code, regions): (&str, _)| Choice { election: place, code: code.to_owned(), regions };
            codes.choices.extend(choices.into_iter().map(choice));
        }
        codes
    }

    /// A region's election and code.
    pub fn region(&self, number: u32) -> Option<(&str, &str)> {
        let (election, code) = self.regions.get(number as usize)?;
        Some((&self.elections[*election].id, code))
    }

    pub fn is_on_ballot(&self, region: u32, choice: u32) -> bool {
        self.ballot(region).is_some_and(|ballot| ballot.contains(&choice))
    }

    /// The numbers of the choices on a region's ballot, in the order in which votes are stored.
    pub fn ballot(&self, region: u32) -> Option<&[u32]> {
        Some(self.ballots.get(region as usize)?)
    }

    /// A channel of a region's election; the election's first is 1.
    pub fn channel(&self, region: u32, number: u32) -> Option<&str> {
        let election = &self.elections[self.regions.get(region as usize)?.0];
        Some(election.channels.get((number as usize).checked_sub(1)?)?)
    }

    pub(super) fn elections_sql(&self) -> String {
        let row = |(number, it): (usize, &Election)| {
            let channels: Vec<String> = it.channels.iter().map(|channel| text(channel)).collect();
            let (opens, closes, bucket) = (it.opens_at_ms, it.closes_at_ms, i64::from(it.bucket_seconds) * 1000);
            format!("{number}, {}, {opens}L, {closes}L, {bucket}L, array({})", text(&it.id), channels.join(", "))
        };
        table(
            "number, code, opens_at_ms, closes_at_ms, bucket_ms, channels",
            self.elections.iter().enumerate().map(row),
        )
    }

    pub(super) fn regions_sql(&self) -> String {
        let row = |(number, (election, code)): (usize, &(usize, String))| {
            format!("{number}, {}, {}", text(&self.elections[*election].id), text(code))
        };
        table("number, election, code", self.regions.iter().enumerate().map(row))
    }

    pub(super) fn choices_sql(&self) -> String {
        let row = |(number, it): (usize, &Choice)| {
            let numbers: Vec<String> = it.regions.iter().flatten().map(usize::to_string).collect();
            let (election, code, everywhere) =
                (text(&self.elections[it.election].id), text(&it.code), it.regions.is_none());
            format!("{number}, {election}, {code}, {everywhere}, CAST(array({}) AS ARRAY<INT>)", numbers.join(", "))
        };
        table("number, election, code, is_everywhere, regions", self.choices.iter().enumerate().map(row))
    }
}

/// A table of constants, which Spark evaluates once.
fn table(columns: &str, rows: impl Iterator<Item = String>) -> String {
    let rows: Vec<String> = rows.map(|row| format!("({row})")).collect();
    format!("SELECT * FROM VALUES\n{}\nAS t({columns})", rows.join(",\n"))
}

/// A text, hex-encoded so that no code can be interpreted as SQL.
fn text(code: &str) -> String {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(code.len() * 2);
    code.bytes().for_each(|byte| write!(hex, "{byte:02x}").expect("writing to a string cannot fail"));
    format!("CAST(X'{hex}' AS STRING)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_the_codes() {
        let mut second = Election::built_in();
        second.id = "second".into();
        let (color, region) = ("#000000".to_owned(), Some("2A".to_owned()));
        second.choices.push(scrutin_contract::election::Choice { code: "L".into(), name: "L".into(), color, region });
        let elections = [Election::built_in(), second];
        let codes = Codes::of(&elections);
        let regions = elections[0].regions.len() as u32;
        assert_eq!(codes.region(0), Some(("pres-2027", &*elections[0].regions[0].code)));
        assert_eq!(codes.region(regions), Some(("second", &*elections[1].regions[0].code)));
        assert_eq!(codes.region(2 * regions), None);
        assert_eq!(codes.choices.len(), 12 + 13, "each election has a blank and a null vote: {:?}", codes.choices);
        assert_eq!(codes.channel(regions, 1), Some("booth"));
        assert_eq!((codes.channel(0, 0), codes.channel(0, 4), codes.channel(2 * regions, 1)), (None, None, None));
        let stands: Vec<_> = codes.choices.iter().filter_map(|choice| choice.regions.clone()).collect();
        let corsica = elections[0].regions.iter().position(|region| region.code == "2A").unwrap();
        assert_eq!(stands, [[regions as usize + corsica]]);
        let ballots =
            elections.iter().enumerate().flat_map(|(place, it)| it.ballots().into_iter().map(move |it| (place, it)));
        for (region, (place, ballot)) in (0..).zip(ballots) {
            let choices = codes.ballot(region).unwrap().iter().map(|choice| &codes.choices[*choice as usize]);
            let found: Vec<(usize, &str)> = choices.map(|choice| (choice.election, &*choice.code)).collect();
            assert_eq!(found, ballot.into_iter().map(|code| (place, code)).collect::<Vec<_>>(), "{region}");
        }
        let local = codes.choices.iter().position(|choice| choice.code == "L").unwrap() as u32;
        let having_it = (0..2 * regions + 1).filter(|region| codes.is_on_ballot(*region, local));
        assert_eq!(having_it.collect::<Vec<_>>(), [regions + corsica as u32]);
        assert_eq!(codes.ballot(2 * regions), None);
        assert!(Reason::ALL.into_iter().all(|it| reason(outcome(Some(it))) == Some(it)));
        assert_eq!((reason(outcome(None)), reason(10)), (None, None));
    }
}
