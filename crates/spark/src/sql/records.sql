-- The log's records. `appended_ms` is the append time rounded down to a bucket.
FROM log
|> SELECT key, value, partition, offset, unix_millis(timestamp) AS appended_at_ms
|> EXTEND appended_at_ms - pmod(appended_at_ms, {bucket_ms}) AS appended_ms
