//! The built-in election is complete, and a broken folder is refused with the place and what was expected.

use std::collections::HashSet;

use expect_test::{Expect, expect};

use super::Election;

const TOML: &str = r#"id = "mayor"
title = "Mayor"
opens_at = 2027-04-11T08:00:00+02:00
closes_at = 2027-04-11T20:00:00+02:00
time_zone = "Europe/Paris"
channels = ["booth", "post"]
"#;
const REGIONS: &str = "code,name,registered,lat,lon,grid_col,grid_row\nN,North,1200,48.5,2.25,1,0\nS,South,800,,,1,1\n";
const CHOICES: &str = "code,name,color,region\nA,Ada,#1b6ca8,\nB,Ben,,S\n";

#[test]
fn built_in_election_is_whole() {
    let election = Election::built_in();
    election.check().unwrap();
    assert_eq!(election.regions.len(), 107);
    assert_eq!(election.choices.len(), 10);
    let registered = election.registered().unwrap();
    assert!((48_500_000..=49_500_000).contains(&registered), "{registered} registered");

    let tiles: HashSet<_> = election.regions.iter().map(|region| region.tile.expect("each has a tile")).collect();
    assert_eq!(tiles.len(), election.regions.len(), "no two regions share a tile");
    let colors: HashSet<_> = election.choices.iter().map(|choice| &choice.color).collect();
    assert_eq!(colors.len(), election.choices.len(), "no two choices share a colour");

    // Only the region of the French abroad has no place on the map.
    let without_point: Vec<_> = election.regions.iter().filter(|region| region.point.is_none()).collect();
    assert_eq!(without_point.len(), 1);
    assert_eq!(without_point[0].code, "ZZ");
}

#[test]
fn built_in_tiles_follow_the_compass() {
    let election = Election::built_in();
    let tile = |code: &str| election.regions.iter().find(|region| region.code == code).and_then(|region| region.tile);
    let [lille, brest, strasbourg, paris, nice, perpignan, ajaccio] =
        ["59", "29", "67", "75", "06", "66", "2A"].map(|code| tile(code).expect("has a tile"));
    assert!(lille.1 < paris.1 && paris.1 < perpignan.1, "north is up");
    assert!(brest.0 < paris.0 && paris.0 < strasbourg.0 && strasbourg.0 <= nice.0, "west is left");
    assert!(ajaccio.0 > nice.0 && ajaccio.1 > perpignan.1, "Corsica is south-east");
}

#[test]
fn folder_is_read() {
    let folder = folder(TOML, REGIONS, CHOICES);
    let election = Election::load(folder.path()).unwrap();
    assert_eq!(election.registered(), Some(2000));
    assert_eq!(election.bucket_seconds, 60);
    assert_eq!(election.regions[0].point, Some((48.5, 2.25)));
    assert_eq!(election.regions[1].point, None);
    assert_eq!(election.regions[1].tile, Some((1, 1)));
    assert_eq!(election.choices[0].region, None);
    assert_eq!(election.choices[1].region.as_deref(), Some("S"));
}

fn folder(toml: &str, regions: &str, choices: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("election.toml", toml), ("regions.csv", regions), ("choices.csv", choices)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn check(toml: &str, regions: &str, choices: &str, expect: Expect) {
    let folder = folder(toml, regions, choices);
    let message = match Election::load(folder.path()) {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.to_string(),
    };
    expect.assert_eq(&message.replace(&folder.path().display().to_string(), "folder"));
}

fn check_regions(regions: &str, expect: Expect) {
    check(TOML, regions, CHOICES, expect);
}

fn check_choices(choices: &str, expect: Expect) {
    check(TOML, REGIONS, choices, expect);
}

fn check_toml(find: &str, replace: &str, expect: Expect) {
    assert!(TOML.contains(find), "{find}");
    check(&TOML.replace(find, replace), REGIONS, CHOICES, expect);
}

#[test]
fn broken_regions() {
    check_regions(
        "code,name\nN,North\n",
        expect!["folder/regions.csv, line 1: no column `registered`; the columns are code, name"],
    );
    check_regions(
        "code,name,registered\nN,North,many\n",
        expect![
            "folder/regions.csv, line 2, column `registered`: found `many`, expected a whole number of zero or more"
        ],
    );
    check_regions(
        "code,name,registered\nN,North,-5\n",
        expect!["folder/regions.csv, line 2, column `registered`: found `-5`, expected a whole number of zero or more"],
    );
    check_regions(
        "code,name,registered\nN,North,5\nS,South\n",
        expect!["folder/regions.csv, line 3: found 2 fields, expected 3 as in the header"],
    );
    check_regions(
        "code,name,registered\nN,North,5\nN,North,5\n",
        expect!["folder/regions.csv, line 3, column `code`: `N` is already on line 2; expected each code once"],
    );
    check_regions(
        "code,name,registered\n,North,5\n",
        expect!["folder/regions.csv, line 2, column `code`: is empty; expected a code"],
    );
    check_regions(
        "code,name,registered\nN,,5\n",
        expect!["folder/regions.csv, line 2, column `name`: is empty; expected a value"],
    );
    check_regions(
        "code,name,registered,lat,lon\nN,North,5,91,0\n",
        expect!["folder/regions.csv, line 2, column `lat`: found 91, expected degrees from -90 to 90"],
    );
    check_regions(
        "code,name,registered,grid_col,grid_row\nN,North,5,1,half\n",
        expect!["folder/regions.csv, line 2, column `grid_row`: found `half`, expected a whole number"],
    );
    check_regions("code,name,registered\n", expect!["folder/regions.csv: has no region; expected at least one row"]);
    check_regions(
        "",
        expect![
            "folder/regions.csv, line 1: is empty; expected a header with the columns `code`, `name`, `registered`"
        ],
    );
}

#[test]
fn broken_choices() {
    check_choices("code\nA\n", expect!["folder/choices.csv, line 1: no column `name`; the columns are code"]);
    check_choices(
        "code,name\nA,Ada\nA,Ben\n",
        expect![
            "folder/choices.csv, line 3, column `code`: `A` is already on line 2; expected each code once per region"
        ],
    );
    check_choices(
        "code,name,region\nA,Ada,N\nA,Ada,\n",
        expect![
            "folder/choices.csv, line 3, column `code`: `A` stands everywhere in one row and in one region in another"
        ],
    );
    check_choices(
        "code,name,region\nA,Ada,West\n",
        expect![
            "folder/choices.csv, line 2, column `region`: found `West`, expected a code from regions.csv, or nothing"
        ],
    );
    check_choices(
        "code,name,color\nA,Ada,blue\n",
        expect!["folder/choices.csv, line 2, column `color`: found `blue`, expected a colour such as #1a2b3c"],
    );
    check_choices(
        "code,name\nBLANK,Nobody\n",
        expect!["folder/choices.csv, line 2, column `code`: `BLANK` is already on every ballot; expected another code"],
    );
    check_regions(
        "code,name,registered,expected_turnout\nN,North,10,0.7\nS,South,10,70\n",
        expect![
            "folder/regions.csv, line 3, column `expected_turnout`: found 70, expected a share of the registered above 0 and up to 1"
        ],
    );
    check_choices("code,name\n", expect!["folder/choices.csv: has no choice; expected at least one row"]);
}

#[test]
fn broken_toml() {
    check_toml(
        "title = \"Mayor\"",
        "title = Mayor",
        expect!["folder/election.toml, line 2: string values must be quoted, expected literal string"],
    );
    check_toml("title = \"Mayor\"\n", "", expect!["folder/election.toml, line 1: missing field `title`"]);
    check_toml(
        "title",
        "titel",
        expect![
            "folder/election.toml, line 2: unknown field `titel`, expected one of `id`, `title`, `opens_at`, `closes_at`, `time_zone`, `channels`, `bucket_seconds`, `expected_turnout`"
        ],
    );
    check_toml(
        "08:00:00+02:00",
        "08:00:00",
        expect![
            "folder/election.toml, line 3, column `opens_at`: found `2027-04-11T08:00:00`, expected a date, a time and an offset, such as 2027-04-11T08:00:00+02:00"
        ],
    );
    check_toml(
        "20:00:00",
        "07:00:00",
        expect!["folder/election.toml, line 4, column `closes_at`: is not after opens_at; expected a later time"],
    );
    check_toml(
        "[\"booth\", \"post\"]",
        "[\"booth\", \"post\"]\nexpected_turnout = 72.5",
        expect![
            "folder/election.toml, line 7, column `expected_turnout`: is 72.5; expected a share of the registered above 0 and up to 1"
        ],
    );
    check_toml(
        "[\"booth\", \"post\"]",
        "[]",
        expect!["folder/election.toml, line 6, column `channels`: has 0 entries; expected 1 to 64"],
    );
    check_toml(
        "[\"booth\", \"post\"]",
        "[\"booth\", \"booth\"]",
        expect!["folder/election.toml, line 6, column `channels`: has `booth` twice; expected it once"],
    );
    check_toml(
        "id = \"mayor\"",
        "id = \"\"",
        expect!["folder/election.toml, line 1, column `id`: is empty; expected a code"],
    );
}

#[test]
fn missing_file() {
    let folder = folder(TOML, REGIONS, CHOICES);
    std::fs::remove_file(folder.path().join("regions.csv")).unwrap();
    let message = Election::load(folder.path()).unwrap_err().to_string();
    expect!["cannot read folder/regions.csv: No such file or directory (os error 2)"]
        .assert_eq(&message.replace(&folder.path().display().to_string(), "folder"));
}
