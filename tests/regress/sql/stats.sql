-- Counters and inventory.
CREATE SCHEMA stats_test;
SET search_path = stats_test, public;
CREATE TABLE t (id integer);
SELECT cache_track_table('t');
CREATE FUNCTION work(n integer) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM pg_sleep(0.02);
    RETURN n + (SELECT count(*) FROM t);
END $$;
SELECT cache_function('work(int)');
-- As many rows as there are cached functions that were called; none for this one yet.
SELECT count(*) FROM cache_function_stats WHERE function = 'work_cached(int,interval)'::regprocedure;

SELECT hits, misses, bypasses, fills, waits, invalidations, expirations, entries FROM cache_stats() \gset before_
-- 2 misses, 3 hits, 1 invalidated, 1 expired, 1 too old for its caller, 1 switched off, 1 in a SERIALIZABLE transaction.
SELECT work_cached(1), work_cached(2), work_cached(1), work_cached(1), work_cached(2);
INSERT INTO t VALUES (1);
SELECT work_cached(1);
SET pg_query_cache.clock_offset = '1h';
SELECT work_cached(1);
RESET pg_query_cache.clock_offset;
SELECT work_cached(3, cache_duration => '0');
SET pg_query_cache.enabled = off;
SELECT work_cached(1);
RESET pg_query_cache.enabled;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT work_cached(1);
COMMIT;

SELECT hits - :before_hits AS hits, misses - :before_misses AS misses, bypasses - :before_bypasses AS bypasses,
       fills - :before_fills AS fills, waits - :before_waits AS waits, invalidations - :before_invalidations AS invalidations,
       expirations - :before_expirations AS expirations
FROM cache_stats();
SELECT hits, misses, bypasses, fills, waits, invalidations, expirations, entries,
       fill_seconds >= 0.02 * (fills + 1) AS fill_seconds, saved_seconds >= 0.02 * hits AS saved_seconds, saved_seconds < fill_seconds * hits AS not_too_many,
       memory_bytes BETWEEN 64 * entries AND 4096 * entries AS memory_bytes, reasons
FROM cache_function_stats WHERE function = 'work_cached(int,interval)'::regprocedure;
SELECT memory_bytes BETWEEN 1 AND memory_limit_bytes AS memory, memory_limit_bytes BETWEEN 1 AND 256 * 1024 * 1024 AS memory_limit,
       hit_rate BETWEEN 0 AND 1 AS hit_rate, saved_seconds > 0 AS saved, damaged, evictions, since < now() AS since, dead_entries <= entries AS dead
FROM cache_stats();

-- The entries: one for each result; those that a write has invalidated are dead, and gone when they are asked for.
SELECT function::regprocedure, hit_count, expires_at - created_at AS lifetime, size_bytes > 0 AS size, cost_ms > 20 AS cost,
       priority, dead, cache_key ~ '^[0-9a-z_:.]+$' AS key
FROM cache_memory_entries() WHERE function = 'work_cached(int,interval)'::regprocedure ORDER BY hit_count DESC, created_at;
SELECT count(*) = count(DISTINCT cache_key) AS keys_are_different FROM cache_memory_entries();
INSERT INTO t VALUES (2);
SELECT count(*), count(*) FILTER (WHERE dead) AS dead FROM cache_memory_entries() WHERE function = 'work_cached(int,interval)'::regprocedure;
SELECT work_cached(1);
SELECT count(*), count(*) FILTER (WHERE dead) AS dead FROM cache_memory_entries() WHERE function = 'work_cached(int,interval)'::regprocedure;

-- Hits are counted in a READ ONLY transaction, and in one that rolls back.
SELECT hits FROM cache_function_stats WHERE function = 'work_cached(int,interval)'::regprocedure \gset
BEGIN READ ONLY;
SELECT work_cached(1);
ROLLBACK;
SELECT hits - :hits AS hits FROM cache_function_stats WHERE function = 'work_cached(int,interval)'::regprocedure;

-- A priority and a class show.
SELECT cache_function('work(int)', priority => 3, class => 'enterprise', name => 'important');
SELECT important(1);
SELECT priority, expires_at - created_at AS lifetime FROM cache_memory_entries() WHERE function = 'important(int,interval)'::regprocedure;
SELECT set_cache_config('class.enterprise.ttl', '1min');
SELECT important(2);
SELECT expires_at - created_at AS lifetime FROM cache_memory_entries() WHERE function = 'important(int,interval)'::regprocedure ORDER BY 1;
SELECT set_cache_config('class.enterprise.ttl', NULL);

-- Settings: units, ranges, contexts.
SELECT name, setting, unit, context, vartype, min_val, max_val, boot_val FROM pg_settings WHERE name LIKE 'pg\_query\_cache.%' ORDER BY name COLLATE "C";
SET pg_query_cache.memory = '1GB';
SET pg_query_cache.max_entry_size = 0;
SET pg_query_cache.fill_wait = -1;
SET pg_query_cache.ttl_default = '1min';
SET pg_query_cache.cleanup_interval = '1min';
SET pg_query_cache.no_such_setting = 1;
CREATE ROLE stats_user;
SET ROLE stats_user;
SET pg_query_cache.clock_offset = '1h';
SET pg_query_cache.fill_wait = '1s';
RESET ROLE;
DROP ROLE stats_user;

-- A function that is dropped leaves the statistics, its entries are dead.
SELECT uncache_function('important(int,interval)');
SELECT count(*) FROM cache_function_stats WHERE function::text LIKE 'important%';

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA stats_test CASCADE;
