-- How many are registered may be unknown: null then. A sum over regions of which one is unknown is unknown too, and so is
-- turnout. A region with 0 registered whose voters have come all the same is as unknown.
ALTER TABLE region ALTER COLUMN registered DROP NOT NULL;

CREATE VIEW electorate AS
SELECT election, CASE WHEN count(*) = count(registered) THEN sum(registered)::bigint END AS registered,
       count(*) - count(registered) AS regions_unknown, count(*) AS regions
  FROM region GROUP BY election;

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
  JOIN electorate r USING (election);

CREATE OR REPLACE VIEW elections AS
SELECT e.election, e.title, e.opens_at, e.closes_at, (extract(epoch FROM e.opens_at) * 1000)::bigint AS opens_at_ms,
       (extract(epoch FROM e.closes_at) * 1000)::bigint AS closes_at_ms, e.time_zone, e.channels, e.bucket_seconds,
       e.loaded_at, r.registered, r.regions, CASE WHEN e.closes_at - e.opens_at >= interval '6 hours' THEN interval '1 hour'
       ELSE make_interval(secs => e.bucket_seconds
            * greatest(1, ceil(extract(epoch FROM e.closes_at - e.opens_at) / 12 / e.bucket_seconds))) END AS hour
  FROM election e
  JOIN electorate r USING (election);

-- Regions in which more votes are counted than voters are registered.
CREATE VIEW over_registered AS
SELECT t.counter, t.election, t.region, r.name AS region_name, r.registered, sum(t.votes)::bigint AS votes
  FROM tally t JOIN region r USING (election, region)
 GROUP BY t.counter, t.election, t.region, r.name, r.registered HAVING sum(t.votes) > r.registered;

-- How many regions those are, for alerts: each counter has a row.
CREATE VIEW over_registered_regions AS
SELECT c.counter, count(o.region) AS regions
  FROM counter c LEFT JOIN over_registered o USING (counter) GROUP BY c.counter;
