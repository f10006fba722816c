//! Randomly damaged files: whatever byte, quote or line is hit, the file is refused or gives exactly the sums in it.

use std::collections::BTreeMap;

use super::inspected;
use crate::replay::layout::Layout;

/// Votes by candidate according to a reader that only knows quotes; none if it cannot read the file.
fn plain_sums(text: &str) -> Option<BTreeMap<String, u64>> {
    let plain = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let rows: Vec<Vec<String>> = reader
        .records()
        .map(|row| Some(row.ok()?.iter().map(|field| field.trim().to_owned()).collect()))
        .collect::<Option<_>>()?;
    // The header may not be the first row.
    let place = |row: &[String], name: &str| row.iter().position(|column| plain(column) == name);
    let header = rows.iter().position(|row| place(row, "candidate").is_some() && place(row, "votes").is_some())?;
    let (candidate, votes) = (place(&rows[header], "candidate")?, place(&rows[header], "votes")?);
    let mut sums = BTreeMap::new();
    for row in rows[header + 1..].iter().filter(|row| row.iter().any(|field| !field.is_empty())) {
        let votes = row.get(votes)?;
        *sums.entry(row.get(candidate)?.clone()).or_default() +=
            if votes.is_empty() { 0 } else { votes.parse::<u64>().ok()? };
    }
    Some(sums)
}

#[test]
fn damaged_results_are_refused_or_give_the_sums_in_the_file() {
    let seed = std::env::var("SCRUTIN_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(3);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut whole = "note,region_code,candidate,votes,remark\n".to_owned();
    for row in 0..36 {
        let (note, remark) =
            (["", "plain", "\"a, b\""][row % 3], ["", "5'8\" tall", "\"said \"\"so\"\"\""][row / 3 % 3]);
        whole += &format!("{note},R{},\"Name, {}\",{},{remark}\n", row / 4, row % 4, random.u32(10..900));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.csv");
    let (mut counted, mut refused) = (0, 0);
    let files = files_to_damage(1_000);
    for _ in 0..files {
        let mut text = whole.clone().into_bytes();
        let at = random.usize(0..text.len());
        let line = |from: usize| whole[from..].find('\n').map_or(whole.len(), |end| from + end + 1);
        match random.u8(0..6) {
            0 => text[at] = random.u8(32..127),
            1 => text.insert(at, b'"'),
            2 => drop(text.remove(at)),
            3 => text.insert(at, b"\n,\r"[random.usize(0..3)]),
            4 => drop(text.drain(at..line(at))),
            _ => text.truncate(at),
        }
        std::fs::write(&path, &text).unwrap();
        let report = inspected(&path, &Layout::own());
        if !report.can_be_counted {
            refused += 1;
            continue;
        }
        counted += 1;
        let mut sums = BTreeMap::new();
        report
            .candidates
            .iter()
            .for_each(|candidate| *sums.entry(candidate.name.clone()).or_default() += candidate.votes);
        let text = String::from_utf8(text).unwrap();
        assert_eq!(Some(sums), plain_sums(&text), "{text}");
    }
    assert!(counted > files / 8 && refused > files / 4, "{counted} {refused}");
}

/// `SCRUTIN_FUZZ_FILES`, or a number small enough for everyday runs.
fn files_to_damage(few: usize) -> usize {
    std::env::var("SCRUTIN_FUZZ_FILES").map_or(few, |text| text.parse().expect("a number of files"))
}
