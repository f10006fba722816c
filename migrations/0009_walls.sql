-- Runs with the rights of whoever reads the view, and sees refused votes: on a path of the caller's, `json` could be a type of
-- the caller's own that keeps what it is given.
ALTER FUNCTION field_of(bytea, text) SET search_path = pg_catalog, pg_temp;
