//! What a ballot can contain: every choice in every region where it stands, numbered.

use std::collections::HashMap;
use std::ops::Range;

use scrutin_contract::election::Election;
use scrutin_contract::vote::{BLANK, NULL};

/// The maximum number of cells; each takes about 200 bytes.
pub const CELLS_MAX: usize = 4_000_000;

/// The cells of an election: ordered by region, then by choice as in the election, with `BLANK` and `NULL` last.
#[derive(Clone, Debug, PartialEq)]
pub struct Cells {
    regions: Vec<String>,
    /// Distinct codes.
    choices: Vec<String>,
    cells: Vec<Cell>,
    /// The cells of each region.
    ranges: Vec<Range<u32>>,
}

/// Indices into the lists of [`Cells`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub region: u32,
    pub choice: u32,
}

impl Cells {
    /// The cells of an election.
    ///
    /// # Errors
    ///
    /// If the election has more than [`CELLS_MAX`] cells.
    pub fn of(election: &Election) -> Result<Cells, String> {
        let mut choices: Vec<String> = Vec::new();
        let mut place_of: HashMap<&str, u32> = HashMap::new();
        // Choices by region; `None` has those that stand everywhere. The first number is the position on the ballot.
        let mut standing: HashMap<Option<&str>, Vec<(usize, u32)>> = HashMap::new();
        for (order, choice) in election.choices.iter().enumerate() {
            let place = *place_of.entry(&choice.code).or_insert_with(|| {
                choices.push(choice.code.clone());
                choices.len() as u32 - 1
            });
            standing.entry(choice.region.as_deref()).or_default().push((order, place));
        }
        let blank = choices.len() as u32;
        choices.extend([BLANK.to_owned(), NULL.to_owned()]);
        let everywhere = standing.remove(&None).unwrap_or_default();
        let (mut cells, mut ranges) = (Vec::new(), Vec::new());
        for (region, about) in election.regions.iter().enumerate() {
            let mut ballot = everywhere.clone();
            ballot.extend(standing.remove(&Some(about.code.as_str())).unwrap_or_default());
            ballot.sort_unstable();
            let start = cells.len() as u32;
            let codes = ballot.iter().map(|(_, place)| *place).chain([blank, blank + 1]);
            cells.extend(codes.map(|choice| Cell { region: region as u32, choice }));
            ranges.push(start..cells.len() as u32);
            if cells.len() > CELLS_MAX {
                return Err(format!(
                    "over {CELLS_MAX} pairs of a region and a choice ({} regions, {} choices); use fewer",
                    election.regions.len(),
                    blank
                ));
            }
        }
        Ok(Cells {
            regions: election.regions.iter().map(|region| region.code.clone()).collect(),
            choices,
            cells,
            ranges,
        })
    }

    pub fn len(&self) -> usize {
        self.cells.len()
    }

    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub fn cell(&self, cell: u32) -> Cell {
        self.cells[cell as usize]
    }

    /// The codes of the region and the choice.
    pub fn codes(&self, cell: u32) -> (&str, &str) {
        let Cell { region, choice } = self.cell(cell);
        (&self.regions[region as usize], &self.choices[choice as usize])
    }

    pub fn regions(&self) -> &[String] {
        &self.regions
    }

    /// Distinct codes; the last two are `BLANK` and `NULL`.
    pub fn choices(&self) -> &[String] {
        &self.choices
    }

    /// The cells of a region.
    pub fn of_region(&self, region: u32) -> Range<u32> {
        self.ranges[region as usize].clone()
    }

    /// The cell for a choice that stands in this region.
    pub fn find(&self, region: u32, choice: u32) -> Option<u32> {
        self.of_region(region).find(|cell| self.cells[*cell as usize].choice == choice)
    }
}
