-- Updates 0.2.0 to 0.3.0. What is new is here as it is in the files of the same
-- names; a test compares the outcome with a new installation, object by object.

\echo Use "ALTER EXTENSION pg_query_cache UPDATE" to load this file. \quit

-- Work for others carries what it rests on. What an earlier version queued does not, and is refused.
ALTER TABLE cache_warm_jobs ADD COLUMN rests_on bytea;
COMMENT ON COLUMN cache_warm_jobs.rests_on IS 'digest of functions, roles and their settings when the job was queued; it is not run if they have changed';

-- upkeep.sql

CREATE OR REPLACE FUNCTION cache_function_resume(function regprocedure) RETURNS boolean
    LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'cache_function_resume_v0_3_wrapper';

-- looking.sql

-- SECURITY DEFINER for the column with the dependencies, which nobody else may read: a dead row is no entry. Memory is looked at first;
-- that settles the writers, by which rows are known to be dead. A row may hold anything: what is no moment is no entry, and no cost is
-- larger than can be multiplied.
CREATE OR REPLACE FUNCTION get_top_cache_entries(n integer DEFAULT 10, by text DEFAULT 'hits')
RETURNS TABLE (function regprocedure, cache_key text, hit_count bigint, size_bytes bigint, cost_ms double precision,
               saved_ms double precision, age interval, expires_in interval, in_memory boolean)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH m AS MATERIALIZED (SELECT * FROM cache_memory_entries())
    SELECT e.function::pg_catalog.regprocedure, e.cache_key, e.hit_count, e.size_bytes, e.cost_ms, e.saved_ms,
           pg_catalog.clock_timestamp() - e.created_at, e.expires_at - pg_catalog.clock_timestamp(), e.in_memory
    FROM (SELECT s.*, s.hit_count * LEAST(GREATEST(s.cost_ms, 0), 1e15::pg_catalog.float8) AS saved_ms
          FROM (SELECT m.function, m.cache_key, m.hit_count, m.size_bytes, m.cost_ms, m.created_at, m.expires_at, true
                FROM m
                WHERE NOT m.dead
                UNION ALL
                SELECT t.function, t.cache_key, t.hit_count, t.size_bytes, t.cost_ms, t.created_at, t.expires_at, false
                FROM query_cache AS t
                WHERE NOT EXISTS (SELECT FROM m WHERE m.cache_key = t.cache_key) AND NOT cache_row_is_dead(t.dependencies)
               ) AS s (function, cache_key, hit_count, size_bytes, cost_ms, created_at, expires_at, in_memory)
         ) AS e
    WHERE e.expires_at > pg_catalog.clock_timestamp()
          AND pg_catalog.isfinite(e.created_at) AND pg_catalog.isfinite(e.expires_at)
    ORDER BY CASE by WHEN 'bytes' THEN e.size_bytes WHEN 'saved' THEN e.saved_ms ELSE e.hit_count END DESC,
             e.saved_ms DESC, e.cache_key
    LIMIT CASE WHEN cache_ranking(by) IS NOT NULL THEN GREATEST(n, 0) END;
END;
