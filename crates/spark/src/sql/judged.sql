-- Each record with its outcome: `counted`, or the first applicable reason for rejecting it. Repeat votes are
-- not detected here: a record is rejected as `already_voted` if an earlier one has the same `claim`.
WITH looked_up AS (
    SELECT p.partition, p.offset, p.appended_at, p.election, p.voter, p.region, p.choice, p.channel,
           p.cast_at_ms - pmod(p.cast_at_ms, e.bucket_ms) AS bucket_ms,
           CASE WHEN NOT p.is_vote THEN 'malformed'
                WHEN p.key IS DISTINCT FROM p.voter OR partition_of(p.voter, p.partitions) <> p.partition THEN 'misrouted'
                WHEN e.election IS NULL THEN 'unknown_election'
                WHEN r.region IS NULL THEN 'unknown_region'
                -- The region '' means that a choice stands everywhere.
                WHEN c.choice IS NULL THEN 'unknown_choice'
                WHEN NOT (array_contains(c.regions, '') OR array_contains(c.regions, p.region)) THEN 'unknown_choice'
                WHEN NOT array_contains(e.channels, p.channel) THEN 'unknown_channel'
                WHEN p.cast_at_ms < e.opens_at_ms THEN 'not_open'
                WHEN p.cast_at_ms >= e.closes_at_ms THEN 'closed'
                ELSE 'counted' END AS outcome
      FROM parsed p
      LEFT JOIN elections e ON e.election = p.election
      LEFT JOIN regions r ON r.election = p.election AND r.region = p.region
      LEFT JOIN choices c ON c.election = p.election AND c.choice = p.choice
)
SELECT partition, offset, appended_at, outcome,
       -- A rejected record does not use up a voter's vote.
       CASE WHEN outcome = 'counted' THEN voter || ' ' || election ELSE partition || ' ' || offset END AS claim,
       CASE WHEN outcome = 'counted' THEN election END AS election,
       CASE WHEN outcome = 'counted' THEN region END AS region,
       CASE WHEN outcome = 'counted' THEN choice END AS choice,
       CASE WHEN outcome = 'counted' THEN channel END AS channel,
       CASE WHEN outcome = 'counted' THEN bucket_ms END AS bucket_ms
  FROM looked_up
