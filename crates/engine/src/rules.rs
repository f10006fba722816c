//! Elections in a form that is fast to query. A cell is a choice on the ballot of a region.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use hashbrown::HashMap;

use scrutin_contract::election::Election;
use scrutin_contract::vote::{BLANK, NULL};

use super::codes::Codes;

/// The maximum number of cells of an election: the totals that wait for a commit are kept by cell.
pub const CELLS_MAX: usize = 1 << 22;

/// The index of a region's choice among all of an election's.
pub type Cell = u32;

#[derive(Debug)]
pub struct Rules {
    /// Partitions of the log.
    pub partitions: u32,
    /// In order of their ids.
    pub elections: Vec<ElectionRules>,
    ids: Codes,
    /// Width of the buckets in which rejections are counted: that of the election with the smallest.
    pub rejection_bucket_ms: i64,
}

#[derive(Debug)]
pub struct ElectionRules {
    pub id: String,
    pub opens_at_ms: i64,
    pub closes_at_ms: i64,
    pub bucket_ms: i64,
    pub channels: Vec<String>,
    pub region_codes: Vec<String>,
    /// BLANK, NULL, then each code of the election's choices once.
    pub choice_codes: Vec<String>,
    regions: Codes,
    choices: Codes,
    on_ballots: Vec<OnBallots>,
    /// The first cell of each region.
    first_cells: Vec<Cell>,
    /// Region and choice of each cell, by number.
    places: Vec<(u32, u32)>,
    /// The regions in order of their codes.
    pub regions_by_code: Vec<usize>,
    /// The channels in order of their codes.
    pub channels_by_code: Vec<usize>,
}

/// On which ballots a choice is, with its index among the cells of a region.
#[derive(Debug)]
enum OnBallots {
    Everywhere(u32),
    In(HashMap<u32, u32>),
}

impl Rules {
    /// Prepares the elections for counting a log with this many partitions.
    ///
    /// # Errors
    ///
    /// Fails if an election has more than [`CELLS_MAX`] cells, or a choice names an unknown region.
    pub fn new(elections: &[Election], partitions: u32) -> Result<Rules, String> {
        let mut rules: Vec<ElectionRules> = elections.iter().map(ElectionRules::new).collect::<Result<_, _>>()?;
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Rules {
            partitions,
            ids: Codes::new(rules.iter().map(|rules| rules.id.as_str())),
            rejection_bucket_ms: rules.iter().map(|rules| rules.bucket_ms).min().unwrap_or(60_000),
            elections: rules,
        })
    }

    #[inline]
    pub fn election(&self, id: &str) -> Option<usize> {
        self.ids.find(id)
    }
}

impl ElectionRules {
    fn new(election: &Election) -> Result<ElectionRules, String> {
        let region_codes: Vec<String> = election.regions.iter().map(|region| region.code.clone()).collect();
        let regions = Codes::new(region_codes.iter().map(String::as_str));
        let mut choice_codes = vec![BLANK.to_owned(), NULL.to_owned()];
        let mut place_of: HashMap<&str, u32> = HashMap::new();
        let mut everywhere: Vec<u32> = vec![0, 1];
        let mut only_in: Vec<Vec<u32>> = vec![Vec::new(); region_codes.len()];
        for choice in &election.choices {
            let place = *place_of.entry(&choice.code).or_insert_with(|| {
                choice_codes.push(choice.code.clone());
                choice_codes.len() as u32 - 1
            });
            match &choice.region {
                None => everywhere.push(place),
                Some(region) => match regions.find(region) {
                    Some(region) => only_in[region].push(place),
                    None => {
                        return Err(format!(
                            "choice `{}` names the region `{region}`, which does not exist",
                            choice.code
                        ));
                    }
                },
            }
        }
        let cells: usize = only_in.iter().map(|only| everywhere.len() + only.len()).sum();
        if cells > CELLS_MAX {
            return Err(format!(
                "election `{}` has {cells} choices over all regions; at most {CELLS_MAX}",
                election.id
            ));
        }
        let mut on_ballots: Vec<OnBallots> = choice_codes.iter().map(|_| OnBallots::In(HashMap::new())).collect();
        for (at, &choice) in everywhere.iter().enumerate() {
            on_ballots[choice as usize] = OnBallots::Everywhere(at as u32);
        }
        let mut first_cells = Vec::with_capacity(region_codes.len());
        let mut places = Vec::with_capacity(cells);
        for (region, only) in only_in.iter().enumerate() {
            first_cells.push(places.len() as Cell);
            places.extend(everywhere.iter().map(|&choice| (region as u32, choice)));
            for (at, &choice) in only.iter().enumerate() {
                places.push((region as u32, choice));
                if let OnBallots::In(regions) = &mut on_ballots[choice as usize] {
                    regions.insert(region as u32, (everywhere.len() + at) as u32);
                }
            }
        }
        let mut regions_by_code: Vec<usize> = (0..region_codes.len()).collect();
        regions_by_code.sort_unstable_by_key(|&region| &region_codes[region]);
        let mut channels_by_code: Vec<usize> = (0..election.channels.len()).collect();
        channels_by_code.sort_unstable_by_key(|&channel| &election.channels[channel]);
        Ok(ElectionRules {
            regions_by_code,
            channels_by_code,
            id: election.id.clone(),
            opens_at_ms: election.opens_at_ms,
            closes_at_ms: election.closes_at_ms,
            bucket_ms: i64::from(election.bucket_seconds) * 1000,
            channels: election.channels.clone(),
            choices: Codes::new(choice_codes.iter().map(String::as_str)),
            region_codes,
            choice_codes,
            regions,
            on_ballots,
            first_cells,
            places,
        })
    }

    #[inline]
    pub fn region(&self, code: &str) -> Option<usize> {
        self.regions.find(code)
    }

    /// The cell of a choice in a region, if it is on the ballot there.
    #[inline]
    pub fn cell(&self, region: usize, choice: &str) -> Option<Cell> {
        let place = match &self.on_ballots[self.choices.find(choice)?] {
            OnBallots::Everywhere(place) => place,
            OnBallots::In(regions) => regions.get(&(region as u32))?,
        };
        Some(self.first_cells[region] + place)
    }

    #[inline]
    pub fn channel(&self, code: &str) -> Option<usize> {
        self.channels.iter().position(|channel| channel == code)
    }

    /// Start of the bucket that a time is in; buckets are counted from 1970 UTC.
    #[inline]
    pub fn bucket(&self, cast_at_ms: i64) -> i64 {
        cast_at_ms - cast_at_ms.rem_euclid(self.bucket_ms)
    }

    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.places.len()
    }

    /// The cells of a region, in the order of its ballot: see [`Election::ballots`].
    pub fn cells_of(&self, region: usize) -> Range<usize> {
        let end = self.first_cells.get(region + 1).map_or(self.cells(), |&next| next as usize);
        self.first_cells[region] as usize..end
    }

    /// The codes of a cell's region and choice.
    pub fn codes_of(&self, cell: Cell) -> (&str, &str) {
        let (region, choice) = self.places[cell as usize];
        (&self.region_codes[region as usize], &self.choice_codes[choice as usize])
    }
}
