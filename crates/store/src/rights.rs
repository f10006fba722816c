//! The privileges of each role. Every set-up resets them to exactly this list; `tests/it/walls.rs` checks it.
//!
//! Does not create the roles.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};

use super::error::is_collision;
use super::{SCHEMA, StoreError};

const COUNTING_TABLES: &str = "counter, position, tally, timeline, rejection, rejected_vote, poll_book, batch";
const REFERENCE_TABLES: &str = "election, region, choice";
/// Written only by triggers; the audit compares them with the rows they sum.
const SUM_TABLES: &str = "tally_sum, timeline_sum";
const ROLES: &str = "scrutin_counter, scrutin_reader, scrutin_witness, scrutin_auditor";

pub(super) async fn set(client: &mut Client) -> Result<(), StoreError> {
    set_in_schema(client).await?;
    close_to_all(client).await
}

/// Sets the privileges in the schema, in one transaction.
async fn set_in_schema(client: &mut Client) -> Result<(), StoreError> {
    let failed = StoreError::during("set the rights of the roles");
    let transaction = client.transaction().await.map_err(&failed)?;
    let views = views(&transaction).await.map_err(&failed)?;
    let sql = format!(
        "SET LOCAL search_path TO {SCHEMA};
         REVOKE ALL ON SCHEMA {SCHEMA} FROM PUBLIC, {ROLES};
         REVOKE ALL ON ALL TABLES IN SCHEMA {SCHEMA} FROM PUBLIC, {ROLES};
         REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {SCHEMA} FROM PUBLIC, {ROLES};
         GRANT USAGE ON SCHEMA {SCHEMA} TO {ROLES};
         GRANT EXECUTE ON FUNCTION rfc3339, field_of, session_waits TO scrutin_counter, scrutin_reader, scrutin_auditor;
         GRANT EXECUTE ON FUNCTION note_log_end TO scrutin_counter, scrutin_witness;
         GRANT SELECT, INSERT, UPDATE, DELETE ON {COUNTING_TABLES} TO scrutin_counter;
         GRANT SELECT ON {REFERENCE_TABLES}, migration, {views} TO scrutin_counter;
         GRANT SELECT ON {REFERENCE_TABLES}, {views} TO scrutin_reader;
         GRANT SELECT ON {COUNTING_TABLES}, {REFERENCE_TABLES}, {SUM_TABLES}, audit, migration, {views} TO scrutin_auditor;
         -- The auditor can add rows, but cannot choose their time.
         GRANT INSERT (counter, recounted, differences, summary) ON audit TO scrutin_auditor;"
    );
    transaction.batch_execute(&sql).await.map_err(&failed)?;
    transaction.commit().await.map_err(&failed)
}

async fn views(transaction: &Transaction<'_>) -> Result<String, tokio_postgres::Error> {
    let query = "SELECT string_agg(quote_ident(viewname), ', ' ORDER BY viewname) FROM pg_views WHERE schemaname = $1";
    Ok(transaction.query_one(query, &[&SCHEMA]).await?.get(0))
}

/// Lists the statements still needed to close what PostgreSQL leaves open to every login. Anyone with access to Grafana
/// can run SQL as the reader; with these privileges they could fill the disk or exhaust the locks and connections.
const OPEN: &str = "
    SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database())
     WHERE has_database_privilege('scrutin_reader', current_database(), 'TEMPORARY')
    UNION ALL
    SELECT 'REVOKE CREATE ON SCHEMA public FROM PUBLIC'
      FROM pg_namespace WHERE nspname = 'public' AND has_schema_privilege('scrutin_reader', oid, 'CREATE')
    UNION ALL
    SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', string_agg(oid::regprocedure::text, ', ' ORDER BY oid))
      FROM pg_proc
     WHERE pronamespace = 'pg_catalog'::regnamespace
       AND proname ~ '^(lo_.*|loread|lowrite|pg_(try_)?advisory_.*|pg_logical_emit_message|pg_export_snapshot)$'
       AND has_function_privilege('scrutin_reader', oid, 'EXECUTE')
    HAVING count(*) > 0
    UNION ALL
    SELECT 'ALTER ROLE scrutin_reader CONNECTION LIMIT 20'
      FROM pg_roles WHERE rolname = 'scrutin_reader' AND rolconnlimit < 0
    UNION ALL
    SELECT format('ALTER ROLE scrutin_reader IN DATABASE %I SET temp_file_limit TO ''256MB''', current_database())
     WHERE NOT EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c
                        WHERE s.setrole = 'scrutin_reader'::regrole AND d.datname = current_database()
                          AND c LIKE 'temp_file_limit=%')
    UNION ALL
    SELECT 'GRANT pg_use_reserved_connections TO scrutin_counter'
      FROM pg_roles WHERE rolname = 'pg_use_reserved_connections' AND NOT pg_has_role('scrutin_counter', oid, 'USAGE')";

/// Not every schema owner is allowed to run these. What is left for a superuser is logged and does not block the count.
async fn close_to_all(client: &Client) -> Result<(), StoreError> {
    let failed = StoreError::during("revoke privileges open to every login");
    for sql in open(client).await.map_err(&failed)? {
        loop {
            match client.batch_execute(&sql).await {
                // Roles belong to the whole server: another database's set-up is changing them too.
                Err(error) if is_collision(&error) => tokio::task::yield_now().await,
                Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => break,
                done => break done.map_err(&failed)?,
            }
        }
    }
    let left = open(client).await.map_err(&failed)?;
    if !left.is_empty() {
        tracing::warn!(
            "any PostgreSQL login can use up disk space, locks and connections that the count needs; to prevent that, \
             have a superuser run:\n  {};",
            left.join(";\n  ")
        );
    }
    Ok(())
}

async fn open(client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    let rows = client.query(OPEN, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
