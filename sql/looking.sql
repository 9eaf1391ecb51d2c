-- Looking further: the entries that matter most, how it went over time, and all figures for a monitoring system.

CREATE FUNCTION query_cache_internal.cache_ranking(by text) RETURNS text
    LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cache_ranking_wrapper';
COMMENT ON FUNCTION query_cache_internal.cache_ranking(text) IS 'the word itself if get_top_cache_entries() can rank by it, else an error';

-- SECURITY DEFINER for the column with the dependencies, which nobody else may read: a dead row is no entry. Memory is looked at first;
-- that settles the writers, by which rows are known to be dead. A row may hold anything: what is no moment is no entry, and no cost is
-- larger than can be multiplied.
CREATE FUNCTION get_top_cache_entries(n integer DEFAULT 10, by text DEFAULT 'hits')
RETURNS TABLE (function regprocedure, cache_key text, hit_count bigint, size_bytes bigint, cost_ms double precision,
               saved_ms double precision, age interval, expires_in interval, in_memory boolean)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH m AS MATERIALIZED (
        SELECT c.cache_key, c.function, c.hit_count, c.created_at, c.expires_at, c.size_bytes, c.cost_ms, c.dead
        FROM @extschema@.cache_memory_entries() AS c
    )
    SELECT e.function::pg_catalog.regprocedure, e.cache_key, e.hit_count, e.size_bytes, e.cost_ms, e.saved_ms,
           pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) e.created_at,
           e.expires_at OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp(), e.in_memory
    FROM (SELECT s.function, s.cache_key, s.hit_count, s.size_bytes, s.cost_ms, s.created_at, s.expires_at, s.in_memory,
                 s.hit_count::pg_catalog.float8 OPERATOR(pg_catalog.*)
                     LEAST(GREATEST(s.cost_ms, 0::pg_catalog.float8), 1e15::pg_catalog.float8) AS saved_ms
          FROM (SELECT m.function, m.cache_key, m.hit_count, m.size_bytes, m.cost_ms, m.created_at, m.expires_at, true
                FROM m
                WHERE NOT m.dead
                UNION ALL
                SELECT t.function, t.cache_key, t.hit_count, t.size_bytes, t.cost_ms, t.created_at, t.expires_at, false
                FROM @extschema@.query_cache AS t
                WHERE NOT EXISTS (SELECT FROM m WHERE m.cache_key OPERATOR(pg_catalog.=) t.cache_key)
                  AND NOT query_cache_internal.cache_row_is_dead(t.dependencies)
               ) AS s (function, cache_key, hit_count, size_bytes, cost_ms, created_at, expires_at, in_memory)
         ) AS e
    WHERE e.expires_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
          AND pg_catalog.isfinite(e.created_at) AND pg_catalog.isfinite(e.expires_at)
    ORDER BY CASE WHEN by OPERATOR(pg_catalog.=) 'bytes'::pg_catalog.text THEN e.size_bytes::pg_catalog.float8
                  WHEN by OPERATOR(pg_catalog.=) 'saved'::pg_catalog.text THEN e.saved_ms
                  ELSE e.hit_count::pg_catalog.float8 END DESC,
             e.saved_ms DESC, e.cache_key
    LIMIT CASE WHEN query_cache_internal.cache_ranking(by) IS NOT NULL THEN GREATEST(n, 0) END;
END;
COMMENT ON FUNCTION get_top_cache_entries(integer, text) IS
    'the entries of this database, in memory or in query_cache, with the most hits, bytes, or computing time saved';

CREATE FUNCTION cache_metrics() RETURNS text
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'cache_metrics_wrapper';
COMMENT ON FUNCTION cache_metrics() IS 'all figures of this database in the text format of Prometheus, version 0.0.4';

-- Logged: it is history of the database's own, a crash must not take it. Rows change in place, so there is room for that. No unique
-- key: a dump of an earlier version has to load whatever the worker has written by then.
CREATE TABLE cache_trends (
    resolution    text COLLATE "C"         NOT NULL,
    bucket        timestamp with time zone NOT NULL,
    hits          bigint                   NOT NULL,
    misses        bigint                   NOT NULL,
    bypasses      bigint                   NOT NULL,
    fills         bigint                   NOT NULL,
    waits         bigint                   NOT NULL,
    invalidations bigint                   NOT NULL,
    expirations   bigint                   NOT NULL,
    evictions     bigint                   NOT NULL,
    no_room       bigint                   NOT NULL,
    entries       bigint                   NOT NULL,
    memory_bytes  bigint                   NOT NULL,
    fill_us       bigint                   NOT NULL,
    saved_us      bigint                   NOT NULL,
    writer_us     bigint                   NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX cache_trends_bucket_idx ON cache_trends (resolution, bucket);
ALTER TABLE cache_trends ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE cache_trends IS
    'what was counted in each minute (kept for 48 hours), hour (60 days) and day (2 years); written by the background worker';
COMMENT ON COLUMN cache_trends.resolution IS 'minute, hour or day; what a minute counts its hour and its day count too';
COMMENT ON COLUMN cache_trends.bucket IS 'begin of the minute, hour or day, in UTC';
COMMENT ON COLUMN cache_trends.hits IS 'calls answered from the cache';
COMMENT ON COLUMN cache_trends.misses IS 'calls that found nothing valid';
COMMENT ON COLUMN cache_trends.bypasses IS 'calls answered by the function on purpose';
COMMENT ON COLUMN cache_trends.fills IS 'results stored';
COMMENT ON COLUMN cache_trends.waits IS 'calls that waited for another session''s computation';
COMMENT ON COLUMN cache_trends.invalidations IS 'misses that found an entry which a write had invalidated';
COMMENT ON COLUMN cache_trends.expirations IS 'misses that found an entry which was too old';
COMMENT ON COLUMN cache_trends.evictions IS 'entries that left for lack of room, of the whole server';
COMMENT ON COLUMN cache_trends.no_room IS 'results that found no room, of the whole server';
COMMENT ON COLUMN cache_trends.entries IS 'entries in memory, the most that were seen';
COMMENT ON COLUMN cache_trends.memory_bytes IS 'memory in use, of the whole server, the most that was seen';
COMMENT ON COLUMN cache_trends.fill_us IS 'microseconds that misses spent in the functions';
COMMENT ON COLUMN cache_trends.saved_us IS 'microseconds that hits would have spent in the functions';
COMMENT ON COLUMN cache_trends.writer_us IS 'microseconds that writers spent in tracking triggers';
-- Where the table is published, rows without a key could be neither changed nor removed.
ALTER TABLE cache_trends REPLICA IDENTITY FULL;
CREATE TRIGGER cache_stays_here BEFORE INSERT OR UPDATE OR DELETE ON cache_trends
    FOR EACH ROW EXECUTE FUNCTION query_cache_internal.cache_stays_here();
ALTER TABLE cache_trends ENABLE REPLICA TRIGGER cache_stays_here;
COMMENT ON TRIGGER cache_stays_here ON cache_trends IS 'what another server''s cache has written stays there';

-- SECURITY DEFINER for the table: who may call it may see all of it.
CREATE FUNCTION cache_analytics(
    period interval DEFAULT '1 day',
    OUT bucket timestamp with time zone, OUT resolution text, OUT calls bigint, OUT hits bigint, OUT misses bigint, OUT bypasses bigint,
    OUT hit_rate double precision, OUT fills bigint, OUT waits bigint, OUT invalidations bigint, OUT expirations bigint,
    OUT evictions bigint, OUT no_room bigint, OUT entries bigint, OUT memory_bytes bigint,
    OUT fill_seconds double precision, OUT saved_seconds double precision, OUT writer_seconds double precision)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT SECURITY DEFINER ROWS 100 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'cache_analytics_wrapper';
COMMENT ON FUNCTION cache_analytics(interval) IS
    'what was counted in the last period, without gaps and up to now: by minute up to 2 hours, by hour up to 4 days, else by day';
