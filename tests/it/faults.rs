//! Transient errors are retried, in whichever part of a commit they occur; a bug in the program ends it without a
//! half-finished commit.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use scrutin_contract::record::Batch;
use scrutin_log::{EmbeddedLog, Home, LogReader, LogWriter, Result, VoteLog};
use scrutin_pipeline::{self as pipeline, CountOptions, CountProgress, Stop};
use scrutin_store::Database;
use scrutin_telemetry::Telemetry;

use crate::kit::Kit;
use crate::run::{Place, Running};

/// Each error is raised on its own table, so that every statement of a commit fails once.
const PASSING: [(&str, &str); 12] = [
    ("08006", "position"),  // connection failure
    ("25006", "tally"),     // read-only: a standby until it is promoted
    ("40001", "timeline"),  // serialization failure
    ("40P01", "rejection"), // deadlock
    ("53000", "poll_book"), // out of resources
    ("53100", "tally"),     // disk full
    ("53200", "timeline"),  // out of memory
    ("53400", "position"),  // a limit, for instance of temporary files
    ("55P03", "rejection"), // a lock is not available
    ("57014", "tally"),     // cancelled or timed out
    ("57P01", "poll_book"), // the server is shutting down
    ("58030", "timeline"),  // I/O error
];

#[tokio::test(flavor = "multi_thread")]
async fn transient_errors_are_retried_and_reported() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    place.ok("setup --voters 60000 --day 1h");
    place.ok("simulate --speed max --seed 3 --faults demo");
    let owner = kit.owner().await;
    owner
        .batch_execute(
            "CREATE TABLE failing (code text, target text);
             GRANT SELECT ON failing TO scrutin_counter;
             CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
             DECLARE with_code text;
             BEGIN
                 SELECT code INTO with_code FROM failing WHERE target = TG_TABLE_NAME;
                 IF FOUND THEN RAISE EXCEPTION 'made to fail' USING ERRCODE = with_code; END IF;
                 RETURN NULL;
             END $$;",
        )
        .await
        .unwrap();
    for table in ["position", "tally", "timeline", "rejection", "poll_book"] {
        let sql = format!(
            "CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION fail()"
        );
        owner.batch_execute(&sql).await.unwrap();
    }
    for (code, table) in PASSING {
        owner.execute("INSERT INTO failing VALUES ($1, $2)", &[&code, &table]).await.unwrap();
        // A fresh counter starts from the beginning of the log.
        let count = place.start(&format!("count --drain --serve --counter c{code}"));
        let page = count.page();
        page.until("/readyz", |status, body| {
            status == 503 && body.contains(&format!("[{code}]")) && !body.contains("made to fail")
        });
        assert_eq!(page.ask("/healthz").0, 200, "{code}");
        count.says(&format!("made to fail [{code}]"));
        owner.execute("DELETE FROM failing", &[]).await.unwrap();
        let said = count.end().ok();
        assert!(said.contains("0 left in the log"), "{code}: {said}");
        let audit = place.ok(&format!("audit --counter c{code} --truth scrutin-data/truth.json"));
        assert!(audit.contains("clean"), "{code}: {audit}");
    }
}

/// A database may have limits of its own, set for its other users.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_timeout_of_the_database_does_not_end_the_count() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    place.ok("setup --voters 60000 --day 1h");
    place.ok("simulate --speed max");
    let owner = kit.owner().await;
    let name: String = owner.query_one("SELECT current_database()", &[]).await.unwrap().get(0);
    owner.batch_execute(&format!("ALTER DATABASE {name} SET statement_timeout TO '1ms'")).await.unwrap();
    place.ok("count --drain");
    owner.batch_execute(&format!("ALTER DATABASE {name} RESET statement_timeout")).await.unwrap();
    assert!(place.ok("audit --truth scrutin-data/truth.json").contains("clean"));
}

/// A log whose reader has a bug.
struct Panicking(EmbeddedLog);

struct PanickingReader(Box<dyn LogReader>, u32);

impl VoteLog for Panicking {
    fn partitions(&self) -> u32 {
        self.0.partitions()
    }

    fn offsets(&self, partition: u32) -> Result<std::ops::Range<u64>> {
        self.0.offsets(partition)
    }

    fn reader(&self, from: &[(u32, u64)]) -> Result<Box<dyn LogReader>> {
        Ok(Box::new(PanickingReader(self.0.reader(from)?, 0)))
    }

    fn writer(&self, partitions: &[u32]) -> Result<Box<dyn LogWriter>> {
        self.0.writer(partitions)
    }

    fn home(&self) -> Home<'_> {
        self.0.home()
    }

    fn name(&self) -> String {
        self.0.name()
    }

    fn id(&self) -> String {
        self.0.id()
    }
}

impl LogReader for PanickingReader {
    fn fetch(&mut self, wait: Duration) -> Result<Option<Batch>> {
        self.1 += 1;
        assert!(self.1 < 4, "a bug in the reader");
        self.0.fetch(wait)
    }
}

/// Not a test: the process that the next test runs.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of another test"]
async fn panicking_count() {
    let Ok(folder) = std::env::var("SCRUTIN_TEST_PANICKING") else { return };
    scrutin::cli::end_on_panic();
    let log = Panicking(EmbeddedLog::open_existing(Path::new(&folder)).unwrap());
    let database = Database::parse(&std::env::var("DATABASE_URL").unwrap()).unwrap();
    let options = CountOptions { counter: "native".into(), workers: 2, drain: true };
    let progress = Arc::new(CountProgress::default());
    let _ =
        pipeline::count(Arc::new(log), database, &options, Telemetry::new(), progress, Arc::new(Stop::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_worker_ends_the_process_with_nothing_half_committed() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    place.ok("setup --voters 300000 --day 1h");
    place.ok("simulate --speed max --seed 3");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "faults::panicking_count", "--ignored", "--nocapture"]);
    command.env("SCRUTIN_TEST_PANICKING", place.path("scrutin-data/log")).env("DATABASE_URL", kit.url());
    let done = Running::start(command).end();
    assert_eq!(done.code, Some(70), "{done}");
    assert!(done.err.contains("a bug in the reader") && done.err.contains("this is a bug"), "{done}");
    let audit = place.ok("audit");
    assert!(audit.contains("clean"), "{audit}");
    place.ok("count --drain");
    assert!(place.ok("audit --truth scrutin-data/truth.json").contains("clean"));
}
