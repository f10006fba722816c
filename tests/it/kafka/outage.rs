//! Brokers and PostgreSQL go down during a count and come back.

use scrutin_postgres::Cluster;

use super::{Stage, ballots, metric, until_received};
use crate::broker::Broker;
use crate::kit;
use crate::run::{Page, Running};

/// Waits until the page is not ready because of `part`, for the reason `why`.
fn until_waiting_for(page: Page, part: &str, why: &str) {
    page.until("/readyz", |status, body| {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let parts = body["parts"].as_array().unwrap();
        let problem = parts.iter().find(|found| found["name"] == part).and_then(|found| found["problem"].as_str());
        status == 503 && problem.is_some_and(|problem| problem.contains(why))
    });
    assert_eq!(page.ask("/healthz").0, 200, "the process is alive");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_log_or_database_is_named_and_waited_for() {
    let broker = Broker::start(1);
    let (folder, _guard) = kit::guarded_folder();
    let cluster = Cluster::start(&folder).await.unwrap();
    let url = cluster.url();
    let stage = Stage::on(&broker).await;
    let start = |line: &str| {
        let mut command = stage.place.command(line);
        command.env("DATABASE_URL", &url);
        Running::start(command)
    };
    start("setup --partitions 2").end().ok();
    let (count, serve) = (start("count --serve"), start("serve"));
    let pages = [count.page(), serve.page()];
    let all_ready = || pages.iter().for_each(|page| page.until("/readyz", |status, _| status == 200));
    all_ready();
    stage.topic.append_votes(&ballots(0..20), 2).await;
    until_received(count.page(), 20);

    broker.kill(1);
    for page in pages {
        until_waiting_for(page, "log", &format!("the log at {} does not answer: ", stage.topic.address()));
    }
    broker.start_node(1);
    all_ready();
    stage.topic.append_votes(&ballots(20..40), 2).await;
    until_received(count.page(), 40);

    cluster.stop().await.unwrap();
    until_waiting_for(count.page(), "postgresql", "cannot reach PostgreSQL");
    until_waiting_for(serve.page(), "page", "cannot reach PostgreSQL");
    assert!(!serve.page().ask("/readyz").1.contains("\"postgresql\""), "a part that is not monitored is not reported");
    stage.topic.append_votes(&ballots(30..60), 2).await;
    let cluster = Cluster::start(&folder).await.unwrap();
    all_ready();
    until_received(count.page(), 70);

    let text = count.page().ask("/metrics").1;
    assert_eq!(metric(count.page(), "scrutin_votes_received_total"), Some(70.0), "{text}");
    assert_eq!(metric(count.page(), "scrutin_votes_rejected_total"), Some(10.0), "{text}");
    count.page().until("/metrics", |_, text| text.contains("scrutin_lag_votes{partition=\"0\"} 0\n"));
    assert!(metric(count.page(), "scrutin_append_to_visible_seconds_count").unwrap() > 0.0, "{text}");
    assert!(metric(count.page(), "scrutin_database_reconnects_total").unwrap() > 0.0, "{text}");
    count.interrupted().ok();
    serve.interrupted().ok();
    start("audit").end().ok();
    cluster.stop().await.unwrap();
}
