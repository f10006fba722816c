-- Each record with its outcome: `counted`, or the first applicable reason for rejecting it, by its number. Repeat votes
-- are not detected here: a record is rejected as `already_voted` if an earlier one has the same claim.
-- Joins by a broadcast table keep the order of the records. Others would not, and the first vote would not be the first.
SELECT /*+ BROADCAST(e), BROADCAST(r), BROADCAST(c) */
       p.partition, p.offset, p.appended_ms, p.voter_high, p.voter_low,
       e.number AS election, r.number AS region, c.number AS choice, array_position(e.channels, p.channel) AS channel,
       p.cast_at_ms - pmod(p.cast_at_ms, e.bucket_ms) AS bucket_ms,
       CASE WHEN NOT p.is_vote THEN {malformed}
            WHEN NOT p.is_routed THEN {misrouted}
            WHEN e.number IS NULL THEN {unknown_election}
            WHEN r.number IS NULL THEN {unknown_region}
            WHEN c.number IS NULL THEN {unknown_choice}
            WHEN NOT (c.is_everywhere OR array_contains(c.regions, r.number)) THEN {unknown_choice}
            WHEN array_position(e.channels, p.channel) = 0 THEN {unknown_channel}
            WHEN p.cast_at_ms < e.opens_at_ms THEN {not_open}
            WHEN p.cast_at_ms >= e.closes_at_ms THEN {closed}
            ELSE {counted} END AS outcome
  FROM parsed p
  LEFT JOIN elections e ON e.code = p.election
  LEFT JOIN regions r ON r.election = p.election AND r.code = p.region
  LEFT JOIN choices c ON c.election = p.election AND c.code = p.choice
|> SELECT partition, offset, appended_ms, outcome,
          -- The claim: the voter and the election. A rejected record does not use up a voter's vote, so its claim is its
          -- own place in the log.
          CASE WHEN outcome = {counted} THEN voter_high ELSE partition END AS claim_high,
          CASE WHEN outcome = {counted} THEN voter_low ELSE offset END AS claim_low,
          CASE WHEN outcome = {counted} THEN election ELSE -1 END AS claim_in,
          CASE WHEN outcome = {counted} THEN region END AS region,
          CASE WHEN outcome = {counted} THEN choice END AS choice,
          CASE WHEN outcome = {counted} THEN channel END AS channel,
          CASE WHEN outcome = {counted} THEN bucket_ms END AS bucket_ms
