//! What the dashboards show of PostgreSQL itself, queried as the reader.

use scrutin_store::Role;

use crate::kit::Kit;

/// Shows who waits for a lock and who holds it, although the reader may not see other users' sessions.
#[tokio::test]
async fn the_reader_sees_who_waits_and_who_holds_the_lock() {
    let kit = Kit::new().await;
    let reader = kit.db().connect(Role::Reader).await.unwrap();
    let health = async || {
        let sql = "SELECT lock_waits, lock_wait_seconds, blocked_by, transaction_seconds, connections, connections_max, size_bytes
                     FROM database_health";
        reader.query_one(sql, &[]).await.unwrap()
    };
    let calm = health().await;
    assert_eq!((calm.get::<_, i64>(0), calm.get::<_, Option<f64>>(1), calm.get::<_, Option<&str>>(2)), (0, None, None));
    assert!(
        calm.get::<_, i64>(4) >= 1 && calm.get::<_, i64>(5) >= calm.get::<_, i64>(4) && calm.get::<_, i64>(6) > 1 << 20
    );

    let holder = kit.owner().await;
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    holder.batch_execute("BEGIN; LOCK TABLE tally").await.unwrap();
    let counter = kit.db().connect(Role::Counter).await.unwrap();
    let blocked = tokio::spawn(async move { counter.batch_execute("UPDATE tally SET votes = '{0}'").await });
    let waiting = loop {
        let row = health().await;
        if row.get::<_, i64>(0) > 0 {
            break row;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(waiting.get::<_, i64>(0), 1);
    assert!(waiting.get::<_, Option<f64>>(1).unwrap() >= 0.0 && waiting.get::<_, f64>(3) > 0.0);
    let blocked_by: &str = waiting.get(2);
    assert!(
        blocked_by.starts_with(&format!("process {pid}, ")) && blocked_by.ends_with("idle in transaction"),
        "{blocked_by}"
    );
    // But not the blocking query.
    assert!(!blocked_by.contains("LOCK"), "{blocked_by}");
    holder.batch_execute("COMMIT").await.unwrap();
    blocked.await.unwrap().unwrap();
    assert_eq!(health().await.get::<_, i64>(0), 0);
}

/// If the function's owner may not see other users' sessions, the age of their transactions is unknown.
#[tokio::test]
async fn a_transaction_that_cannot_be_seen_is_unknown() {
    let kit = Kit::new().await;
    let reader = kit.db().connect(Role::Reader).await.unwrap();
    let seconds = async || -> Option<f64> {
        reader.query_one("SELECT transaction_seconds FROM database_health", &[]).await.unwrap().get(0)
    };
    let owner = kit.owner().await;
    owner.batch_execute("BEGIN").await.unwrap();
    assert!(seconds().await.is_some_and(|seconds| seconds > 0.0));
    owner.batch_execute("COMMIT").await.unwrap();
    owner.batch_execute("ALTER FUNCTION session_waits OWNER TO scrutin_reader").await.unwrap();
    owner.batch_execute("BEGIN").await.unwrap();
    assert_eq!(seconds().await, None);
}

/// Expected votes come from the region's turnout, or else from the election's.
#[tokio::test]
async fn votes_are_expected_by_region_or_else_by_election() {
    let kit = Kit::new().await;
    let owner = kit.owner().await;
    let expected = async |sql: &str| -> Vec<Option<i64>> {
        owner.batch_execute(sql).await.unwrap();
        let sql = "SELECT e.expected FROM expected_by_region e JOIN region USING (election, region) ORDER BY place";
        owner.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    let election =
        "INSERT INTO election (election, title, opens_at, closes_at, time_zone, channels, bucket_seconds, fingerprint)
                    VALUES ('e', 'E', now(), now() + interval '1 hour', 'UTC', '{booth}', 60, '');
                    INSERT INTO region (election, region, name, registered, place, ballot)
                    VALUES ('e', 'N', 'N', 1000, 1, '{}'), ('e', 'S', 'S', 300, 2, '{}')";
    assert_eq!(expected(election).await, [None, None]);
    assert_eq!(expected("UPDATE region SET expected_turnout = 0.5 WHERE region = 'S'").await, [None, Some(150)]);
    assert_eq!(expected("UPDATE election SET expected_turnout = 0.75").await, [Some(750), Some(150)]);
}
