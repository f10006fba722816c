//! The cost of views with many regions: each row is read a few times, not once per other row.

use scrutin_contract::election::{Choice, Election, Region};
use scrutin_store::elections;
use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::kit::Kit;

const REGIONS: usize = 650;
const CHOICES: usize = 8;

/// Candidates who stand everywhere, or in one region each with the same codes in every region.
fn election(is_local: bool) -> Election {
    let code = |region: usize| format!("R{region:03}");
    let region = |number| Region {
        code: code(number),
        name: format!("Region {number}"),
        registered: Some(1000),
        expected_turnout: None,
        point: None,
        tile: None,
    };
    let choice = |number: usize, region: Option<usize>| Choice {
        code: format!("C{number}"),
        name: format!("Candidate {number} of {region:?}"),
        color: "#123456".into(),
        region: region.map(code),
    };
    let local = || (0..REGIONS).flat_map(|region| (0..CHOICES).map(move |number| choice(number, Some(region))));
    Election {
        regions: (0..REGIONS).map(region).collect(),
        choices: if is_local { local().collect() } else { (0..CHOICES).map(|number| choice(number, None)).collect() },
        ..Election::built_in()
    }
}

/// As a counter writes them: votes for each choice in each region, in six buckets.
async fn count(owner: &Client, election: &Election) {
    let votes = "ARRAY(SELECT CASE WHEN choice IN ('BLANK', 'NULL') THEN 0 ELSE r.place + line END
                         FROM unnest(r.ballot) WITH ORDINALITY AS b (choice, line) ORDER BY line)";
    let sql = format!(
        "INSERT INTO counter (counter, elections, partitions, log) VALUES ('native', ARRAY['{id}'], 4, 'log');
         INSERT INTO tally SELECT 'native', election, region, '{channel}', {votes} FROM region r WHERE election = '{id}';
         INSERT INTO timeline SELECT 'native', election, e.opens_at + b * interval '1 hour', region, {votes}
           FROM region r JOIN election e USING (election), generate_series(0, 5) b WHERE election = '{id}'",
        id = election.id,
        channel = election.channels[0],
    );
    owner.batch_execute(&sql).await.unwrap();
}

/// Rows that a plan produced or filtered out, over all its steps and loops.
fn rows_looked_at(plan: &Value) -> f64 {
    let figure = |name: &str| plan[name].as_f64().unwrap_or(0.0);
    let rows = figure("Actual Rows") + figure("Rows Removed by Join Filter") + figure("Rows Removed by Filter");
    let steps = plan["Plans"].as_array().into_iter().flatten();
    rows * figure("Actual Loops") + steps.map(rows_looked_at).sum::<f64>()
}

#[tokio::test]
async fn no_view_compares_every_region_with_every_other() {
    for is_local in [false, true] {
        let kit = Kit::new().await;
        let mut owner = kit.owner().await;
        let election = election(is_local);
        elections::save(&mut owner, &election).await.unwrap();
        count(&owner, &election).await;
        let views = "SELECT table_name::text FROM information_schema.views WHERE table_schema = 'scrutin' ORDER BY 1";
        for view in owner.query(views, &[]).await.unwrap() {
            let view: &str = view.get(0);
            let sql = format!("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) SELECT * FROM {view}");
            let said = owner.simple_query(&sql).await.unwrap();
            let text = said.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            let plan: Value = serde_json::from_str(text.unwrap()).unwrap();
            // 5,200 tally rows and 31,200 timeline rows, each read by a few steps.
            let looked_at = rows_looked_at(&plan[0]["Plan"]);
            assert!(looked_at < 400_000.0, "{view}, local candidates: {is_local}, {looked_at} rows: {plan:#}");
        }
    }
}
