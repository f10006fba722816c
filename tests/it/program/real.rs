//! Real results and real ballots come out exactly as they went in, figure by figure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::kit::Kit;
use crate::run::{PATIENCE, Place, csv_rows, real_file};

/// Votes by region and by the choice's code or name.
type Figures = BTreeMap<(String, String), u64>;

/// The figures of a file of results, by region and candidate (by `candidate_id`, where there is one), with the blank
/// and null ballots.
fn figures_of(file: &str) -> Figures {
    let mut reader = csv::Reader::from_reader(file.as_bytes());
    let mut figures = Figures::new();
    for row in reader.deserialize::<BTreeMap<String, String>>() {
        let row = row.unwrap();
        let number = |column: &str| row[column].parse::<u64>().unwrap();
        let candidate = row.get("candidate_id").unwrap_or(&row["candidate"]);
        for (choice, column) in [(candidate.as_str(), "votes"), ("BLANK", "blank"), ("NULL", "null")] {
            figures.insert((row["region_code"].clone(), choice.into()), number(column));
        }
    }
    figures
}

/// The output of `results --by region`, by region and by the choice in column `choice_at`. No row may appear twice.
fn counted(csv: &str, choice_at: usize) -> Figures {
    let mut figures = Figures::new();
    for row in csv_rows(csv) {
        let choice = if ["BLANK", "NULL"].contains(&row[1].as_str()) { &row[1] } else { &row[choice_at] };
        let before = figures.insert((row[0].clone(), choice.clone()), row[3].parse().unwrap());
        assert_eq!(before, None, "{row:?}");
    }
    figures
}

/// A file of results with 12 regions, 5 candidates and about 20,000 ballots.
fn national() -> String {
    let mut random = fastrand::Rng::with_seed(11);
    let mut text = "region_code,region_name,registered,abstentions,blank,null,candidate,party,votes\n".to_owned();
    for region in 1..=12 {
        let votes: Vec<u64> = (0..5).map(|_| random.u64(0..800)).collect();
        let (blank, null, away) = (random.u64(0..40), random.u64(0..20), random.u64(0..900));
        let registered = votes.iter().sum::<u64>() + blank + null + away;
        for (votes, name) in votes.iter().zip(["Ann Bé", "Bob \"B\" Cee", "Cy, Dee", "Dé Ëff", "Eve"]) {
            let name = name.replace('"', "\"\"");
            let head = format!("{region:02},\"Region, {region}\",{registered},{away},{blank},{null}");
            writeln!(text, "{head},\"{name}\",ignored,{votes}").unwrap();
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn results_come_out_as_they_went_in() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    let file = national();
    place.write("results.csv", &file);
    let out = place.ok("demo --results results.csv --speed max --exit --data-dir data");
    let figures = figures_of(&file);
    let total: u64 = figures.values().sum();
    assert!(out.contains("results: 12 regions"), "{out}");
    assert!(out.contains("audit of `native`: clean"), "{out}");
    assert_eq!(counted(&place.ok("results --by region --format csv"), 2), figures);

    let by_choice = csv_rows(&place.ok("results --by choice --format csv"));
    let sum: u64 = by_choice.iter().map(|row| row[2].parse::<u64>().unwrap()).sum();
    assert_eq!((by_choice.len(), sum), (7, total));
    let valid: Vec<u64> = by_choice[..5].iter().map(|row| row[2].parse().unwrap()).collect();
    assert!(valid.is_sorted_by(|a, b| a >= b), "the winner comes first: {valid:?}");
    let json: Vec<BTreeMap<String, serde_json::Value>> =
        serde_json::from_str(&place.ok("results --by region --format json")).unwrap();
    assert_eq!(json.iter().map(|row| row["votes"].as_u64().unwrap()).sum::<u64>(), total);

    let audit = place.ok("audit --data-dir data --truth data/truth.json");
    assert!(audit.contains("audit of `native`: clean"), "{audit}");
}

/// 650 regions with 7 local candidates each: ids start again in each region, and in every tenth region two candidates
/// share a name.
#[tokio::test(flavor = "multi_thread")]
async fn local_candidates_come_out_as_they_went_in() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    let mut random = fastrand::Rng::with_seed(12);
    let mut file =
        "region_code,region_name,registered,abstentions,blank,null,candidate_id,candidate,votes\n".to_owned();
    for region in 1..=650 {
        let votes: Vec<u64> = (0..7).map(|_| random.u64(0..9)).collect();
        let (blank, null) = (random.u64(0..2), random.u64(0..2));
        let registered = votes.iter().sum::<u64>() + blank + null + 10;
        for (id, votes) in (1..).zip(&votes) {
            let name = if region % 10 == 0 && id == 7 { 6 } else { id };
            let head = format!("E{region:04},Seat {region},{registered},10,{blank},{null}");
            writeln!(file, "{head},{id},Candidate {region}.{name},{votes}").unwrap();
        }
    }
    place.write("seats.csv", &file);
    place.ok("demo --results seats.csv --same-name several --speed max --exit --data-dir data");
    let out = place.ok("results --by region --format csv");
    let figures = figures_of(&file);
    assert_eq!(figures.len(), 650 * 9);
    assert_eq!(counted(&out, 1), figures);
    let name_of: BTreeMap<(String, String), String> =
        csv_rows(&out).into_iter().map(|row| ((row[0].clone(), row[1].clone()), row[2].clone())).collect();
    assert_eq!(name_of[&("E0010".into(), "7".into())], "Candidate 10.6");
    assert_eq!(name_of[&("E0011".into(), "7".into())], "Candidate 11.7");
}

/// The official results of 107 regions and 35.9 million ballots.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "35.9 million ballots take minutes; -- --ignored soak runs it"]
async fn soak_french_results_come_out_as_they_went_in() {
    let Some(path) = real_file("fr2022_t1_departements.csv") else { return };
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    let file = std::fs::read_to_string(&path).unwrap();
    place.write("results.csv", &file);
    place.start("demo --results results.csv --speed max --exit --data-dir data").end_within(30 * PATIENCE).ok();
    let figures = figures_of(&file);
    assert_eq!((figures.len(), figures.values().sum::<u64>()), (107 * 14, 35_923_707));
    assert_eq!(counted(&place.ok("results --by region --format csv"), 2), figures);
}

/// The city's official first-round figures, by lower-case name. The row without a name holds the blank ballots.
fn official(text: &str) -> BTreeMap<String, u64> {
    let name = |text: &str| if text.is_empty() { "blank".to_owned() } else { text.to_lowercase() };
    csv_rows(text).into_iter().map(|row| (name(&row[0]), row[2].parse().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ballots_add_up_to_the_citys_official_figures() {
    let Some(ballots) = real_file("cvr_minneapolis2013_mayor.csv.gz") else { return };
    let Some(figures) = real_file("cvr_minneapolis2013_mayor_official_round1.csv") else { return };
    let figures = std::fs::read_to_string(figures).unwrap();
    let columns = "--voter-column ballot_id --region-column precinct --choice-column first_choice";
    for blank_column in ["--blank-column kind", ""] {
        let kit = Kit::new().await;
        let place = Place::of(&kit);
        std::os::unix::fs::symlink(&ballots, place.path("ballots.csv.gz")).unwrap();
        place.ok(&format!("demo --ballots ballots.csv.gz {columns} {blank_column} --speed max --exit --data-dir data"));
        let rows = csv_rows(&place.ok("results --by choice --format csv"));
        let counted: BTreeMap<String, u64> =
            rows.iter().map(|row| (row[1].to_lowercase(), row[2].parse().unwrap())).collect();
        let mut expected = official(&figures);
        assert_eq!(expected.insert("null".into(), 0), None);
        assert_eq!(counted, expected);
        assert_eq!(counted.values().sum::<u64>(), 80_101);
        let regions = csv_rows(&place.ok("results --by region --format csv"));
        let mut precincts: Vec<&str> = regions.iter().map(|row| row[0].as_str()).collect();
        precincts.dedup();
        assert_eq!(precincts.len(), 117);
    }
}
