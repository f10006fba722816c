-- What counts under a counter's name. Spark keeps its roll to itself and no evidence, so a native count cannot go on where
-- it is, nor it where a native one is.
ALTER TABLE counter ADD COLUMN counted_by text NOT NULL DEFAULT 'native' CHECK (counted_by IN ('native', 'spark'));

CREATE OR REPLACE VIEW counters AS
SELECT counter, elections, partitions, started_at, log, counted_by FROM counter;
