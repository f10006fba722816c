//! Simulated and replayed votes.

use super::Stage;
use crate::run::csv_rows;

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_simulation_resumes_where_the_log_ends() {
    let stage = Stage::new().await;
    stage.place.ok("setup --voters 100000 --partitions 3");
    let simulate = stage.place.start("simulate --speed 1000 --seed 7");
    while (0..3).map(|partition| stage.topic.offsets(partition).1).sum::<i64>() < 2_000 {}
    let done = simulate.interrupted();
    assert!(done.ok().contains("Stopped; run it again to resume."));
    let before: i64 = (0..3).map(|partition| stage.topic.offsets(partition).1).sum();

    let other = stage.place.fails("simulate --seed 8", 4);
    let words = format!("the log at {} holds votes of another run (partition ", stage.topic.address());
    assert!(
        other.contains(&words) && other.contains("use the seed, voters, faults and file that it was started with"),
        "{other}"
    );

    stage.place.ok("simulate --seed 7");
    let all: i64 = (0..3).map(|partition| stage.topic.offsets(partition).1).sum();
    assert!(before < all, "there was something left to write");
    assert_eq!(stage.place.json("scrutin-data/truth.json")["records"].as_i64(), Some(all));
    stage.place.ok("simulate --seed 7");
    assert_eq!((0..3).map(|partition| stage.topic.offsets(partition).1).sum::<i64>(), all, "nothing is added");
    stage.place.ok("count --drain");
    stage.place.ok("audit --truth scrutin-data/truth.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn official_results_come_out_as_they_went_in() {
    let stage = Stage::new().await;
    let mut results = "region_code,region_name,registered,abstentions,blank,null,candidate,votes\n".to_owned();
    for region in 0..5 {
        for (candidate, votes) in [("Ann", 300 + region), ("Bob", 120 + 7 * region)] {
            results += &format!("R{region},Region {region},2000,{},11,4,{candidate},{votes}\n", 1565 - 8 * region);
        }
    }
    stage.place.write("results.csv", &results);
    stage.place.ok("replay results results.csv --partitions 2");
    stage.place.ok("count --drain");
    stage.place.ok("audit --truth scrutin-data/truth.json");
    let rows = csv_rows(&stage.place.ok("results --format csv"));
    let votes: Vec<(&str, &str)> = rows.iter().map(|row| (row[0].as_str(), row[2].as_str())).collect();
    let sum = |of: fn(u32) -> u32| (0..5).map(of).sum::<u32>().to_string();
    let (ann, bob) = (sum(|region| 300 + region), sum(|region| 120 + 7 * region));
    assert_eq!(votes, [("ann", ann.as_str()), ("bob", &bob), ("BLANK", "55"), ("NULL", "20")]);
}
