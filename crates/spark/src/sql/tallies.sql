-- Running totals as keyed records for a compacted topic: the total of each group that a batch has changed. A group is
-- a kind and three numbers: small keys make small state.
--
-- `first_claims` only has the first vote of each claim, so `received` counts all records: the votes of an append time
-- that are neither counted nor rejected for another reason came from voters who had already voted.
FROM (
    SELECT inline(array(
               struct({outcome} AS kind, outcome AS a, partition AS b, appended_ms AS c),
               struct(CASE WHEN outcome = {counted} THEN {tally} ELSE {rejected} END AS kind,
                      CASE WHEN outcome = {counted} THEN region ELSE outcome END AS a, coalesce(choice, 0) AS b, coalesce(channel, 0L) AS c),
               struct({timeline} AS kind, region AS a, choice AS b, bucket_ms AS c))),
           offset
      FROM first_claims
     UNION ALL
    SELECT inline(array(
               struct({received} AS kind, 0 AS a, partition AS b, appended_ms AS c),
               struct({position} AS kind, 0 AS a, partition AS b, 0L AS c))),
           offset
      FROM received
)
-- Rejected votes are in no timeline.
|> WHERE a IS NOT NULL
|> AGGREGATE count(*) AS votes, max(offset) + 1 AS next_offset GROUP BY kind, a, b, c
|> SELECT concat_ws(' ', '{count}', kind, a, b, c) AS key,
          -- All totals of a batch have the same time, even if the batch is repeated. The lambda keeps the time out of the
          -- generated code, which would otherwise be different for each batch, and compiled anew.
          transform(array(votes), it -> concat_ws(' ', it, next_offset, unix_millis(current_timestamp())))[0] AS value
