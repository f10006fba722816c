//! Every process that watches the log records its end offsets, so waiting votes are visible even when no counter runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use scrutin_contract::record::RecordBuffer;
use scrutin_log::{EmbeddedLog, VoteLog};
use scrutin_pipeline::{EndOffsets, witness};
use scrutin_store::{Role, log_end};
use scrutin_telemetry::Telemetry;
use tokio_postgres::Client;

use crate::kit::Kit;
use crate::run::PATIENCE;

/// A counter that has counted 10 records in each of two partitions and has been idle since.
const STOPPED: &str = "
    INSERT INTO counter (counter, elections, log, partitions) VALUES ('native', '{}', 'a log', 2);
    INSERT INTO position (counter, partition, first_offset, next_offset, counted, end_offset, updated_at)
    VALUES ('native', 0, 0, 10, 10, 10, now() - interval '10 minutes'), ('native', 1, 0, 10, 10, 10, now() - interval '11 minutes')";

async fn health(client: &Client) -> (Option<i64>, Option<f64>) {
    let row = client.query_one("SELECT waiting, idle_seconds FROM health", &[]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn waiting_votes_are_seen_without_a_running_counter() {
    let kit = Kit::new().await;
    let owner = kit.owner().await;
    let witness = kit.db().connect(Role::Witness).await.unwrap();
    owner.batch_execute(STOPPED).await.unwrap();
    assert_eq!(health(&owner).await, (None, None), "nothing has watched the log");

    log_end::note(&witness, "another log", &BTreeMap::from([(0, 99)])).await.unwrap();
    assert_eq!(health(&owner).await, (None, None), "nothing has watched this log");
    log_end::note(&witness, "a log", &BTreeMap::from([(0, 10), (1, 10)])).await.unwrap();
    assert_eq!(health(&owner).await, (Some(0), Some(0.0)), "no votes wait");

    log_end::note(&witness, "a log", &BTreeMap::from([(0, 10), (1, 17)])).await.unwrap();
    let (waiting, idle) = health(&owner).await;
    assert_eq!(waiting, Some(7));
    assert!(idle.is_some_and(|seconds| seconds >= 600.0), "since the last commit: {idle:?}");
    // A lower end offset is an older observation.
    log_end::note(&witness, "a log", &BTreeMap::from([(1, 3)])).await.unwrap();
    assert_eq!(health(&owner).await.0, Some(7), "an end is never lowered");

    // Without recent observations, waiting votes remain known to wait, but their absence is no longer known.
    owner.batch_execute("UPDATE log_end SET seen_at = now() - interval '2 minutes'").await.unwrap();
    assert_eq!(health(&owner).await.0, Some(7));
    owner.batch_execute("UPDATE position SET next_offset = 17, counted = 17 WHERE partition = 1").await.unwrap();
    assert_eq!(health(&owner).await, (None, None));

    let logs = "SELECT log || ' ' || end_offsets || ' ' || counters FROM logs ORDER BY log";
    let logs: Vec<String> = owner.query(logs, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(logs, ["a log 27 1", "another log 99 0"]);
}

#[tokio::test]
async fn a_witness_may_do_nothing_else() {
    let kit = Kit::new().await;
    let witness = kit.db().connect(Role::Witness).await.unwrap();
    for refused in [
        "INSERT INTO log_end VALUES ('a log', 0, 0, now())",
        "UPDATE log_end SET end_offset = 0",
        "DELETE FROM log_end",
        "SELECT * FROM log_end",
        "SELECT * FROM tally",
        "UPDATE position SET end_offset = 0",
        "CREATE TABLE scrutin.mine (n int)",
    ] {
        let error = witness.batch_execute(refused).await.expect_err(refused);
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{refused}");
    }
}

/// What a counter and the page's server run in the background.
#[tokio::test(flavor = "multi_thread")]
async fn every_process_that_watches_a_log_records_its_end() {
    for role in [Role::Counter, Role::Witness] {
        let kit = Kit::new().await;
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(folder.path(), 1).unwrap();
        let mut buffers = [(0, RecordBuffer::default())];
        buffers[0].1.push(None, None);
        log.writer(&[0]).unwrap().append(&mut buffers).unwrap();

        let end_offsets =
            EndOffsets::watch(Arc::new(log.clone()), BTreeMap::from([(0, 0)]), Telemetry::new(), Arc::default());
        witness::note(&end_offsets, log.id(), kit.db().clone(), role);
        let reader = kit.db().connect(Role::Reader).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        let noted = loop {
            let row = reader.query_opt("SELECT log, end_offsets FROM logs", &[]).await.unwrap();
            if let Some(row) = row {
                break (row.get::<_, String>(0), row.get::<_, i64>(1));
            }
            assert!(Instant::now() < deadline, "no end offset was recorded");
            tokio::task::yield_now().await;
        };
        assert_eq!(noted, (log.id(), 1));
    }
}
