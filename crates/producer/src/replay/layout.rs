//! Layouts: which columns of a publisher's files mean what, as TOML that users can write too.
//!
//! `layouts/` has the built-in ones. Command line options override them.

use std::path::Path;
use std::sync::LazyLock;

use scrutin_files::FileError;
use scrutin_files::table::Form;
use serde::{Deserialize, Serialize};

/// The kind of a file, and how to read it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Layout {
    pub name: String,
    /// One sentence: whose files these are, and where to find them.
    pub about: String,
    pub kind: Kind,
    pub file: Form,
    pub columns: Columns,
    /// Columns that are candidates.
    pub wide: Option<Wide>,
    /// Groups of columns, one group per candidate.
    pub repeat: Option<Repeat>,
    pub pass_over: Vec<PassOver>,
    /// Whether candidates stand in their region only: the same name elsewhere is somebody else.
    pub local: bool,
    /// The separator of thousands in numbers: comma, dot, space or apostrophe.
    pub thousands: Option<Thousands>,
    pub answers: Answers,
    /// Columns named on the command line, which must exist.
    pub required: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Counts, by region and candidate.
    #[default]
    Results,
    /// One row per ballot.
    Ballots,
    /// Counts of rankings; only first choices are counted.
    Rankings,
}

/// The names of columns whose texts are joined. In each, `A|B` means A or B, and a trailing `?` makes it optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "OneOrMore", into = "Vec<String>")]
pub struct Names(pub Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl From<OneOrMore> for Names {
    fn from(names: OneOrMore) -> Names {
        match names {
            OneOrMore::One(name) => Names(vec![name]),
            OneOrMore::More(names) => Names(names),
        }
    }
}

impl From<Names> for Vec<String> {
    fn from(names: Names) -> Vec<String> {
        names.0
    }
}

impl From<&str> for Names {
    fn from(name: &str) -> Names {
        Names(vec![name.to_owned()])
    }
}

impl Names {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The required names.
    pub fn needed(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter(|name| !name.ends_with('?'))
    }
}

/// Which columns mean what. A region's figures are repeated on each of its rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Columns {
    pub region: Names,
    pub region_name: Names,
    pub registered: Names,
    pub abstentions: Names,
    /// Blank ballots of a region; in a file of ballots, the column that marks blank ones.
    pub blank: Names,
    pub null: Names,
    pub choice: Names,
    pub choice_id: Names,
    pub votes: Names,
    /// The office or contest. If empty, common names are tried.
    pub contest: Names,
    /// A subdivision of a candidate's votes in a region, such as the way of voting: rows that differ in it are added
    /// up.
    pub part: Names,
    pub voter: Names,
    pub channel: Names,
}

impl Columns {
    /// The columns for a key.
    pub fn named_mut(&mut self, key: &str) -> &mut Names {
        match key {
            "region-name" => &mut self.region_name,
            "registered" => &mut self.registered,
            "abstentions" => &mut self.abstentions,
            "blank" => &mut self.blank,
            "null" => &mut self.null,
            "choice" => &mut self.choice,
            "choice-id" => &mut self.choice_id,
            "votes" => &mut self.votes,
            "contest" => &mut self.contest,
            "part" => &mut self.part,
            "voter" => &mut self.voter,
            "channel" => &mut self.channel,
            _ => &mut self.region,
        }
    }
}

/// Candidates as columns: of a file of results, or of ballots that mark choices with 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Wide {
    pub columns: Vec<String>,
    /// A column name with `{choice}`, and optionally `{contest}` and `{any}`, in it.
    pub pattern: Option<String>,
    pub except: Vec<String>,
}

/// A group of columns for each candidate, either numbered by `{n}` or repeated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Repeat {
    /// The first column of a repeated group.
    pub start: Names,
    pub choice: Names,
    pub choice_id: Names,
    pub votes: Names,
}

/// Rows to skip, by the text in a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassOver {
    pub column: String,
    pub is: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Thousands {
    Comma,
    Dot,
    Space,
    Apostrophe,
}

/// Answers to what a file leaves open and only the user can decide.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Answers {
    /// Which of several contests to count.
    pub contest: Option<String>,
    pub totals: Option<TotalsPolicy>,
    pub marks: Option<Marks>,
    pub same_name: Option<SameName>,
    pub spelling: Option<Spelling>,
    pub over_registered: Option<OverRegistered>,
}

/// How to treat rows that are sums of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TotalsPolicy {
    LeaveOut,
    /// They are not totals: count them like the others.
    Keep,
}

/// How to treat words such as undervote, blank or overvote in place of a candidate's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Marks {
    /// They are blank or spoilt ballots.
    Ballots,
    /// They are candidates.
    Choices,
}

/// How to treat several rows with the same name in one region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SameName {
    /// They are one person, whose votes are added up.
    One,
    /// They are several people.
    Several,
}

/// How to treat names that differ only in case or spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Spelling {
    /// They are one person.
    Join,
    /// They are different people.
    Apart,
}

/// How to treat regions with more ballots than registered voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OverRegistered {
    /// Count them, and warn.
    Allow,
}

/// The project's own layout.
pub const OWN: &str = "scrutin";

const BUILT_IN: [(&str, &str); 12] = [
    ("scrutin.toml", include_str!("../../../../layouts/scrutin.toml")),
    ("openelections.toml", include_str!("../../../../layouts/openelections.toml")),
    ("medsl.toml", include_str!("../../../../layouts/medsl.toml")),
    ("france.toml", include_str!("../../../../layouts/france.toml")),
    ("france-wide.toml", include_str!("../../../../layouts/france-wide.toml")),
    ("france-numbered.toml", include_str!("../../../../layouts/france-numbered.toml")),
    ("uk-candidates.toml", include_str!("../../../../layouts/uk-candidates.toml")),
    ("uk-constituencies.toml", include_str!("../../../../layouts/uk-constituencies.toml")),
    ("germany-kerg.toml", include_str!("../../../../layouts/germany-kerg.toml")),
    ("ess-cvr.toml", include_str!("../../../../layouts/ess-cvr.toml")),
    ("dominion-cvr.toml", include_str!("../../../../layouts/dominion-cvr.toml")),
    ("scotland-rankings.toml", include_str!("../../../../layouts/scotland-rankings.toml")),
];

/// The built-in layouts.
pub static LAYOUTS: LazyLock<Vec<Layout>> = LazyLock::new(|| {
    let layouts = BUILT_IN.iter().map(|(name, text)| parse(Path::new(name), text));
    layouts.map(|layout| layout.expect("the layouts are tested")).collect()
});

fn parse(path: &Path, text: &str) -> Result<Layout, FileError> {
    let layout: Layout = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count() as u64);
        FileError::At { path: path.to_owned(), line, column: None, what: error.message().to_owned() }
    })?;
    layout.check().map_err(|what| FileError::Whole { path: path.to_owned(), what })?;
    Ok(layout)
}

impl Layout {
    /// The built-in layout with that name, or the one in that file.
    ///
    /// # Errors
    ///
    /// If there is neither, or the file is not a valid layout.
    pub fn named(name: &str) -> Result<Layout, FileError> {
        if let Some(layout) = LAYOUTS.iter().find(|layout| layout.name == name) {
            return Ok(layout.clone());
        }
        let path = Path::new(name);
        match std::fs::read_to_string(path) {
            Ok(text) => parse(path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let names: Vec<&str> = LAYOUTS.iter().map(|layout| layout.name.as_str()).collect();
                let what = format!("is neither a file nor a layout that `scrutin layouts` lists: {}", names.join(", "));
                Err(FileError::Whole { path: path.to_owned(), what })
            }
            Err(source) => Err(FileError::Unreadable { path: path.to_owned(), source }),
        }
    }

    /// The project's own layout of results.
    pub fn own() -> Layout {
        LAYOUTS[0].clone()
    }

    /// A layout for ballots with these columns.
    pub fn of_ballots(voter: &str, region: &str, choice: &str) -> Layout {
        let columns =
            Columns { voter: voter.into(), region: region.into(), choice: choice.into(), ..Columns::default() };
        let required = ["voter", "region", "choice"].map(str::to_owned).to_vec();
        Layout { kind: Kind::Ballots, columns, required, ..Layout::default() }
    }

    /// Checks that all required columns are named.
    ///
    /// # Errors
    ///
    /// If a required column is not named; lists all of them.
    pub fn check(&self) -> Result<(), String> {
        let (columns, groups) = (&self.columns, self.wide.is_some() || self.repeat.is_some());
        let mut missing = Vec::new();
        let mut need = |is_there: bool, name: &'static str| {
            if !is_there {
                missing.push(name)
            }
        };
        match self.kind {
            Kind::Rankings => {}
            Kind::Ballots => {
                need(!columns.voter.is_empty(), "voter");
                need(!columns.region.is_empty(), "region");
                need(!columns.choice.is_empty() || groups, "choice");
            }
            Kind::Results => {
                need(!columns.region.is_empty(), "region");
                need(!columns.choice.is_empty() || groups, "choice");
                need(!columns.votes.is_empty() || groups, "votes");
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(format!("does not name the columns for: {}", missing.join(", "))) }
    }

    /// The column names that the header must have.
    pub fn wanted(&self) -> Vec<String> {
        let Columns { region, choice, votes, voter, .. } = &self.columns;
        let mut wanted: Vec<String> = match self.kind {
            Kind::Results => region.needed().chain(choice.needed()).chain(votes.needed()).cloned().collect(),
            Kind::Ballots => voter.needed().chain(region.needed()).chain(choice.needed()).cloned().collect(),
            Kind::Rankings => Vec::new(),
        };
        if let Some(repeat) = &self.repeat {
            let names = repeat.start.needed().chain(repeat.choice.needed()).chain(repeat.votes.needed());
            wanted.extend(names.map(|name| name.replace("{n}", "1")));
        }
        wanted.extend(self.wide.iter().flat_map(|wide| wide.columns.first()).cloned());
        wanted.retain(|name| !name.starts_with('#') && !name.contains('{'));
        wanted
    }
}

/// Extracts `{choice}` and `{contest}` from a name that matches the pattern; none if it does not match.
pub fn matched(pattern: &str, name: &str) -> Option<(String, Option<String>)> {
    let (mut choice, mut contest) = (None, None);
    let mut rest = name;
    let mut pieces = pattern.split('{');
    rest = rest.strip_prefix(pieces.next()?)?;
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        let (placeholder, literal) = piece.split_once('}')?;
        let length = match (literal.is_empty(), pieces.peek().is_some()) {
            (true, _) => rest.len(),
            (false, true) => rest.find(literal)?,
            (false, false) => rest
                .len()
                .checked_sub(literal.len())
                .filter(|at| rest.ends_with(literal) && rest.is_char_boundary(*at))?,
        };
        let text = rest[..length].trim().to_owned();
        match placeholder {
            _ if text.is_empty() && placeholder != "any" => return None,
            "choice" => choice = Some(text),
            "contest" => contest = Some(text),
            _ => {}
        }
        rest = &rest[length + literal.len()..];
    }
    rest.is_empty().then_some(())?;
    choice.map(|choice| (choice, contest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_layouts_are_complete() {
        assert_eq!(LAYOUTS[0].name, OWN);
        for (layout, (file, _)) in LAYOUTS.iter().zip(BUILT_IN) {
            assert_eq!(format!("{}.toml", layout.name), file);
            assert!(layout.about.len() > 20 && layout.about.ends_with('.'), "{}", layout.name);
        }
    }

    #[test]
    fn a_broken_layout_is_refused_with_a_reason() {
        let wrong = |text: &str| parse(Path::new("own.toml"), text).unwrap_err().to_string();
        assert_eq!(wrong("[columns]\nregion = \"R\"\n"), "own.toml: does not name the columns for: choice, votes");
        assert!(wrong("[columns]\nregoin = \"R\"\n").starts_with("own.toml, line 2: unknown field `regoin`"));
    }

    #[test]
    fn a_pattern_splits_a_name() {
        let of = |pattern, name| matched(pattern, name).map(|(choice, contest)| (choice, contest.unwrap_or_default()));
        let pair = |choice: &str, contest: &str| Some((choice.to_owned(), contest.to_owned()));
        assert_eq!(
            of("{choice} / {contest} / Endgültig", "SPD / Zweitstimmen / Endgültig"),
            pair("SPD", "Zweitstimmen")
        );
        assert_eq!(of("{choice} / {contest} / Endgültig", "SPD / Zweitstimmen / Vorperiode"), None);
        assert_eq!(of("Votes for {choice}", "Votes for Ada"), pair("Ada", ""));
        assert_eq!(of("Votes for {choice}", "Ada"), None);
        assert_eq!(of("{contest} / {choice} / {any}", "Mayor / Ada / DEM"), pair("Ada", "Mayor"));
    }
}
