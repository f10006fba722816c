-- Two counters compared in all that they both keep, and where they differ. They can be compared where their positions are
-- equal: while these differ, one of them is still catching up.
CREATE OR REPLACE VIEW agreement AS
SELECT a.counter AS counter, b.counter AS other,
       (SELECT count(*) FROM position p JOIN position q ON q.partition = p.partition
         WHERE p.counter = a.counter AND q.counter = b.counter AND p.next_offset <> q.next_offset) AS partitions_apart,
       (SELECT coalesce(sum(abs(coalesce(x.votes, 0) - coalesce(y.votes, 0))), 0)::bigint
          FROM (SELECT * FROM tally WHERE counter = a.counter) x
          FULL JOIN (SELECT * FROM tally WHERE counter = b.counter) y USING (election, region, choice, channel)) AS votes_apart,
       (SELECT coalesce(sum(abs(coalesce(x.votes, 0) - coalesce(y.votes, 0))), 0)::bigint
          FROM (SELECT * FROM timeline WHERE counter = a.counter) x
          FULL JOIN (SELECT * FROM timeline WHERE counter = b.counter) y USING (election, bucket, region, choice)) AS timeline_apart,
       (SELECT coalesce(sum(abs(coalesce(x.votes, 0) - coalesce(y.votes, 0))), 0)::bigint
          FROM (SELECT * FROM rejection WHERE counter = a.counter) x
          FULL JOIN (SELECT * FROM rejection WHERE counter = b.counter) y USING (reason, bucket)) AS refusals_apart,
       a.log = b.log AND a.elections = b.elections AS comparable
  FROM counter a JOIN counter b ON a.counter < b.counter;

-- The rows in which two counters differ.
CREATE VIEW disagreement AS
SELECT a.counter AS counter, b.counter AS other, d.kind, d.key, d.votes, d.other_votes
  FROM counter a JOIN counter b ON a.counter < b.counter
 CROSS JOIN LATERAL (
       SELECT 'tally' AS kind, concat_ws(' ', election, region, choice, channel) AS key,
              coalesce(x.votes, 0) AS votes, coalesce(y.votes, 0) AS other_votes
         FROM (SELECT * FROM tally WHERE counter = a.counter) x
         FULL JOIN (SELECT * FROM tally WHERE counter = b.counter) y USING (election, region, choice, channel)
       UNION ALL
       SELECT 'timeline', concat_ws(' ', election, rfc3339(bucket), region, choice), coalesce(x.votes, 0), coalesce(y.votes, 0)
         FROM (SELECT * FROM timeline WHERE counter = a.counter) x
         FULL JOIN (SELECT * FROM timeline WHERE counter = b.counter) y USING (election, bucket, region, choice)
       UNION ALL
       SELECT 'rejection', concat_ws(' ', reason, rfc3339(bucket)), coalesce(x.votes, 0), coalesce(y.votes, 0)
         FROM (SELECT * FROM rejection WHERE counter = a.counter) x
         FULL JOIN (SELECT * FROM rejection WHERE counter = b.counter) y USING (reason, bucket)) d
 WHERE d.votes <> d.other_votes;
