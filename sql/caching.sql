-- Caching: turn functions into cached ones and back, track tables.

CREATE FUNCTION cache_function(
    function    regprocedure,
    ttl         interval DEFAULT NULL,
    depends_on  jsonb    DEFAULT NULL,
    tags        text[]   DEFAULT NULL,
    class       text     DEFAULT NULL,
    scope       text     DEFAULT NULL,
    consistency text     DEFAULT NULL,
    priority    integer  DEFAULT NULL,
    name        text     DEFAULT NULL,
    refresh_ahead          text     DEFAULT NULL,
    stale_while_revalidate interval DEFAULT NULL)
RETURNS regprocedure
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'cache_function_v0_2_wrapper';
COMMENT ON FUNCTION cache_function(regprocedure, interval, jsonb, text[], text, text, text, integer, text, text, interval) IS
    'creates a cached function for a function, in its schema, and returns it';

CREATE FUNCTION uncache_function(function regprocedure) RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'uncache_function_wrapper';
COMMENT ON FUNCTION uncache_function(regprocedure) IS 'drops a cached function; the function that it caches stays';

CREATE FUNCTION cache_track_table(relation regclass, key_columns name[] DEFAULT '{}') RETURNS integer
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'cache_track_table_wrapper';
COMMENT ON FUNCTION cache_track_table(regclass, name[]) IS
    'starts to track writes to a table, and to single values of its key columns; returns the number of triggers added';

CREATE FUNCTION cache_untrack_table(relation regclass) RETURNS integer
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'cache_untrack_table_wrapper';
COMMENT ON FUNCTION cache_untrack_table(regclass) IS 'stops to track writes to a table; returns the number of triggers dropped';

CREATE VIEW cached_functions AS
SELECT p.oid::pg_catalog.regprocedure                                    AS function,
       body.json ->> 'function'                                          AS base_function,
       pg_catalog.pg_get_userbyid(p.proowner)                            AS owner,
       COALESCE(body.json ->> 'class', 'default')                        AS class,
       (body.json ->> 'ttl')::pg_catalog.interval                        AS ttl,
       COALESCE(body.json ->> 'scope', 'role')                           AS scope,
       COALESCE(body.json ->> 'consistency', 'strict')                   AS consistency,
       COALESCE((body.json ->> 'priority')::pg_catalog.int4, 0)          AS priority,
       body.json -> 'depends_on'                                         AS depends_on,
       body.json -> 'tags'                                               AS tags,
       body.json ->> 'refresh_ahead'                                     AS refresh_ahead,
       (body.json ->> 'stale_while_revalidate')::pg_catalog.interval     AS stale_while_revalidate
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
-- The CASE, so that no condition of a caller makes the planner read the source of a function in another language as JSON.
CROSS JOIN LATERAL (SELECT CASE WHEN l.lanname OPERATOR(pg_catalog.=) 'cached' THEN p.prosrc::pg_catalog.jsonb END) AS body (json)
WHERE l.lanname OPERATOR(pg_catalog.=) 'cached';
COMMENT ON VIEW cached_functions IS 'the cached functions of this database and what their bodies say';

-- Invalidation: transactional, others see it at commit.

CREATE FUNCTION invalidate_cache(tags text[]) RETURNS bigint
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'invalidate_cache_wrapper';
COMMENT ON FUNCTION invalidate_cache(text[]) IS 'invalidates all results with one of the tags; returns how many entries carry one';

CREATE FUNCTION invalidate_cache_function(function regprocedure) RETURNS bigint
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'invalidate_cache_function_wrapper';
COMMENT ON FUNCTION invalidate_cache_function(regprocedure) IS 'invalidates all results of a cached function; returns how many entries it has';

CREATE FUNCTION invalidate_cache_table(relation regclass) RETURNS bigint
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'invalidate_cache_table_wrapper';
COMMENT ON FUNCTION invalidate_cache_table(regclass) IS 'invalidates all results that depend on a table; returns how many entries do';

CREATE FUNCTION clear_cache() RETURNS bigint
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'clear_cache_wrapper';
COMMENT ON FUNCTION clear_cache() IS 'invalidates all results of this database; returns how many entries it has';

-- Looking: what the cache holds and what it did.

CREATE FUNCTION cache_stats(
    OUT calls bigint, OUT hits bigint, OUT misses bigint, OUT bypasses bigint, OUT fills bigint, OUT waits bigint,
    OUT refreshes bigint, OUT stale bigint, OUT invalidations bigint, OUT expirations bigint, OUT evictions bigint, OUT no_room bigint,
    OUT entries bigint, OUT dead_entries bigint, OUT memory_bytes bigint, OUT memory_limit_bytes bigint,
    OUT hit_rate double precision, OUT fill_seconds double precision, OUT saved_seconds double precision,
    OUT writer_seconds double precision, OUT net_benefit_seconds double precision, OUT damaged bigint,
    OUT verified bigint, OUT differences bigint, OUT time_dependent bigint, OUT nondeterministic bigint,
    OUT reasons jsonb, OUT since timestamp with time zone)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 1 AS 'MODULE_PATHNAME', 'cache_stats_v0_2_wrapper';
COMMENT ON FUNCTION cache_stats() IS
    'counters of this database since the server started, one row; memory and evictions are those of the whole server';

CREATE FUNCTION cache_function_counters(
    OUT function oid, OUT calls bigint, OUT hits bigint, OUT misses bigint, OUT bypasses bigint, OUT hit_rate double precision,
    OUT fills bigint, OUT waits bigint, OUT refreshes bigint, OUT stale bigint, OUT invalidations bigint, OUT expirations bigint,
    OUT fill_seconds double precision,
    OUT fill_p50_ms double precision, OUT fill_p95_ms double precision, OUT fill_p99_ms double precision,
    OUT fill_max_ms double precision, OUT saved_seconds double precision, OUT writer_seconds double precision,
    OUT net_benefit_seconds double precision, OUT entries bigint, OUT memory_bytes bigint,
    OUT verified bigint, OUT differences bigint, OUT quarantined boolean, OUT reasons jsonb)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 20 AS 'MODULE_PATHNAME', 'cache_function_counters_v0_2_wrapper';
COMMENT ON FUNCTION cache_function_counters() IS 'counters by cached function, as the view cache_function_stats shows them';

CREATE VIEW cache_function_stats AS
SELECT c.function::pg_catalog.regprocedure AS function,
       c.calls, c.hits, c.misses, c.bypasses, c.hit_rate, c.fills, c.waits, c.refreshes, c.stale, c.invalidations, c.expirations,
       c.fill_seconds, c.fill_p50_ms, c.fill_p95_ms, c.fill_p99_ms, c.fill_max_ms,
       c.saved_seconds, c.writer_seconds, c.net_benefit_seconds, c.entries, c.memory_bytes,
       c.verified, c.differences, c.quarantined, c.reasons
FROM cache_function_counters() AS c
JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) c.function;
COMMENT ON VIEW cache_function_stats IS 'what became of the calls of each cached function since the server started';

CREATE FUNCTION cache_memory_entries(
    OUT cache_key text, OUT function oid, OUT hit_count bigint,
    OUT created_at timestamp with time zone, OUT expires_at timestamp with time zone,
    OUT size_bytes bigint, OUT cost_ms double precision, OUT priority integer, OUT dead boolean)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 1000 AS 'MODULE_PATHNAME', 'cache_entries_wrapper';
COMMENT ON FUNCTION cache_memory_entries() IS 'entries of this database in memory, without their values';
