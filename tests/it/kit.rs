//! The base of the tests: one private PostgreSQL per test process, one fresh database per test.
//!
//! `SCRUTIN_TEST_DATABASE_URL` names a server to use instead; its user must be able to create databases and roles.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use scrutin_postgres::Cluster;
use scrutin_store::{Database, Role, migrate};
use tokio::sync::{Mutex, OnceCell};
use tokio_postgres::Client;

struct Server {
    source: Source,
    _guard: Option<ChildStdin>,
}

enum Source {
    Private(Cluster),
    Given(String),
}

static SERVER: OnceCell<Server> = OnceCell::const_new();

async fn server() -> &'static Server {
    SERVER
        .get_or_init(|| async {
            if let Ok(url) = std::env::var("SCRUTIN_TEST_DATABASE_URL") {
                return Server { source: Source::Given(url), _guard: None };
            }
            let (folder, guard) = guarded_folder();
            let cluster = Cluster::start(&folder).await.unwrap_or_else(|error| panic!("{error}"));
            Server { source: Source::Private(cluster), _guard: Some(guard) }
        })
        .await
}

/// A folder for the data of a private PostgreSQL. When this process ends, however it ends, the server is stopped and
/// the folder deleted.
pub fn guarded_folder() -> (PathBuf, ChildStdin) {
    let stop = r#"
        pid=$(head -n 1 "$0/postgres/postmaster.pid" 2>/dev/null)
        if [ -n "$pid" ]; then
            kill -QUIT "$pid" 2>/dev/null
            while [ -e "$0/postgres/postmaster.pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
        fi
    "#;
    guarded_by(stop, &[])
}

/// A folder that is deleted when this process ends, however it ends, after running the script `stop`: a shell waits for
/// the end of a pipe that only this process holds. In the script the folder is `$0` and the paths are `$1` and up.
pub fn guarded_by(stop: &str, paths: &[&Path]) -> (PathBuf, ChildStdin) {
    let folder = tempfile::Builder::new().prefix("scrutin-test-").tempdir().expect("make a folder").keep();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755); // PostgreSQL's account needs access
    std::fs::set_permissions(&folder, mode).expect("open the folder");
    let script = format!("read -r _\n{stop}\nrm -rf \"$0\"");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]).arg(&folder).args(paths);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    #[expect(clippy::zombie_processes, reason = "it outlives this process")]
    // Ctrl-C on the tests must not also kill the guard.
    let mut child = command.process_group(0).spawn().expect("start the guard");
    (folder, child.stdin.take().expect("stdin is piped"))
}

/// The database of one test.
pub struct Kit {
    name: String,
    url: String,
    db: Database,
}

impl Kit {
    /// A fresh database with the schema.
    pub async fn new() -> Kit {
        let kit = Kit::empty().await;
        migrate::setup(kit.db()).await.unwrap_or_else(|error| panic!("{error}"));
        kit
    }

    /// A fresh, empty database.
    pub async fn empty() -> Kit {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("scrutin_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let url = match &server().await.source {
            Source::Private(cluster) => cluster.url_named(&name),
            Source::Given(url) => with_database(url, &name),
        };
        run(&admin().await, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        run(&admin().await, &format!("CREATE DATABASE {name}")).await;
        let db = Database::parse(&url).unwrap_or_else(|error| panic!("{error}"));
        Kit { name, url, db }
    }

    pub fn db(&self) -> &Database {
        &self.db
    }

    #[allow(dead_code, reason = "for the tests that run the program")]
    /// The `DATABASE_URL` for a program that a test runs.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address of this database for another user.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        let (_, place) = self.url.split_once('@').expect("an address has a user");
        format!("postgresql://{user}:{password}@{place}")
    }

    /// A session of the owner that can write votes one by one: `votes_by_channel` and `votes_by_bucket` take rows as if they
    /// were tables.
    pub async fn owner_of_votes(&self) -> Client {
        let owner = self.owner().await;
        owner.batch_execute(WRITE_VOTES).await.unwrap_or_else(|error| panic!("{error:?}"));
        owner
    }

    pub async fn owner(&self) -> Client {
        self.db.connect(Role::Owner).await.unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Queries figures from one database over one session, for as long as the session holds. Opening a session per query
/// would dominate the cost of tests that poll.
pub struct Watcher {
    database: Database,
    session: Mutex<Option<Client>>,
}

impl Watcher {
    pub fn of(database: &Database) -> Watcher {
        Watcher { database: database.clone(), session: Mutex::new(None) }
    }

    /// One figure. After an error, the next call opens a new session.
    pub async fn figure(&self, sql: &str) -> Result<i64, String> {
        let mut session = self.session.lock().await;
        let client = match session.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.database.connect(Role::Owner).await.map_err(|error| error.to_string())?,
        };
        let row = client.query_one(sql, &[]).await.map_err(|error| format!("{sql}: {error:?}"))?;
        *session = Some(client);
        Ok(row.get(0))
    }
}

impl Drop for Kit {
    /// A private server is deleted as a whole; on a given server, only this database is dropped.
    fn drop(&mut self) {
        let Some(Server { source: Source::Given(url), .. }) = SERVER.get() else { return };
        let (url, sql) = (url.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("make a runtime");
            runtime.block_on(async { run(&Database::parse(&url).expect("already parsed once"), &sql).await });
        });
        let _ = dropped.join();
    }
}

/// The database from which the others are created.
pub async fn admin() -> Database {
    match &server().await.source {
        Source::Private(cluster) => cluster.database_named("postgres"),
        Source::Given(url) => Database::parse(url).unwrap_or_else(|error| panic!("{error}")),
    }
}

async fn run(db: &Database, sql: &str) {
    let client = db.connect(Role::Owner).await.unwrap_or_else(|error| panic!("{error}"));
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

fn with_database(url: &str, name: &str) -> String {
    let (address, options) = url.split_once('?').map_or((url, None), |(address, options)| (address, Some(options)));
    let host = address.find("://").map_or(0, |place| place + 3);
    let end = address[host..].find('/').map_or(address.len(), |place| host + place);
    match options {
        Some(options) => format!("{}/{name}?{options}", &address[..end]),
        None => format!("{}/{name}", &address[..end]),
    }
}

/// See [`Kit::owner_of_votes`].
pub const WRITE_VOTES: &str = "
    CREATE OR REPLACE FUNCTION set_votes(r votes_by_channel, number bigint) RETURNS void LANGUAGE sql AS $$
        INSERT INTO tally SELECT r.counter, r.election, r.region, r.channel, array_fill(0::bigint, ARRAY[cardinality(ballot)])
          FROM region b WHERE (b.election, b.region) = (r.election, r.region) ON CONFLICT DO NOTHING;
        UPDATE tally t SET votes[array_position(b.ballot, r.choice)] = number FROM region b
         WHERE (b.election, b.region) = (r.election, r.region)
           AND (t.counter, t.election, t.region, t.channel) = (r.counter, r.election, r.region, r.channel)
    $$;
    CREATE OR REPLACE FUNCTION set_votes(r votes_by_bucket, number bigint) RETURNS void LANGUAGE sql AS $$
        INSERT INTO timeline SELECT r.counter, r.election, r.bucket, r.region, array_fill(0::bigint, ARRAY[cardinality(ballot)])
          FROM region b WHERE (b.election, b.region) = (r.election, r.region) ON CONFLICT DO NOTHING;
        UPDATE timeline t SET votes[array_position(b.ballot, r.choice)] = number FROM region b
         WHERE (b.election, b.region) = (r.election, r.region)
           AND (t.counter, t.election, t.bucket, t.region) = (r.counter, r.election, r.bucket, r.region)
    $$;
    CREATE OR REPLACE FUNCTION write_votes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' THEN PERFORM set_votes(OLD, 0); END IF;
        IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
        PERFORM set_votes(NEW, NEW.votes);
        RETURN NEW;
    END $$;
    CREATE OR REPLACE TRIGGER written INSTEAD OF INSERT OR UPDATE OR DELETE ON votes_by_channel
        FOR EACH ROW EXECUTE FUNCTION write_votes();
    CREATE OR REPLACE TRIGGER written INSTEAD OF INSERT OR UPDATE OR DELETE ON votes_by_bucket
        FOR EACH ROW EXECUTE FUNCTION write_votes();";
