//! Compares the tables with the recount: checks every row, and finds missing ones.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

use scrutin_contract::vote::{Reason, VoterId, format_millis};

use super::Result;
use super::judge::Rulebook;
use super::recount::{Bucket, BucketCell, Recount, RejectedRecord, TallyCell};
use super::report::Differences;
use super::snapshot::{Position, Snapshot};

const NOTHING: &str = "none";

pub(super) fn position(position: &Position, recount: &Recount, differences: &mut Differences) {
    let partition = position.partition;
    let mut check = |name: &str, expected: u64, found: i64| {
        if i64::try_from(expected) != Ok(found) {
            differences.push("position", format!("partition {partition} {name}"), expected, found);
        }
    };
    check("first_offset", recount.log_start, position.first_offset as i64);
    check("gaps", recount.gaps, position.gaps);
    check("counted", recount.counted, position.counted);
    check("rejected", recount.rejected.values().sum(), position.rejected);
    if position.next_offset > recount.log_end {
        let expected = format!("at most {}", recount.log_end);
        differences.push("position", format!("partition {partition} next_offset"), expected, position.next_offset);
    }
}

/// Compares the ids in a partition's stored poll book with those that the recount marked. Removes ids from the sets as
/// it finds them, so that no second copy is needed.
pub(super) fn poll_book(
    snapshot: &Snapshot,
    rulebook: &Rulebook,
    partition: u32,
    mut poll_books: Vec<HashSet<u128>>,
    differences: &mut Differences,
) -> Result<()> {
    let key = |election: &str, voter: u128| format!("partition {partition} {election} {}", VoterId(voter));
    let sql = "SELECT election, ids FROM poll_book WHERE counter = $1 AND partition = $2";
    snapshot.rows("read the poll book", sql, &[&(partition as i32)], &mut |row| {
        let (election, ids): (&str, &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        let number = rulebook.number(election);
        for id in ids.chunks(16) {
            let voter = id.iter().fold(0, |voter, byte| voter << 8 | u128::from(*byte));
            if !number.is_some_and(|number| poll_books[number].remove(&voter)) {
                differences.push("poll_book", key(election, voter), NOTHING, "in the poll book, or in it twice");
            }
        }
        Ok(())
    })?;
    for (rules, missing) in rulebook.elections.iter().zip(poll_books) {
        for voter in missing {
            differences.push("poll_book", key(&rules.id, voter), "in the poll book", NOTHING);
        }
    }
    Ok(())
}

pub(super) fn rejected_records(
    snapshot: &Snapshot,
    partition: u32,
    mut expected: BTreeMap<u64, RejectedRecord>,
    differences: &mut Differences,
) -> Result<()> {
    let key = |offset: u64| format!("partition {partition} offset {offset}");
    let sql = "SELECT \"offset\", reason, appended_at, key, value, value_bytes
                 FROM rejected_vote WHERE counter = $1 AND partition = $2";
    snapshot.rows("read the rejected records", sql, &[&(partition as i32)], &mut |row| {
        let offset = row.try_get::<_, i64>(0)? as u64;
        let found = RejectedRecord {
            reason: row.try_get(1)?,
            appended_at_us: micros(row.try_get(2)?),
            key: row.try_get(3)?,
            value: row.try_get(4)?,
            value_bytes: row.try_get(5)?,
        };
        match expected.remove(&offset) {
            Some(expected) if expected == found => {}
            Some(expected) => {
                // Show only what differs.
                let pairs = described(&expected).into_iter().zip(described(&found));
                let (expected, found): (Vec<_>, Vec<_>) = pairs.filter(|(expected, found)| expected != found).unzip();
                differences.push("rejected_vote", key(offset), expected.join(", "), found.join(", "));
            }
            None => differences.push("rejected_vote", key(offset), NOTHING, described(&found)[0].clone()),
        }
        Ok(())
    })?;
    for (offset, record) in expected {
        differences.push("rejected_vote", key(offset), described(&record)[0].clone(), NOTHING);
    }
    Ok(())
}

fn described(record: &RejectedRecord) -> [String; 5] {
    let bytes = |name: &str, bytes: &Option<Vec<u8>>| match bytes {
        None => format!("{name} null"),
        Some(bytes) if bytes.len() <= 40 => format!("{name} \"{}\"", bytes.escape_ascii()),
        Some(bytes) => format!("{name} of {} bytes, BLAKE3 {}", bytes.len(), &blake3::hash(bytes).to_hex()[..16]),
    };
    [
        record.reason.clone(),
        format!("appended {}", time(record.appended_at_us)),
        bytes("key", &record.key),
        bytes("value", &record.value),
        record.value_bytes.map_or_else(|| "value_bytes null".into(), |length| format!("value_bytes {length}")),
    ]
}

pub(super) fn tally(
    snapshot: &Snapshot,
    rulebook: &Rulebook,
    mut expected: HashMap<TallyCell, u64>,
    differences: &mut Differences,
) -> Result<()> {
    let sql = "SELECT election, region, choice, channel, votes FROM votes_by_channel WHERE counter = $1";
    snapshot.rows("read the tally", sql, &[], &mut |row| {
        let [election, region, choice, channel]: [&str; 4] =
            [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?];
        let cell = rulebook.number(election).and_then(|number| {
            let rules = &rulebook.elections[number];
            let (region, choice) = (rules.regions.number(region)?, rules.choices.number(choice)?);
            Some((number, region, choice, rules.channels.number(channel)?))
        });
        let expected = cell.and_then(|cell| expected.remove(&cell));
        votes(differences, "tally", &|| format!("{election} {region} {choice} {channel}"), expected, row.try_get(4)?);
        Ok(())
    })?;
    for ((election, region, choice, channel), expected) in expected {
        let rules = &rulebook.elections[election];
        let (region, choice) = (&rules.regions.list[region], &rules.choices.list[choice]);
        let key = format!("{} {region} {choice} {}", rules.id, rules.channels.list[channel]);
        differences.push("tally", key, expected, NOTHING);
    }
    Ok(())
}

pub(super) fn timeline(
    snapshot: &Snapshot,
    rulebook: &Rulebook,
    mut expected: HashMap<Bucket, HashMap<BucketCell, u64>>,
    differences: &mut Differences,
) -> Result<()> {
    let sql = "SELECT election, bucket, region, choice, votes FROM votes_by_bucket WHERE counter = $1";
    snapshot.rows("read the timeline", sql, &[], &mut |row| {
        let [election, region, choice]: [&str; 3] = [row.try_get(0)?, row.try_get(2)?, row.try_get(3)?];
        let bucket_us = micros(row.try_get(1)?);
        let cell = rulebook.number(election).filter(|_| bucket_us % 1000 == 0).and_then(|number| {
            let rules = &rulebook.elections[number];
            let cell = (rules.regions.number(region)?, rules.choices.number(choice)?);
            expected.get_mut(&(number, bucket_us / 1000))?.remove(&cell)
        });
        let key = || format!("{election} {} {region} {choice}", time(bucket_us));
        votes(differences, "timeline", &key, cell, row.try_get(4)?);
        Ok(())
    })?;
    for ((election, bucket_ms), cells) in expected {
        let rules = &rulebook.elections[election];
        for ((region, choice), expected) in cells {
            let (region, choice) = (&rules.regions.list[region], &rules.choices.list[choice]);
            let key = format!("{} {} {region} {choice}", rules.id, time(bucket_ms * 1000));
            differences.push("timeline", key, expected, NOTHING);
        }
    }
    Ok(())
}

pub(super) fn rejections(
    snapshot: &Snapshot,
    mut expected: BTreeMap<(Reason, i64), u64>,
    differences: &mut Differences,
) -> Result<()> {
    let sql = "SELECT reason, bucket, votes FROM rejection WHERE counter = $1";
    snapshot.rows("read the rejections", sql, &[], &mut |row| {
        let (name, bucket_us): (&str, i64) = (row.try_get(0)?, micros(row.try_get(1)?));
        let reason: Option<Reason> = name.parse().ok();
        let whole = bucket_us % 1000 == 0;
        let expected = reason.filter(|_| whole).and_then(|reason| expected.remove(&(reason, bucket_us / 1000)));
        votes(differences, "rejection", &|| format!("{name} {}", time(bucket_us)), expected, row.try_get(2)?);
        Ok(())
    })?;
    for ((reason, bucket_ms), expected) in expected {
        differences.push("rejection", format!("{reason} {}", time(bucket_ms * 1000)), expected, NOTHING);
    }
    Ok(())
}

/// Compares the sums maintained by triggers with the rows they sum, which have already been compared with the log.
pub(super) fn kept_sums(snapshot: &Snapshot, differences: &mut Differences) -> Result<()> {
    let tables = [
        ("tally_sum", "votes_by_channel", "election, choice, channel", "concat_ws(' ', election, choice, channel)"),
        (
            "timeline_sum",
            "votes_by_bucket",
            "election, bucket, choice",
            "concat_ws(' ', election, rfc3339(bucket), choice)",
        ),
    ];
    for (table, rows, key, shown) in tables {
        let sql = format!(
            "SELECT {shown}, coalesce(r.votes, 0), coalesce(s.votes, 0)
               FROM (SELECT {key}, sum(votes)::bigint AS votes FROM {rows} WHERE counter = $1 GROUP BY {key}) r
               FULL JOIN (SELECT {key}, votes FROM {table} WHERE counter = $1) s USING ({key})
              WHERE coalesce(r.votes, 0) <> coalesce(s.votes, 0) ORDER BY {key}"
        );
        snapshot.rows("compare the sums", &sql, &[], &mut |row| {
            let (expected, found): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
            differences.push(table, row.try_get(0)?, expected, found);
            Ok(())
        })?;
    }
    Ok(())
}

/// Finds partitions without a position, and rows of partitions that the log does not have or that have no position.
pub(super) fn stray_partitions(snapshot: &Snapshot, partitions: u32, differences: &mut Differences) -> Result<()> {
    let sql = "SELECT p.partition FROM generate_series(0, $2::int - 1) AS p (partition)
                WHERE NOT EXISTS (SELECT 1 FROM position WHERE counter = $1 AND partition = p.partition)";
    let partitions = partitions as i32;
    snapshot.rows("look for positions", sql, &[&partitions], &mut |row| {
        let partition: i32 = row.try_get(0)?;
        differences.push("position", format!("partition {partition}"), "a row", NOTHING);
        Ok(())
    })?;
    for table in ["position", "poll_book", "rejected_vote"] {
        let sql = format!(
            "SELECT partition, count(*) FROM {table} t
              WHERE counter = $1 AND (partition NOT BETWEEN 0 AND $2::int - 1
                 OR NOT EXISTS (SELECT 1 FROM position p WHERE p.counter = $1 AND p.partition = t.partition))
              GROUP BY partition ORDER BY partition"
        );
        snapshot.rows("look for stray rows", &sql, &[&partitions], &mut |row| {
            let (partition, rows): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
            differences.push(table, format!("partition {partition}"), NOTHING, format!("{rows} rows"));
            Ok(())
        })?;
    }
    Ok(())
}

/// Compares a row's votes. A row of zero votes is equivalent to no row.
fn votes(
    differences: &mut Differences,
    table: &'static str,
    key: &dyn Fn() -> String,
    expected: Option<u64>,
    found: i64,
) {
    if i64::try_from(expected.unwrap_or(0)) != Ok(found) {
        let expected = expected.map_or_else(|| NOTHING.into(), |votes| votes.to_string());
        differences.push(table, key(), expected, found);
    }
}

/// Microseconds since 1970 UTC, PostgreSQL's resolution.
pub(super) fn micros(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_micros() as i64,
        Err(before) => -(before.duration().as_micros() as i64),
    }
}

/// Formats microseconds since 1970 UTC, to the millisecond unless there are more digits.
fn time(micros: i64) -> String {
    let text = format_millis(micros.div_euclid(1000));
    match micros.rem_euclid(1000) {
        0 => text,
        rest => format!("{text} + {rest} µs"),
    }
}
