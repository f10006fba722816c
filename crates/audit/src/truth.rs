//! Scores the tables against the totals that the generator expects.
//!
//! Does not look at the log: the recount checks that the tables match it.

use std::collections::HashMap;

use scrutin_contract::truth::Truth;
use scrutin_contract::vote::format_millis;

use super::Result;
use super::compare::micros;
use super::report::{Differences, TruthScore};
use super::snapshot::Snapshot;

const NOTHING: &str = "none";

/// `recounted` is how many records the counter has counted or rejected. Scores only if the truth has as many.
pub(super) fn score(snapshot: &Snapshot, truth: &Truth, recounted: u64) -> Result<TruthScore> {
    if recounted != truth.records {
        return Ok(TruthScore::Incomplete { records: truth.records, recounted });
    }
    let mut differences = Differences::default();
    tally(snapshot, truth, &mut differences)?;
    timeline(snapshot, truth, &mut differences)?;
    rejections(snapshot, truth, &mut differences)?;
    Ok(TruthScore::Scored(differences))
}

fn tally(snapshot: &Snapshot, truth: &Truth, differences: &mut Differences) -> Result<()> {
    let rows = truth.tally_rows();
    let rows = rows
        .map(|(region, choice, channel, votes)| ([&truth.election, region, choice, channel].map(str::to_owned), votes));
    let mut expected: HashMap<[String; 4], u64> = rows.collect();
    let sql = "SELECT election, region, choice, channel, votes FROM votes_by_channel WHERE counter = $1";
    snapshot.rows("read the tally", sql, &[], &mut |row| {
        let key: [String; 4] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?];
        let votes = expected.remove(&key);
        check(differences, "tally", key.join(" "), votes, row.try_get(4)?);
        Ok(())
    })?;
    missing(differences, "tally", expected.into_iter().map(|(key, votes)| (key.join(" "), votes)).collect());
    Ok(())
}

fn timeline(snapshot: &Snapshot, truth: &Truth, differences: &mut Differences) -> Result<()> {
    let mut cells: HashMap<&str, HashMap<&str, usize>> = HashMap::new();
    for (number, (region, choice)) in truth.cells.iter().enumerate() {
        cells.entry(region).or_default().insert(choice, number);
    }
    let mut expected: HashMap<(i64, usize), u64> = HashMap::new();
    for bucket in &truth.timeline {
        expected.extend(bucket.votes.iter().map(|&(cell, votes)| ((bucket.start_ms * 1000, cell as usize), votes)));
    }
    let key = |election: &str, bucket_us: i64, region: &str, choice: &str| {
        format!("{election} {} {region} {choice}", format_millis(bucket_us.div_euclid(1000)))
    };
    let sql = "SELECT election, bucket, region, choice, votes FROM votes_by_bucket WHERE counter = $1";
    snapshot.rows("read the timeline", sql, &[], &mut |row| {
        let [election, region, choice]: [&str; 3] = [row.try_get(0)?, row.try_get(2)?, row.try_get(3)?];
        let bucket_us = micros(row.try_get(1)?);
        let cell = cells.get(region).and_then(|choices| choices.get(choice)).filter(|_| election == truth.election);
        let votes = cell.and_then(|cell| expected.remove(&(bucket_us, *cell)));
        check(differences, "timeline", key(election, bucket_us, region, choice), votes, row.try_get(4)?);
        Ok(())
    })?;
    let rest = expected.into_iter().map(|((bucket_us, cell), votes)| {
        let (region, choice) = &truth.cells[cell];
        (key(&truth.election, bucket_us, region, choice), votes)
    });
    missing(differences, "timeline", rest.collect());
    Ok(())
}

fn rejections(snapshot: &Snapshot, truth: &Truth, differences: &mut Differences) -> Result<()> {
    let mut expected: HashMap<String, u64> = truth.rejected.clone().into_iter().collect();
    let sql = "SELECT reason, sum(votes)::bigint FROM rejection WHERE counter = $1 GROUP BY reason";
    snapshot.rows("read the rejections", sql, &[], &mut |row| {
        let reason: String = row.try_get(0)?;
        let votes = expected.remove(&reason);
        check(differences, "rejection", reason, votes, row.try_get(1)?);
        Ok(())
    })?;
    missing(differences, "rejection", expected.into_iter().collect());
    Ok(())
}

fn check(differences: &mut Differences, table: &'static str, key: String, expected: Option<u64>, found: i64) {
    if i64::try_from(expected.unwrap_or(0)) != Ok(found) {
        let expected = expected.map_or_else(|| NOTHING.into(), |votes| votes.to_string());
        differences.push(table, key, expected, found);
    }
}

fn missing(differences: &mut Differences, table: &'static str, rest: Vec<(String, u64)>) {
    for (key, votes) in rest {
        differences.push(table, key, votes, NOTHING);
    }
}
