-- The stable interface: dashboards, the page and the API read these and nothing else.

-- Who counts, and what.
CREATE VIEW counters AS
SELECT counter, elections, partitions, started_at, log FROM counter;

-- Times as the API and the files write them: RFC 3339, UTC, milliseconds.
CREATE FUNCTION rfc3339(at timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

-- Every choice on the ballot of every region, BLANK and NULL included.
CREATE VIEW ballot AS
SELECT c.election, r.region, c.choice, c.name, c.color, c.place, true AS valid
  FROM choice c JOIN region r ON r.election = c.election WHERE c.region = ''
UNION ALL
SELECT c.election, c.region, c.choice, c.name, c.color, c.place, true FROM choice c WHERE c.region <> ''
UNION ALL
SELECT r.election, r.region, v.choice, v.name, v.color, v.place, false
  FROM region r,
       (VALUES ('BLANK', 'Blank', '#c9c9c9', 1000000), ('NULL', 'Null', '#9a9a9a', 1000001))
       AS v (choice, name, color, place);

-- votes of each choice in each region (zero where none yet). The ballot and the tallies are stacked and summed,
-- not joined: the planner cannot tell how many rows an array of elections gives, and would loop over all pairs.
CREATE VIEW results_by_region AS
SELECT counter, election, region, max(region_name) AS region_name, choice, max(name) AS name, max(color) AS color,
       min(place) AS place, choice NOT IN ('BLANK', 'NULL') AS valid, sum(votes)::bigint AS votes
  FROM (SELECT k.counter, b.election, b.region, r.name AS region_name, b.choice, b.name, b.color, b.place, 0::bigint AS votes
          FROM counter k
          JOIN ballot b ON b.election = ANY (k.elections)
          JOIN region r ON r.election = b.election AND r.region = b.region
        UNION ALL
        SELECT counter, election, region, NULL, choice, NULL, NULL, NULL, votes FROM tally) s
 GROUP BY counter, election, region, choice;

-- votes of each choice; share is of the valid votes, in 0..1, null for BLANK and NULL.
CREATE VIEW results AS
SELECT counter, election, choice, name, min(color) AS color, min(place) AS place, valid, sum(votes)::bigint AS votes,
       CASE WHEN valid THEN sum(votes)::double precision
            / nullif(sum(sum(votes)) FILTER (WHERE valid) OVER (PARTITION BY counter, election), 0) END AS share
  FROM results_by_region
 GROUP BY counter, election, choice, name, valid;

CREATE VIEW results_by_channel AS
SELECT counter, election, channel, sum(votes)::bigint AS votes
  FROM tally GROUP BY counter, election, channel;

-- How many have voted, of how many registered; turnout in 0..1.
CREATE VIEW turnout_by_region AS
SELECT s.counter, s.election, s.region, r.name AS region_name, r.registered, r.lat, r.lon, r.grid_col, r.grid_row, r.place,
       s.votes, s.valid, s.blank, s."null", s.votes::double precision / nullif(r.registered, 0) AS turnout
  FROM (SELECT counter, election, region, sum(votes)::bigint AS votes,
               coalesce(sum(votes) FILTER (WHERE valid), 0)::bigint AS valid,
               coalesce(sum(votes) FILTER (WHERE choice = 'BLANK'), 0)::bigint AS blank,
               coalesce(sum(votes) FILTER (WHERE choice = 'NULL'), 0)::bigint AS "null"
          FROM results_by_region GROUP BY counter, election, region) s
  JOIN region r ON r.election = s.election AND r.region = s.region;

CREATE VIEW turnout AS
SELECT counter, election, sum(registered)::bigint AS registered, sum(votes)::bigint AS votes, sum(valid)::bigint AS valid,
       sum(blank)::bigint AS blank, sum("null")::bigint AS "null",
       sum(votes)::double precision / nullif(sum(registered), 0) AS turnout
  FROM turnout_by_region GROUP BY counter, election;

-- Who leads in each region, over whom, by how much. A region without a valid vote has no row; a tie has
-- a margin of 0 and names the choice that comes first on the ballot.
CREATE VIEW leaders AS
SELECT counter, election, region, region_name, choice, name, color, votes,
       runner_up, runner_up_name, coalesce(runner_up_votes, 0) AS runner_up_votes,
       votes - coalesce(runner_up_votes, 0) AS margin,
       (votes - coalesce(runner_up_votes, 0))::double precision / nullif(valid_votes, 0) AS margin_share
  FROM (SELECT *, row_number() OVER w AS rank, lead(choice) OVER w AS runner_up, lead(name) OVER w AS runner_up_name,
               lead(votes) OVER w AS runner_up_votes, sum(votes) OVER (PARTITION BY counter, election, region) AS valid_votes
          FROM results_by_region WHERE valid
        WINDOW w AS (PARTITION BY counter, election, region ORDER BY votes DESC, place, choice)) f
 WHERE rank = 1 AND votes > 0;

-- Votes by the time they were cast.
CREATE VIEW votes_over_time AS
SELECT t.counter, t.election, t.bucket, t.choice, sum(t.votes)::bigint AS votes
  FROM timeline t GROUP BY t.counter, t.election, t.bucket, t.choice;

-- The same, not summed: for queries that sum in a way of their own.
CREATE VIEW votes_by_bucket AS
SELECT counter, election, bucket, region, choice, votes FROM timeline;

CREATE VIEW votes_over_time_by_region AS
SELECT counter, election, bucket, region, sum(votes)::bigint AS votes
  FROM timeline GROUP BY counter, election, bucket, region;

CREATE VIEW refusals AS
SELECT counter, reason, sum(votes)::bigint AS votes FROM rejection GROUP BY counter, reason;

CREATE VIEW refusals_over_time AS
SELECT counter, reason, bucket, votes FROM rejection;

-- The identity, per partition: received = counted + rejected, and the tables add up to the positions.
CREATE VIEW accounting_by_partition AS
SELECT counter, partition, first_offset, next_offset, gaps, next_offset - first_offset - gaps AS received,
       counted, rejected, updated_at,
       next_offset - first_offset - gaps = counted + rejected AS holds
  FROM position;

CREATE VIEW accounting AS
SELECT p.counter, p.received, p.counted, p.rejected, p.gaps,
       coalesce(t.votes, 0)::bigint AS tallied, coalesce(r.votes, 0)::bigint AS refused,
       p.received = p.counted + p.rejected AND p.counted = coalesce(t.votes, 0) AND p.rejected = coalesce(r.votes, 0) AS holds
  FROM (SELECT counter, sum(received)::bigint AS received, sum(counted)::bigint AS counted,
               sum(rejected)::bigint AS rejected, sum(gaps)::bigint AS gaps
          FROM accounting_by_partition GROUP BY counter) p
  LEFT JOIN (SELECT counter, sum(votes) AS votes FROM tally GROUP BY counter) t USING (counter)
  LEFT JOIN (SELECT counter, sum(votes) AS votes FROM rejection GROUP BY counter) r USING (counter);

-- How far each counter is behind the end of the log, as it last saw it.
CREATE VIEW lag AS
SELECT counter, partition, next_offset, end_offset, greatest(end_offset - next_offset, 0) AS lag, updated_at,
       taken -- how often a process has taken the partition: at a start, and when the share of the partitions changed
  FROM position;

-- One row a second: votes a second, lag and append-to-visible latency.
CREATE VIEW throughput AS
SELECT counter, date_trunc('second', committed_at) AS second, sum(received)::bigint AS received,
       sum(counted)::bigint AS counted, sum(rejected)::bigint AS rejected, max(lag) AS lag,
       max(latency_ms_p50) AS latency_ms_p50, max(latency_ms_p99) AS latency_ms_p99, count(*) AS batches
  FROM batch GROUP BY counter, date_trunc('second', committed_at);

-- The same over the last five minutes only: found by the index, however long the batches are kept.
CREATE VIEW throughput_recent AS
SELECT counter, date_trunc('second', committed_at) AS second, sum(received)::bigint AS received,
       sum(counted)::bigint AS counted, sum(rejected)::bigint AS rejected, max(lag) AS lag,
       max(latency_ms_p50) AS latency_ms_p50, max(latency_ms_p99) AS latency_ms_p99, count(*) AS batches
  FROM batch WHERE committed_at >= now() - interval '5 minutes' GROUP BY counter, date_trunc('second', committed_at);

-- Two counters compared, at the finest grain. They agree when, at equal positions, no votes differ;
-- while the positions differ one of them is still catching up.
CREATE VIEW agreement AS
SELECT a.counter AS counter, b.counter AS other,
       (SELECT count(*) FROM position p JOIN position q ON q.partition = p.partition
         WHERE p.counter = a.counter AND q.counter = b.counter AND p.next_offset <> q.next_offset) AS partitions_apart,
       (SELECT coalesce(sum(abs(coalesce(x.votes, 0) - coalesce(y.votes, 0))), 0)::bigint
          FROM (SELECT * FROM tally WHERE counter = a.counter) x
          FULL JOIN (SELECT * FROM tally WHERE counter = b.counter) y USING (election, region, choice, channel)) AS votes_apart
  FROM counter a JOIN counter b ON a.counter < b.counter;

CREATE VIEW last_audit AS
SELECT DISTINCT ON (counter) counter, audited_at, recounted, differences, summary
  FROM audit ORDER BY counter, audited_at DESC;
