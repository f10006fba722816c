//! Access control in the database: what each role may do. It must hold for anyone who logs in as the role and runs
//! arbitrary SQL, as every Grafana viewer can.

use scrutin_store::{Database, Role, migrate};
use tokio_postgres::Client;

use crate::kit::Kit;

async fn lines(client: &Client, query: &str) -> Vec<String> {
    client.query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// A session of a login with the rights of one role and nothing else.
struct Login {
    kit: Kit,
    name: String,
    client: Client,
}

impl Login {
    async fn of(role: &str) -> Login {
        let kit = Kit::new().await;
        let name = format!("scrutin_test_{role}_{}", std::process::id());
        let create =
            format!("DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN PASSWORD 'p' IN ROLE scrutin_{role}");
        kit.owner().await.batch_execute(&create).await.unwrap();
        let client = Database::parse(&kit.url_as(&name, "p")).unwrap().connect(Role::Owner).await.unwrap();
        Login { kit, name, client }
    }

    /// PostgreSQL's error code. Each statement starts from a fresh session state.
    async fn code(&self, sql: &str) -> Option<String> {
        let done = self.client.batch_execute(sql).await;
        self.client.batch_execute("ROLLBACK; RESET ROLE; RESET ALL; SET search_path TO scrutin").await.unwrap();
        done.err().map(|error| error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()))
    }

    async fn may_not(&self, statements: &[&str]) {
        for sql in statements {
            assert_eq!(self.code(sql).await.as_deref(), Some("42501"), "{}: {sql}", self.name);
        }
    }

    async fn may(&self, statements: &[&str]) {
        for sql in statements {
            assert_eq!(self.code(sql).await, None, "{}: {sql}", self.name);
        }
    }

    async fn end(self) {
        drop(self.client);
        let owner = self.kit.owner().await;
        let drop_login = format!("DROP ROLE {}", self.name);
        while let Err(error) = owner.batch_execute(&drop_login).await {
            assert_eq!(error.code().unwrap().code(), "55006", "only a session that is just ending may hold the role");
        }
    }
}

/// No role may do any of these.
const NOBODY_MAY: [&str; 37] = [
    // Hold up the count: by its turn, by the set-up's lock, or by exhausting all locks.
    "SELECT pg_advisory_lock(hashtextextended('scrutin commit native', 0))",
    "SELECT pg_advisory_lock_shared(1)",
    "SELECT pg_advisory_xact_lock(1, 1)",
    "SELECT pg_try_advisory_lock(n) FROM generate_series(1, 100000) n",
    "BEGIN; LOCK TABLE migration IN SHARE UPDATE EXCLUSIVE MODE",
    "BEGIN; LOCK TABLE election IN SHARE MODE",
    // Fill the disk.
    "CREATE TEMPORARY TABLE mine (n int)",
    "CREATE TABLE public.mine (n int)",
    "CREATE TABLE scrutin.mine (n int)",
    "CREATE SCHEMA mine",
    "SELECT lo_create(0)",
    "SELECT lo_creat(-1)",
    "SELECT lo_from_bytea(0, 'mine')",
    "SELECT lo_import('/etc/hostname')",
    "SELECT pg_logical_emit_message(false, 'mine', 'mine')",
    // Shadow or replace an object that others use.
    "CREATE DOMAIN pg_temp.json AS text",
    "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql RETURN 1",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql RETURN 1",
    "CREATE OR REPLACE VIEW results AS SELECT 1",
    "ALTER FUNCTION field_of(bytea, text) RESET search_path",
    "DROP VIEW results",
    "TRUNCATE tally",
    "TRUNCATE audit",
    "UPDATE election SET title = 'mine'",
    "UPDATE tally_sum SET votes = 0",
    "DELETE FROM migration",
    "UPDATE log_end SET end_offset = 0",
    // Become another role, or gain rights.
    "SET ROLE pg_read_all_data",
    "SET SESSION AUTHORIZATION scrutin_counter",
    "ALTER ROLE scrutin_reader PASSWORD 'mine'",
    "ALTER ROLE scrutin_reader CONNECTION LIMIT 90",
    "CREATE ROLE mine SUPERUSER",
    "SET temp_file_limit TO -1",
    // Reach beyond the database.
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/mine'",
    "SELECT pg_read_file('/etc/hostname')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> current_user",
];

/// What PostgreSQL cannot forbid to a login. The README and the threat model say so.
const ALL_MAY: [&str; 6] = [
    "SELECT set_config('statement_timeout', '0', false)",
    "SELECT set_config('work_mem', '1GB', false)",
    "SELECT pg_sleep(0)",
    "DO 'BEGIN END'",
    "NOTIFY mine",
    "ALTER ROLE CURRENT_USER PASSWORD 'p'",
];

#[tokio::test]
async fn a_reader_may_look_at_views_and_do_nothing_else() {
    let login = Login::of("reader").await;
    login.may_not(&NOBODY_MAY).await;
    login.may(&ALL_MAY).await;
    login
        .may_not(&[
            "SELECT value FROM rejected_vote",
            "SELECT ids FROM poll_book",
            "SELECT * FROM tally",
            "SELECT * FROM audit",
            "SELECT * FROM migration",
            "SELECT FROM counter FOR UPDATE",
            "SELECT FROM counters FOR UPDATE",
            "SELECT FROM counters FOR KEY SHARE",
            "BEGIN; LOCK TABLE counters IN ROW SHARE MODE",
            "INSERT INTO tally VALUES ('native', 'e', 'r', 'booth', '{1}')",
            "INSERT INTO audit (counter, recounted, differences, summary) VALUES ('native', 0, 0, '')",
            "SELECT note_log_end('a log', '{0}', '{1}')",
            "SET ROLE scrutin_counter",
            "SET ROLE scrutin_witness",
            "SET ROLE scrutin_auditor",
        ])
        .await;
    login.may(&["SELECT * FROM results", "SELECT * FROM double_votes_by_region", "SELECT * FROM last_audit"]).await;
    login.end().await;
}

/// A witness may also do what a reader may, since it logs in directly.
#[tokio::test]
async fn a_witness_may_note_the_end_of_a_log_and_do_nothing_else() {
    let login = Login::of("witness").await;
    login.may_not(&NOBODY_MAY).await;
    login
        .may_not(&[
            "SELECT * FROM tally",
            "SELECT * FROM log_end",
            "SELECT FROM counter FOR UPDATE",
            "INSERT INTO log_end VALUES ('a log', 0, 0, now())",
            "INSERT INTO audit (counter, recounted, differences, summary) VALUES ('native', 0, 0, '')",
            "UPDATE position SET end_offset = 0",
            "SET ROLE scrutin_counter",
        ])
        .await;
    login.may(&["SELECT note_log_end('a log', '{0}', '{1}')"]).await;
    login.end().await;
}

#[tokio::test]
async fn a_counter_may_write_the_count_but_no_audits() {
    let login = Login::of("counter").await;
    login.may_not(&NOBODY_MAY).await;
    login
        .may_not(&[
            "INSERT INTO audit (counter, recounted, differences, summary) VALUES ('native', 0, 0, 'clean')",
            "UPDATE audit SET differences = 0",
            "DELETE FROM audit",
            "DELETE FROM region",
            "INSERT INTO tally_sum VALUES ('native', 'e', 'c', 'booth', 1)",
            "SET ROLE scrutin_auditor",
        ])
        .await;
    login
        .may(&[
            "INSERT INTO tally VALUES ('native', 'e', 'r', 'booth', '{1}')",
            "UPDATE tally SET votes = '{0}'; DELETE FROM tally",
            "SELECT FROM counter FOR UPDATE",
            "SELECT value FROM rejected_vote",
            "SELECT * FROM audits",
        ])
        .await;
    login.end().await;
}

#[tokio::test]
async fn an_auditor_may_read_the_count_and_add_to_the_audits() {
    let login = Login::of("auditor").await;
    login.may_not(&NOBODY_MAY).await;
    login
        .may_not(&[
            "UPDATE audit SET differences = 0",
            "DELETE FROM audit",
            "INSERT INTO audit VALUES ('native', now() + interval '1 day', 0, 0, 'clean')",
            "UPDATE tally SET votes = '{0}'",
            "DELETE FROM rejected_vote",
            "SELECT FROM counter FOR UPDATE",
            "SELECT note_log_end('a log', '{0}', '{1}')",
            "SET ROLE scrutin_counter",
        ])
        .await;
    login
        .may(&[
            "INSERT INTO audit (counter, recounted, differences, summary) VALUES ('native', 0, 0, 'clean')",
            "SELECT ids FROM poll_book; SELECT value FROM rejected_vote; SELECT * FROM timeline_sum",
        ])
        .await;
    login.end().await;
}

/// Every right of every role except the owner, so that a new table, view or function that opens something is noticed.
#[tokio::test]
async fn the_rights_of_the_roles_are_exactly_these() {
    let kit = Kit::new().await;
    let owner = kit.owner().await;
    assert_rights(&owner).await;
    // As an earlier version left it.
    owner
        .batch_execute(
            "DELETE FROM migration WHERE version = 9;
             ALTER FUNCTION field_of(bytea, text) RESET search_path;
             GRANT EXECUTE ON FUNCTION field_of(bytea, text) TO PUBLIC;
             REVOKE ALL ON ALL TABLES IN SCHEMA scrutin FROM scrutin_auditor;
             GRANT SELECT, INSERT, UPDATE, DELETE ON audit TO scrutin_counter",
        )
        .await
        .unwrap();
    migrate::setup(kit.db()).await.unwrap();
    assert_rights(&owner).await;
}

async fn assert_rights(owner: &Client) {
    let rights = "
        WITH acl AS (
            SELECT CASE WHEN relkind = 'v' THEN 'views' ELSE relname END AS what, relacl AS acl FROM pg_class
             WHERE relnamespace = 'scrutin'::regnamespace
            UNION ALL
            SELECT relname || '.' || attname, attacl FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
             WHERE relnamespace = 'scrutin'::regnamespace
            UNION ALL
            SELECT proname || '()', coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
             WHERE pronamespace = 'scrutin'::regnamespace
        ), of_each AS (
            SELECT DISTINCT coalesce(rolname, 'all') AS role, privilege_type, what
              FROM acl, aclexplode(acl) g LEFT JOIN pg_roles r ON r.oid = g.grantee
             WHERE g.grantee <> g.grantor
        )
        SELECT replace(role, 'scrutin_', '') || ' ' || privilege_type || ': ' || string_agg(what, ' ' ORDER BY what COLLATE \"C\")
          FROM of_each GROUP BY role, privilege_type ORDER BY role COLLATE \"C\", privilege_type";
    assert_eq!(
        lines(owner, rights).await,
        [
            "auditor EXECUTE: field_of() rfc3339() session_waits()",
            "auditor INSERT: audit.counter audit.differences audit.recounted audit.summary",
            "auditor SELECT: audit batch choice counter election migration poll_book position region rejected_vote rejection tally \
             tally_sum timeline timeline_sum views",
            "counter DELETE: batch counter poll_book position rejected_vote rejection tally timeline",
            "counter EXECUTE: field_of() note_log_end() rfc3339() session_waits()",
            "counter INSERT: batch counter poll_book position rejected_vote rejection tally timeline",
            "counter SELECT: batch choice counter election migration poll_book position region rejected_vote rejection tally \
             timeline views",
            "counter UPDATE: batch counter poll_book position rejected_vote rejection tally timeline",
            "reader EXECUTE: field_of() rfc3339() session_waits()",
            "reader SELECT: choice election region views",
            "witness EXECUTE: note_log_end()",
        ]
    );
    // Views show what their owner may see.
    let views = "SELECT DISTINCT v.relname::text FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
                  WHERE d.refobjid IN ('rejected_vote'::regclass, 'poll_book'::regclass) ORDER BY 1";
    assert_eq!(
        lines(owner, views).await,
        ["double_votes_by_region", "poll_book_size"],
        "counts of voters, but no voter"
    );
    let limits = "SELECT rolconnlimit || ' ' || array_to_string(setconfig, ' ')
                    FROM pg_roles JOIN pg_db_role_setting ON setrole = pg_roles.oid
                    JOIN pg_database d ON d.oid = setdatabase
                   WHERE rolname = 'scrutin_reader' AND datname = current_database()";
    let limits = lines(owner, limits).await.concat();
    assert!(limits.starts_with("20 ") && limits.contains("temp_file_limit=256MB"), "{limits}");
}

#[tokio::test]
async fn every_function_resolves_names_independently_of_its_caller() {
    let kit = Kit::new().await;
    let owner = kit.owner().await;
    // A body that was parsed at creation contains no unresolved names.
    let open = "SELECT proname::text FROM pg_proc
                 WHERE pronamespace = 'scrutin'::regnamespace AND prosqlbody IS NULL
                   AND NOT 'search_path=pg_catalog, pg_temp' = ANY (coalesce(proconfig, '{}'))";
    assert_eq!(lines(&owner, open).await, [""; 0]);

    owner
        .batch_execute(
            "INSERT INTO election VALUES ('e', '', '2027-01-01', '2027-01-02', 'UTC', '{booth}', 60, '');
             INSERT INTO region (election, region, name, registered, place, ballot) VALUES ('e', 'r', 'North', 1, 0, '{c}');
             INSERT INTO rejected_vote VALUES ('native', 0, 0, 'already_voted', now(), '', '{\"election\":\"e\",\"region\":\"r\"}', 1);
             CREATE SCHEMA trap; CREATE DOMAIN trap.json AS text; GRANT USAGE ON SCHEMA trap TO scrutin_reader",
        )
        .await
        .unwrap();
    let reader = kit.db().connect(Role::Reader).await.unwrap();
    reader.batch_execute("SET search_path TO trap, pg_catalog").await.unwrap();
    assert_eq!(lines(&reader, "SELECT region_name FROM scrutin.double_votes_by_region").await, ["North"]);
}
