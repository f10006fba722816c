-- Keeps the votes of a region in one row, as an array with a number for each choice on its ballot, instead of a row for each
-- choice, so that a commit writes fewer rows. votes_by_channel and votes_by_bucket have a row for each choice, as before.

-- The choices on the region's ballot, in the order of those arrays: BLANK, NULL, those that stand everywhere, those that stand
-- only here. It cannot change while a counter counts the election, because the fingerprint covers it.
ALTER TABLE region ADD COLUMN ballot text[] NOT NULL DEFAULT '{}';
UPDATE region r
   SET ballot = ARRAY['BLANK', 'NULL'] || e.choices || l.choices
  FROM region q
  LEFT JOIN (SELECT election, array_agg(choice ORDER BY place) AS choices FROM choice WHERE region = '' GROUP BY 1) e
       USING (election)
  LEFT JOIN (SELECT election, region, array_agg(choice ORDER BY place) AS choices FROM choice WHERE region <> '' GROUP BY 1, 2) l
       USING (election, region)
 WHERE r.election = q.election AND r.region = q.region;
ALTER TABLE region ALTER COLUMN ballot DROP DEFAULT;

ALTER TABLE tally RENAME TO tally_before;
ALTER INDEX tally_pkey RENAME TO tally_before_pkey;
CREATE TABLE tally (
    counter  text NOT NULL,
    election text NOT NULL,
    region   text NOT NULL,
    channel  text NOT NULL,
    votes    bigint[] NOT NULL CHECK (0 <= ALL (votes) AND array_position(votes, NULL) IS NULL),
    PRIMARY KEY (counter, election, region, channel)
) WITH (fillfactor = 50);
INSERT INTO tally
SELECT k.counter, r.election, r.region, k.channel, array_agg(coalesce(t.votes, 0) ORDER BY b.line)
  FROM (SELECT DISTINCT counter, election, region, channel FROM tally_before) k
  JOIN region r USING (election, region)
 CROSS JOIN unnest(r.ballot) WITH ORDINALITY AS b (choice, line)
  LEFT JOIN tally_before t ON (t.counter, t.election, t.region, t.choice, t.channel)
                            = (k.counter, k.election, k.region, b.choice, k.channel)
 GROUP BY k.counter, r.election, r.region, k.channel;

ALTER TABLE timeline RENAME TO timeline_before;
ALTER INDEX timeline_pkey RENAME TO timeline_before_pkey;
CREATE TABLE timeline (
    counter  text NOT NULL,
    election text NOT NULL,
    bucket   timestamptz NOT NULL, -- start of the bucket of cast_at
    region   text NOT NULL,
    votes    bigint[] NOT NULL CHECK (0 <= ALL (votes) AND array_position(votes, NULL) IS NULL),
    PRIMARY KEY (counter, election, bucket, region)
) WITH (fillfactor = 70);
INSERT INTO timeline
SELECT k.counter, r.election, k.bucket, r.region, array_agg(coalesce(t.votes, 0) ORDER BY b.line)
  FROM (SELECT DISTINCT counter, election, bucket, region FROM timeline_before) k
  JOIN region r USING (election, region)
 CROSS JOIN unnest(r.ballot) WITH ORDINALITY AS b (choice, line)
  LEFT JOIN timeline_before t ON (t.counter, t.election, t.bucket, t.region, t.choice)
                               = (k.counter, k.election, k.bucket, k.region, b.choice)
 GROUP BY k.counter, r.election, k.bucket, r.region;

-- A vote for a choice that is on no ballot has no place in an array. No counter writes such a row.
DO $$
BEGIN
    IF (SELECT sum(votes) FROM tally_before) IS DISTINCT FROM (SELECT sum(v) FROM tally, unnest(votes) AS v)
    OR (SELECT sum(votes) FROM timeline_before) IS DISTINCT FROM (SELECT sum(v) FROM timeline, unnest(votes) AS v) THEN
        RAISE EXCEPTION 'tally or timeline has votes for a choice that is not on the ballot of its region; '
                        'audit the counters with the version of Scrutin that made them';
    END IF;
END $$;

-- The views as before, on the arrays. A number beyond the ballot is shown as votes for `?`, so that the audit finds it. `unnest`
-- stands in the select list, so that other tables are joined to its rows and not before it.
CREATE OR REPLACE VIEW votes_by_channel AS
SELECT counter, election, region, coalesce(choice, '?') AS choice, channel, votes
  FROM (SELECT t.counter, t.election, t.region, t.channel, unnest(r.ballot) AS choice, unnest(t.votes) AS votes
          FROM tally t LEFT JOIN region r USING (election, region)) s
 WHERE votes <> 0;

CREATE OR REPLACE VIEW votes_by_bucket AS
SELECT counter, election, bucket, region, coalesce(choice, '?') AS choice, votes
  FROM (SELECT t.counter, t.election, t.bucket, t.region, unnest(r.ballot) AS choice, unnest(t.votes) AS votes
          FROM timeline t LEFT JOIN region r USING (election, region)) s
 WHERE votes <> 0;

CREATE OR REPLACE VIEW votes_over_time_by_region AS
SELECT counter, election, bucket, region, (SELECT sum(v) FROM unnest(votes) AS v)::bigint AS votes FROM timeline;

CREATE OR REPLACE VIEW results_by_region AS
SELECT counter, election, region, max(region_name) AS region_name, choice, max(name) AS name, max(color) AS color,
       min(place) AS place, choice NOT IN ('BLANK', 'NULL') AS valid, sum(votes)::bigint AS votes
  FROM (SELECT k.counter, b.election, b.region, r.name AS region_name, b.choice, b.name, b.color, b.place, 0::bigint AS votes
          FROM counter k
          JOIN ballot b ON b.election = ANY (k.elections)
          JOIN region r ON r.election = b.election AND r.region = b.region
        UNION ALL
        SELECT counter, election, region, NULL, choice, NULL, NULL, NULL, votes FROM votes_by_channel) s
 GROUP BY counter, election, region, choice;

CREATE OR REPLACE VIEW results AS
SELECT counter, election, choice, name, color, place, valid, votes,
       CASE WHEN valid THEN votes::double precision
            / nullif(sum(votes) FILTER (WHERE valid) OVER (PARTITION BY counter, election), 0) END AS share
  FROM (SELECT counter, election, choice, max(name) AS name, min(color) AS color, min(place) AS place,
               choice NOT IN ('BLANK', 'NULL') AS valid, sum(votes)::bigint AS votes
          FROM (SELECT k.counter, c.election, c.choice, c.name, c.color, c.place, 0::bigint AS votes
                  FROM counter k JOIN choice c ON c.election = ANY (k.elections)
                UNION ALL
                SELECT k.counter, e.election, v.choice, v.name, v.color, v.place, 0
                  FROM counter k JOIN election e ON e.election = ANY (k.elections),
                       (VALUES ('BLANK', 'Blank', '#c9c9c9', 1000000), ('NULL', 'Null', '#9a9a9a', 1000001))
                       AS v (choice, name, color, place)
                UNION ALL
                SELECT counter, election, choice, NULL, NULL, NULL, votes FROM tally_sum) s
         GROUP BY counter, election, choice HAVING min(name) IS NOT DISTINCT FROM max(name)
        UNION ALL
        SELECT counter, election, choice, name, min(color), min(place), true, sum(votes)::bigint
          FROM (SELECT k.counter, c.election, c.choice, c.name, c.color, c.place, 0::bigint AS votes
                  FROM shared_codes JOIN choice c USING (election, choice)
                  JOIN counter k ON c.election = ANY (k.elections)
                UNION ALL
                SELECT t.counter, t.election, t.choice, c.name, c.color, c.place, t.votes
                  FROM shared_codes JOIN votes_by_channel t USING (election, choice)
                  LEFT JOIN choice c USING (election, choice, region)) s
         GROUP BY counter, election, choice, name) r;

CREATE OR REPLACE VIEW results_over_time AS
SELECT t.counter, t.election, t.bucket, t.choice,
       CASE t.choice WHEN 'BLANK' THEN 'Blank' WHEN 'NULL' THEN 'Null' ELSE c.name END AS name,
       t.choice NOT IN ('BLANK', 'NULL') AS valid, t.votes
  FROM timeline_sum t
  LEFT JOIN (SELECT election, choice, min(name) AS name, min(name) <> max(name) AS is_shared
               FROM choice GROUP BY election, choice) c USING (election, choice)
 WHERE t.votes <> 0 AND c.is_shared IS NOT TRUE
UNION ALL
SELECT * FROM (
    SELECT t.counter, t.election, t.bucket, t.choice, c.name, true, sum(t.votes)::bigint
      FROM shared_codes JOIN votes_by_bucket t USING (election, choice) LEFT JOIN choice c USING (election, choice, region)
     GROUP BY t.counter, t.election, t.bucket, t.choice, c.name) s
 WHERE EXISTS (SELECT FROM shared_codes); -- keeps the planner from starting workers just to find no rows

CREATE OR REPLACE VIEW votes_by_candidate AS
SELECT t.counter, t.election, t.bucket, t.region, t.choice, c.name, t.votes
  FROM votes_by_bucket t JOIN choice c ON c.election = t.election AND c.choice = t.choice AND c.region = t.region
UNION ALL
SELECT t.counter, t.election, t.bucket, t.region, t.choice, c.name, t.votes
  FROM votes_by_bucket t JOIN choice c ON c.election = t.election AND c.choice = t.choice AND c.region = '';

CREATE OR REPLACE VIEW over_registered AS
SELECT t.counter, t.election, t.region, r.name AS region_name, r.registered, sum(t.votes)::bigint AS votes
  FROM votes_by_channel t JOIN region r USING (election, region)
 GROUP BY t.counter, t.election, t.region, r.name, r.registered HAVING sum(t.votes) > r.registered;

-- Two counters compared row by row; only rows that differ are taken apart.
CREATE OR REPLACE VIEW agreement AS
SELECT a.counter AS counter, b.counter AS other,
       (SELECT count(*) FROM position p JOIN position q ON q.partition = p.partition
         WHERE p.counter = a.counter AND q.counter = b.counter AND p.next_offset <> q.next_offset) AS partitions_apart,
       (SELECT coalesce(sum(abs(coalesce(votes, 0) - coalesce(other, 0))), 0)::bigint
          FROM (SELECT unnest(x.votes) AS votes, unnest(y.votes) AS other
                  FROM (SELECT * FROM tally WHERE counter = a.counter) x
                  FULL JOIN (SELECT * FROM tally WHERE counter = b.counter) y USING (election, region, channel)
                 WHERE x.votes IS DISTINCT FROM y.votes) v) AS votes_apart,
       (SELECT coalesce(sum(abs(coalesce(votes, 0) - coalesce(other, 0))), 0)::bigint
          FROM (SELECT unnest(x.votes) AS votes, unnest(y.votes) AS other
                  FROM (SELECT * FROM timeline WHERE counter = a.counter) x
                  FULL JOIN (SELECT * FROM timeline WHERE counter = b.counter) y USING (election, bucket, region)
                 WHERE x.votes IS DISTINCT FROM y.votes) v) AS timeline_apart,
       (SELECT coalesce(sum(abs(coalesce(x.votes, 0) - coalesce(y.votes, 0))), 0)::bigint
          FROM (SELECT * FROM rejection WHERE counter = a.counter) x
          FULL JOIN (SELECT * FROM rejection WHERE counter = b.counter) y USING (reason, bucket)) AS rejections_apart,
       a.log = b.log AND a.elections = b.elections AS comparable
  FROM counter a JOIN counter b ON a.counter < b.counter;

CREATE OR REPLACE VIEW disagreement AS
SELECT a.counter AS counter, b.counter AS other, d.kind, d.key, d.votes, d.other_votes
  FROM counter a JOIN counter b ON a.counter < b.counter
 CROSS JOIN LATERAL (
       SELECT 'tally' AS kind, concat_ws(' ', election, region, choice, channel) AS key,
              coalesce(x.votes, 0) AS votes, coalesce(y.votes, 0) AS other_votes
         FROM (SELECT * FROM votes_by_channel WHERE counter = a.counter) x
         FULL JOIN (SELECT * FROM votes_by_channel WHERE counter = b.counter) y USING (election, region, choice, channel)
       UNION ALL
       SELECT 'timeline', concat_ws(' ', election, rfc3339(bucket), region, choice), coalesce(x.votes, 0), coalesce(y.votes, 0)
         FROM (SELECT * FROM votes_by_bucket WHERE counter = a.counter) x
         FULL JOIN (SELECT * FROM votes_by_bucket WHERE counter = b.counter) y USING (election, bucket, region, choice)
       UNION ALL
       SELECT 'rejection', concat_ws(' ', reason, rfc3339(bucket)), coalesce(x.votes, 0), coalesce(y.votes, 0)
         FROM (SELECT * FROM rejection WHERE counter = a.counter) x
         FULL JOIN (SELECT * FROM rejection WHERE counter = b.counter) y USING (reason, bucket)) d
 WHERE d.votes <> d.other_votes;

DROP TABLE tally_before, timeline_before;

-- The triggers that maintain the sums, as before, now on the arrays.
CREATE OR REPLACE FUNCTION add_up_tally() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_sort = off AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO scrutin.tally_sum AS s
        SELECT counter, election, coalesce(choice, '?'), channel, sum(votes)::bigint
          FROM (SELECT counter, election, channel, unnest(r.ballot) AS choice, unnest(n.votes) AS votes
                  FROM new_rows n LEFT JOIN scrutin.region r USING (election, region)) v
         WHERE votes <> 0 GROUP BY 1, 2, 3, 4
            ON CONFLICT (counter, election, choice, channel) DO UPDATE SET votes = s.votes + excluded.votes;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO scrutin.tally_sum AS s
        SELECT counter, election, coalesce(choice, '?'), channel, sum(coalesce(votes, 0) - coalesce(before, 0))::bigint
          FROM (SELECT counter, election, channel, unnest(r.ballot) AS choice, unnest(n.votes) AS votes, unnest(o.votes) AS before
                  FROM new_rows n FULL JOIN old_rows o USING (counter, election, region, channel)
                  LEFT JOIN scrutin.region r USING (election, region)) v
         WHERE votes IS DISTINCT FROM before GROUP BY 1, 2, 3, 4
            ON CONFLICT (counter, election, choice, channel) DO UPDATE SET votes = s.votes + excluded.votes;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO scrutin.tally_sum AS s
        SELECT counter, election, coalesce(choice, '?'), channel, -sum(votes)::bigint
          FROM (SELECT counter, election, channel, unnest(r.ballot) AS choice, unnest(o.votes) AS votes
                  FROM old_rows o LEFT JOIN scrutin.region r USING (election, region)) v
         WHERE votes <> 0 GROUP BY 1, 2, 3, 4
            ON CONFLICT (counter, election, choice, channel) DO UPDATE SET votes = s.votes + excluded.votes;
        DELETE FROM scrutin.tally_sum s USING old_rows o
         WHERE (s.counter, s.election, s.channel) = (o.counter, o.election, o.channel) AND s.votes = 0;
    ELSE
        DELETE FROM scrutin.tally_sum;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION add_up_timeline() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_sort = off AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO scrutin.timeline_sum AS s
        SELECT counter, election, bucket, coalesce(choice, '?'), sum(votes)::bigint
          FROM (SELECT counter, election, bucket, unnest(r.ballot) AS choice, unnest(n.votes) AS votes
                  FROM new_rows n LEFT JOIN scrutin.region r USING (election, region)) v
         WHERE votes <> 0 GROUP BY 1, 2, 3, 4
            ON CONFLICT (counter, election, bucket, choice) DO UPDATE SET votes = s.votes + excluded.votes;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO scrutin.timeline_sum AS s
        SELECT counter, election, bucket, coalesce(choice, '?'), sum(coalesce(votes, 0) - coalesce(before, 0))::bigint
          FROM (SELECT counter, election, bucket, unnest(r.ballot) AS choice, unnest(n.votes) AS votes, unnest(o.votes) AS before
                  FROM new_rows n FULL JOIN old_rows o USING (counter, election, bucket, region)
                  LEFT JOIN scrutin.region r USING (election, region)) v
         WHERE votes IS DISTINCT FROM before GROUP BY 1, 2, 3, 4
            ON CONFLICT (counter, election, bucket, choice) DO UPDATE SET votes = s.votes + excluded.votes;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO scrutin.timeline_sum AS s
        SELECT counter, election, bucket, coalesce(choice, '?'), -sum(votes)::bigint
          FROM (SELECT counter, election, bucket, unnest(r.ballot) AS choice, unnest(o.votes) AS votes
                  FROM old_rows o LEFT JOIN scrutin.region r USING (election, region)) v
         WHERE votes <> 0 GROUP BY 1, 2, 3, 4
            ON CONFLICT (counter, election, bucket, choice) DO UPDATE SET votes = s.votes + excluded.votes;
        DELETE FROM scrutin.timeline_sum s USING old_rows o
         WHERE (s.counter, s.election, s.bucket) = (o.counter, o.election, o.bucket) AND s.votes = 0;
    ELSE
        DELETE FROM scrutin.timeline_sum;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER sum_inserted AFTER INSERT ON tally REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION add_up_tally();
CREATE TRIGGER sum_updated AFTER UPDATE ON tally REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION add_up_tally();
CREATE TRIGGER sum_deleted AFTER DELETE ON tally REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION add_up_tally();
CREATE TRIGGER sum_truncated AFTER TRUNCATE ON tally
    FOR EACH STATEMENT EXECUTE FUNCTION add_up_tally();

CREATE TRIGGER sum_inserted AFTER INSERT ON timeline REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION add_up_timeline();
CREATE TRIGGER sum_updated AFTER UPDATE ON timeline REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION add_up_timeline();
CREATE TRIGGER sum_deleted AFTER DELETE ON timeline REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION add_up_timeline();
CREATE TRIGGER sum_truncated AFTER TRUNCATE ON timeline
    FOR EACH STATEMENT EXECUTE FUNCTION add_up_timeline();
