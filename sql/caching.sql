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
    stale_while_revalidate interval DEFAULT NULL,
    clock       text     DEFAULT NULL,
    trust       text[]   DEFAULT NULL)
RETURNS regprocedure
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'cache_function_v0_3_wrapper';
COMMENT ON FUNCTION cache_function(regprocedure, interval, jsonb, text[], text, text, text, integer, text, text, interval, text, text[]) IS
    'creates a cached function for a function, in its schema, and returns it';

-- A literal is one of these, so that what is wrong with it is told.
CREATE FUNCTION cache_function(
    function    text,
    ttl         interval DEFAULT NULL,
    depends_on  jsonb    DEFAULT NULL,
    tags        text[]   DEFAULT NULL,
    class       text     DEFAULT NULL,
    scope       text     DEFAULT NULL,
    consistency text     DEFAULT NULL,
    priority    integer  DEFAULT NULL,
    name        text     DEFAULT NULL,
    refresh_ahead          text     DEFAULT NULL,
    stale_while_revalidate interval DEFAULT NULL,
    clock       text     DEFAULT NULL,
    trust       text[]   DEFAULT NULL)
RETURNS regprocedure
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'cache_function_by_name_wrapper';
COMMENT ON FUNCTION cache_function(text, interval, jsonb, text[], text, text, text, integer, text, text, interval, text, text[]) IS
    'creates a cached function for a function that is given by its name and the types of its arguments, in its schema, and returns it';

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

CREATE FUNCTION query_cache_internal.cache_function_follow(function regprocedure) RETURNS boolean
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'cache_function_follow_wrapper';
COMMENT ON FUNCTION query_cache_internal.cache_function_follow(regprocedure) IS
    'writes the present name of its base function into the body of a cached function; false if it is there, or if somebody else is changing the function';

CREATE FUNCTION query_cache_internal.cached_body(source text) RETURNS jsonb
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cached_body_wrapper';
COMMENT ON FUNCTION query_cache_internal.cached_body(text) IS
    'the body of a cached function, NULL if it cannot be shown: one function must not hide all others in the view cached_functions';

CREATE VIEW cached_functions AS
SELECT p.oid::pg_catalog.regprocedure                                                                       AS function,
       body.json OPERATOR(pg_catalog.->>) 'function'::pg_catalog.text                                       AS base_function,
       pg_catalog.pg_get_userbyid(p.proowner)                                                               AS owner,
       COALESCE(body.json OPERATOR(pg_catalog.->>) 'class'::pg_catalog.text, 'default'::pg_catalog.text)    AS class,
       (body.json OPERATOR(pg_catalog.->>) 'ttl'::pg_catalog.text)::pg_catalog.interval                     AS ttl,
       COALESCE(body.json OPERATOR(pg_catalog.->>) 'scope'::pg_catalog.text, 'role'::pg_catalog.text)       AS scope,
       COALESCE(body.json OPERATOR(pg_catalog.->>) 'consistency'::pg_catalog.text, 'strict'::pg_catalog.text) AS consistency,
       COALESCE((body.json OPERATOR(pg_catalog.->>) 'priority'::pg_catalog.text)::pg_catalog.int4, 0)       AS priority,
       body.json OPERATOR(pg_catalog.->) 'depends_on'::pg_catalog.text                                      AS depends_on,
       body.json OPERATOR(pg_catalog.->) 'tags'::pg_catalog.text                                            AS tags,
       body.json OPERATOR(pg_catalog.->>) 'refresh_ahead'::pg_catalog.text                                  AS refresh_ahead,
       (body.json OPERATOR(pg_catalog.->>) 'stale_while_revalidate'::pg_catalog.text)::pg_catalog.interval  AS stale_while_revalidate,
       body.json OPERATOR(pg_catalog.->>) 'clock'::pg_catalog.text                                          AS clock,
       body.json OPERATOR(pg_catalog.->) 'trust'::pg_catalog.text                                           AS trust
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
-- The CASE, so that no condition of a caller makes the planner read the source of a function in another language as a body.
CROSS JOIN LATERAL (SELECT CASE WHEN l.lanname OPERATOR(pg_catalog.=) 'cached'::pg_catalog.name
                                THEN query_cache_internal.cached_body(p.prosrc) END) AS body (json)
WHERE l.lanname OPERATOR(pg_catalog.=) 'cached'::pg_catalog.name;
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

CREATE FUNCTION query_cache_internal.cache_function_counters(
    OUT function oid, OUT calls bigint, OUT hits bigint, OUT misses bigint, OUT bypasses bigint, OUT hit_rate double precision,
    OUT fills bigint, OUT waits bigint, OUT refreshes bigint, OUT stale bigint, OUT invalidations bigint, OUT expirations bigint,
    OUT fill_seconds double precision,
    OUT fill_p50_ms double precision, OUT fill_p95_ms double precision, OUT fill_p99_ms double precision,
    OUT fill_max_ms double precision, OUT saved_seconds double precision, OUT writer_seconds double precision,
    OUT net_benefit_seconds double precision, OUT entries bigint, OUT memory_bytes bigint,
    OUT verified bigint, OUT differences bigint, OUT quarantined boolean,
    OUT storing text, OUT resting_since timestamp with time zone,
    OUT run_us double precision, OUT hit_us double precision, OUT store_us double precision, OUT reasons jsonb)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 20 AS 'MODULE_PATHNAME', 'cache_function_counters_v0_2_wrapper';
COMMENT ON FUNCTION query_cache_internal.cache_function_counters() IS 'counters by cached function, as the view cache_function_stats shows them';

CREATE VIEW cache_function_stats AS
SELECT c.function::pg_catalog.regprocedure AS function,
       c.calls, c.hits, c.misses, c.bypasses, c.hit_rate, c.fills, c.waits, c.refreshes, c.stale, c.invalidations, c.expirations,
       c.fill_seconds, c.fill_p50_ms, c.fill_p95_ms, c.fill_p99_ms, c.fill_max_ms,
       c.saved_seconds, c.writer_seconds, c.net_benefit_seconds, c.entries, c.memory_bytes,
       c.verified, c.differences, c.quarantined, c.storing, c.resting_since, c.run_us, c.hit_us, c.store_us, c.reasons
FROM query_cache_internal.cache_function_counters() AS c
JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) c.function;
COMMENT ON VIEW cache_function_stats IS 'what became of the calls of each cached function since the server started';

CREATE FUNCTION cache_memory_entries(
    OUT cache_key text, OUT function oid, OUT hit_count bigint,
    OUT created_at timestamp with time zone, OUT expires_at timestamp with time zone,
    OUT size_bytes bigint, OUT cost_ms double precision, OUT priority integer, OUT dead boolean)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 1000 AS 'MODULE_PATHNAME', 'cache_entries_wrapper';
COMMENT ON FUNCTION cache_memory_entries() IS 'entries of this database in memory, without their values';

-- The columns of the views.

COMMENT ON COLUMN cached_functions.function IS 'the cached function';
COMMENT ON COLUMN cached_functions.base_function IS 'what it caches, as its body says';
COMMENT ON COLUMN cached_functions.owner IS 'who owns the cached function';
COMMENT ON COLUMN cached_functions.class IS 'its class';
COMMENT ON COLUMN cached_functions.ttl IS 'its own time to live; NULL: that of the class';
COMMENT ON COLUMN cached_functions.scope IS 'role, claims or shared';
COMMENT ON COLUMN cached_functions.consistency IS 'strict or ttl';
COMMENT ON COLUMN cached_functions.priority IS '0 to 3: rounds of eviction that an entry survives without a hit';
COMMENT ON COLUMN cached_functions.depends_on IS 'tables and key columns that the body names';
COMMENT ON COLUMN cached_functions.tags IS 'names for invalidate_cache()';
COMMENT ON COLUMN cached_functions.refresh_ahead IS 'how long before the end results are computed anew';
COMMENT ON COLUMN cached_functions.stale_while_revalidate IS 'for how long after the end results are served while they are computed anew';
COMMENT ON COLUMN cached_functions.clock IS 'minute, hour or day: so much of the time is part of the key';
COMMENT ON COLUMN cached_functions.trust IS 'functions for which the owner vouches';
COMMENT ON COLUMN cache_function_stats.function IS 'the cached function';
COMMENT ON COLUMN cache_function_stats.calls IS 'hits, misses and bypasses';
COMMENT ON COLUMN cache_function_stats.hits IS 'calls answered from the cache';
COMMENT ON COLUMN cache_function_stats.misses IS 'calls that found nothing valid';
COMMENT ON COLUMN cache_function_stats.bypasses IS 'calls answered by the function on purpose';
COMMENT ON COLUMN cache_function_stats.hit_rate IS 'hits of hits and misses, 0 to 1';
COMMENT ON COLUMN cache_function_stats.fills IS 'results stored';
COMMENT ON COLUMN cache_function_stats.waits IS 'calls that waited for another sessions computation';
COMMENT ON COLUMN cache_function_stats.refreshes IS 'results computed anew ahead of time';
COMMENT ON COLUMN cache_function_stats.stale IS 'hits past the time to live, while the result was computed anew';
COMMENT ON COLUMN cache_function_stats.invalidations IS 'misses that found a result which a write had invalidated';
COMMENT ON COLUMN cache_function_stats.expirations IS 'misses that found a result which was too old';
COMMENT ON COLUMN cache_function_stats.fill_seconds IS 'time spent in the function by misses';
COMMENT ON COLUMN cache_function_stats.fill_p50_ms IS 'half of the computations took at most this long';
COMMENT ON COLUMN cache_function_stats.fill_p95_ms IS '95 of 100 computations took at most this long';
COMMENT ON COLUMN cache_function_stats.fill_p99_ms IS '99 of 100 computations took at most this long';
COMMENT ON COLUMN cache_function_stats.fill_max_ms IS 'the longest computation';
COMMENT ON COLUMN cache_function_stats.saved_seconds IS 'time that hits would have spent in the function';
COMMENT ON COLUMN cache_function_stats.writer_seconds IS 'its share of the time that writers spent in tracking triggers';
COMMENT ON COLUMN cache_function_stats.net_benefit_seconds IS 'saved_seconds less writer_seconds';
COMMENT ON COLUMN cache_function_stats.entries IS 'entries in memory';
COMMENT ON COLUMN cache_function_stats.memory_bytes IS 'bytes of these';
COMMENT ON COLUMN cache_function_stats.verified IS 'hits computed again and compared';
COMMENT ON COLUMN cache_function_stats.differences IS 'of these, that were wrong';
COMMENT ON COLUMN cache_function_stats.quarantined IS 'whether it is bypassed because a stored result was wrong';
COMMENT ON COLUMN cache_function_stats.storing IS 'whether its results are stored: yes, resting and why, or no and the reason';
COMMENT ON COLUMN cache_function_stats.resting_since IS 'since when it rests because caching it does not pay';
COMMENT ON COLUMN cache_function_stats.run_us IS 'what running the function takes on average';
COMMENT ON COLUMN cache_function_stats.hit_us IS 'what a hit takes on average, of those that were measured';
COMMENT ON COLUMN cache_function_stats.store_us IS 'what storing a result takes on average';
COMMENT ON COLUMN cache_function_stats.reasons IS 'bypasses, and results not stored, by reason';
