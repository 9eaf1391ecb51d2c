-- Warming: calls are made before anybody waits for them. With the caller's own rights and settings, because these are part of whose
-- result it is: no SECURITY DEFINER and no SET here.

CREATE FUNCTION warm_cache(function regprocedure, arguments jsonb DEFAULT '{}') RETURNS boolean
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'warm_cache_wrapper';
COMMENT ON FUNCTION warm_cache(regprocedure, jsonb) IS
    'calls a cached function with arguments in JSON, for its later callers; returns whether the result is in the cache';

CREATE FUNCTION warm_cache_many(
    function regprocedure, calls jsonb,
    OUT arguments jsonb, OUT stored boolean, OUT reason text, OUT cost_ms double precision)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 100 AS 'MODULE_PATHNAME', 'warm_cache_many_wrapper';
COMMENT ON FUNCTION warm_cache_many(regprocedure, jsonb) IS
    'calls a cached function once for each element of a JSON array of arguments; a call that fails is reported in its row';

CREATE FUNCTION cache_progress_places(
    OUT pid integer, OUT role oid, OUT function oid, OUT command text, OUT phase text, OUT job bigint,
    OUT total bigint, OUT done bigint, OUT stored bigint, OUT failed bigint, OUT started_at timestamp with time zone)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 10 AS 'MODULE_PATHNAME', 'cache_progress_places_wrapper';
COMMENT ON FUNCTION cache_progress_places() IS 'who is warming in this database, as far as the caller may see it, as the view cache_progress shows it';

CREATE VIEW cache_progress AS
SELECT p.pid,
       pg_catalog.current_database()                    AS database,
       pg_catalog.pg_get_userbyid(p.role)               AS role,
       p.function::pg_catalog.regprocedure              AS function,
       p.command, p.phase, p.job, p.total, p.done, p.stored, p.failed, p.started_at
FROM cache_progress_places() AS p;
COMMENT ON VIEW cache_progress IS
    'who is warming or refreshing the cache of this database right now, and how far it is; of other roles for members of pg_monitor';
COMMENT ON COLUMN cache_progress.pid IS 'process';
COMMENT ON COLUMN cache_progress.database IS 'its database';
COMMENT ON COLUMN cache_progress.role IS 'for which role';
COMMENT ON COLUMN cache_progress.function IS 'of which cached function';
COMMENT ON COLUMN cache_progress.command IS 'warming, background warming or refreshing';
COMMENT ON COLUMN cache_progress.phase IS 'preparing, computing or finishing';
COMMENT ON COLUMN cache_progress.job IS 'number in cache_warm_jobs, of a background job';
COMMENT ON COLUMN cache_progress.total IS 'calls to be made';
COMMENT ON COLUMN cache_progress.done IS 'calls made';
COMMENT ON COLUMN cache_progress.stored IS 'of these, whose result is in the cache';
COMMENT ON COLUMN cache_progress.failed IS 'of these, that ended with an error';
COMMENT ON COLUMN cache_progress.started_at IS 'when it began';
