-- Upkeep: clean up, write, look after the cache's health.

-- The role that calls it need not have any right on the tables: the function
-- does one thing, and who may call it is said in rights.sql.
CREATE FUNCTION cleanup_expired_cache() RETURNS integer
    LANGUAGE c VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'cleanup_expired_cache_wrapper';
COMMENT ON FUNCTION cleanup_expired_cache() IS
    'removes expired and invalidated entries from memory and from query_cache, notes it in cache_cleanup_log; returns how many';

CREATE FUNCTION flush_cache() RETURNS bigint
    LANGUAGE c VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'flush_cache_wrapper';
COMMENT ON FUNCTION flush_cache() IS
    'writes the entries and hit counts of memory to query_cache now; returns how many entries were new there';

CREATE FUNCTION get_cache_cleanup_stats(days integer DEFAULT 7)
RETURNS TABLE (day date, cleanups bigint, expired_entries bigint, dead_entries bigint, rows bigint,
               duration_ms double precision, last_cleanup timestamp with time zone)
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT d.day::pg_catalog.date, pg_catalog.count(l.id),
           COALESCE(pg_catalog.sum(l.expired_entries), 0::pg_catalog.numeric)::pg_catalog.int8,
           COALESCE(pg_catalog.sum(l.dead_entries), 0::pg_catalog.numeric)::pg_catalog.int8,
           COALESCE(pg_catalog.sum(l.rows), 0::pg_catalog.numeric)::pg_catalog.int8,
           COALESCE(pg_catalog.sum(l.duration_ms), 0::pg_catalog.float8),
           pg_catalog.max(l.cleanup_time)
    FROM pg_catalog.generate_series(
             pg_catalog.date_trunc('day'::pg_catalog.text, pg_catalog.now()) OPERATOR(pg_catalog.-)
                 pg_catalog.make_interval(days => LEAST(GREATEST(days, 1), 90) OPERATOR(pg_catalog.-) 1),
             pg_catalog.date_trunc('day'::pg_catalog.text, pg_catalog.now()), '1 day'::pg_catalog.interval) AS d (day)
    LEFT JOIN @extschema@.cache_cleanup_log AS l
      ON l.cleanup_time OPERATOR(pg_catalog.>=) d.day
     AND l.cleanup_time OPERATOR(pg_catalog.<) (d.day OPERATOR(pg_catalog.+) '1 day'::pg_catalog.interval)
    GROUP BY d.day
    ORDER BY d.day DESC;
END;
COMMENT ON FUNCTION get_cache_cleanup_stats(integer) IS
    'clean-ups of the last days from cache_cleanup_log, 1 to 90, one row a day, latest first; a day without any has zeros';

-- A fixed search path, so that all names in the answer have their schema.
CREATE FUNCTION analyze_cache_health(
    OUT finding text, OUT status text, OUT value text, OUT threshold text, OUT recommendation text, OUT sql text)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 20 SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'analyze_cache_health_v0_2_wrapper';
COMMENT ON FUNCTION analyze_cache_health() IS
    'what is well and what is not: each finding with its status (critical, warning, ok), value, threshold and what to do, in words and as SQL';

-- With the caller's rights: whoever is not its owner must not lend somebody
-- else's word to it.
CREATE FUNCTION cache_function_resume(function regprocedure) RETURNS boolean
    LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'cache_function_resume_v0_3_wrapper';
COMMENT ON FUNCTION cache_function_resume(regprocedure) IS
    'caches a function again that was in quarantine; returns whether it was; for the owner of the function';
