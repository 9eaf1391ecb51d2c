-- Updates 0.2.0 to 0.3.0. What is new is here as it is in the files of the same
-- names; a test compares the outcome with a new installation, object by object.

\echo Use "ALTER EXTENSION pg_query_cache UPDATE" to load this file. \quit

-- Work for others carries what it rests on. What an earlier version queued does not, and is refused.
ALTER TABLE cache_warm_jobs ADD COLUMN rests_on bytea;
COMMENT ON COLUMN cache_warm_jobs.rests_on IS 'digest of functions, roles and their settings when the job was queued; it is not run if they have changed';
