-- The log's records, with its number of partitions. `appended_at` is the append time rounded down to a bucket.
SELECT key, value, partition, {partitions} AS partitions, offset, unix_millis(timestamp) AS appended_at_ms,
       timestamp_millis(unix_millis(timestamp) - pmod(unix_millis(timestamp), {bucket_ms})) AS appended_at
  FROM log
