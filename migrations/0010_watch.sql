-- What the dashboards show of the evening and of PostgreSQL itself.

-- How many votes each region is expected to give; null where the election says nothing.
CREATE VIEW expected_by_region AS
SELECT r.election, r.region, round(r.registered * coalesce(r.expected_turnout, e.expected_turnout))::bigint AS expected
  FROM region r JOIN election e USING (election);

-- Which sessions of this database wait for a lock, and who holds them up; how long the oldest transaction is open, null where
-- the owner may not look at all sessions. Runs with its owner's rights, since others see nothing of what a session does. No
-- query text: whoever can open Grafana can read this.
CREATE FUNCTION session_waits(OUT lock_waits bigint, OUT lock_wait_seconds double precision, OUT blocked_by text,
                              OUT transaction_seconds double precision) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH waiting AS (
        SELECT DISTINCT ON (pid) pid, waitstart FROM pg_locks
         WHERE NOT granted AND coalesce(database, 0) IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
         ORDER BY pid, waitstart
    ), blockers AS (
        SELECT DISTINCT unnest(pg_blocking_pids(pid)) AS pid FROM waiting
    )
    SELECT (SELECT count(*) FROM waiting),
           (SELECT extract(epoch FROM clock_timestamp() - min(waitstart))::double precision FROM waiting),
           (SELECT string_agg(concat_ws(', ', 'process ' || b.pid, a.usename, a.state), '; ' ORDER BY b.pid)
              FROM blockers b LEFT JOIN pg_stat_activity a USING (pid)
             WHERE b.pid NOT IN (SELECT pid FROM waiting)),
           (SELECT CASE WHEN NOT bool_or(query = '<insufficient privilege>') IS TRUE
                        THEN coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)), 0)::double precision END
              FROM pg_stat_activity
             WHERE datname = current_database() AND coalesce(backend_type, 'client backend') = 'client backend'
               AND pid <> pg_backend_pid())
$$;

-- PostgreSQL's own figures, one row. Connections are those of the whole server, as their limit is.
CREATE VIEW database_health AS
SELECT (SELECT sum(numbackends)::bigint FROM pg_stat_database) AS connections,
       current_setting('max_connections')::bigint AS connections_max, w.lock_waits, w.lock_wait_seconds, w.blocked_by,
       w.transaction_seconds, pg_database_size(current_database()) AS size_bytes
  FROM session_waits() w;
