-- The log's records. `voter_high` and `voter_low` are the key as a UUID, and `home` is the partition that it belongs to.
-- They mean nothing if the key is not a UUID in canonical form; `parsed` compares the key with the voter. `appended_ms`
-- is the append time rounded down to a bucket.
WITH keys AS (
    SELECT key, value, partition, offset, unix_millis(timestamp) AS appended_at_ms,
           coalesce(CAST(conv(CAST(substr(key, 1, 8) || substr(key, 10, 4) || substr(key, 15, 4) AS STRING), 16, -10) AS BIGINT), 0) AS voter_high,
           coalesce(CAST(conv(CAST(substr(key, 20, 4) || substr(key, 25, 12) AS STRING), 16, -10) AS BIGINT), 0) AS voter_low
      FROM log
),
digits AS (
    SELECT *, digits(shiftright(voter_high, 48)) AS d1, digits(shiftright(voter_high, 32)) AS d2,
           digits(shiftright(voter_high, 16)) AS d3, digits(voter_high) AS d4,
           digits(shiftright(voter_low, 48)) AS d5, digits(shiftright(voter_low, 32)) AS d6,
           digits(shiftright(voter_low, 16)) AS d7, digits(voter_low) AS d8
      FROM keys
),
characters AS (
    SELECT * EXCEPT (d1, d2, d3, d4, d5, d6, d7, d8),
           characters(d1) AS c1, characters(d2) AS c2, characters(d3) AS c3, characters(d4) AS c4,
           characters(d5) AS c5, characters(d6) AS c6, characters(d7) AS c7, characters(d8) AS c8
      FROM digits
),
-- Four characters each of 8-4-4-4-12 hexadecimal digits. A hyphen is 45.
words AS (
    SELECT * EXCEPT (c1, c2, c3, c4, c5, c6, c7, c8), c1 AS w1, c2 AS w2,
           45 | shiftleft(c3 & 16777215, 8) AS w3,
           shiftright(c3, 24) | shiftleft(45, 8) | shiftleft(c4 & 65535, 16) AS w4,
           shiftright(c4, 16) | shiftleft(45, 16) | shiftleft(c5 & 255, 24) AS w5,
           shiftright(c5, 8) | shiftleft(45L, 24) AS w6,
           c6 AS w7, c7 AS w8, c8 AS w9
      FROM characters
),
hashes AS (
    -- The seed is 0x9747b28c; 36 is the length of a key.
    SELECT * EXCEPT (w1, w2, w3, w4, w5, w6, w7, w8, w9),
           hashed(hashed(hashed(hashed(hashed(hashed(hashed(hashed(hashed(2538058380 ^ 36,
               w1), w2), w3), w4), w5), w6), w7), w8), w9) AS hash
      FROM words
),
mixed AS (
    SELECT * EXCEPT (hash), times_m(hash ^ shiftright(hash, 13)) AS hash FROM hashes
)
SELECT key, value, partition, offset, appended_at_ms, appended_at_ms - pmod(appended_at_ms, {bucket_ms}) AS appended_ms,
       voter_high, voter_low, ((hash ^ shiftright(hash, 15)) & 2147483647) % {partitions} AS home
  FROM mixed
