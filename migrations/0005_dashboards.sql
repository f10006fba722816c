-- What the dashboards show beyond the page: more detail of the count, and how each counter is doing, one row each.

-- The elections, with the day as milliseconds too, for links that show all of it. `hour` is an hour of the voting day, or a
-- twelfth of it where the day is shorter than six hours.
CREATE VIEW elections AS
SELECT e.election, e.title, e.opens_at, e.closes_at, (extract(epoch FROM e.opens_at) * 1000)::bigint AS opens_at_ms,
       (extract(epoch FROM e.closes_at) * 1000)::bigint AS closes_at_ms, e.time_zone, e.channels, e.bucket_seconds,
       e.loaded_at, r.registered, r.regions, CASE WHEN e.closes_at - e.opens_at >= interval '6 hours' THEN interval '1 hour'
       ELSE make_interval(secs => e.bucket_seconds
            * greatest(1, ceil(extract(epoch FROM e.closes_at - e.opens_at) / 12 / e.bucket_seconds))) END AS hour
  FROM election e
  JOIN (SELECT election, sum(registered)::bigint AS registered, count(*) AS regions FROM region GROUP BY election) r
       USING (election);

-- Who can be voted for, whether or not anybody has: names and colours without a look at the votes.
CREATE VIEW candidates AS
SELECT election, choice, name, min(color) AS color, min(place) AS place FROM choice GROUP BY election, choice, name;

-- The candidates from first to last: how far each is ahead of the next, and behind the first. Of two with as many votes
-- the one is before that comes first on the ballot.
CREATE VIEW ranking AS
SELECT counter, election, choice, name, color, place, votes, share, row_number() OVER w AS rank,
       votes - coalesce(lead(votes) OVER w, 0) AS ahead, share - coalesce(lead(share) OVER w, 0) AS ahead_share,
       first_value(votes) OVER w - votes AS behind, first_value(share) OVER w - share AS behind_share
  FROM results WHERE valid
WINDOW w AS (PARTITION BY counter, election ORDER BY votes DESC, place, choice, name);

-- The tallies as they are, for queries that sum in a way of their own.
CREATE VIEW votes_by_channel AS
SELECT counter, election, region, choice, channel, votes FROM tally;

-- The valid votes by the time they were cast, with whom they are for: a code may be another candidate's in another region.
CREATE VIEW votes_by_candidate AS
SELECT t.counter, t.election, t.bucket, t.region, t.choice, c.name, t.votes
  FROM timeline t JOIN choice c ON c.election = t.election AND c.choice = t.choice AND c.region IN ('', t.region);

-- The regions with their leaders, each with a place on a map. Regions without a point stand where the tile grid has them,
-- and without that in rows of twelve. One pass over the results, not a join of `leaders` and `turnout_by_region`.
CREATE VIEW map AS
SELECT s.counter, s.election, s.region, r.name AS region_name, r.registered, s.votes, s.valid,
       s.votes::double precision / nullif(r.registered, 0) AS turnout,
       coalesce(r.lat, -r.grid_row, -(r.place / 12))::double precision AS lat,
       coalesce(r.lon, r.grid_col, r.place % 12)::double precision AS lon,
       CASE WHEN s.ranked[1] > 0 THEN s.names[1] ELSE 'no vote yet' END AS leader,
       CASE WHEN s.ranked[1] > 0 THEN s.colors[1] ELSE '#808080' END AS color,
       s.names[2] AS runner_up, s.ranked[1] - coalesce(s.ranked[2], 0) AS margin,
       coalesce((s.ranked[1] - coalesce(s.ranked[2], 0))::double precision / nullif(s.valid, 0), 0) AS margin_share
  FROM (SELECT counter, election, region, sum(votes)::bigint AS votes,
               coalesce(sum(votes) FILTER (WHERE valid), 0)::bigint AS valid,
               array_agg(name ORDER BY votes DESC, place, choice) FILTER (WHERE valid) AS names,
               array_agg(color ORDER BY votes DESC, place, choice) FILTER (WHERE valid) AS colors,
               array_agg(votes ORDER BY votes DESC, place, choice) FILTER (WHERE valid) AS ranked
          FROM results_by_region GROUP BY counter, election, region) s
  JOIN region r ON r.election = s.election AND r.region = s.region;

-- The commits of the last days, one by one.
CREATE VIEW batches AS
SELECT counter, committed_at, received, counted, rejected, lag, latency_ms_p50, latency_ms_p99 FROM batch;

-- How many are on the roll, not who. A counter on Spark has its roll in Spark.
CREATE VIEW roll_size AS
SELECT counter, election, partition, (sum(octet_length(ids)) / 16)::bigint AS voters, count(*) AS chunks,
       sum(octet_length(ids))::bigint AS bytes
  FROM roll GROUP BY counter, election, partition;

-- A field of a record's value, if it is JSON that has it. Whatever somebody has sent, it does not fail.
CREATE FUNCTION field_of(value bytea, field text) RETURNS text LANGUAGE plpgsql STABLE STRICT AS $$
BEGIN
    RETURN convert_from(value, 'UTF8')::json ->> field;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- Votes of those who had voted, by region. From the evidence, of which so much is kept: `refusals` has the exact sum.
CREATE VIEW double_votes_by_region AS
SELECT s.counter, r.election, r.region, r.name AS region_name, r.registered, s.votes
  FROM (SELECT counter, field_of(value, 'election') AS election, field_of(value, 'region') AS region, count(*) AS votes
          FROM rejected_vote WHERE reason = 'already_voted' GROUP BY 1, 2, 3) s
  JOIN region r ON r.election = s.election AND r.region = s.region;

CREATE VIEW audits AS
SELECT counter, audited_at, recounted, differences, summary FROM audit;

-- Whether two counters agree, in a word. Those of different logs or elections need not. Materialized: the tables are large,
-- and are not to be compared anew wherever one of the figures stands.
CREATE VIEW comparison AS
WITH compared AS MATERIALIZED (
    SELECT counter, other, votes_apart, timeline_apart, refusals_apart, partitions_apart, comparable FROM agreement
), summed AS (
    SELECT *, votes_apart + timeline_apart + refusals_apart AS apart FROM compared
)
SELECT counter, other, votes_apart, timeline_apart, refusals_apart, partitions_apart, apart,
       CASE WHEN NOT comparable THEN 'not comparable' WHEN partitions_apart > 0 THEN 'catching up'
            WHEN apart > 0 THEN 'differ' ELSE 'agree' END AS verdict
  FROM summed;

-- How each counter is doing, for alerts.
--   waiting          votes in the log that it has not committed, by the furthest end that any counter of the log has seen
--   idle_seconds     since its last commit, while votes wait; 0 while none do
--   lag_growth       mean lag of the last minute less that of the minute before
--   refused_share    of what was received in the last five minutes, in 0..1
CREATE VIEW health AS
SELECT c.counter, c.counted_by, coalesce(a.holds, true) AS holds, p.waiting,
       CASE WHEN p.waiting > 0 THEN extract(epoch FROM now() - p.updated_at)::double precision ELSE 0 END AS idle_seconds,
       p.updated_at AS last_commit, coalesce(b.lag_now - b.lag_before, 0)::double precision AS lag_growth,
       coalesce(b.received, 0)::bigint AS received_recently,
       coalesce(b.rejected / nullif(b.received, 0), 0)::double precision AS refused_share
  FROM counter c
  JOIN (SELECT p.counter, sum(greatest(e.end_offset - p.next_offset, 0))::bigint AS waiting, max(p.updated_at) AS updated_at
          FROM position p JOIN counter k USING (counter)
          JOIN (SELECT k.log, p.partition, max(p.end_offset) AS end_offset
                  FROM position p JOIN counter k USING (counter) GROUP BY k.log, p.partition) e
               ON e.log = k.log AND e.partition = p.partition
         GROUP BY p.counter) p USING (counter)
  LEFT JOIN accounting a USING (counter)
  LEFT JOIN (SELECT counter, sum(received) AS received, sum(rejected) AS rejected,
                    avg(lag) FILTER (WHERE committed_at >= now() - interval '1 minute') AS lag_now,
                    avg(lag) FILTER (WHERE committed_at < now() - interval '1 minute'
                                       AND committed_at >= now() - interval '2 minutes') AS lag_before
               FROM batch WHERE committed_at >= now() - interval '5 minutes' GROUP BY counter) b USING (counter);
