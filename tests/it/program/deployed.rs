//! What the containers rely on: password files, roles with their own logins, a kept election, and health checks.

use scrutin_store::{Database, Role};

use crate::kit::Kit;
use crate::run::{Place, Running};

/// Results of a tiny election.
pub(super) const MAYOR: &str = "\
region_code,region_name,registered,abstentions,blank,null,candidate,votes
N,North,100,30,5,5,Ada,40
N,North,100,30,5,5,Ben,20
";

/// Setting up, counting, auditing and reading each use a separate login.
#[tokio::test(flavor = "multi_thread")]
async fn each_role_logs_in_with_a_password_of_its_own() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.write("counter-password", "secret of the counter\n");
    place.write("reader-password", "secret of the 'reader'");
    place.write("witness-password", "secret of the witness");
    place.write("auditor-password", "secret of the auditor");
    place.ok(
        "setup --voters 5000 --day 10m --counter-password-file counter-password --reader-password-file reader-password
               --witness-password-file witness-password --auditor-password-file auditor-password",
    );
    let run_in = |place: &Place, kit: &Kit, role: &str, line: &str| {
        let mut command = place.command(line);
        command.env("DATABASE_URL", kit.url_as(&format!("scrutin_{role}"), "no password"));
        command.env("SCRUTIN_DATABASE_PASSWORD_FILE", format!("{role}-password"));
        Running::start(command).end()
    };
    let run_as = |role: &str, line: &str| run_in(&place, &kit, role, line);
    run_as("reader", "simulate --speed max --truth truth.json").ok();
    run_as("counter", "count --drain").ok();
    // The counter's role cannot audit its own count.
    assert!(run_as("counter", "audit").fails(4).contains("permission denied to set role \"scrutin_auditor\""));
    let said = run_as("auditor", "audit --truth truth.json").ok();
    assert!(said.contains("clean"), "{said}");
    for role in ["reader", "witness"] {
        assert!(run_as(role, "results").ok().contains("votes"));
    }
    run_as("witness", "count --drain").fails(4);
    let refused = run_as("reader", "count --drain").fails(4);
    assert!(refused.contains("permission denied"), "{refused}");
    // The counter's role cannot run `setup`.
    run_as("counter", "setup --voters 1").fails(4);

    // Once their election is set up, replayed results need no more rights than simulated votes.
    let other_kit = Kit::empty().await;
    let other = Place::of(&other_kit);
    for role in ["counter", "reader", "auditor"] {
        std::fs::copy(place.path(&format!("{role}-password")), other.path(&format!("{role}-password"))).unwrap();
    }
    other.write("mayor.csv", MAYOR);
    let early = run_in(&other, &other_kit, "reader", "replay results mayor.csv").fails(4);
    assert!(early.contains("may not create a schema"), "{early}");
    other.ok("setup --results mayor.csv --day 10m --keep-election");
    run_in(&other, &other_kit, "reader", "replay results mayor.csv --speed max --truth truth.json").ok();
    run_in(&other, &other_kit, "counter", "count --drain").ok();
    assert!(run_in(&other, &other_kit, "auditor", "audit --truth truth.json").ok().contains("clean"));

    let reader = Database::parse(&kit.url_as("scrutin_reader", "")).unwrap().with_password("secret of the 'reader'");
    let client = reader.connect(Role::Owner).await.unwrap();
    for (sql, code) in [
        ("SELECT * FROM results", None),
        ("SELECT * FROM health", None),
        ("SELECT * FROM tally", Some("42501")),
        ("SELECT ids FROM poll_book", Some("42501")),
        ("SELECT value FROM rejected_vote", Some("42501")),
        ("INSERT INTO audit VALUES ('native', now(), 1, 0, '')", Some("25006")),
        ("BEGIN READ WRITE; INSERT INTO audit VALUES ('native', now(), 1, 0, '')", Some("42501")),
        ("SET ROLE scrutin_counter", Some("42501")),
        ("BEGIN READ WRITE; ALTER ROLE scrutin_counter PASSWORD 'mine'", Some("42501")),
        ("SET statement_timeout TO '20ms'; SELECT pg_sleep(60)", Some("57014")),
    ] {
        let done = client.batch_execute(sql).await;
        let found = done.err().map(|error| error.code().unwrap().code().to_owned());
        assert_eq!(found.as_deref(), code, "{sql}");
        client.batch_execute("ROLLBACK; RESET ALL; SET search_path TO scrutin").await.unwrap();
    }
    let row = client.query_one("SELECT current_setting('statement_timeout')", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "10s", "an abandoned query times out");
    drop(client);
    // A reader cannot use up the connections that others need.
    let mut held = Vec::new();
    let refused = loop {
        match reader.connect(Role::Owner).await {
            Ok(client) => held.push(client),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.code().map(|code| code.code()), Some("53300"), "{refused}");
    assert!((1..=20).contains(&held.len()), "{}", held.len());
    drop(held);
    // Roles belong to the whole server, so undo the logins.
    for role in ["scrutin_counter", "scrutin_reader", "scrutin_witness", "scrutin_auditor"] {
        kit.owner().await.batch_execute(&format!("ALTER ROLE {role} NOLOGIN PASSWORD NULL")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_empty_password_file_is_refused() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.write("empty", "\n");
    for line in ["setup --reader-password-file nowhere", "setup --counter-password-file nowhere"] {
        assert!(place.fails(line, 3).contains("cannot read nowhere"), "{line}");
    }
    for line in ["setup --reader-password-file empty", "setup --database-password-file empty"] {
        assert!(place.fails(line, 3).contains("empty: is empty; expected a password"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_election_keeps_the_dates_of_an_existing_election() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    let day = async || -> String {
        let owner = kit.owner().await;
        let sql = "SELECT string_agg(election || rfc3339(opens_at) || rfc3339(closes_at), ' ') FROM election";
        owner.query_one(sql, &[]).await.unwrap().get(0)
    };
    place.ok("setup --voters 2000 --opens-at 2027-04-11T08:00:00Z --day 10m --keep-election");
    let first = day().await;
    place.ok("simulate --speed max --truth truth.json");
    place.ok("count --drain");
    place.ok("setup --voters 9000 --day 20m --keep-election");
    assert_eq!(day().await, first);
    // Without --keep-election the election would change, which is refused while it is being counted.
    assert!(place.fails("setup --voters 9000 --day 20m", 4).contains("is being counted"));
    place.ok("simulate --speed max --truth truth.json");
    place.ok("count --drain");
    place.ok("audit --truth truth.json");
}

/// Setting up the election of a results file first lets counters start before its votes are replayed.
#[tokio::test(flavor = "multi_thread")]
async fn an_election_of_real_results_can_be_set_up_before_its_votes() {
    let kit = Kit::empty().await;
    let place = Place::of(&kit);
    place.write("mayor.csv", MAYOR);
    place.ok("setup --results mayor.csv --day 10m --keep-election");
    place.ok("count --drain");
    place.ok("replay results mayor.csv --speed max --truth truth.json");
    place.ok("setup --results mayor.csv --day 10m --keep-election");
    place.ok("count --drain");
    assert!(place.ok("audit --truth truth.json").contains("clean"));
    let results = place.ok("results --format csv");
    assert!(results.contains("Ada,40") && results.contains("Ben,20"), "{results}");
    place.fails("setup --results mayor.csv --voters 10", 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_asks_the_page_at_the_given_address() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    let page = place.start("serve");
    let address = page.page().address();
    assert!(place.ok(&format!("health --listen {address}")).contains("\"ready\":true"));
    let everywhere = address.replace("127.0.0.1", "0.0.0.0");
    assert!(place.ok(&format!("health --alive --listen {everywhere}")).contains("\"alive\":true"));
    page.interrupted().ok();
    assert!(place.fails(&format!("health --listen {address}"), 4).contains("reach the page at"));
}
