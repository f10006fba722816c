-- How far each log goes, as last seen by whoever watches it: every counter, and the server of the page. So the dashboards
-- see votes wait even when no counter runs, or when commits are blocked.
CREATE TABLE log_end (
    log        text NOT NULL,
    partition  integer NOT NULL,
    end_offset bigint NOT NULL,
    seen_at    timestamptz NOT NULL,
    PRIMARY KEY (log, partition)
) WITH (fillfactor = 50);

-- The only way for counters and the witness to write it. Runs with its owner's rights; raises an end, never lowers it.
CREATE FUNCTION note_log_end(log text, partitions integer[], ends bigint[]) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO scrutin.log_end AS l (log, partition, end_offset, seen_at)
    SELECT $1, n.partition, n.end_offset, now() FROM unnest($2, $3) AS n (partition, end_offset) ORDER BY n.partition
        ON CONFLICT (log, partition)
        DO UPDATE SET end_offset = greatest(l.end_offset, excluded.end_offset), seen_at = greatest(l.seen_at, excluded.seen_at)
$$;
REVOKE ALL ON FUNCTION note_log_end(text, integer[], bigint[]) FROM PUBLIC;

-- The furthest end that anybody has seen of each partition, and when somebody last looked.
CREATE VIEW log_ends AS
SELECT log, partition, max(end_offset) AS end_offset, max(seen_at) AS seen_at
  FROM (SELECT k.log, p.partition, p.end_offset, p.updated_at AS seen_at FROM position p JOIN counter k USING (counter)
        UNION ALL
        SELECT log, partition, end_offset, seen_at FROM log_end) s
 GROUP BY log, partition;

-- One row per log, with the number of counters that count it; a log without one has votes that nobody counts.
CREATE VIEW logs AS
SELECT log, count(*) AS partitions, sum(end_offset)::bigint AS end_offsets, max(seen_at) AS seen_at,
       (SELECT count(*) FROM counter k WHERE k.log = e.log) AS counters
  FROM log_ends e GROUP BY log;

-- As before, but by the furthest end that anybody has seen, not only this counter.
CREATE OR REPLACE VIEW lag AS
SELECT p.counter, p.partition, p.next_offset, coalesce(e.end_offset, p.end_offset) AS end_offset,
       greatest(coalesce(e.end_offset, p.end_offset) - p.next_offset, 0) AS lag, p.updated_at, p.taken
  FROM position p
  LEFT JOIN counter k USING (counter)
  LEFT JOIN log_ends e ON e.log = k.log AND e.partition = p.partition;

-- As before, plus log_seen_at and unseen_seconds: when anybody last looked at the log, and how long ago that was. If that
-- is more than a minute ago, nobody can say that no votes wait, so waiting and idle_seconds are null instead of 0.
CREATE OR REPLACE VIEW health AS
SELECT counter, counted_by, holds, CASE WHEN waiting > 0 OR unseen_seconds <= 60 THEN waiting END AS waiting,
       CASE WHEN waiting > 0 THEN extract(epoch FROM now() - last_commit)::double precision
            WHEN unseen_seconds <= 60 THEN 0 END AS idle_seconds,
       last_commit, lag_growth, received_recently, refused_share, log_seen_at, unseen_seconds
  FROM (SELECT c.counter, c.counted_by, coalesce(a.holds, true) AS holds, p.waiting, p.updated_at AS last_commit,
               coalesce(b.lag_now - b.lag_before, 0)::double precision AS lag_growth,
               coalesce(b.received, 0)::bigint AS received_recently,
               coalesce(b.rejected / nullif(b.received, 0), 0)::double precision AS refused_share,
               l.seen_at AS log_seen_at, extract(epoch FROM now() - l.seen_at)::double precision AS unseen_seconds
          FROM counter c
          JOIN logs l USING (log)
          JOIN (SELECT counter, sum(lag)::bigint AS waiting, max(updated_at) AS updated_at FROM lag GROUP BY counter) p
               USING (counter)
          LEFT JOIN accounting a USING (counter)
          LEFT JOIN (SELECT counter, sum(received) AS received, sum(rejected) AS rejected,
                            avg(lag) FILTER (WHERE committed_at >= now() - interval '1 minute') AS lag_now,
                            avg(lag) FILTER (WHERE committed_at < now() - interval '1 minute'
                                               AND committed_at >= now() - interval '2 minutes') AS lag_before
                       FROM batch WHERE committed_at >= now() - interval '5 minutes' GROUP BY counter) b USING (counter)) h;
