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
           COALESCE(pg_catalog.sum(l.expired_entries), 0)::pg_catalog.int8,
           COALESCE(pg_catalog.sum(l.dead_entries), 0)::pg_catalog.int8,
           COALESCE(pg_catalog.sum(l.rows), 0)::pg_catalog.int8,
           COALESCE(pg_catalog.sum(l.duration_ms), 0),
           pg_catalog.max(l.cleanup_time)
    FROM pg_catalog.generate_series(
             pg_catalog.date_trunc('day', pg_catalog.now()) - pg_catalog.make_interval(days => GREATEST(days, 1) - 1),
             pg_catalog.date_trunc('day', pg_catalog.now()), '1 day') AS d (day)
    LEFT JOIN cache_cleanup_log AS l ON l.cleanup_time >= d.day AND l.cleanup_time < d.day + '1 day'::pg_catalog.interval
    GROUP BY d.day
    ORDER BY d.day DESC;
END;
COMMENT ON FUNCTION get_cache_cleanup_stats(integer) IS
    'clean-ups of the last days from cache_cleanup_log, one row a day, latest first; a day without any has zeros';

CREATE FUNCTION get_top_cache_entries(n integer DEFAULT 10)
RETURNS TABLE (function regprocedure, cache_key text, hit_count bigint, size_bytes bigint, cost_ms double precision,
               saved_ms double precision, age interval, expires_in interval, in_memory boolean)
    LANGUAGE sql VOLATILE
BEGIN ATOMIC
    WITH m AS MATERIALIZED (SELECT * FROM cache_memory_entries())
    SELECT e.function::pg_catalog.regprocedure, e.cache_key, e.hit_count, e.size_bytes, e.cost_ms, e.hit_count * e.cost_ms,
           pg_catalog.clock_timestamp() - e.created_at, e.expires_at - pg_catalog.clock_timestamp(), e.in_memory
    FROM (SELECT m.function, m.cache_key, m.hit_count, m.size_bytes, m.cost_ms, m.created_at, m.expires_at, true
          FROM m
          WHERE NOT m.dead
          UNION ALL
          SELECT t.function, t.cache_key, t.hit_count, t.size_bytes, t.cost_ms, t.created_at, t.expires_at, false
          FROM query_cache AS t
          WHERE NOT EXISTS (SELECT FROM m WHERE m.cache_key = t.cache_key)
         ) AS e (function, cache_key, hit_count, size_bytes, cost_ms, created_at, expires_at, in_memory)
    WHERE e.expires_at > pg_catalog.clock_timestamp()
    ORDER BY e.hit_count DESC, e.hit_count * e.cost_ms DESC, e.cache_key
    LIMIT GREATEST(n, 0);
END;
COMMENT ON FUNCTION get_top_cache_entries(integer) IS
    'the entries of this database with the most hits, in memory or in query_cache, and the computing time they saved';

CREATE FUNCTION analyze_cache_health(
    OUT finding text, OUT status text, OUT value text, OUT threshold text, OUT recommendation text)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 20 AS 'MODULE_PATHNAME', 'analyze_cache_health_wrapper';
COMMENT ON FUNCTION analyze_cache_health() IS
    'what is well and what is not: each finding with its status (ok, warning, critical), value, threshold and what to do';

CREATE FUNCTION cache_function_resume(function regprocedure) RETURNS boolean
    LANGUAGE c VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'cache_function_resume_wrapper';
COMMENT ON FUNCTION cache_function_resume(regprocedure) IS
    'caches a function again that was in quarantine; returns whether it was; for the owner of the function';
