//! Migrations, roles and their rights, elections.

use std::path::Path;

use scrutin_contract::election::{Choice, Election, Region};
use scrutin_store::{Database, Role, StoreError, elections, migrate};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::kit::Kit;
use crate::run::{Place, Running};

async fn code(client: &Client, sql: &str) -> Option<String> {
    let result = client.batch_execute(sql).await;
    result.err().map(|error| error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()))
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let kit = Kit::new().await;
    let query = "SELECT version, name, digest, applied_at::text FROM migration ORDER BY version";
    let read = async || {
        let rows = kit.owner().await.query(query, &[]).await.unwrap();
        let text = |row: &tokio_postgres::Row| -> [String; 3] { [row.get(1), row.get(2), row.get(3)] };
        rows.iter().map(text).collect::<Vec<_>>()
    };
    let first = read().await;
    assert!(first.len() >= 2);
    migrate::setup(kit.db()).await.unwrap();
    assert_eq!(read().await, first);
}

#[tokio::test]
async fn four_setups_may_run_at_once() {
    let kits = [Kit::empty().await, Kit::empty().await];
    let setups = (0..8).map(|n| {
        let db = kits[n % 2].db().clone();
        tokio::spawn(async move { migrate::setup(&db).await })
    });
    for setup in setups.collect::<Vec<_>>() {
        setup.await.unwrap().unwrap();
    }
    kits[0].db().connect(Role::Reader).await.unwrap().query("SELECT * FROM results", &[]).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let kit = Kit::new().await;
    let insert = "INSERT INTO migration (version, name, digest) VALUES (9999, 'from the future', '')";
    kit.owner().await.batch_execute(insert).await.unwrap();
    let text = migrate::setup(kit.db()).await.unwrap_err().to_string();
    assert!(text.contains("schema version 9999 (`from the future`)") && text.contains("newer scrutin"), "{text}");
}

/// A database refuses a program whose migrations differ from those that made it, if only by a comment.
#[test]
fn no_migration_is_edited() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut digests: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "sql"))
        .map(|path| {
            let digest = blake3::hash(&std::fs::read(&path).unwrap()).to_hex();
            format!("{digest}  {}\n", path.file_name().unwrap().display())
        })
        .collect();
    digests.sort_unstable_by_key(|line| line[66..].to_owned());
    let kept = std::fs::read_to_string(folder.join("digests.txt")).unwrap();
    assert_eq!(digests.concat(), kept, "add a migration, and its BLAKE3 digest here; do not edit one");
}

#[tokio::test]
async fn an_edited_migration_is_refused() {
    let kit = Kit::new().await;
    kit.owner().await.batch_execute("UPDATE migration SET digest = 'other' WHERE version = 1").await.unwrap();
    let text = migrate::setup(kit.db()).await.unwrap_err().to_string();
    assert!(text.contains("migration 1 (`tables`)"), "{text}");
}

#[tokio::test]
async fn the_roles_are_missing_until_set_up() {
    let kit = Kit::empty().await;
    kit.owner().await.batch_execute("SELECT 1").await.unwrap();
    // Another test may already have created the roles, which belong to the server. The schema does not.
    match kit.db().connect(Role::Reader).await {
        Ok(client) => assert_eq!(code(&client, "SELECT * FROM results").await.as_deref(), Some("42P01")),
        Err(error) => assert!(error.to_string().contains("scrutin setup"), "{error}"),
    }
}

/// The boundary is the grants: it must hold for a separate login that may change any setting.
#[tokio::test]
async fn the_reader_sees_views_and_elections_only() {
    let kit = Kit::new().await;
    let owner = kit.owner().await;
    let login = format!("scrutin_test_reader_{}", std::process::id());
    let create = format!("DROP ROLE IF EXISTS {login}; CREATE ROLE {login} LOGIN PASSWORD 'p' IN ROLE scrutin_reader");
    owner.batch_execute(&create).await.unwrap();
    let own_login = Database::parse(&kit.url_as(&login, "p")).unwrap().connect(Role::Owner).await.unwrap();
    own_login.batch_execute("SET default_transaction_read_only TO off").await.unwrap();
    let by_role = kit.db().connect(Role::Reader).await.unwrap();

    let query = "SELECT relname::text, relkind::text FROM pg_class WHERE relnamespace = 'scrutin'::regnamespace
                  AND relkind IN ('r', 'v') ORDER BY 1";
    let relations = owner.query(query, &[]).await.unwrap();
    assert!(relations.len() > 20, "the schema is missing");
    for client in [&own_login, &by_role] {
        for relation in &relations {
            let (name, kind): (String, String) = (relation.get(0), relation.get(1));
            let open = kind == "v" || ["election", "region", "choice"].contains(&name.as_str());
            let expected = (!open).then_some("42501");
            assert_eq!(code(client, &format!("SELECT * FROM {name}")).await.as_deref(), expected, "{name}");
        }
    }
    for write in [
        "INSERT INTO tally VALUES ('native', 'e', 'r', 'booth', '{1}')",
        "UPDATE election SET title = 'mine'",
        "DELETE FROM region",
        "TRUNCATE tally",
        "CREATE TABLE scrutin.mine (n int)",
        "DROP VIEW results",
        "GRANT SELECT ON poll_book TO PUBLIC",
        "SELECT note_log_end('a log', '{0}', '{1}')",
        "SET ROLE scrutin_counter",
        "SET ROLE scrutin_witness",
        "SET SESSION AUTHORIZATION scrutin_counter",
        "CREATE ROLE another SUPERUSER",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/hostname')",
    ] {
        assert_eq!(code(&own_login, write).await.as_deref(), Some("42501"), "{write}");
        if !write.starts_with("SET ") {
            let refused = code(&by_role, write).await;
            assert!(matches!(refused.as_deref(), Some("42501" | "25006")), "{write}: {refused:?}");
        }
    }
    drop(own_login);
    let drop_login = format!("DROP ROLE {login}");
    while let Some(code) = code(&owner, &drop_login).await {
        assert_eq!(code, "55006", "only a session that is just ending may hold the role");
    }
}

#[tokio::test]
async fn sessions_have_their_limits() {
    let kit = Kit::new().await;
    let reader = kit.db().connect(Role::Reader).await.unwrap();
    let counter = kit.db().connect(Role::Counter).await.unwrap();
    let show = async |client: &Client, name: &str| -> String {
        client.query_one(&format!("SELECT current_setting('{name}')"), &[]).await.unwrap().get(0)
    };
    assert_eq!(show(&reader, "default_transaction_read_only").await, "on");
    assert_eq!(show(&reader, "statement_timeout").await, "10s");
    assert_eq!(show(&reader, "application_name").await, "scrutin");
    assert_eq!(show(&counter, "idle_in_transaction_session_timeout").await, "30s");
    assert_eq!(show(&counter, "lock_timeout").await, "10s");
    // Whatever the database's default: a commit that has waited for its turn must see what was committed meanwhile.
    let name: String = kit.owner().await.query_one("SELECT current_database()", &[]).await.unwrap().get(0);
    let alter = format!("ALTER DATABASE {name} SET default_transaction_isolation TO 'repeatable read'");
    kit.owner().await.batch_execute(&alter).await.unwrap();
    assert_eq!(show(&kit.db().connect(Role::Counter).await.unwrap(), "transaction_isolation").await, "read committed");
    // The same holds for logging in as the role directly.
    let query = "SELECT array_to_string(setconfig, ' ') FROM pg_db_role_setting
                  WHERE setrole = 'scrutin_reader'::regrole
                    AND setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let stored: String = kit.owner().await.query_one(query, &[]).await.unwrap().get(0);
    for part in ["default_transaction_read_only=on", "statement_timeout=10s", "search_path=scrutin"] {
        assert!(stored.contains(part), "{stored}");
    }
    reader.batch_execute("SET statement_timeout TO '20ms'").await.unwrap();
    assert_eq!(code(&reader, "SELECT pg_sleep(60)").await.as_deref(), Some("57014"));
}

#[tokio::test]
async fn the_counter_writes_its_tables_and_no_election() {
    let kit = Kit::new().await;
    let counter = kit.db().connect(Role::Counter).await.unwrap();
    for allowed in [
        "INSERT INTO tally VALUES ('native', 'e', 'r', 'booth', '{1}')",
        "UPDATE tally SET votes[1] = votes[1] + 1",
        "DELETE FROM tally",
        "SELECT * FROM election",
        "SELECT * FROM results",
    ] {
        assert_eq!(code(&counter, allowed).await, None, "{allowed}");
    }
    for refused in [
        "UPDATE election SET title = 'mine'",
        "DELETE FROM migration",
        "UPDATE tally_sum SET votes = 0",
        "DELETE FROM timeline_sum",
        "TRUNCATE tally",
        "CREATE TABLE scrutin.mine (n int)",
    ] {
        assert_eq!(code(&counter, refused).await.as_deref(), Some("42501"), "{refused}");
    }
}

/// A user without CREATEROLE gets the SQL that a superuser has to run, and that SQL is sufficient.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_create_roles_is_told_what_to_run() {
    let kit = Kit::empty().await;
    let owner = kit.owner().await;
    let user = format!("scrutin_test_plain_{}", std::process::id());
    let database: String = owner.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    let create = format!("DROP ROLE IF EXISTS {user}; CREATE ROLE {user} LOGIN PASSWORD 'p'");
    owner.batch_execute(&create).await.unwrap();
    let plain = Database::parse(&kit.url_as(&user, "p")).unwrap();

    let text = migrate::setup(&plain).await.unwrap_err().to_string();
    let grant = format!("GRANT CREATE ON DATABASE {database} TO {user};");
    assert!(text.contains(&grant), "{text}");
    owner.batch_execute(&grant).await.unwrap();

    let error = migrate::setup(&plain).await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable(_)) && !error.is_transient());
    let text = error.to_string();
    let (_, sql) = text.split_once("try again:").unwrap_or_else(|| panic!("{text}"));
    run_as_dba(&owner, sql).await;
    migrate::setup(&plain).await.unwrap();
    plain.connect(Role::Counter).await.unwrap().query("SELECT * FROM tally", &[]).await.unwrap();
    // It also names what only a superuser can close.
    let place = Place::of(&kit);
    let setup = || {
        let mut command = place.command("setup --no-election");
        command.env("DATABASE_URL", kit.url_as(&user, "p"));
        Running::start(command).end()
    };
    let said = setup();
    assert_eq!(said.code, Some(0), "{said}");
    let (_, sql) = said.err.split_once("have a superuser run:").unwrap_or_else(|| panic!("{said}"));
    assert!(sql.contains("REVOKE TEMPORARY ON DATABASE") && sql.contains("lo_create"), "{sql}");
    run_as_dba(&owner, sql.split_inclusive(';').take_while(|line| line.contains("\n  ")).collect::<String>().as_str())
        .await;
    assert!(!setup().err.contains("superuser"));

    owner.batch_execute(&format!("DROP OWNED BY {user} CASCADE; DROP ROLE {user}")).await.unwrap();
}

/// Roles belong to the whole server: the set-up of another test may create one between this advice and its execution.
async fn run_as_dba(owner: &Client, sql: &str) {
    for statement in sql.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        loop {
            match owner.batch_execute(statement).await {
                Ok(()) => break,
                Err(error) if error.code() == Some(&SqlState::DUPLICATE_OBJECT) => break,
                Err(error) if error.code() == Some(&SqlState::INTERNAL_ERROR) => {}
                Err(error) => panic!("{statement}: {error:?}"),
            }
        }
    }
}

#[tokio::test]
async fn elections_round_trip() {
    let kit = Kit::new().await;
    let mut owner = kit.owner().await;
    let region = |code: &str, point, tile| Region {
        code: code.into(),
        name: code.into(),
        registered: Some(7),
        expected_turnout: None,
        point,
        tile,
    };
    let choice = |code: &str, region: Option<&str>| Choice {
        code: code.into(),
        name: format!("Name of {code}"),
        color: "#0a1b2c".into(),
        region: region.map(str::to_owned),
    };
    let mut other = Election {
        id: "a-before-all".into(),
        title: "Ünïcode, \"quotes\", 'and' a \\ backslash".into(),
        opens_at_ms: -62_135_596_800_001,
        closes_at_ms: 253_402_300_799_999,
        time_zone: "Europe/Paris".into(),
        channels: vec!["post".into(), "booth".into()],
        bucket_seconds: 7,
        expected_turnout: None,
        regions: vec![
            region("z", None, Some((-1, 3))),
            region("É", Some((-0.1 + 0.3, 1.0 / 3.0)), None),
            region("a", Some((90.0, -180.0)), Some((0, 0))),
        ],
        choices: vec![choice("Z", Some("a")), choice("Z", Some("É")), choice("A", None)],
    };
    other.regions[2].registered = Some(i64::MAX as u64);
    other.regions[1].expected_turnout = Some(0.1 + 0.2);
    other.expected_turnout = Some(1.0);
    for election in [&Election::built_in(), &other, &other] {
        elections::save(&mut owner, election).await.unwrap();
    }
    let reader = kit.db().connect(Role::Reader).await.unwrap();
    assert_eq!(elections::load_all(&reader).await.unwrap(), [other.clone(), Election::built_in()]);

    other.regions[1].registered = Some(u64::MAX);
    let text = elections::save(&mut owner, &other).await.unwrap_err().to_string();
    assert!(text.contains("registered is 18446744073709551615"), "{text}");
}

#[tokio::test]
async fn an_election_that_is_counted_keeps_its_rules() {
    let kit = Kit::new().await;
    let mut owner = kit.owner().await;
    let mut election = Election::built_in();
    elections::save(&mut owner, &election).await.unwrap();
    election.closes_at_ms += 1000;
    elections::save(&mut owner, &election).await.expect("no counter counts it yet");

    let insert = "INSERT INTO counter (counter, elections, log, partitions) VALUES ('native', $1, 'a log', 4)";
    owner.execute(insert, &[&vec![election.id.clone()]]).await.unwrap();
    election.title = "Another title".into();
    election.regions[0].name = "Another name".into();
    elections::save(&mut owner, &election).await.expect("cosmetic changes are allowed");
    let stored = election.clone();
    election.closes_at_ms += 1000;
    let text = elections::save(&mut owner, &election).await.unwrap_err().to_string();
    assert!(text.contains("being counted by `native`"), "{text}");
    assert_eq!(elections::load_all(&owner).await.unwrap(), [stored]);
}
