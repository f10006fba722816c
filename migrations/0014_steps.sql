-- How long each step of a commit took, in milliseconds by the step's name; null in commits before this migration. The native
-- engine has one step, `commit`. Those of Spark are its batches' (`durationMs` in
-- https://spark.apache.org/docs/latest/streaming/apis-on-dataframes-and-datasets.html).
ALTER TABLE batch ADD COLUMN steps_ms jsonb;

CREATE VIEW batch_steps AS
SELECT b.counter, b.committed_at, s.step, s.took_ms::double precision AS took_ms
  FROM batch b CROSS JOIN LATERAL jsonb_each_text(b.steps_ms) AS s (step, took_ms);
