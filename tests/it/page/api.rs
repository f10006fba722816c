//! The figures of the API, and its errors where it has none.

use serde_json::{Value, json};

use super::{Page, kit_with_votes};

#[tokio::test]
async fn the_api_gives_exact_figures() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;

    let loaded = page.ok("/api/v1/election").await;
    assert_eq!(loaded["opens_at"], "2027-01-15T08:00:00.000Z");
    assert_eq!(loaded["registered"], 1500);
    assert_eq!(loaded["choices"][2], json!({"choice": "C", "name": "Candidate C", "color": "#778899", "region": "S"}));
    assert_eq!(loaded["regions"][1]["grid_row"], 1);

    let results = page.ok("/api/v1/results").await;
    let votes = |value: &Value| -> Vec<(String, i64)> {
        let rows = value["results"].as_array().unwrap().iter();
        rows.map(|row| (row["choice"].as_str().unwrap().to_owned(), row["votes"].as_i64().unwrap())).collect()
    };
    let expected = [("A", 4), ("C", 3), ("B", 2), ("BLANK", 1), ("NULL", 0)].map(|(code, n)| (code.to_owned(), n));
    assert_eq!(votes(&results), expected);
    assert_eq!(results["results"][0]["share"], 4.0 / 9.0);
    assert_eq!(results["results"][3]["share"], Value::Null);

    let south = page.ok("/api/v1/results/regions?region=S").await;
    let expected = [("C", 3), ("A", 0), ("B", 0), ("BLANK", 1), ("NULL", 0)].map(|(code, n)| (code.to_owned(), n));
    assert_eq!(votes(&south), expected);

    let leaders = page.ok("/api/v1/leaders").await;
    assert_eq!(leaders["leaders"][0]["choice"], "A");
    assert_eq!(leaders["leaders"][0]["runner_up"], "B");
    assert_eq!(leaders["leaders"][0]["margin"], 2);
    assert_eq!(leaders["leaders"][1]["margin_share"], 1.0);

    let turnout = page.ok("/api/v1/turnout").await;
    let expected =
        json!({"registered": 1500, "votes": 10, "valid": 9, "blank": 1, "null": 0, "turnout": 10.0 / 1500.0});
    assert_eq!(turnout["total"], expected);
    assert_eq!(turnout["regions"][1]["votes"], 4);

    let timeline = page.ok("/api/v1/timeline").await;
    assert_eq!(timeline["first"], "2027-01-15T08:00:00.000Z");
    assert_eq!((&timeline["step_seconds"], &timeline["points"]), (&json!(60), &json!(10)));
    assert_eq!(timeline["series"][0], json!({"choice": "A", "name": "Candidate A", "votes": [3, 0, 1]}));
    let coarse = page.ok("/api/v1/timeline?limit=4").await;
    assert_eq!((&coarse["step_seconds"], &coarse["points"]), (&json!(180), &json!(4)));
    assert_eq!(coarse["series"][0], json!({"choice": "A", "name": "Candidate A", "votes": [4]}));

    let rejections = page.ok("/api/v1/rejections").await;
    let expected = json!([{"reason": "already_voted", "votes": 2}, {"reason": "malformed", "votes": 1}]);
    assert_eq!(rejections["rejections"], expected);

    let accounting = page.ok("/api/v1/accounting").await;
    let expected = json!({"received": 13, "counted": 10, "rejected": 3, "gaps": 1, "tallied": 10, "rejected_by_reason": 3, "holds": true});
    assert_eq!(accounting["total"], expected);
    assert_eq!(accounting["partitions"][1]["next_offset"], 5);

    assert_eq!(page.ok("/api/v1/lag").await["total"]["votes"], 2);
    let throughput = page.ok("/api/v1/throughput").await;
    assert_eq!(throughput["seconds"][0]["received"], 13);
    assert_eq!(throughput["seconds"][0]["latency_ms_p99"], 40.0);

    let status = page.ok("/api/v1/status").await;
    assert_eq!(status["last_audit"]["audited_at"], "2027-01-15T08:10:00.000Z");
    assert_eq!(status["accounting"], expected);
    assert_eq!(status["agreement"], json!([]));
    page.stop().await;
}

#[tokio::test]
async fn counters_of_the_same_log_are_compared() {
    let kit = kit_with_votes().await;
    let owner = kit.owner().await;
    let copy = "
        INSERT INTO counter (counter, elections, log, partitions) SELECT 'twin', elections, log, partitions FROM counter;
        INSERT INTO counter (counter, elections, log, partitions)
             SELECT 'stranger', elections, 'another log', partitions FROM counter WHERE counter = 'native';
        INSERT INTO position (counter, partition, first_offset, next_offset, gaps, counted, rejected, end_offset)
             SELECT 'twin', partition, first_offset, next_offset, gaps, counted, rejected, end_offset FROM position;
        INSERT INTO tally SELECT 'twin', election, region, channel, votes FROM tally;
        INSERT INTO rejection SELECT 'twin', reason, bucket, votes FROM rejection";
    owner.batch_execute(copy).await.unwrap();
    let page = Page::start(kit.db()).await;
    let found = async || page.ok("/api/v1/status").await["agreement"].clone();
    let twin = |agree: bool, partitions: u32, votes: u32, rejections: u32| {
        json!([{"counter": "native", "other": "twin", "partitions_apart": partitions, "votes_apart": votes,
                "rejections_apart": rejections, "agree": agree}])
    };
    assert_eq!(found().await, twin(true, 0, 0, 0));
    owner.execute("UPDATE rejection SET votes = 0 WHERE counter = 'twin' AND reason = 'malformed'", &[]).await.unwrap();
    assert_eq!(found().await, twin(false, 0, 0, 1));
    owner
        .execute("UPDATE votes_by_channel SET votes = votes + 2 WHERE counter = 'twin' AND votes = 3", &[])
        .await
        .unwrap();
    let apart = found().await;
    assert!(apart[0]["agree"] == false && apart[0]["votes_apart"].as_u64() > Some(0), "{apart}");
    owner
        .execute(
            "UPDATE position SET next_offset = next_offset + 1, gaps = gaps + 1, end_offset = end_offset + 1
                    WHERE counter = 'twin' AND partition = 0",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(found().await[0]["partitions_apart"], 1);
    page.stop().await;
}

#[tokio::test]
async fn a_request_without_an_answer_gets_a_reason() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;
    for (path, status, words) in [
        ("/api/v1/results?election=other", 404, "no such election"),
        ("/api/v1/results?counter=native&colour=red", 400, "unknown field `colour`"),
        ("/api/v1/timeline?limit=0", 400, "expected 1 to 10000"),
        ("/api/v1/timeline?limit=many", 400, "limit"),
        ("/api/v1/votes", 404, "no such resource"),
    ] {
        let (found, body) = page.json(path).await;
        assert_eq!(found, status, "{path}: {body}");
        assert!(body["error"].as_str().unwrap().contains(words), "{path}: {body}");
    }
    // Another counter has its own rows, so far none.
    assert_eq!(page.ok("/api/v1/accounting?counter=spark").await["total"], Value::Null);
    page.stop().await;
}

#[tokio::test]
async fn a_region_has_all_its_figures_in_one_response() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;
    let south = page.ok("/api/v1/regions/S").await;
    let expected = json!({
        "counter": "native", "election": "mayor", "region": "S", "name": "S land", "registered": 500,
        "lat": null, "lon": null, "grid_col": 0, "grid_row": 1,
        "turnout": {"registered": 500, "votes": 4, "valid": 3, "blank": 1, "null": 0, "turnout": 4.0 / 500.0},
        "leader": {"choice": "C", "name": "Candidate C", "votes": 3, "runner_up": "A", "runner_up_name": "Candidate A",
                   "runner_up_votes": 0, "margin": 3, "margin_share": 1},
        "results": [
            {"choice": "C", "name": "Candidate C", "color": "#778899", "valid": true, "votes": 3, "share": 1},
            {"choice": "A", "name": "Candidate A", "color": "#112233", "valid": true, "votes": 0, "share": 0},
            {"choice": "B", "name": "Candidate B", "color": "#445566", "valid": true, "votes": 0, "share": 0},
            {"choice": "BLANK", "name": "Blank", "color": "#c9c9c9", "valid": false, "votes": 1, "share": null},
            {"choice": "NULL", "name": "Null", "color": "#9a9a9a", "valid": false, "votes": 0, "share": null},
        ],
    });
    assert_eq!(south, expected);
    // A counter that has counted nothing still lists the region.
    let empty = page.ok("/api/v1/regions/S?counter=other").await;
    assert_eq!((&empty["turnout"], &empty["leader"], &empty["results"]), (&Value::Null, &Value::Null, &json!([])));
    for path in ["/api/v1/regions/W", "/api/v1/regions/S?election=other", "/api/v1/regions/%2F", "/api/v1/regions/"] {
        assert_eq!(page.json(path).await.0, 404, "{path}");
    }
    for path in ["/api/v1/regions/%00", "/api/v1/regions/%FF", &format!("/api/v1/regions/{}", "x".repeat(65))] {
        assert_eq!(page.json(path).await.0, 400, "{path}");
    }
    page.stop().await;
}

#[tokio::test]
async fn the_api_says_why_its_figures_can_be_trusted() {
    let kit = kit_with_votes().await;
    let more = "INSERT INTO audit VALUES ('native', to_timestamp(1800000700), 14, 1, 'one difference'),
        ('other', to_timestamp(1800000800), 1, 0, 'of another');";
    kit.owner().await.batch_execute(more).await.unwrap();
    let page = Page::start(kit.db()).await;
    let audits = page.ok("/api/v1/audits").await;
    let expected = json!([
        {"audited_at": "2027-01-15T08:11:40.000Z", "recounted": 14, "differences": 1, "summary": "one difference"},
        {"audited_at": "2027-01-15T08:10:00.000Z", "recounted": 13, "differences": 0, "summary": "no difference"},
    ]);
    assert_eq!(audits["audits"], expected);
    assert_eq!(page.ok("/api/v1/audits?limit=1").await["audits"], json!([expected[0]]));

    let agreement = page.ok("/api/v1/agreement").await;
    assert_eq!(agreement, json!({"counter": "native", "election": "mayor", "agreement": []}));

    let health = page.ok("/api/v1/health").await;
    let native = &health["health"][0];
    assert_eq!((&native["counter"], &native["counted_by"]), (&json!("native"), &json!("native")));
    assert_eq!((&native["holds"], &native["waiting"]), (&json!(true), &json!(2)));
    assert!((native["rejected_share"].as_f64().unwrap() - 3.0 / 13.0).abs() < 1e-12, "{health}");
    assert!(health["health"][1].is_null(), "{health}");
    page.stop().await;
}

#[tokio::test]
async fn invalid_codes_are_rejected_before_postgresql_is_queried() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;
    let long = "é".repeat(65);
    for value in ["", "%00", "a%0Ab", "%7F", &long] {
        for path in ["results?counter=", "results?election=", "results/regions?region=", "leaders?after="] {
            let (status, body) = page.json(&format!("/api/v1/{path}{value}")).await;
            assert_eq!(status, 400, "{path}{value}: {body}");
            assert!(body["error"].as_str().unwrap().contains("a code has"), "{body}");
        }
    }
    // A valid code is looked up.
    let (status, _) = page.json(&format!("/api/v1/results?election={}", "é".repeat(64))).await;
    assert_eq!(status, 404);
    assert_eq!(page.json("/api/v1/results?counter=a&counter=b").await.0, 400);
    assert_eq!(page.json("/api/v1/health?counter=native").await.0, 400);
    page.stop().await;
}
