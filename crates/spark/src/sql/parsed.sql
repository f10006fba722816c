-- Parses records as votes, strictly by the contract (schema/vote.v1.schema.json). `is_vote` is false if a record
-- is not a vote.
WITH texts AS (
    SELECT partition, partitions, offset, appended_at, CAST(key AS STRING) AS key,
           CASE WHEN octet_length(value) <= 4096 AND is_valid_utf8(CAST(value AS STRING)) THEN CAST(value AS STRING) END AS text
      FROM records
),
forms AS (
    SELECT *,
           -- The usual form: six string fields in this order, without escapes. Their values are then simply the text
           -- between the quotes, which avoids JSON parsing, the most expensive step.
           text RLIKE r'\A\{"election":"[^"\\\x00-\x1F]*","voter":"[^"\\\x00-\x1F]*","region":"[^"\\\x00-\x1F]*","choice":"[^"\\\x00-\x1F]*","channel":"[^"\\\x00-\x1F]*","cast_at":"[^"\\\x00-\x1F]*"\}\z' AS is_usual
      FROM texts
),
others AS (
    SELECT *,
           CASE WHEN is_usual THEN split(text, '"') END AS quoted,
           -- Spark does not read numbers of more than a thousand digits. Cutting them to two hundred loses nothing: no
           -- code is as long.
           CASE WHEN is_usual THEN NULL
                WHEN text RLIKE '[0-9]{201}' THEN regexp_replace(text, '([0-9]{200})[0-9]+', '$1')
                ELSE text END AS json
      FROM forms
),
fields AS (
    -- VARIANT distinguishes strings from numbers, and is null if it contains half of a surrogate pair.
    SELECT *,
           CASE WHEN NOT is_usual THEN
               from_json(json, 'election VARIANT, voter VARIANT, region VARIANT, choice VARIANT, channel VARIANT, cast_at VARIANT',
                         map('allowSingleQuotes', 'false', 'allowNonNumericNumbers', 'false')) END AS vote
      FROM others
),
votes AS (
    SELECT partition, partitions, offset, appended_at, key, json, is_usual,
           CASE WHEN is_usual THEN quoted[3] WHEN schema_of_variant(vote.election) = 'STRING' THEN CAST(vote.election AS STRING) END AS election,
           CASE WHEN is_usual THEN quoted[7] WHEN schema_of_variant(vote.voter) = 'STRING' THEN CAST(vote.voter AS STRING) END AS voter,
           CASE WHEN is_usual THEN quoted[11] WHEN schema_of_variant(vote.region) = 'STRING' THEN CAST(vote.region AS STRING) END AS region,
           CASE WHEN is_usual THEN quoted[15] WHEN schema_of_variant(vote.choice) = 'STRING' THEN CAST(vote.choice AS STRING) END AS choice,
           CASE WHEN is_usual THEN quoted[19] WHEN schema_of_variant(vote.channel) = 'STRING' THEN CAST(vote.channel AS STRING) END AS channel,
           CASE WHEN is_usual THEN quoted[23] WHEN schema_of_variant(vote.cast_at) = 'STRING' THEN CAST(vote.cast_at AS STRING) END AS cast_at
      FROM fields
),
timed AS (
    SELECT *,
           -- Null if there is no such day.
           CASE WHEN cast_at RLIKE r'\A[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z\z'
                THEN unix_millis(try_cast(cast_at AS TIMESTAMP)) END AS cast_at_ms,
           -- Replaces escaped backslashes and whole surrogate pairs, so that only lone surrogates remain.
           CASE WHEN NOT is_usual THEN
                regexp_replace(replace(json, r'\\', '__'), r'\\u[dD][89abAB]..\\u[dD][c-fC-F]..', '__') END AS pairless
      FROM votes
)
SELECT partition, partitions, offset, appended_at, key, election, voter, region, choice, channel, cast_at_ms,
       CASE WHEN election IS NULL OR voter IS NULL OR region IS NULL OR choice IS NULL OR channel IS NULL OR cast_at_ms IS NULL
                THEN false
            WHEN NOT voter RLIKE r'\A[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\z' THEN false
            WHEN is_usual THEN true
            ELSE json RLIKE r'\A[ \t\n\r]*\{'
                 -- from_json ignores text after the object. No such text can close both a list and an object.
                 AND coalesce(json_array_length('[' || json || ']') = 1, false)
                 AND coalesce(cardinality(json_object_keys('{"":' || json || '}')) = 1, false)
                 -- No field occurs twice.
                 AND cardinality(filter(json_object_keys(json), name ->
                         name IN ('election', 'voter', 'region', 'choice', 'channel', 'cast_at'))) = 6
                 -- No name contains half of a surrogate pair: its replacement would change the name.
                 AND json_object_keys(regexp_replace(pairless, r'\\u[dD][89a-fA-F]..', 'A'))
                   = json_object_keys(regexp_replace(pairless, r'\\u[dD][89a-fA-F]..', 'B')) END AS is_vote
  FROM timed
