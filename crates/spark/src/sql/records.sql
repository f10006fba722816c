-- The records of the log, and how many partitions it has. They are summed up by the time of their append, cut to a bucket.
SELECT key, value, partition, {partitions} AS partitions, offset, unix_millis(timestamp) AS appended_at_ms,
       timestamp_millis(unix_millis(timestamp) - pmod(unix_millis(timestamp), {bucket_ms})) AS appended_at
  FROM log
