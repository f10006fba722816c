//! Brings a database up to this program's schema: tables, views, roles and their privileges.
//!
//! Safe to run repeatedly and by several processes at once. A database migrated by a newer program is refused.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::error::is_collision;
use super::pooler::refuse_shared_connections;
use super::{Database, Role, SCHEMA, StoreError, rights};

struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

/// In order, without gaps. A released migration is never edited: its digest is checked.
const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "tables", sql: include_str!("../../../migrations/0001_tables.sql") },
    Migration { version: 2, name: "views", sql: include_str!("../../../migrations/0002_views.sql") },
    Migration { version: 3, name: "engines", sql: include_str!("../../../migrations/0003_engines.sql") },
    Migration { version: 4, name: "agreement", sql: include_str!("../../../migrations/0004_agreement.sql") },
    Migration { version: 5, name: "dashboards", sql: include_str!("../../../migrations/0005_dashboards.sql") },
    Migration { version: 6, name: "expectation", sql: include_str!("../../../migrations/0006_expectation.sql") },
    Migration { version: 7, name: "sums", sql: include_str!("../../../migrations/0007_sums.sql") },
    Migration { version: 8, name: "log_end", sql: include_str!("../../../migrations/0008_log_end.sql") },
    Migration { version: 9, name: "walls", sql: include_str!("../../../migrations/0009_walls.sql") },
    Migration { version: 10, name: "watch", sql: include_str!("../../../migrations/0010_watch.sql") },
    Migration {
        version: 11,
        name: "local_candidates",
        sql: include_str!("../../../migrations/0011_local_candidates.sql"),
    },
    Migration { version: 12, name: "unknown", sql: include_str!("../../../migrations/0012_unknown.sql") },
    Migration { version: 13, name: "names", sql: include_str!("../../../migrations/0013_names.sql") },
    Migration { version: 14, name: "steps", sql: include_str!("../../../migrations/0014_steps.sql") },
    Migration { version: 15, name: "ballots", sql: include_str!("../../../migrations/0015_ballots.sql") },
];

/// Sets up a database, as the user in its address.
///
/// If that user does not own the schema, this only [verifies](verify) it.
///
/// # Errors
///
/// If the database is unreachable, was migrated by another version, or the user lacks privileges.
pub async fn setup(db: &Database) -> Result<(), StoreError> {
    let mut client = db.connect(Role::Owner).await?;
    refuse_shared_connections(db, &client).await?;
    if is_foreign(&client).await? {
        return verify(db).await;
    }
    create_schema(db, &client).await?;
    let _gate = lock(db).await?;
    check(db, &client).await?;
    for migration in MIGRATIONS {
        apply(&mut client, migration).await?;
    }
    for role in Role::MADE {
        ensure_role(db, &client, role).await?;
    }
    rights::set(&mut client).await
}

/// Allows one set-up at a time. Only the table's owner can take this lock; it ends with the session, whatever happens.
async fn lock(db: &Database) -> Result<Client, StoreError> {
    let gate = db.connect(Role::Owner).await?;
    let sql = format!(
        "SET idle_in_transaction_session_timeout TO 0;
         BEGIN; LOCK TABLE {SCHEMA}.migration IN SHARE UPDATE EXCLUSIVE MODE"
    );
    gate.batch_execute(&sql).await.map_err(StoreError::during("lock the set-up"))?;
    Ok(gate)
}

/// Allows a role to log in directly with this password. The server only receives a SCRAM verifier. Every role may also
/// act as the reader.
///
/// # Errors
///
/// If the database is unreachable, or the user may not alter the role.
pub async fn let_log_in(db: &Database, role: Role, password: &str) -> Result<(), StoreError> {
    let client = db.connect(Role::Owner).await?;
    let name = role.name().expect("only the owner has no role of its own");
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let mut sql = format!("ALTER ROLE {name} LOGIN PASSWORD '{verifier}'");
    if role != Role::Reader {
        let with = if splits_membership(&client).await.map_err(StoreError::during("query the server version"))? {
            " WITH SET TRUE, INHERIT FALSE"
        } else {
            ""
        };
        sql.push_str(&format!("; GRANT {} TO {name}{with}", Role::Reader.name().unwrap_or_default()));
    }
    client.batch_execute(&sql).await.map_err(StoreError::during("let the roles log in"))
}

/// Checks that this version of the program has set up the database. Changes nothing.
///
/// A user who may not read the version passes: their privileges decide what they can do.
///
/// # Errors
///
/// If the database is unreachable, is not set up, or was set up by another version.
pub async fn verify(db: &Database) -> Result<(), StoreError> {
    let client = db.connect(Role::Owner).await?;
    refuse_shared_connections(db, &client).await?;
    let set_up = |what: &str| StoreError::Unusable(format!("the database {} {what}; run `scrutin setup`", db.name()));
    match check(db, &client).await {
        Ok(versions) if versions < MIGRATIONS.len() => Err(set_up("has an older schema than this program needs")),
        Ok(_) => Ok(()),
        Err(error) => match error.code() {
            Some(code) if *code == SqlState::UNDEFINED_TABLE => Err(set_up("has not been set up")),
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => Ok(()),
            _ => Err(error),
        },
    }
}

/// Whether the schema exists and belongs to another user.
async fn is_foreign(client: &Client) -> Result<bool, StoreError> {
    let query = "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = $1";
    let row = client.query_opt(query, &[&SCHEMA]).await.map_err(StoreError::during("look for the schema"))?;
    Ok(row.is_some_and(|row| !row.get::<_, bool>(0)))
}

async fn create_schema(db: &Database, client: &Client) -> Result<(), StoreError> {
    let sql = format!(
        "CREATE SCHEMA IF NOT EXISTS {SCHEMA};
         CREATE TABLE IF NOT EXISTS {SCHEMA}.migration (
             version    integer PRIMARY KEY,
             name       text NOT NULL,
             digest     text NOT NULL,
             applied_at timestamptz NOT NULL DEFAULT now())"
    );
    loop {
        // CREATE … IF NOT EXISTS needs the CREATE privilege even when there is nothing to do.
        let there = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&format!("{SCHEMA}.migration")]).await;
        if there.map_err(StoreError::during("look for the schema"))?.get(0) {
            return Ok(());
        }
        match client.batch_execute(&sql).await {
            // Another set-up has just created it.
            Err(error) if is_collision(&error) => {}
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                let (user, database) = who_and_where(client).await?;
                return Err(StoreError::Unusable(format!(
                    "the user {user} may not create a schema in {}; as a superuser, run: GRANT CREATE ON DATABASE \
                     {database} TO {user};",
                    db.name()
                )));
            }
            result => return result.map_err(StoreError::during("create the schema")),
        }
    }
}

/// Returns the number of applied migrations. Fails if one is unknown or differs from this program's, or if some are
/// missing and the user does not own the schema.
async fn check(db: &Database, client: &Client) -> Result<usize, StoreError> {
    let query = format!("SELECT version, name, digest FROM {SCHEMA}.migration ORDER BY version");
    let rows = client.query(&query, &[]).await.map_err(StoreError::during("read the schema's version"))?;
    let known = MIGRATIONS.last().map_or(0, |migration| migration.version);
    for row in &rows {
        let (version, name, digest): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
        match MIGRATIONS.iter().find(|migration| migration.version == version) {
            None => {
                return Err(StoreError::Unusable(format!(
                    "the database {} has schema version {version} (`{name}`), but this program only knows versions up \
                     to {known}; use the newer scrutin that made it",
                    db.name()
                )));
            }
            Some(migration) if digest_of(migration) != digest => {
                return Err(StoreError::Unusable(format!(
                    "migration {version} (`{name}`) of the database {} differs from the one in this program; \
                     use the scrutin that made it, or another database",
                    db.name()
                )));
            }
            Some(_) => {}
        }
    }
    if rows.len() < MIGRATIONS.len() && is_foreign(client).await? {
        return Err(StoreError::Unusable(format!(
            "the database {} has an older schema than this program needs, and belongs to another user; \
             run `scrutin setup` as its owner",
            db.name()
        )));
    }
    Ok(rows.len())
}

fn digest_of(migration: &Migration) -> String {
    blake3::hash(migration.sql.as_bytes()).to_hex().to_string()
}

async fn apply(client: &mut Client, migration: &Migration) -> Result<(), StoreError> {
    let failed = StoreError::during("migrate the schema");
    let query = format!("SELECT 1 FROM {SCHEMA}.migration WHERE version = $1");
    if client.query_opt(&query, &[&migration.version]).await.map_err(&failed)?.is_some() {
        return Ok(());
    }
    let transaction = client.transaction().await.map_err(&failed)?;
    transaction.batch_execute(&format!("SET LOCAL search_path TO {SCHEMA}")).await.map_err(&failed)?;
    transaction.batch_execute(migration.sql).await.map_err(&failed)?;
    let insert = "INSERT INTO migration (version, name, digest) VALUES ($1, $2, $3)";
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&migration.version, &migration.name, &digest_of(migration)];
    transaction.execute(insert, &values).await.map_err(&failed)?;
    transaction.commit().await.map_err(&failed)?;
    tracing::info!(version = migration.version, name = migration.name, "migrated the schema");
    Ok(())
}

/// Roles belong to the whole server, so another database's set-up may be creating them at the same time, and no lock
/// covers both. Such a collision leaves nothing behind, so we retry.
async fn ensure_role(db: &Database, client: &Client, role: Role) -> Result<(), StoreError> {
    const ATTEMPTS: usize = 50;
    let name = role.name().expect("only the owner has no role of its own");
    for attempt in 1.. {
        match create_and_join(client, role, name).await {
            Ok(()) => break,
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                return Err(StoreError::Unusable(dba_advice(db, client).await?));
            }
            Err(error) if attempt < ATTEMPTS && is_collision(&error) => tokio::task::yield_now().await,
            Err(source) => return Err(StoreError::Query { action: "create the roles", source }),
        }
    }
    Ok(())
}

async fn create_and_join(client: &Client, role: Role, name: &str) -> Result<(), tokio_postgres::Error> {
    if client.query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&name]).await?.is_none() {
        client.batch_execute(&format!("CREATE ROLE {name} NOLOGIN")).await?;
    }
    let (right, with) = match splits_membership(client).await? {
        true => ("SET", " WITH SET TRUE, INHERIT FALSE"),
        false => ("MEMBER", ""),
    };
    if !client.query_one("SELECT pg_has_role(current_user, $1, $2)", &[&name, &right]).await?.get::<_, bool>(0) {
        client.batch_execute(&format!("GRANT {name} TO CURRENT_USER{with}")).await?;
    }
    let query = "SELECT setconfig FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
                  JOIN pg_database d ON d.oid = s.setdatabase
                 WHERE r.rolname = $1 AND d.datname = current_database()";
    let stored: Vec<String> = client.query_opt(query, &[&name]).await?.map(|row| row.get(0)).unwrap_or_default();
    let database: String = client.query_one("SELECT quote_ident(current_database())", &[]).await?.get(0);
    for (setting, value) in role.settings() {
        if !stored.contains(&format!("{setting}={value}")) {
            let sql = format!("ALTER ROLE {name} IN DATABASE {database} SET {setting} TO '{value}'");
            client.batch_execute(&sql).await?;
        }
    }
    Ok(())
}

/// Whether the server separates membership from SET ROLE, as PostgreSQL does since version 16. Before that, membership
/// alone was enough.
async fn splits_membership(client: &Client) -> Result<bool, tokio_postgres::Error> {
    let sql = "SELECT current_setting('server_version_num')::int >= 160000";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// The SQL that a superuser has to run because the user in the address may not.
async fn dba_advice(db: &Database, client: &Client) -> Result<String, StoreError> {
    let (user, database) = who_and_where(client).await?;
    let mut sql = String::new();
    for role in Role::MADE {
        let name = role.name().unwrap_or_default();
        let query = "SELECT 1 FROM pg_roles WHERE rolname = $1";
        let there = client.query_opt(query, &[&name]).await.map_err(StoreError::during("look for the roles"))?;
        if there.is_none() {
            sql.push_str(&format!("\n  CREATE ROLE {name} NOLOGIN;"));
        }
        sql.push_str(&format!("\n  GRANT {name} TO {user};"));
        for (setting, value) in role.settings() {
            sql.push_str(&format!("\n  ALTER ROLE {name} IN DATABASE {database} SET {setting} TO '{value}';"));
        }
    }
    Ok(format!(
        "the user {user} may not create the roles that {} needs; have a superuser run this once, then try again:{sql}",
        db.name()
    ))
}

/// User and database, quoted for SQL.
async fn who_and_where(client: &Client) -> Result<(String, String), StoreError> {
    let row = client.query_one("SELECT quote_ident(current_user), quote_ident(current_database())", &[]).await;
    let row = row.map_err(StoreError::during("query the current user"))?;
    Ok((row.get(0), row.get(1)))
}
