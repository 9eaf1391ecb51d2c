-- What it did over time, by function, entry by entry, and what it cost those who write.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set refused :testdir '/lib/refused.sql'
CREATE SCHEMA looking_test;
SET search_path = looking_test, public;
\i :refused
\set ECHO all
CREATE TABLE t (id integer);
CREATE TABLE other (id integer);
SELECT cache_track_table('t'), cache_track_table('other', '{id}');
CREATE FUNCTION work(ms integer) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM pg_sleep(ms / 1000.0);
    RETURN ms + (SELECT count(*) FROM t);
END $$;
CREATE FUNCTION twin() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM t';
CREATE FUNCTION pair() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM t, other';
CREATE FUNCTION alone(n integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT repeat('x', n * 1000)$$;
CREATE FUNCTION top_of(n integer, by text) RETURNS TABLE (function regprocedure, hit_count bigint, size_bytes text) LANGUAGE sql AS $$
    SELECT e.function, e.hit_count, CASE WHEN e.size_bytes < 1024 THEN 'small' ELSE (e.size_bytes / 1000)::text END
    FROM get_top_cache_entries(1000, by) WITH ORDINALITY AS e JOIN pg_proc AS p ON p.oid = e.function
    WHERE p.pronamespace = 'looking_test'::regnamespace ORDER BY e.ordinality LIMIT n $$;
SELECT cache_function('work(int)'), cache_function('twin()'), cache_function('pair()'), cache_function('alone(int)');

-- Fill times: nine computations of 3 ms and one of 70 ms. A percentile is right to a factor of two, the greatest is exact.
SELECT count(work_cached(3, cache_duration => '0')) FROM generate_series(1, 9);
SELECT count(work_cached(70)) FROM generate_series(1, 4);
SELECT calls, hits, misses, bypasses, round(hit_rate::numeric, 4) AS hit_rate, fills,
       fill_p50_ms >= 1.5 AS p50, fill_p95_ms BETWEEN fill_max_ms / 2 AND fill_max_ms * 2 AS p95,
       fill_p99_ms BETWEEN fill_max_ms / 2 AND fill_max_ms * 2 AS p99, fill_max_ms >= 70 AS longest, fill_p50_ms <= fill_p95_ms AND fill_p95_ms <= fill_p99_ms AND fill_p99_ms <= fill_max_ms AS ordered,
       fill_seconds >= 0.097 AS sum, saved_seconds >= 0.21 AS saved, reasons
FROM cache_function_stats WHERE function = 'work_cached(int,interval)'::regprocedure;
SELECT calls, hit_rate, fill_p50_ms, fill_max_ms FROM cache_function_stats WHERE function = 'alone_cached(int,interval)'::regprocedure;
SELECT calls = hits + misses + bypasses AS calls, hit_rate = hits::float8 / (hits + misses) AS hit_rate,
       (reasons ->> 'no_age')::integer >= 9 AS reasons, net_benefit_seconds = saved_seconds - writer_seconds AS net, no_room
FROM cache_stats();

-- Time of writers: of a relation's, each function that has read it has an equal part; one that has not has none.
SELECT twin_cached(), pair_cached(), length(alone_cached(1));
SELECT writer_seconds FROM cache_stats() \gset before_
SELECT clock_timestamp() AS began \gset
INSERT INTO t SELECT 1 FROM generate_series(1, 3);
DO $$ BEGIN FOR i IN 1..1000 LOOP INSERT INTO t VALUES (i); END LOOP; END $$;
SELECT f.function, f.writer_seconds > 0 AS charged, f.net_benefit_seconds = f.saved_seconds - f.writer_seconds AS net,
       f.writer_seconds < extract(epoch FROM clock_timestamp() - :'began') AS not_too_much
FROM cache_function_stats AS f JOIN pg_proc AS p ON p.oid = f.function
WHERE p.pronamespace = 'looking_test'::regnamespace ORDER BY f.function::text;
SELECT count(DISTINCT writer_seconds) AS equal_parts FROM cache_function_stats AS f
WHERE f.function::text IN ('work_cached(integer,interval)', 'twin_cached(interval)', 'pair_cached(interval)');
SELECT abs(s.writer_seconds - :before_writer_seconds - sum(f.writer_seconds)) < 0.000001 AS all_of_it
FROM cache_function_stats AS f, cache_stats() AS s
WHERE f.function::text IN ('work_cached(integer,interval)', 'twin_cached(interval)', 'pair_cached(interval)')
GROUP BY s.writer_seconds;
SELECT writer_seconds AS twin FROM cache_function_stats WHERE function = 'twin_cached(interval)'::regprocedure \gset
DO $$ BEGIN FOR i IN 1..100 LOOP INSERT INTO other VALUES (i); END LOOP; END $$;
SELECT pair.writer_seconds > :twin AS more, twin.writer_seconds = :twin AS the_same
FROM cache_function_stats AS pair, cache_function_stats AS twin
WHERE pair.function = 'pair_cached(interval)'::regprocedure AND twin.function = 'twin_cached(interval)'::regprocedure;
-- What is dropped has no part in it any more.
SELECT uncache_function('pair_cached(interval)');
SELECT writer_seconds > 1.4 * :twin AS more FROM cache_function_stats WHERE function = 'twin_cached(interval)'::regprocedure;

-- The entries that matter most, by three measures.
SELECT work_cached(300) - (SELECT count(*) FROM t), length(alone_cached(1)), length(alone_cached(50)), length(alone_cached(9)), twin_cached() > 1000;
SELECT count(alone_cached(9)) FROM generate_series(1, 20);
SELECT count(work_cached(300)) FROM generate_series(1, 10);
SELECT * FROM top_of(2, 'hits');
SELECT * FROM top_of(2, 'bytes');
SELECT * FROM top_of(1, 'saved');
SELECT count(*) FROM get_top_cache_entries();
SELECT count(*) FROM get_top_cache_entries(0);
SELECT count(*) FROM get_top_cache_entries(-1, 'bytes');
SELECT refused($$SELECT * FROM get_top_cache_entries(10, 'luck')$$);
SELECT refused($$SELECT * FROM get_top_cache_entries(0, 'Hits')$$);
SELECT refused($$SELECT * FROM get_top_cache_entries(1, NULL)$$);

-- Over time: a row for each minute, hour or day, without gaps, up to now. Each resolution has everything.
SELECT count(*), min(resolution), bool_and(bucket = date_trunc('minute', bucket)), max(bucket) <= now(),
       max(bucket) - min(bucket), count(DISTINCT bucket)
FROM cache_analytics('10 minutes');
SELECT p, count(*), min(resolution) FROM unnest('{1 microsecond,2 hours,3 hours,4 days,5 days,1 month,1000 years,178000000 years}'::interval[])
    WITH ORDINALITY AS p (p, n), cache_analytics(p) GROUP BY p, n ORDER BY n;
SELECT count(*) FROM cache_analytics();
SELECT count(*) AS of_null FROM cache_analytics(NULL);
SELECT p, (SELECT sum(calls) = s.calls AND sum(hits) = s.hits AND sum(misses) = s.misses AND sum(bypasses) = s.bypasses
                  AND sum(fills) = s.fills AND sum(invalidations) = s.invalidations AND sum(expirations) = s.expirations
                  AND sum(evictions) = s.evictions AND abs(sum(saved_seconds) - s.saved_seconds) < 0.001
                  AND abs(sum(writer_seconds) - s.writer_seconds) < 0.001 AND abs(sum(fill_seconds) - s.fill_seconds) < 0.001
           FROM cache_analytics(p::interval)) AS everything
FROM unnest('{2 hours,4 days,1 month}'::text[]) AS p, cache_stats() AS s;
SELECT entries = (SELECT entries FROM cache_stats()) OR entries > 0 AS entries, memory_bytes > 0 AS memory, hit_rate BETWEEN 0 AND 1 AS hit_rate
FROM cache_analytics('1 minute') ORDER BY bucket DESC LIMIT 1;
SELECT refused($$SELECT * FROM cache_analytics('0')$$);
SELECT refused($$SELECT * FROM cache_analytics('-1 day')$$);
SELECT refused($$SELECT * FROM cache_analytics('1 month -31 days')$$);

-- The history of clean-ups: at least a day, at most what is kept.
SELECT d, count(s.day) FROM unnest('{7,1,0,-5,NULL,90,91,2147483647,-2147483648}'::integer[]) WITH ORDINALITY AS d (d, n)
    CROSS JOIN LATERAL get_cache_cleanup_stats(d) AS s GROUP BY d, n ORDER BY n;

-- Put in order: says what it did; the second time there is nothing to do.
SET pg_query_cache.clock_offset = '300d';
SELECT action, affected > 0 AS some, bytes > 0 AS bytes FROM optimize_cache() WHERE action <> 'recommended';
SELECT action, detail, affected, bytes, sql FROM optimize_cache() WHERE action <> 'recommended';
RESET pg_query_cache.clock_offset;
SELECT twin_cached() > 0;
SELECT action, affected, sql FROM optimize_cache() WHERE action <> 'recommended' AND action NOT LIKE 'removed%';
SELECT action FROM optimize_cache() WHERE action <> 'recommended';
-- ANALYZE changes no definition: what is cached stays.
SELECT hits FROM cache_function_stats WHERE function = 'twin_cached(interval)'::regprocedure \gset
SELECT twin_cached() > 0;
SELECT hits - :hits AS hits FROM cache_function_stats WHERE function = 'twin_cached(interval)'::regprocedure;

-- The way out. Nobody finds it by accident.
SELECT refused($$SELECT emergency_clear_cache('yes')$$);
SELECT refused($$SELECT emergency_clear_cache(NULL)$$);
SELECT refused($$SELECT emergency_clear_cache('')$$);
SELECT refused($$SELECT emergency_clear_cache('emergency_clear_confirmed')$$);
SELECT refused($$SELECT emergency_clear_cache(' EMERGENCY_CLEAR_CONFIRMED')$$);
SELECT count(*) > 0 AS still_there FROM cache_memory_entries();
-- Rolled back, what memory had is computed again, and the table's rows are as good as before.
SELECT count(*) AS rows FROM query_cache \gset
BEGIN;
SELECT emergency_clear_cache('EMERGENCY_CLEAR_CONFIRMED') > 0 AS some;
SELECT entries FROM cache_stats();
SELECT count(*) FROM query_cache;
SELECT twin_cached() = twin();
ROLLBACK;
SELECT count(*) = :rows AS rows FROM query_cache;
SELECT twin_cached() = twin(), twin_cached() = twin(), length(alone_cached(1));
BEGIN READ ONLY;
SELECT emergency_clear_cache('EMERGENCY_CLEAR_CONFIRMED');
ROLLBACK;
SELECT emergency_clear_cache('EMERGENCY_CLEAR_CONFIRMED') > 0 AS some;
SELECT entries FROM cache_stats();
SELECT count(*) FROM query_cache;
SELECT count(*) FROM get_top_cache_entries(10);
SELECT removed_by = current_user || ' (emergency_clear_cache)' AS by, expired_entries, dead_entries > 0 AS dead, rows > 0 AS rows
FROM cache_cleanup_log ORDER BY id DESC LIMIT 1;
SELECT emergency_clear_cache('EMERGENCY_CLEAR_CONFIRMED');
SELECT twin_cached() = twin(), twin_cached() = twin();

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA looking_test CASCADE;
