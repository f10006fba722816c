//! Spark counts the same votes: a real Spark, Kafka and PostgreSQL, the program as a user runs it, and the native count
//! beside it.

use std::collections::BTreeMap;

use crate::kafka::Stage;
use crate::spark_server::Spark;

/// A share of the ballots with every kind of fault. Of the double votes, most come in the same batch as the first.
const FAULTS: &str = "--faults none --fault redelivery=0.02 --fault double_vote=0.03 --fault malformed=0.01 \
    --fault misrouted=0.01 --fault unknown_election=0.005 --fault unknown_region=0.005 --fault unknown_choice=0.005 \
    --fault unknown_channel=0.005 --fault too_early=0.005 --fault too_late=0.005 --fault delay=0.02";

/// An election, and a folder of the stage's for Spark's checkpoint.
struct Night {
    stage: Stage,
    spark: &'static Spark,
}

impl Night {
    async fn begin(voters: u32) -> Night {
        let night = Night { stage: Stage::new().await, spark: Spark::shared() };
        night.stage.place.ok(&format!("setup --voters {voters} --day 1h --partitions 3"));
        night
    }

    /// The command line of the count on Spark.
    fn on_spark(&self, more: &str) -> String {
        format!(
            "count --engine spark --spark {} --checkpoint {} --tallies {}-tallies {more}",
            self.spark.address(),
            self.stage.place.path("checkpoint").display(),
            self.stage.topic.name
        )
    }

    /// All rows of a counter, but for what tells when and how it was committed.
    async fn tables(&self, counter: &str) -> BTreeMap<&'static str, Vec<String>> {
        let owner = self.stage.kit.owner().await;
        let mut tables = BTreeMap::new();
        for (table, columns) in [
            ("tally", "election, region, choice, channel, votes"),
            ("timeline", "election, bucket, region, choice, votes"),
            ("rejection", "reason, bucket, votes"),
            ("position", "partition, first_offset, next_offset, gaps, counted, rejected"),
        ] {
            let sql = format!("SELECT ROW({columns})::text FROM {table} WHERE counter = $1 ORDER BY 1");
            let rows = owner.query(&sql, &[&counter]).await.unwrap();
            tables.insert(table, rows.iter().map(|row| row.get(0)).collect());
        }
        tables
    }

    /// Both counters have the same rows.
    async fn agree(&self) {
        let (native, spark) = (self.tables("native").await, self.tables("spark").await);
        for (table, rows) in &native {
            let differs = rows.iter().zip(&spark[table]).find(|(native, spark)| native != spark);
            assert_eq!((rows.len(), differs), (spark[table].len(), None), "{table}");
            assert!(!rows.is_empty(), "{table}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_counts_have_the_same_rows() {
    let night = Night::begin(100_000).await;
    night.stage.place.ok(&format!("simulate --seed 3 --speed max --truth truth.json {FAULTS}"));
    let said = night.stage.place.ok(&night.on_spark("--drain"));
    assert!(said.contains("0 left in the log"), "{said}");
    night.stage.place.ok("count --drain");
    night.agree().await;
    let status = night.stage.place.ok("status");
    assert!(status.contains("native and spark: agree in every row"), "{status}");
    let audit = night.stage.place.ok("audit --counter spark --truth truth.json");
    assert!(audit.contains("clean") && audit.contains("every total is that of the ground truth"), "{audit}");

    // Not one vote may be moved unseen.
    let owner = night.stage.kit.owner().await;
    for (table, row) in [
        ("tally", "election = 'pres-2027' AND region = '75' AND choice = 'C03' AND channel = 'booth'"),
        (
            "timeline",
            "(election, bucket, region, choice) = (SELECT election, bucket, region, choice FROM timeline LIMIT 1)",
        ),
        ("rejection", "(reason, bucket) = (SELECT reason, bucket FROM rejection LIMIT 1)"),
    ] {
        let change = |by: &str| format!("UPDATE {table} SET votes = votes {by} WHERE counter = 'spark' AND {row}");
        owner.execute(&change("+ 1"), &[]).await.unwrap();
        let status = night.stage.place.ok("status");
        assert!(status.contains("native and spark: DIFFER") && status.contains(&format!("as {table} ")), "{status}");
        night.stage.place.fails("audit --counter spark", 1);
        owner.execute(&change("- 1"), &[]).await.unwrap();
    }
    let refused: i64 =
        night.stage.figure("SELECT votes FROM refusals WHERE counter = 'spark' AND reason = 'already_voted'").await;
    assert!(refused > 1000, "{refused} double votes");
}
