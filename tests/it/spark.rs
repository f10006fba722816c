//! The Spark Connect client against a real Spark: requests, error messages and timeouts.

use std::time::Duration;

use scrutin_spark_connect::{
    Failure, OutputMode, Relation, Session, SparkAddress, SparkError, SparkSettings, StreamWrite, StreamingQuery,
    Trigger,
};

use crate::proxy::Proxy;
use crate::run::PATIENCE;
use crate::spark_server::Spark;

/// A unique name for a table, a view or a folder.
fn name(of: &str) -> String {
    format!("{of}_{:016x}", fastrand::u64(..))
}

/// A stream of ten thousand rows a second, with the columns `timestamp` and `value`.
fn rows() -> Relation {
    Relation::stream("rate", [("rowsPerSecond", "10000"), ("numPartitions", "1")])
}

/// A query that groups values into ten counts, through a view.
async fn start_counting(session: &Session, checkpoint: &str) -> StreamingQuery {
    session.create_view("came", rows()).await.unwrap();
    let counts = Relation::sql("SELECT value % 10 AS digit, count(*) AS n FROM came GROUP BY 1");
    let write = StreamWrite::new("noop", counts).output_mode(OutputMode::Update).checkpoint(checkpoint);
    session.start(write.name(&name("counting"))).await.unwrap()
}

async fn until_a_batch_is_done(query: &StreamingQuery) -> i64 {
    let wait = async {
        loop {
            let batch = query.last_progress().await.unwrap().filter(|progress| progress.num_input_rows() > 0);
            if let Some(progress) = batch {
                return progress.batch_id;
            }
            let status = query.status().await.unwrap();
            assert!(status.is_active, "{status:?}: {:?}", query.failure().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("a batch arrives")
}

fn failure(error: SparkError) -> Failure {
    match error {
        SparkError::Failed { failure, .. } => *failure,
        other => panic!("not an error from Spark: {other}"),
    }
}

#[tokio::test]
async fn a_session_has_its_settings_and_ends() {
    let session = Spark::shared().session().await;
    assert!(session.version().await.unwrap().starts_with("4."));
    assert_eq!(session.get("spark.sql.session.timeZone").await.unwrap().as_deref(), Some("UTC"));
    session.set("spark.sql.shuffle.partitions", "3").await.unwrap();
    assert_eq!(session.get("spark.sql.shuffle.partitions").await.unwrap().as_deref(), Some("3"));
    assert_eq!(session.get("spark.nobody.knows").await.unwrap(), None);
    let other = Spark::shared().session().await;
    assert_ne!(other.get("spark.sql.shuffle.partitions").await.unwrap().as_deref(), Some("3"));

    let same = session.clone();
    session.close().await.unwrap();
    let error = same.version().await.unwrap_err();
    assert!(matches!(error, SparkError::SessionLost { .. }) && error.is_passing(), "{error}");
}

#[tokio::test]
async fn each_batch_reports_its_observed_metrics() {
    let session = Spark::shared().session().await;
    let observed = rows().observed("of the rows", &["count(*) AS n", "max(value) AS highest"]);
    let write = StreamWrite::new("noop", observed).name(&name("observed"));
    let query = session.start(write).await.unwrap();
    until_a_batch_is_done(&query).await;
    query.stop().await.unwrap();
    let mut rows = 0;
    for progress in query.recent_progress().await.unwrap() {
        rows += progress.num_input_rows();
        let observed = &progress.observed_metrics["of the rows"];
        assert_eq!(observed.get("n"), Some(&progress.num_input_rows().into()), "{observed:?}");
        if progress.num_input_rows() > 0 {
            // The values are consecutive from 0.
            assert_eq!(observed.get("highest"), Some(&(rows - 1).into()), "{observed:?}");
        }
    }
    assert!(rows > 0, "no rows arrived");
    session.close().await.unwrap();
}

#[tokio::test]
async fn sql_is_executed() {
    let session = Spark::shared().session().await;
    let table = name("t");
    session.sql(&format!("CREATE TABLE {table} USING parquet AS SELECT id FROM range(1000)")).await.unwrap();
    session.create_view("odd", Relation::sql(format!("SELECT id FROM {table} WHERE id % 2 = 1"))).await.unwrap();
    assert_eq!(session.run(Relation::sql("SELECT * FROM odd"), PATIENCE).await.unwrap(), 500);
    let tens = Relation::sql("SELECT id, id % 10 AS digit FROM odd").deduplicated(&["digit"]);
    assert_eq!(session.run(tens, PATIENCE).await.unwrap(), 5);
    session.sql(&format!("DROP TABLE {table}")).await.unwrap();
}

#[tokio::test]
async fn an_sql_error_is_one_sentence() {
    let session = Spark::shared().session().await;
    let error = session.sql("SELEC 1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Spark could not execute SQL: Syntax error at or near 'SELEC' (line 1, pos 0) [PARSE_SYNTAX_ERROR]"
    );
    assert_eq!(error.class(), Some("PARSE_SYNTAX_ERROR"));

    let failed = failure(session.sql("SELECT * FROM nowhere").await.unwrap_err());
    assert_eq!(failed.class.as_deref(), Some("TABLE_OR_VIEW_NOT_FOUND"));
    assert_eq!(failed.sql_state.as_deref(), Some("42P01"));
    assert!(failed.message.starts_with("The table or view `nowhere` cannot be found"), "{failed}");
    assert!(!failed.message.contains('\n') && !failed.message.contains("Project"), "{failed}");

    // An error that occurs only at run time.
    let failed = failure(session.run(Relation::sql("SELECT 1 / (id - id) FROM range(9)"), PATIENCE).await.unwrap_err());
    assert_eq!(failed.class.as_deref(), Some("DIVIDE_BY_ZERO"), "{failed}");
    assert!(failed.message.starts_with("Division by zero"), "{failed}");
}

/// The server ends each response stream after a second, and after four kilobytes.
#[tokio::test]
async fn an_execution_longer_than_a_response_stream_is_reattached() {
    let session = Spark::shared().session().await;
    // 3 s without a response, then one.
    let slow = Relation::sql("SELECT reflect('java.lang.Thread', 'sleep', 3000L) FROM range(0, 1, 1, 1)");
    assert_eq!(session.run(slow, PATIENCE).await.unwrap(), 1);
    // Each batch of rows fills a response stream.
    let large = Relation::sql("SELECT id, repeat('x', 100) FROM range(0, 20000, 1, 4)");
    assert_eq!(session.run(large, PATIENCE).await.unwrap(), 20_000);
}

#[tokio::test]
async fn an_execution_that_takes_too_long_is_interrupted() {
    let session = Spark::shared().session().await;
    let slow = Relation::sql("SELECT reflect('java.lang.Thread', 'sleep', 600000L) FROM range(0, 1, 1, 1)");
    let error = session.run(slow.clone(), Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Spark at {} did not answer within 2 s when asked to run a query; check whether it is overloaded or hangs",
            Spark::shared().address()
        )
    );
    // Another caller can interrupt it, too.
    let mut run = std::pin::pin!(session.run(slow, PATIENCE));
    let error = loop {
        // An execution that has not started yet cannot be interrupted.
        tokio::select! {
            result = &mut run => break result.unwrap_err(),
            interrupted = session.interrupt() => interrupted.unwrap(),
        }
    };
    let failed = failure(error);
    assert!(failed.class.as_deref().unwrap_or_default().contains("CANCELED"), "{failed}");
}

#[tokio::test]
async fn a_streaming_query_runs_reports_progress_and_stops() {
    let session = Spark::shared().session().await;
    let folder = tempfile::tempdir().unwrap();
    let query = start_counting(&session, folder.path().to_str().unwrap()).await;
    assert!(query.name().starts_with("counting_"));
    until_a_batch_is_done(&query).await;
    let progress = query.last_progress().await.unwrap().unwrap();
    assert_eq!(progress.state_operators.len(), 1, "{progress:?}");
    assert!(progress.sources[0].description.starts_with("RateStream"), "{progress:?}");
    assert!(!query.recent_progress().await.unwrap().is_empty());
    let running: Vec<String> = session.queries().await.unwrap().iter().map(|it| it.run_id().to_owned()).collect();
    assert_eq!(running, [query.run_id()]);
    assert!(!query.has_ended_within(Duration::from_millis(1)).await.unwrap());
    // Another session neither owns nor sees it.
    assert!(Spark::shared().session().await.queries().await.unwrap().is_empty());

    query.stop().await.unwrap();
    let status = query.status().await.unwrap();
    assert!(!status.is_active, "{status:?}");
    assert!(query.has_ended_within(Duration::from_millis(1)).await.unwrap());
    assert_eq!(query.failure().await.unwrap(), None);
    session.close().await.unwrap();
}

#[tokio::test]
async fn a_query_over_available_data_ends_when_it_is_processed() {
    let session = Spark::shared().session().await;
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input");
    std::fs::create_dir(&input).unwrap();
    let checkpoint = folder.path().join("checkpoint");
    for (number, wanted) in [(1, 3), (2, 6)] {
        std::fs::write(input.join(format!("{number}.json")), "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n").unwrap();
        let lines = Relation::stream("json", [("path", input.to_str().unwrap())]).with_schema("n INT");
        let output = folder.path().join("output");
        let write = StreamWrite::new("parquet", lines)
            .option("path", output.to_str().unwrap())
            .checkpoint(checkpoint.to_str().unwrap())
            .trigger(Trigger::AvailableNow);
        let query = session.start(write).await.unwrap();
        query.process_all_available(PATIENCE).await.unwrap();
        assert!(query.has_ended_within(PATIENCE).await.unwrap());
        let all = Relation::sql(format!("SELECT * FROM parquet.`{}`", output.display()));
        assert_eq!(session.run(all, PATIENCE).await.unwrap(), wanted);
    }
}

#[tokio::test]
async fn a_new_query_on_the_same_checkpoint_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().to_str().unwrap();
    let one = Spark::shared().session().await;
    let first = start_counting(&one, checkpoint).await;
    let done = until_a_batch_is_done(&first).await;

    let two = Spark::shared().session().await;
    let second = start_counting(&two, checkpoint).await;
    assert_eq!(first.id(), second.id());
    assert_ne!(first.run_id(), second.run_id());
    assert!(first.has_ended_within(PATIENCE).await.unwrap_or(true));
    assert!(!first.status().await.unwrap().is_active);
    assert!(until_a_batch_is_done(&second).await > done);
    two.close().await.unwrap();
}

#[tokio::test]
async fn the_failure_of_a_streaming_query_is_one_sentence() {
    let session = Spark::shared().session().await;
    // Fails at once, since the error is visible in the query.
    session.create_view("came", rows()).await.unwrap();
    let first = Relation::sql("SELECT value FROM came ORDER BY value LIMIT 1");
    let write = StreamWrite::new("noop", first).output_mode(OutputMode::Update);
    let Err(error) = session.start(write).await else { panic!("an invalid query was accepted") };
    let failed = failure(error);
    assert!(failed.class.is_some() && !failed.message.contains('\n'), "{failed}");

    // Fails at run time.
    let nought = Relation::sql("SELECT 1 / (value - value) FROM came");
    let query = session.start(StreamWrite::new("noop", nought)).await.unwrap();
    let failed = failure(query.has_ended_within(PATIENCE).await.unwrap_err());
    assert_eq!(failed.class.as_deref(), Some("DIVIDE_BY_ZERO"), "{failed}");
    let said = query.failure().await.unwrap().expect("the query has failed");
    assert_eq!(said.class.as_deref(), Some("DIVIDE_BY_ZERO"), "{said}");
    assert!(said.message.starts_with("Division by zero"), "{said}");
}

#[tokio::test]
async fn a_dead_server_is_noticed_and_a_new_session_resumes() {
    let spark = Spark::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().to_str().unwrap();
    let session = spark.session().await;
    let query = start_counting(&session, checkpoint).await;
    let done = until_a_batch_is_done(&query).await;

    // While paused, it keeps its connections but does not respond.
    let settings =
        SparkSettings { answer: Duration::from_secs(8), quiet: Duration::from_secs(1), ..SparkSettings::default() };
    let hasty = Session::open(&spark.address(), &settings).await.unwrap();
    spark.pause();
    let error = hasty.version().await.unwrap_err();
    assert!(error.to_string().contains("did not answer within 8 s when asked to report its version"), "{error}");
    // The client asks for the version when the execution has been silent.
    let error = hasty.run(Relation::sql("SELECT 1"), PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("did not answer within 8 s when asked to report its version"), "{error}");
    spark.resume();
    assert!(query.status().await.unwrap().is_active);

    // After a kill, both waiting and new clients notice.
    let endless = Relation::sql("SELECT reflect('java.lang.Thread', 'sleep', 600000L) FROM range(0, 1, 1, 1)");
    let (result, ()) = tokio::join!(session.run(endless, PATIENCE), async {
        session.version().await.unwrap();
        spark.kill();
    });
    for error in [result.unwrap_err(), query.status().await.unwrap_err()] {
        assert!(matches!(error, SparkError::Unreachable { .. }) && error.is_passing(), "{error}");
        assert!(error.to_string().starts_with(&format!("cannot reach Spark at {}", spark.address())), "{error}");
    }
    let error = Session::open(&spark.address(), &SparkSettings::default()).await.err().expect("the server is down");
    assert!(error.to_string().contains("Connection refused"), "{error}");

    spark.start_again();
    let error = query.status().await.unwrap_err();
    assert!(matches!(error, SparkError::SessionLost { .. }), "{error}");
    let session = spark.session().await;
    let query = start_counting(&session, checkpoint).await;
    assert!(until_a_batch_is_done(&query).await > done, "the count did not resume");
}

#[tokio::test]
async fn an_execution_outlives_its_connection() {
    let address = Spark::shared().address();
    let proxy = Proxy::to(address.port);
    let through: SparkAddress = format!("sc://127.0.0.1:{}", proxy.port()).parse().unwrap();
    let session = Session::open(&through, &SparkSettings::default()).await.unwrap();
    let slow = Relation::sql("SELECT id, reflect('java.lang.Thread', 'sleep', 30L) FROM range(0, 100, 1, 1)");
    let (rows, ()) = tokio::join!(session.run(slow, PATIENCE), async {
        for _ in 0..3 {
            session.version().await.unwrap();
            proxy.cut();
            proxy.heal();
        }
    });
    assert_eq!(rows.unwrap(), 100);
}

#[tokio::test]
async fn only_clients_with_the_token_are_admitted() {
    let spark = Spark::start(&["spark.connect.authenticate.token=right"]);
    let open = async |token: Option<&str>| {
        let address = spark.address().with_token(token.map(str::to_owned)).unwrap();
        Session::open(&address, &SparkSettings::default()).await
    };
    open(Some("right")).await.unwrap().close().await.unwrap();
    for token in [None, Some("wrong")] {
        let error = open(token).await.err().expect("access is denied");
        assert!(matches!(error, SparkError::Denied { .. }) && !error.is_passing(), "{error}");
    }
}
