//! The sums of each region, and whether they fit the registered voters.

use std::collections::HashMap;

use super::codes::Codes;
use super::facts::{ABSTENTIONS_AT, BLANK_AT, NULL_AT, REGISTERED_AT};
use super::layout::OverRegistered;
use super::settled::RegionSum;
use super::settling::Settling;
use super::words;

impl Settling<'_> {
    /// Checks that ballots do not exceed the registered voters, and match the abstentions.
    pub fn region_sums(&mut self) -> Vec<RegionSum> {
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
