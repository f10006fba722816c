-- Two joins of whole keys, each a hash, instead of one that compares every region with every other: with twelve thousand
-- regions of eight candidates each it did not end.
CREATE OR REPLACE VIEW votes_by_candidate AS
SELECT t.counter, t.election, t.bucket, t.region, t.choice, c.name, t.votes
  FROM timeline t JOIN choice c ON c.election = t.election AND c.choice = t.choice AND c.region = t.region
UNION ALL
SELECT t.counter, t.election, t.bucket, t.region, t.choice, c.name, t.votes
  FROM timeline t JOIN choice c ON c.election = t.election AND c.choice = t.choice AND c.region = '';
