-- How many of the registered an election expects to vote, say from the one before: a share, of a region or of all where
-- the region has none. Only for showing how much is still to come; no vote is counted by it.
ALTER TABLE election ADD COLUMN expected_turnout double precision CHECK (expected_turnout > 0 AND expected_turnout <= 1);
ALTER TABLE region ADD COLUMN expected_turnout double precision CHECK (expected_turnout > 0 AND expected_turnout <= 1);
