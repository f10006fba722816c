-- The records of the log, and how many partitions it has. They are summed up by the time of their append, so that time is cut.
SELECT key, value, partition, {partitions} AS partitions, offset,
       timestamp_millis(unix_millis(timestamp) - pmod(unix_millis(timestamp), {bucket_ms})) AS appended_at
  FROM log
