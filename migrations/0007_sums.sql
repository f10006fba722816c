-- Sums over all regions, so that dashboards and the page do not aggregate the whole timeline on every refresh. Triggers
-- maintain them for every writer: the counters, COPY, and manual changes in psql. A sum of zero means the same as no row.

CREATE TABLE tally_sum (
    counter  text NOT NULL,
    election text NOT NULL,
    choice   text NOT NULL,
    channel  text NOT NULL,
    votes    bigint NOT NULL,
    PRIMARY KEY (counter, election, choice, channel)
) WITH (fillfactor = 50);

CREATE TABLE timeline_sum (
    counter  text NOT NULL,
    election text NOT NULL,
    bucket   timestamptz NOT NULL,
    choice   text NOT NULL,
    votes    bigint NOT NULL,
    PRIMARY KEY (counter, election, bucket, choice)
) WITH (fillfactor = 70);

-- No writes between the initial fill and the triggers.
LOCK TABLE tally, timeline IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO tally_sum
SELECT counter, election, choice, channel, sum(votes) FROM tally GROUP BY 1, 2, 3, 4;

INSERT INTO timeline_sum
SELECT counter, election, bucket, choice, sum(votes) FROM timeline GROUP BY 1, 2, 3, 4;

-- The trigger functions run with their owner's rights, so counters cannot write sums directly. An upsert fires both
-- triggers: UPDATE with the rows it changed, INSERT with the new ones. Commits of one counter already take turns and no two
-- counters share a sum, so commits cannot deadlock here. `enable_sort` is off because each session caches these plans: one
-- made for a few rows would sort, and so would every later, larger statement.
CREATE FUNCTION add_up_tally() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_sort = off AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO scrutin.tally_sum AS s
        SELECT counter, election, choice, channel, sum(votes)::bigint
          FROM new_rows GROUP BY 1, 2, 3, 4
            ON CONFLICT (counter, election, choice, channel) DO UPDATE SET votes = s.votes + excluded.votes;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO scrutin.tally_sum AS s
        SELECT counter, election, choice, channel, sum(votes)::bigint
          FROM (SELECT counter, election, choice, channel, votes FROM new_rows
                UNION ALL SELECT counter, election, choice, channel, -votes FROM old_rows) r
         GROUP BY 1, 2, 3, 4 HAVING sum(votes) <> 0
            ON CONFLICT (counter, election, choice, channel) DO UPDATE SET votes = s.votes + excluded.votes;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO scrutin.tally_sum AS s
        SELECT counter, election, choice, channel, -sum(votes)::bigint
          FROM old_rows GROUP BY 1, 2, 3, 4
            ON CONFLICT (counter, election, choice, channel) DO UPDATE SET votes = s.votes + excluded.votes;
        DELETE FROM scrutin.tally_sum s USING old_rows o
         WHERE (s.counter, s.election, s.choice, s.channel) = (o.counter, o.election, o.choice, o.channel) AND s.votes = 0;
    ELSE
        DELETE FROM scrutin.tally_sum;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION add_up_timeline() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_sort = off AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO scrutin.timeline_sum AS s
        SELECT counter, election, bucket, choice, sum(votes)::bigint
          FROM new_rows GROUP BY 1, 2, 3, 4
            ON CONFLICT (counter, election, bucket, choice) DO UPDATE SET votes = s.votes + excluded.votes;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO scrutin.timeline_sum AS s
        SELECT counter, election, bucket, choice, sum(votes)::bigint
          FROM (SELECT counter, election, bucket, choice, votes FROM new_rows
                UNION ALL SELECT counter, election, bucket, choice, -votes FROM old_rows) r
         GROUP BY 1, 2, 3, 4 HAVING sum(votes) <> 0
            ON CONFLICT (counter, election, bucket, choice) DO UPDATE SET votes = s.votes + excluded.votes;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO scrutin.timeline_sum AS s
        SELECT counter, election, bucket, choice, -sum(votes)::bigint
          FROM old_rows GROUP BY 1, 2, 3, 4
            ON CONFLICT (counter, election, bucket, choice) DO UPDATE SET votes = s.votes + excluded.votes;
        DELETE FROM scrutin.timeline_sum s USING old_rows o
         WHERE (s.counter, s.election, s.bucket, s.choice) = (o.counter, o.election, o.bucket, o.choice) AND s.votes = 0;
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

-- Codes that belong to different candidates in different regions. Sums by code mix them up, so views use the rows instead.
CREATE VIEW shared_codes AS
SELECT election, choice FROM choice WHERE region <> '' GROUP BY election, choice HAVING min(name) <> max(name);

-- From here on: the same columns and values as before, read from the sums. Ballot and sums are stacked rather than joined,
-- for the reason given at results_by_region.
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
                  FROM shared_codes JOIN tally t USING (election, choice)
                  LEFT JOIN choice c USING (election, choice, region)) s
         GROUP BY counter, election, choice, name) r;

CREATE OR REPLACE VIEW results_by_channel AS
SELECT counter, election, channel, sum(votes)::bigint AS votes
  FROM tally_sum GROUP BY counter, election, channel HAVING sum(votes) <> 0;

CREATE OR REPLACE VIEW turnout AS
SELECT s.counter, s.election, r.registered, s.votes, s.valid, s.blank, s."null",
       s.votes::double precision / nullif(r.registered, 0) AS turnout
  FROM (SELECT counter, election, sum(votes)::bigint AS votes,
               coalesce(sum(votes) FILTER (WHERE choice NOT IN ('BLANK', 'NULL')), 0)::bigint AS valid,
               coalesce(sum(votes) FILTER (WHERE choice = 'BLANK'), 0)::bigint AS blank,
               coalesce(sum(votes) FILTER (WHERE choice = 'NULL'), 0)::bigint AS "null"
          FROM (SELECT k.counter, e.election, '' AS choice, 0::bigint AS votes
                  FROM counter k JOIN election e ON e.election = ANY (k.elections)
                UNION ALL SELECT counter, election, choice, votes FROM tally_sum) t
         GROUP BY counter, election) s
  JOIN (SELECT election, sum(registered)::bigint AS registered FROM region GROUP BY election) r USING (election);

CREATE OR REPLACE VIEW votes_over_time AS
SELECT counter, election, bucket, choice, votes FROM timeline_sum WHERE votes <> 0;

-- The same with the candidate's name. votes_by_candidate has it by region.
CREATE VIEW results_over_time AS
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
      FROM shared_codes JOIN timeline t USING (election, choice) LEFT JOIN choice c USING (election, choice, region)
     GROUP BY t.counter, t.election, t.bucket, t.choice, c.name HAVING sum(t.votes) <> 0) s
 WHERE EXISTS (SELECT FROM shared_codes); -- keeps the planner from starting workers just to find no rows

CREATE OR REPLACE VIEW accounting AS
SELECT p.counter, p.received, p.counted, p.rejected, p.gaps,
       coalesce(t.votes, 0)::bigint AS tallied, coalesce(r.votes, 0)::bigint AS refused,
       p.received = p.counted + p.rejected AND p.counted = coalesce(t.votes, 0) AND p.rejected = coalesce(r.votes, 0) AS holds
  FROM (SELECT counter, sum(received)::bigint AS received, sum(counted)::bigint AS counted,
               sum(rejected)::bigint AS rejected, sum(gaps)::bigint AS gaps
          FROM accounting_by_partition GROUP BY counter) p
  LEFT JOIN (SELECT counter, sum(votes) AS votes FROM tally_sum GROUP BY counter) t USING (counter)
  LEFT JOIN (SELECT counter, sum(votes) AS votes FROM rejection GROUP BY counter) r USING (counter);

-- `comparison`, but of the sums only: cheap, and finds every difference except votes under the wrong region.
CREATE VIEW quick_comparison AS
WITH compared AS MATERIALIZED (
    SELECT a.counter AS counter, b.counter AS other,
           (SELECT coalesce(sum(abs(coalesce(x.votes, 0) - coalesce(y.votes, 0))), 0)::bigint
              FROM (SELECT * FROM tally_sum WHERE counter = a.counter) x
              FULL JOIN (SELECT * FROM tally_sum WHERE counter = b.counter) y USING (election, choice, channel)) AS votes_apart,
           (SELECT coalesce(sum(abs(coalesce(x.votes, 0) - coalesce(y.votes, 0))), 0)::bigint
              FROM (SELECT * FROM timeline_sum WHERE counter = a.counter) x
              FULL JOIN (SELECT * FROM timeline_sum WHERE counter = b.counter) y USING (election, bucket, choice)) AS timeline_apart,
           (SELECT coalesce(sum(abs(coalesce(x.votes, 0) - coalesce(y.votes, 0))), 0)::bigint
              FROM (SELECT * FROM rejection WHERE counter = a.counter) x
              FULL JOIN (SELECT * FROM rejection WHERE counter = b.counter) y USING (reason, bucket)) AS refusals_apart,
           (SELECT count(*) FROM position p JOIN position q ON q.partition = p.partition
             WHERE p.counter = a.counter AND q.counter = b.counter AND p.next_offset <> q.next_offset) AS partitions_apart,
           a.log = b.log AND a.elections = b.elections AS comparable
      FROM counter a JOIN counter b ON a.counter < b.counter
), summed AS (
    SELECT *, votes_apart + timeline_apart + refusals_apart AS apart FROM compared
)
SELECT counter, other, votes_apart, timeline_apart, refusals_apart, partitions_apart, apart,
       CASE WHEN NOT comparable THEN 'not comparable' WHEN partitions_apart > 0 THEN 'catching up'
            WHEN apart > 0 THEN 'differ' ELSE 'sums agree' END AS verdict
  FROM summed;
