//! An election: what can be voted for, where, how and when.
//!
//! Loaded from a folder with `election.toml`, `regions.csv` and `choices.csv`, or made by a replay from its file.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use scrutin_files::FileError;
use scrutin_files::printable::{check_name, escaped, is_unprintable};
use scrutin_files::table::{Column, Form, Table};
use serde::Deserialize;

use crate::vote::{BLANK, NULL};

/// Longer codes are refused: a vote must fit the contract's 4 KiB whatever it names.
pub const CODE_BYTES_MAX: usize = 64;

/// No election has more than these; they keep the index of a cell within 32 bits.
pub const REGIONS_MAX: usize = 100_000;
pub const CHOICES_MAX: usize = 100_000;
pub const CHANNELS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub struct Election {
    pub id: String,
    pub title: String,
    /// Milliseconds since 1970 UTC. A vote cast at this moment counts.
    pub opens_at_ms: i64,
    /// Milliseconds since 1970 UTC. A vote cast at this moment is too late.
    pub closes_at_ms: i64,
    /// An IANA name, used to display times.
    pub time_zone: String,
    pub channels: Vec<String>,
    /// Width of the timeline's buckets.
    pub bucket_seconds: u32,
    /// The expected share of the registered who vote, in (0, 1]. Only used to display what is still to come.
    pub expected_turnout: Option<f64>,
    pub regions: Vec<Region>,
    pub choices: Vec<Choice>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    pub code: String,
    pub name: String,
    /// None if unknown.
    pub registered: Option<u64>,
    /// Overrides the election's expected turnout in this region.
    pub expected_turnout: Option<f64>,
    /// Latitude and longitude, in degrees.
    pub point: Option<(f64, f64)>,
    /// Column and row in a tile grid, from 0.
    pub tile: Option<(i32, i32)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub code: String,
    pub name: String,
    /// `#rrggbb`.
    pub color: String,
    /// The only region where it stands; none if it stands everywhere.
    pub region: Option<String>,
}

const TURNOUT_EXPECTED: &str = "expected a share of the registered above 0 and up to 1";

fn is_turnout(share: f64) -> bool {
    share > 0.0 && share <= 1.0
}

/// Checks that a text can be a code: 1 to 64 bytes, no unprintable characters, no surrounding whitespace.
///
/// # Errors
///
/// If it cannot be a code.
pub fn check_code(code: &str) -> Result<(), String> {
    if code.is_empty() {
        Err("is empty; expected a code".into())
    } else if code.len() > CODE_BYTES_MAX {
        Err(format!("`{code}` has {} bytes; expected a code of at most {CODE_BYTES_MAX}", code.len()))
    } else if code.trim() != code || code.chars().any(is_unprintable) {
        Err(format!("`{}` has unprintable characters or surrounding space; expected a plain code", escaped(code)))
    } else {
        Ok(())
    }
}

impl Election {
    /// Reads an election folder.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or breaks a rule.
    pub fn load(folder: &Path) -> Result<Election, FileError> {
        let mut election = read_toml(&folder.join("election.toml"))?;
        election.regions = read_regions(&folder.join("regions.csv"))?;
        election.choices = read_choices(&folder.join("choices.csv"), &election.regions)?;
        election.check().map_err(|what| FileError::Whole { path: folder.to_owned(), what })?;
        Ok(election)
    }

    /// The election that comes with the program: presidential, over the French départements.
    pub fn built_in() -> Election {
        let toml = include_str!("../../../elections/presidential/election.toml");
        let regions = include_bytes!("../../../elections/presidential/regions.csv");
        let choices = include_bytes!("../../../elections/presidential/choices.csv");
        let built = (|| {
            let mut election = parse_toml(Path::new("election.toml"), toml)?;
            election.regions = regions_of(Table::of(Path::new("regions.csv"), regions, &wanted(&REGION_COLUMNS))?)?;
            election.choices =
                choices_of(Table::of(Path::new("choices.csv"), choices, &wanted(&CHOICE_COLUMNS))?, &election.regions)?;
            Ok::<_, FileError>(election)
        })();
        built.expect("the built-in election is tested")
    }

    /// Checks the rules for the whole election, however it was made.
    ///
    /// # Errors
    ///
    /// If a rule is broken.
    pub fn check(&self) -> Result<(), String> {
        self.check_settings().map_err(|(key, what)| format!("{key} {what}"))?;
        if self.regions.is_empty() || self.regions.len() > REGIONS_MAX {
            return Err(format!("{} regions; expected 1 to {REGIONS_MAX}", self.regions.len()));
        }
        if self.choices.is_empty() || self.choices.len() > CHOICES_MAX {
            return Err(format!("{} choices; expected 1 to {CHOICES_MAX}", self.choices.len()));
        }
        let regions = self.regions.iter().map(|region| &region.name);
        regions.chain(self.choices.iter().map(|choice| &choice.name)).try_for_each(|name| check_name(name))
    }

    /// Checks the values of election.toml; an error names the key.
    fn check_settings(&self) -> Result<(), (&'static str, String)> {
        check_code(&self.id).map_err(|what| ("id", what))?;
        check_name(&self.title).map_err(|what| ("title", what))?;
        check_name(&self.time_zone).map_err(|what| ("time_zone", what))?;
        if self.closes_at_ms <= self.opens_at_ms {
            return Err(("closes_at", "is not after opens_at; expected a later time".into()));
        }
        if self.bucket_seconds == 0 {
            return Err(("bucket_seconds", "is 0; expected at least 1".into()));
        }
        if self.channels.is_empty() || self.channels.len() > CHANNELS_MAX {
            return Err(("channels", format!("has {} entries; expected 1 to {CHANNELS_MAX}", self.channels.len())));
        }
        if let Some(share) = self.expected_turnout.filter(|share| !is_turnout(*share)) {
            return Err(("expected_turnout", format!("is {share}; {TURNOUT_EXPECTED}")));
        }
        let mut channels = HashSet::new();
        for channel in &self.channels {
            check_code(channel).map_err(|what| ("channels", format!("entry {what}")))?;
            if !channels.insert(channel) {
                return Err(("channels", format!("has `{channel}` twice; expected it once")));
            }
        }
        Ok(())
    }

    /// A digest of everything that affects how votes are counted.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        add(&self.id);
        add(&self.opens_at_ms.to_string());
        add(&self.closes_at_ms.to_string());
        add(&self.bucket_seconds.to_string());
        add(&self.channels.len().to_string());
        self.channels.iter().for_each(|channel| add(channel));
        add(&self.regions.len().to_string());
        self.regions.iter().for_each(|region| add(&region.code));
        for choice in &self.choices {
            add(&choice.code);
            add(choice.region.as_deref().unwrap_or_default());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The choices on the ballot of each region, in the order in which votes are stored: BLANK, NULL, the choices that
    /// stand everywhere, then those that stand only here. The fingerprint covers all that this order depends on.
    pub fn ballots(&self) -> Vec<Vec<&str>> {
        let mut everywhere = vec![BLANK, NULL];
        let mut only_in: HashMap<&str, Vec<&str>> = HashMap::new();
        for choice in &self.choices {
            match &choice.region {
                None => everywhere.push(&choice.code),
                Some(region) => only_in.entry(region).or_default().push(&choice.code),
            }
        }
        let ballot = |region: &Region| {
            let only_here = only_in.get(region.code.as_str()).into_iter().flatten();
            everywhere.iter().chain(only_here).copied().collect()
        };
        self.regions.iter().map(ballot).collect()
    }

    /// Registered voters over all regions; none if those of any region are unknown.
    pub fn registered(&self) -> Option<u64> {
        self.regions.iter().map(|region| region.registered).sum()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ElectionToml {
    id: String,
    title: String,
    opens_at: toml::value::Datetime,
    closes_at: toml::value::Datetime,
    time_zone: String,
    channels: Vec<String>,
    #[serde(default = "one_minute")]
    bucket_seconds: u32,
    expected_turnout: Option<f64>,
}

fn one_minute() -> u32 {
    60
}

fn read_toml(path: &Path) -> Result<Election, FileError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })?;
    parse_toml(path, &text)
}

fn parse_toml(path: &Path, text: &str) -> Result<Election, FileError> {
    let toml: ElectionToml = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count() as u64);
        FileError::At { path: path.to_owned(), line, column: None, what: error.message().to_owned() }
    })?;
    let line_of = |key: &str| {
        let found = text.lines().position(|line| line.trim_start().starts_with(key));
        found.map_or(1, |line| line as u64 + 1)
    };
    let error_at = |key: &str, what: String| FileError::At {
        path: path.to_owned(),
        line: line_of(key),
        column: Some(key.to_owned()),
        what,
    };
    let millis = |key: &str, time: &toml::value::Datetime| {
        let parsed: Result<jiff::Timestamp, _> = time.to_string().parse();
        parsed.map(jiff::Timestamp::as_millisecond).map_err(|_| {
            error_at(
                key,
                format!("found `{time}`, expected a date, a time and an offset, such as 2027-04-11T08:00:00+02:00"),
            )
        })
    };
    let election = Election {
        opens_at_ms: millis("opens_at", &toml.opens_at)?,
        closes_at_ms: millis("closes_at", &toml.closes_at)?,
        id: toml.id,
        title: toml.title,
        time_zone: toml.time_zone,
        channels: toml.channels,
        bucket_seconds: toml.bucket_seconds,
        expected_turnout: toml.expected_turnout,
        regions: Vec::new(),
        choices: Vec::new(),
    };
    election.check_settings().map_err(|(key, what)| error_at(key, what))?;
    Ok(election)
}

const REGION_COLUMNS: [&str; 3] = ["code", "name", "registered"];
const CHOICE_COLUMNS: [&str; 2] = ["code", "name"];

fn wanted(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|column| (*column).to_owned()).collect()
}

fn read_regions(path: &Path) -> Result<Vec<Region>, FileError> {
    regions_of(Table::open(path, &Form::default(), &wanted(&REGION_COLUMNS))?)
}

fn regions_of(mut file: Table) -> Result<Vec<Region>, FileError> {
    let [code, name, registered] = file.needed(REGION_COLUMNS)?;
    let (lat, lon, grid_col, grid_row) =
        (file.find("lat")?, file.find("lon")?, file.find("grid_col")?, file.find("grid_row")?);
    let expected_turnout = file.find("expected_turnout")?;
    let mut regions = Vec::new();
    let mut lines = HashMap::new();
    while file.next_row()? {
        let region = file.text(code).to_owned();
        check_code(&region).map_err(|what| file.error(code, what))?;
        if let Some(line) = lines.insert(region.clone(), file.line()) {
            return Err(file.error(code, format!("`{region}` is already on line {line}; expected each code once")));
        }
        let degrees = |column: Option<_>, most: f64| match column {
            None => Ok(None),
            Some(column) => match file.number::<f64>(column, "degrees")? {
                Some(value) if value.abs() <= most => Ok(Some(value)),
                Some(value) => {
                    Err(file.error(column, format!("found {value}, expected degrees from -{most} to {most}")))
                }
                None => Ok(None),
            },
        };
        let place = |column: Option<_>| match column {
            None => Ok(None),
            Some(column) => file.number::<i32>(column, "a whole number"),
        };
        let share = match expected_turnout {
            None => None,
            Some(column) => match file.number::<f64>(column, "a share")? {
                Some(share) if !is_turnout(share) => {
                    return Err(file.error(column, format!("found {share}, {TURNOUT_EXPECTED}")));
                }
                share => share,
            },
        };
        regions.push(Region {
            expected_turnout: share,
            point: degrees(lat, 90.0)?.zip(degrees(lon, 180.0)?),
            tile: place(grid_col)?.zip(place(grid_row)?),
            name: plain(&file, name)?,
            registered: file.number(registered, "a whole number of zero or more")?,
            code: region,
        });
    }
    if regions.is_empty() {
        return Err(file.whole_error("has no region; expected at least one row"));
    }
    Ok(regions)
}

fn plain(file: &Table, column: Column) -> Result<String, FileError> {
    let name = file.required(column)?;
    check_name(name).map_err(|what| file.error(column, what))?;
    Ok(name.to_owned())
}

fn read_choices(path: &Path, regions: &[Region]) -> Result<Vec<Choice>, FileError> {
    choices_of(Table::open(path, &Form::default(), &wanted(&CHOICE_COLUMNS))?, regions)
}

fn choices_of(mut file: Table, regions: &[Region]) -> Result<Vec<Choice>, FileError> {
    let [code, name] = file.needed(CHOICE_COLUMNS)?;
    let (color, region) = (file.find("color")?, file.find("region")?);
    let known: HashSet<&str> = regions.iter().map(|region| region.code.as_str()).collect();
    let mut choices: Vec<Choice> = Vec::new();
    let mut lines: HashMap<(String, Option<String>), u64> = HashMap::new();
    let mut everywhere: HashMap<String, bool> = HashMap::new();
    while file.next_row()? {
        let choice = file.text(code).to_owned();
        check_code(&choice).map_err(|what| file.error(code, what))?;
        if choice == BLANK || choice == NULL {
            return Err(file.error(code, format!("`{choice}` is already on every ballot; expected another code")));
        }
        let only = region.map(|column| file.text(column)).filter(|text| !text.is_empty()).map(str::to_owned);
        if let (Some(column), Some(only)) = (region, &only)
            && !known.contains(only.as_str())
        {
            return Err(file.error(column, format!("found `{only}`, expected a code from regions.csv, or nothing")));
        }
        if let Some(line) = lines.insert((choice.clone(), only.clone()), file.line()) {
            return Err(
                file.error(code, format!("`{choice}` is already on line {line}; expected each code once per region"))
            );
        }
        if *everywhere.entry(choice.clone()).or_insert(only.is_none()) != only.is_none() {
            return Err(
                file.error(code, format!("`{choice}` stands everywhere in one row and in one region in another"))
            );
        }
        let color = match color.map(|column| (column, file.text(column))) {
            None | Some((_, "")) => default_color(choices.len()),
            Some((_, text)) if is_color(text) => text.to_owned(),
            Some((column, text)) => {
                return Err(file.error(column, format!("found `{text}`, expected a colour such as #1a2b3c")));
            }
        };
        choices.push(Choice { name: plain(&file, name)?, code: choice, color, region: only });
    }
    if choices.is_empty() {
        return Err(file.whole_error("has no choice; expected at least one row"));
    }
    Ok(choices)
}

fn is_color(text: &str) -> bool {
    text.len() == 7 && text.starts_with('#') && text[1..].bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The default colour of the n-th choice: hues a golden angle apart.
pub fn default_color(place: usize) -> String {
    let hue = (place as f64 * 137.508 + 212.0) % 360.0;
    let (saturation, lightness) = [(0.62, 0.46), (0.55, 0.60), (0.70, 0.36)][place / 8 % 3];
    let channel = |offset: f64| {
        let k = (offset + hue / 30.0) % 12.0;
        let value =
            lightness - saturation * f64::min(lightness, 1.0 - lightness) * f64::min(k - 3.0, 9.0 - k).clamp(-1.0, 1.0);
        (value * 255.0).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", channel(0.0), channel(8.0), channel(4.0))
}

#[cfg(test)]
mod tests;
