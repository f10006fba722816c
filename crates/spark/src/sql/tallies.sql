-- Running totals as keyed records for a compacted topic: the total of each group that a batch has changed.
-- `first_claims` only has the first vote of each claim, so `received` counts all records: the votes of an append time
-- that are neither counted nor rejected for another reason came from voters who had already voted.
WITH outcomes AS (
    SELECT outcome, partition, offset, appended_at, election, region, choice, channel, bucket_ms FROM first_claims
    UNION ALL
    SELECT 'received', partition, offset, appended_at, NULL, NULL, NULL, NULL, NULL FROM received
),
totals AS (
    SELECT CASE WHEN grouping(channel) = 0 THEN 'tally'
                WHEN grouping(bucket_ms) = 0 THEN 'timeline'
                WHEN grouping(appended_at) = 0 THEN 'outcome'
                ELSE 'position' END AS kind,
           election, region, choice, channel, bucket_ms, outcome, appended_at, partition,
           count(*) AS votes, max(offset) + 1 AS next_offset
      FROM outcomes
     GROUP BY GROUPING SETS (
           (election, region, choice, channel), (election, region, choice, bucket_ms), (outcome, appended_at), (outcome, partition))
)
SELECT to_json(struct('{count}' AS count, kind, election, region, choice, channel, bucket_ms, outcome,
                      unix_millis(appended_at) AS appended_at_ms, partition)) AS key,
       -- All totals of a batch have the same time, even if the batch is repeated.
       to_json(struct(votes, CASE WHEN kind = 'position' THEN next_offset END AS next_offset,
                      unix_millis(current_timestamp()) AS batch_at_ms)) AS value
  FROM totals
 -- Rejected votes are in no tally.
 WHERE kind IN ('outcome', 'position') OR election IS NOT NULL
