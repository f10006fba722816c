-- Parses records as votes, strictly by the contract (schema/vote.v1.schema.json). `is_vote` is false if a record
-- is not a vote, and `is_routed` if a vote is not where its voter's votes belong. `voter_high` and `voter_low` are the key
-- as a UUID, and mean nothing if it is none.
FROM records
|> SELECT partition, offset, appended_ms, CAST(key AS STRING) AS key, CAST(value AS STRING) AS text,
          coalesce(CAST(conv(CAST(substr(key, 1, 8) || substr(key, 10, 4) || substr(key, 15, 4) AS STRING), 16, -10) AS BIGINT), 0) AS voter_high,
          coalesce(CAST(conv(CAST(substr(key, 20, 4) || substr(key, 25, 12) AS STRING), 16, -10) AS BIGINT), 0) AS voter_low,
          -- The usual form: six fields in this order, without escapes. Their values are then simply the text between
          -- the quotes, and no JSON has to be parsed, which takes longer than all the rest.
          octet_length(value) <= 4096
          AND coalesce(CAST(value AS STRING) RLIKE r'\A{s}\{{s}"election"{s}:{s}"{code}"{s},{s}"voter"{s}:{s}"{uuid}"{s},{s}"region"{s}:{s}"{code}"{s},{s}"choice"{s}:{s}"{code}"{s},{s}"channel"{s}:{s}"{code}"{s},{s}"cast_at"{s}:{s}"{time}"{s}\}{s}\z', false) AS is_usual
-- Other forms are parsed in one column, so that of all this only the condition is evaluated for every record. Lambdas
-- hold the intermediate results. Spark generates no code for them.
|> SELECT partition, offset, appended_ms, key, voter_high, voter_low,
          -- The partition that the key belongs to: Kafka's default partitioner hashes keys by murmur2, with the seed of this
          -- class, which comes with Spark. As arithmetic in SQL, the hash would be most of the query, and slow small batches.
          (CAST(java_method('org.apache.commons.codec.digest.MurmurHash2', 'hash32', coalesce(key, '')) AS INT) & 2147483647) % {partitions} AS home,
          CASE WHEN is_usual THEN text END AS usual,
          CASE WHEN NOT is_usual AND octet_length(text) <= 4096 AND is_valid_utf8(text) THEN
              transform(
                  -- Spark does not read numbers of more than a thousand digits. Cutting them to two hundred loses
                  -- nothing: no code is as long.
                  array(CASE WHEN text RLIKE '[0-9]{201}' THEN regexp_replace(text, '([0-9]{200})[0-9]+', '$1') ELSE text END),
                  json -> transform(
                      -- VARIANT distinguishes strings from numbers, and is null if it contains half of a surrogate pair.
                      array(struct(
                          from_json(json, 'election VARIANT, voter VARIANT, region VARIANT, choice VARIANT, channel VARIANT, cast_at VARIANT',
                                    map('allowSingleQuotes', 'false', 'allowNonNumericNumbers', 'false')) AS vote,
                          -- Replaces escaped backslashes and whole surrogate pairs, so that only lone surrogates remain.
                          regexp_replace(replace(json, r'\\', '__'), r'\\u[dD][89abAB]..\\u[dD][c-fC-F]..', '__') AS pairless)),
                      it -> struct(
                          CASE WHEN schema_of_variant(it.vote.election) = 'STRING' THEN CAST(it.vote.election AS STRING) END AS election,
                          CASE WHEN schema_of_variant(it.vote.voter) = 'STRING' THEN CAST(it.vote.voter AS STRING) END AS voter,
                          CASE WHEN schema_of_variant(it.vote.region) = 'STRING' THEN CAST(it.vote.region AS STRING) END AS region,
                          CASE WHEN schema_of_variant(it.vote.choice) = 'STRING' THEN CAST(it.vote.choice AS STRING) END AS choice,
                          CASE WHEN schema_of_variant(it.vote.channel) = 'STRING' THEN CAST(it.vote.channel AS STRING) END AS channel,
                          CASE WHEN schema_of_variant(it.vote.cast_at) = 'STRING' THEN CAST(it.vote.cast_at AS STRING) END AS cast_at,
                          json RLIKE r'\A[ \t\n\r]*\{'
                              -- from_json ignores text after the object. No such text can close both a list and an object.
                              AND coalesce(json_array_length('[' || json || ']') = 1, false)
                              AND coalesce(cardinality(json_object_keys('{"":' || json || '}')) = 1, false)
                              -- No field occurs twice.
                              AND cardinality(filter(json_object_keys(json), name ->
                                      name IN ('election', 'voter', 'region', 'choice', 'channel', 'cast_at'))) = 6
                              -- No name contains half of a surrogate pair: its replacement would change the name.
                              AND json_object_keys(regexp_replace(it.pairless, r'\\u[dD][89a-fA-F]..', 'A'))
                                = json_object_keys(regexp_replace(it.pairless, r'\\u[dD][89a-fA-F]..', 'B')) AS is_object)))[0][0] END AS other
|> SELECT partition, offset, appended_ms, key, voter_high, voter_low, home, usual, other,
          coalesce(get(split(usual, '"'), 3), other.election) AS election,
          coalesce(get(split(usual, '"'), 7), other.voter) AS voter,
          coalesce(get(split(usual, '"'), 11), other.region) AS region,
          coalesce(get(split(usual, '"'), 15), other.choice) AS choice,
          coalesce(get(split(usual, '"'), 19), other.channel) AS channel,
          -- Null if there is no such day.
          unix_millis(try_cast(coalesce(get(split(usual, '"'), 23),
                                        CASE WHEN other.cast_at RLIKE r'\A{time}\z' THEN other.cast_at END) AS TIMESTAMP)) AS cast_at_ms
|> SELECT partition, offset, appended_ms, voter_high, voter_low, election, region, choice, channel, cast_at_ms,
          cast_at_ms IS NOT NULL
              AND (usual IS NOT NULL
                   OR coalesce(other.is_object AND election IS NOT NULL AND region IS NOT NULL AND choice IS NOT NULL
                               AND channel IS NOT NULL AND voter RLIKE r'\A{uuid}\z', false)) AS is_vote,
          key <=> voter AND home = partition AS is_routed
