//! The demo: interrupted and resumed, refused where it would mix two runs, and started over.

use std::net::TcpListener;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::kit::Kit;
use crate::run::{Page, Place, Running};

/// A day longer than the test, so there are always votes still to come.
const LONG: &str = "demo --voters 40000 --day 1h --data-dir data";
const TO_THE_END: &str = "demo --speed max --exit --data-dir data";

/// Waits until something has been counted.
fn until_counting(page: Page) {
    page.until("/api/v1/accounting", |_, body| {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        body["total"]["received"].as_u64().is_some_and(|received| received > 0)
    });
}

/// Checks that every record of the truth was counted or rejected, and that the log agrees.
fn check_whole(place: &Place, out: &str) {
    let truth = place.json("data/truth.json");
    let audit = place.ok("audit --truth data/truth.json --data-dir data");
    let rejected: u64 = truth["rejected"].as_object().unwrap().values().map(|votes| votes.as_u64().unwrap()).sum();
    let verdict = format!(
        "audit of `native`: clean: every row in the tables matches the log; \
         {} records recounted, {} counted, {rejected} rejected",
        truth["records"], truth["counted"]
    );
    assert!(audit.contains(&verdict), "{verdict}\n{audit}");
    assert!(out.contains(&verdict), "{verdict}\n{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_demo_resumes() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    let demo = place.start(LONG);
    until_counting(demo.page());

    let message = place.fails("demo --data-dir data", 4);
    assert_eq!(
        message,
        "scrutin: another demo is running on data; stop it, or choose another folder with --data-dir\n"
    );
    assert_eq!(place.fails("demo --fresh --data-dir data", 4), message, "nothing is deleted while a demo runs");

    let done = demo.interrupted();
    assert!(done.err.contains("Ctrl-C again"), "{done}");
    assert!(done.ok().ends_with("Stopped; run it again to resume.\n"));
    assert!(!place.path("data/truth.json").exists());

    let opened = place.json("data/run.json")["opens_at_ms"].clone();
    for other in ["--voters 50000", "--seed 9", "--day 5m", "--faults none", "--fault delay=0.1", "--election other"] {
        let message = place.fails(&format!("demo {other} --data-dir data"), 2);
        assert!(
            message.contains("data holds a run made with other options") && message.contains("--fresh"),
            "{message}"
        );
    }
    // Repeating the original options is allowed.
    let out = place.ok(&format!("{TO_THE_END} --voters 40000 --seed 1 --day 1h --faults demo"));
    check_whole(&place, &out);
    assert_eq!(place.json("data/run.json")["opens_at_ms"], opened);

    let again = place.ok(TO_THE_END);
    assert!(again.contains("\n0 votes in "), "{again}");
    check_whole(&place, &again);
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_starts_over() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.ok(&format!("{TO_THE_END} --voters 3000 --faults none"));
    let first = place.json("data/truth.json");
    place.write("one.csv", "region_code,candidate,votes\nN,Ann,30\nN,Bob,12\n");

    // A run that cannot start leaves the previous one intact.
    let message = place.fails("demo --fresh --results two.csv --data-dir data", 3);
    assert!(message.contains("two.csv"), "{message}");
    assert_eq!(place.json("data/truth.json"), first);
    place.ok(TO_THE_END);

    let out = place.ok(&format!("{TO_THE_END} --fresh --results one.csv"));
    assert_eq!(place.json("data/truth.json")["records"], 42);
    check_whole(&place, &out);
    // Naming the same file from another folder is the same run.
    std::fs::create_dir(place.path("below")).unwrap();
    let mut command = place.command("demo --results ../one.csv --speed max --exit --data-dir ../data");
    command.current_dir(place.path("below"));
    Running::start(command).end().ok();
}

/// A bad file starts no run, so a corrected one is accepted without --fresh.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_start_leaves_nothing_behind() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.write("one.csv", "region_code,candidate,votes\nN,Ann,many\n");
    let message = place.fails(&format!("{TO_THE_END} --results one.csv"), 3);
    assert_eq!(
        message,
        format!(
            "scrutin: {}, line 2, column `votes`: found `many`, expected a whole number of zero or more\n",
            place.path("one.csv").canonicalize().unwrap().display()
        )
    );
    assert!(!place.path("data/run.json").exists());
    place.write("two.csv", "region_code,candidate,votes\nN,Ann,7\n");
    place.ok(&format!("{TO_THE_END} --results two.csv"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_reported_with_a_remedy() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for command in ["demo --voters 1000", "serve", "count --serve"] {
        if command != "demo --voters 1000" {
            place.ok("setup --voters 1000 --data-dir data");
        }
        assert_eq!(
            place.fails(&format!("{command} --data-dir data --listen {address}"), 4),
            format!(
                "scrutin: cannot serve the page at {address} (address already in use); \
                 choose another address with --listen\n"
            ),
            "{command}"
        );
    }
}

/// The first Ctrl-C waits for the commit in progress; the second does not. The next run counts what was not committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_interrupt_stops_the_demo_at_once() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    let mut demo = place.start(LONG);
    until_counting(demo.page());
    let mut owner = kit.owner().await;
    let hold = owner.transaction().await.unwrap();
    hold.batch_execute("LOCK TABLE position IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // Another session sees the commit waiting for the lock.
    let watcher = kit.owner().await;
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                   AND query ILIKE '%update%position%'";
    while watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(demo.is_running());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    demo.signal(Signal::SIGINT);
    demo.says("Ctrl-C again");
    demo.signal(Signal::SIGINT);
    let done = demo.end();
    assert!(done.err.contains("stopped at once"), "{done}");
    assert_eq!(done.code, Some(130), "{done}");
    hold.rollback().await.unwrap();
    check_whole(&place, &place.ok(TO_THE_END));
}

/// The private PostgreSQL starts and stops with the demo, restarts with it, and can be queried meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_runs_its_own_postgresql() {
    let (folder, _guard) = crate::kit::guarded_folder();
    let place = Place::bare();
    let data = folder.display();
    let demo = place.start(&format!("demo --voters 20000 --day 1h --data-dir {data}"));
    until_counting(demo.page());
    demo.says("psql");
    let status = place.ok(&format!("status --data-dir {data}"));
    assert!(status.contains("all adds up"), "{status}");
    demo.interrupted().ok();
    assert!(!folder.join("postgres/postmaster.pid").exists(), "the server has stopped");

    let out = place.ok(&format!("demo --speed max --exit --data-dir {data}"));
    assert!(out.contains("audit of `native`: clean"), "{out}");
    let truth: Value = serde_json::from_slice(&std::fs::read(folder.join("truth.json")).unwrap()).unwrap();
    let audit = place.ok(&format!("audit --data-dir {data} --truth {data}/truth.json"));
    assert!(audit.contains(&format!("{} records recounted", truth["records"])), "{audit}");
    let out = place.ok(&format!("demo --fresh --voters 2000 --speed max --exit --data-dir {data}"));
    assert!(out.contains("2\u{202f}000 registered have voted"), "{out}");
}
