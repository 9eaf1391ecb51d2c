-- Updates 0.1.0 to 0.2.0. What is new is here as it is in the files of the same
-- names; a test compares the outcome with a new installation, object by object.

\echo Use "ALTER EXTENSION pg_query_cache UPDATE" to load this file. \quit

-- Policies of 0.1.0; those made in the end take their place.
DROP POLICY query_cache_monitor ON query_cache;
DROP POLICY cache_cleanup_log_monitor ON cache_cleanup_log;
DROP POLICY cache_quarantine_monitor ON cache_quarantine;
DROP POLICY IF EXISTS query_cache_service ON query_cache;
DROP POLICY IF EXISTS cache_cleanup_log_service ON cache_cleanup_log;
DROP POLICY IF EXISTS cache_quarantine_service ON cache_quarantine;

-- More arguments, more columns.
DROP FUNCTION cache_function(regprocedure, interval, jsonb, text[], text, text, text, integer, text);
DROP VIEW cache_function_stats;
DROP FUNCTION cache_function_counters();
DROP FUNCTION cache_stats();
DROP FUNCTION get_top_cache_entries(integer);
DROP FUNCTION analyze_cache_health();

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
    OUT verified bigint, OUT differences bigint, OUT quarantined boolean,
    OUT storing text, OUT resting_since timestamp with time zone,
    OUT run_us double precision, OUT hit_us double precision, OUT store_us double precision, OUT reasons jsonb)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 20 AS 'MODULE_PATHNAME', 'cache_function_counters_v0_2_wrapper';
COMMENT ON FUNCTION cache_function_counters() IS 'counters by cached function, as the view cache_function_stats shows them';

CREATE VIEW cache_function_stats AS
SELECT c.function::pg_catalog.regprocedure AS function,
       c.calls, c.hits, c.misses, c.bypasses, c.hit_rate, c.fills, c.waits, c.refreshes, c.stale, c.invalidations, c.expirations,
       c.fill_seconds, c.fill_p50_ms, c.fill_p95_ms, c.fill_p99_ms, c.fill_max_ms,
       c.saved_seconds, c.writer_seconds, c.net_benefit_seconds, c.entries, c.memory_bytes,
       c.verified, c.differences, c.quarantined, c.storing, c.resting_since, c.run_us, c.hit_us, c.store_us, c.reasons
FROM @extschema@.cache_function_counters() AS c
JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) c.function;
COMMENT ON VIEW cache_function_stats IS 'what became of the calls of each cached function since the server started';

CREATE OR REPLACE VIEW cached_functions AS
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
       (body.json OPERATOR(pg_catalog.->>) 'stale_while_revalidate'::pg_catalog.text)::pg_catalog.interval  AS stale_while_revalidate
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
-- The CASE, so that no condition of a caller makes the planner read the source of a function in another language as JSON.
CROSS JOIN LATERAL (SELECT CASE WHEN l.lanname OPERATOR(pg_catalog.=) 'cached'::pg_catalog.name
                                THEN p.prosrc::pg_catalog.jsonb END) AS body (json)
WHERE l.lanname OPERATOR(pg_catalog.=) 'cached'::pg_catalog.name;
COMMENT ON VIEW cached_functions IS 'the cached functions of this database and what their bodies say';

CREATE OR REPLACE FUNCTION get_cache_cleanup_stats(days integer DEFAULT 7)
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

CREATE FUNCTION analyze_cache_health(
    OUT finding text, OUT status text, OUT value text, OUT threshold text, OUT recommendation text, OUT sql text)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 20 SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'analyze_cache_health_v0_2_wrapper';
COMMENT ON FUNCTION analyze_cache_health() IS
    'what is well and what is not: each finding with its status (critical, warning, ok), value, threshold and what to do, in words and as SQL';

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

COMMENT ON COLUMN cache_cleanup_log.id IS 'number of the clean-up';
COMMENT ON COLUMN cache_cleanup_log.rows IS 'rows removed from query_cache and cache_values';

CREATE FUNCTION get_enterprise_contacts_summary_cached(enterprise_id bigint, cache_duration interval DEFAULT '2 hours')
RETURNS jsonb LANGUAGE cached STABLE PARALLEL RESTRICTED
AS '{"function": "get_enterprise_contacts_summary(bigint)", "class": "enterprise", "tags": ["enterprises", "enterprise:$1"], "binding": "late"}';
COMMENT ON FUNCTION get_enterprise_contacts_summary_cached(bigint, interval) IS
    'get_enterprise_contacts_summary(enterprise_id), cached; cache_duration is the greatest age the caller accepts';

CREATE FUNCTION get_department_contacts_summary_cached(enterprise_id bigint, department_id bigint, cache_duration interval DEFAULT '1 hour')
RETURNS jsonb LANGUAGE cached STABLE PARALLEL RESTRICTED
AS '{"function": "get_department_contacts_summary(bigint,bigint)", "class": "department", "tags": ["departments", "enterprise:$1:departments"], "binding": "late"}';
COMMENT ON FUNCTION get_department_contacts_summary_cached(bigint, bigint, interval) IS
    'get_department_contacts_summary(enterprise_id, department_id), cached; cache_duration is the greatest age the caller accepts';

-- clearing.sql

-- Clearing a part of the cache: by the names of functions, by what they are
-- about. Transactional, as all invalidation is.

CREATE FUNCTION invalidate_cache_pattern(pattern text) RETURNS bigint
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'invalidate_cache_pattern_wrapper';
COMMENT ON FUNCTION invalidate_cache_pattern(text) IS
    'invalidates all results of the cached functions whose name matches, * for any characters and ? for one; returns how many entries they have';

-- The tags are those of get_department_contacts_summary_cached (domain.sql); an
-- application's own cached functions that carry them are cleared along with it.
CREATE FUNCTION clear_department_cache(enterprise_id bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT @extschema@.invalidate_cache(
        ARRAY[CASE WHEN enterprise_id IS NULL THEN 'departments'::pg_catalog.text
                   ELSE pg_catalog.concat('enterprise:'::pg_catalog.text, enterprise_id, ':departments'::pg_catalog.text)
              END]::pg_catalog.text[]);
END;
COMMENT ON FUNCTION clear_department_cache(bigint) IS
    'invalidates the summaries of all departments of one enterprise (null: of all); returns how many entries there are';

-- configuration.sql

-- Configuration: what can be changed while the server runs, for all sessions of a database at once.

CREATE TABLE cache_configuration (
    name       text COLLATE "C"         NOT NULL,
    value      text COLLATE "C"         NOT NULL,
    changed_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    changed_by name                     NOT NULL DEFAULT CURRENT_USER,
    CONSTRAINT cache_configuration_pkey PRIMARY KEY (name)
);
ALTER TABLE cache_configuration ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE cache_configuration IS
    'what of the configuration differs from the defaults; set_cache_config() writes it, cache_config() shows the whole';
COMMENT ON COLUMN cache_configuration.name IS 'what is configured, as cache_config() names it';
COMMENT ON COLUMN cache_configuration.value IS 'its value; one that cannot be read counts as the default';
COMMENT ON COLUMN cache_configuration.changed_at IS 'when it was changed last';
COMMENT ON COLUMN cache_configuration.changed_by IS 'the role that changed it last';

CREATE TABLE cache_configuration_log (
    id           bigint GENERATED ALWAYS AS IDENTITY,
    changed_at   timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    changed_by   name                     NOT NULL,
    session_role name                     NOT NULL,
    name         text COLLATE "C"         NOT NULL,
    old_value    text COLLATE "C",
    new_value    text COLLATE "C",
    CONSTRAINT cache_configuration_log_pkey PRIMARY KEY (id)
);
CREATE INDEX cache_configuration_log_changed_at_idx ON cache_configuration_log (changed_at);
ALTER TABLE cache_configuration_log ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE cache_configuration_log IS 'who changed what of the configuration by set_cache_config(); kept for 400 days';
COMMENT ON COLUMN cache_configuration_log.id IS 'number of the change';
COMMENT ON COLUMN cache_configuration_log.changed_at IS 'when the transaction that changed it began';
COMMENT ON COLUMN cache_configuration_log.changed_by IS 'the role that changed it';
COMMENT ON COLUMN cache_configuration_log.session_role IS 'the role that had logged in';
COMMENT ON COLUMN cache_configuration_log.name IS 'what was changed, as cache_config() names it';
COMMENT ON COLUMN cache_configuration_log.old_value IS 'the value before; NULL: the default';
COMMENT ON COLUMN cache_configuration_log.new_value IS 'the value after; NULL: the default';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.cache_configuration'::pg_catalog.regclass, ''::pg_catalog.text);
SELECT pg_catalog.pg_extension_config_dump('@extschema@.cache_configuration_log'::pg_catalog.regclass, ''::pg_catalog.text);
SELECT pg_catalog.pg_extension_config_dump('@extschema@.cache_configuration_log_id_seq'::pg_catalog.regclass, ''::pg_catalog.text);

-- Whoever writes the table, a restore for example: all sessions learn of it at commit.
CREATE FUNCTION cache_configuration_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'cache_configuration_changed';
COMMENT ON FUNCTION cache_configuration_changed() IS 'trigger function that tells all sessions of a change of cache_configuration';
CREATE TRIGGER cache_configuration_changed AFTER INSERT OR UPDATE OR DELETE ON cache_configuration
    FOR EACH ROW EXECUTE FUNCTION cache_configuration_changed();
CREATE TRIGGER cache_configuration_emptied AFTER TRUNCATE ON cache_configuration
    FOR EACH STATEMENT EXECUTE FUNCTION cache_configuration_changed();
COMMENT ON TRIGGER cache_configuration_changed ON cache_configuration IS 'all sessions learn of a change at commit';
COMMENT ON TRIGGER cache_configuration_emptied ON cache_configuration IS 'all sessions learn of a change at commit';
ALTER TABLE cache_configuration ENABLE ALWAYS TRIGGER cache_configuration_changed;
ALTER TABLE cache_configuration ENABLE ALWAYS TRIGGER cache_configuration_emptied;

-- The role that calls it need not have any right on the tables: the function
-- does one thing, and who may call it is said in rights.sql.
CREATE FUNCTION set_cache_config(name text, value text) RETURNS text
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'set_cache_config_wrapper';
COMMENT ON FUNCTION set_cache_config(text, text) IS
    'changes the configuration of this database, when the transaction commits for all sessions; NULL: back to the default. Returns the value';

CREATE FUNCTION cache_config(
    OUT name text, OUT value text, OUT default_value text, OUT kind text, OUT source text,
    OUT changed_at timestamp with time zone, OUT changed_by text, OUT description text)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 50 AS 'MODULE_PATHNAME', 'cache_config_wrapper';
COMMENT ON FUNCTION cache_config() IS
    'the configuration of this database: what set_cache_config() changes, and the settings of the server with how to change them';

-- looking.sql

-- Looking further: the entries that matter most, how it went over time, and all figures for a monitoring system.

CREATE FUNCTION cache_ranking(by text) RETURNS text
    LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cache_ranking_wrapper';
COMMENT ON FUNCTION cache_ranking(text) IS 'the word itself if get_top_cache_entries() can rank by it, else an error';

-- SECURITY DEFINER for the column with the dependencies, which nobody else may read: a dead row is no entry. Memory is looked at first;
-- that settles the writers, by which rows are known to be dead.
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
    FROM (SELECT m.function, m.cache_key, m.hit_count, m.size_bytes, m.cost_ms,
                 m.hit_count::pg_catalog.float8 OPERATOR(pg_catalog.*) m.cost_ms, m.created_at, m.expires_at, true
          FROM m
          WHERE NOT m.dead
          UNION ALL
          SELECT t.function, t.cache_key, t.hit_count, t.size_bytes, t.cost_ms,
                 t.hit_count::pg_catalog.float8 OPERATOR(pg_catalog.*) t.cost_ms, t.created_at, t.expires_at, false
          FROM @extschema@.query_cache AS t
          WHERE NOT EXISTS (SELECT FROM m WHERE m.cache_key OPERATOR(pg_catalog.=) t.cache_key)
            AND NOT @extschema@.cache_row_is_dead(t.dependencies)
         ) AS e (function, cache_key, hit_count, size_bytes, cost_ms, saved_ms, created_at, expires_at, in_memory)
    WHERE e.expires_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
    ORDER BY CASE WHEN by OPERATOR(pg_catalog.=) 'bytes'::pg_catalog.text THEN e.size_bytes::pg_catalog.float8
                  WHEN by OPERATOR(pg_catalog.=) 'saved'::pg_catalog.text THEN e.saved_ms
                  ELSE e.hit_count::pg_catalog.float8 END DESC,
             e.saved_ms DESC, e.cache_key
    LIMIT CASE WHEN @extschema@.cache_ranking(by) IS NOT NULL THEN GREATEST(n, 0) END;
END;
COMMENT ON FUNCTION get_top_cache_entries(integer, text) IS
    'the entries of this database, in memory or in query_cache, with the most hits, bytes, or computing time saved';

CREATE FUNCTION cache_metrics() RETURNS text
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'cache_metrics_wrapper';
COMMENT ON FUNCTION cache_metrics() IS 'all figures of this database in the text format of Prometheus, version 0.0.4';

-- Logged: it is history of the database's own, a crash must not take it. Rows change in place, so there is room for that. No unique
-- key: a dump has to load whatever the worker has written by then.
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
SELECT pg_catalog.pg_extension_config_dump('@extschema@.cache_trends'::pg_catalog.regclass, ''::pg_catalog.text);

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

-- maintenance.sql

-- Maintenance: put the cache in order, and the way out if nothing else helps.

CREATE FUNCTION optimize_cache(OUT action text, OUT detail text, OUT affected bigint, OUT bytes bigint, OUT sql text)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT SECURITY DEFINER ROWS 10 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'optimize_cache_wrapper';
COMMENT ON FUNCTION optimize_cache() IS
    'removes what is worthless, writes what is new, analyzes query_cache; says what it did, one row each, and what else it recommends';

-- Not STRICT: a missing confirmation is refused like a wrong one.
CREATE FUNCTION emergency_clear_cache(confirmation text) RETURNS bigint
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'emergency_clear_cache_wrapper';
COMMENT ON FUNCTION emergency_clear_cache(text) IS
    'invalidates and removes everything of this database from memory and query_cache; returns how many entries; needs a confirmation';

-- values.sql

-- Values: what an application keeps under keys of its own. They are rows of an ordinary table, so a transaction that
-- rolls back has kept nothing; memory is in front of it as it is in front of a function.

CREATE UNLOGGED TABLE cache_values (
    namespace  oid                      NOT NULL,
    key        text COLLATE "C"         NOT NULL,
    value      jsonb                    NOT NULL,
    expires_at timestamp with time zone,
    tags       text[]                   NOT NULL,
    priority   smallint                 NOT NULL,
    stored_at  timestamp with time zone NOT NULL,
    CONSTRAINT cache_values_pkey PRIMARY KEY (namespace, key)
) WITH (fillfactor = 80);
-- A value without tags is not in it, and one whose tags stay the same is changed without touching any index.
CREATE INDEX cache_values_tags_idx ON cache_values USING gin (tags) WHERE tags OPERATOR(pg_catalog.<>) '{}'::pg_catalog.text[];
ALTER TABLE cache_values ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE cache_values IS
    'values of the application under keys of its own, written by cache_set() and its like; a crash empties it';
COMMENT ON COLUMN cache_values.namespace IS
    'whose value it is: 0 everybody''s, or the oid of the role (pg_query_cache.value_namespace)';
COMMENT ON COLUMN cache_values.key IS 'the key, 1 to 1024 bytes';
COMMENT ON COLUMN cache_values.value IS 'the value';
COMMENT ON COLUMN cache_values.expires_at IS 'from when on it is not there any more; NULL never';
COMMENT ON COLUMN cache_values.tags IS 'names for invalidate_cache()';
COMMENT ON COLUMN cache_values.priority IS '0 to 3: those with less leave first when there are more than pg_query_cache.max_values';
COMMENT ON COLUMN cache_values.stored_at IS 'when it was last written';

CREATE FUNCTION cache_key(VARIADIC parts text[]) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pgqc_cache_key';
COMMENT ON FUNCTION cache_key(text[]) IS
    'a key made of parts, joined by ":"; different parts never make the same key';

CREATE FUNCTION cache_set(key text, value jsonb, ttl interval DEFAULT NULL, tags text[] DEFAULT '{}', priority integer DEFAULT 0)
RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pgqc_cache_set';
COMMENT ON FUNCTION cache_set(text, jsonb, interval, text[], integer) IS
    'keeps a value under a key, for good or for a time, in place of what was there';

CREATE FUNCTION cache_set_many(entries jsonb, ttl interval DEFAULT NULL, tags text[] DEFAULT '{}', priority integer DEFAULT 0)
RETURNS integer
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pgqc_cache_set_many';
COMMENT ON FUNCTION cache_set_many(jsonb, interval, text[], integer) IS
    'keeps all values of an object under their keys; returns how many';

CREATE FUNCTION cache_get(key text) RETURNS jsonb
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pgqc_cache_get';
COMMENT ON FUNCTION cache_get(text) IS 'the value under a key as the caller''s snapshot sees it, NULL if there is none';

CREATE FUNCTION cache_get_many(keys text[]) RETURNS TABLE (key text, value jsonb)
    LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED ROWS 10
BEGIN ATOMIC
    SELECT k.key, v.value
    FROM pg_catalog.unnest(keys) WITH ORDINALITY AS k (key, n)
    -- Once for each key, not once more for the condition.
    CROSS JOIN LATERAL (SELECT @extschema@.cache_get(k.key) AS value OFFSET 0) AS v
    WHERE v.value IS NOT NULL
    ORDER BY k.n;
END;
COMMENT ON FUNCTION cache_get_many(text[]) IS 'those of the keys that there are, in their order, with their values';

CREATE FUNCTION cache_exists(key text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pgqc_cache_exists';
COMMENT ON FUNCTION cache_exists(text) IS 'whether there is a value under a key';

CREATE FUNCTION cache_ttl(key text) RETURNS interval
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pgqc_cache_ttl';
COMMENT ON FUNCTION cache_ttl(text) IS 'how long the value under a key has to live; NULL if for good, or if there is none';

CREATE FUNCTION cache_touch(key text, ttl interval) RETURNS boolean
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pgqc_cache_touch';
COMMENT ON FUNCTION cache_touch(text, interval) IS
    'gives the value under a key this long to live from now on, NULL for good; returns whether there is one';

CREATE FUNCTION cache_delete(key text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pgqc_cache_delete';
COMMENT ON FUNCTION cache_delete(text) IS 'removes the value under a key; returns whether there was one';

CREATE FUNCTION cache_delete_many(keys text[]) RETURNS bigint
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pgqc_cache_delete_many';
COMMENT ON FUNCTION cache_delete_many(text[]) IS 'removes the values under keys; returns how many there were';

CREATE FUNCTION cache_delete_pattern(pattern text) RETURNS bigint
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pgqc_cache_delete_pattern';
COMMENT ON FUNCTION cache_delete_pattern(text) IS
    E'removes the values whose keys match a pattern (* ? [a-z] [^a-z] \\); returns how many there were';

CREATE FUNCTION cache_keys(pattern text DEFAULT '*', most integer DEFAULT 1000) RETURNS SETOF text
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED ROWS 1000 AS 'MODULE_PATHNAME', 'pgqc_cache_keys';
COMMENT ON FUNCTION cache_keys(text, integer) IS 'the first keys, in their order, that match a pattern and have a value';

CREATE FUNCTION cache_increment(key text, delta bigint DEFAULT 1, ttl interval DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pgqc_cache_increment';
COMMENT ON FUNCTION cache_increment(text, bigint, interval) IS
    'adds to the integer under a key, which begins with 0 and the ttl; returns the sum';

CREATE FUNCTION cache_remember(key text, query text, ttl interval DEFAULT NULL, tags text[] DEFAULT '{}') RETURNS jsonb
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pgqc_cache_remember';
COMMENT ON FUNCTION cache_remember(text, text, interval, text[]) IS
    'the value under a key; if there is none, that of a query, run with the caller''s rights, which is kept';

CREATE FUNCTION cache_value_stats(
    OUT keys bigint, OUT bytes bigint, OUT expired bigint, OUT hits bigint, OUT misses bigint, OUT bypasses bigint, OUT fills bigint)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 1 AS 'MODULE_PATHNAME', 'pgqc_cache_value_stats';
COMMENT ON FUNCTION cache_value_stats() IS
    'how many values there are, and how cache_get() found them since the server started, one row';

-- What the statements of these functions call.
CREATE FUNCTION cache_key_matches(key text, pattern text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pgqc_cache_key_matches';
COMMENT ON FUNCTION cache_key_matches(text, text) IS 'whether a key matches a pattern as in cache_delete_pattern()';

CREATE FUNCTION cache_value_sum(value jsonb, delta bigint) RETURNS jsonb
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pgqc_cache_value_sum';
COMMENT ON FUNCTION cache_value_sum(jsonb, bigint) IS 'an integer value and a number added, as in cache_increment()';

-- Any writer is noticed, this extension's functions or not: what memory has of a key depends on the key's rows.
SELECT @extschema@.cache_track_table('@extschema@.cache_values'::pg_catalog.regclass, '{key}'::pg_catalog.name[]);

-- warming.sql

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

-- Jobs: calls that a background process makes later.
CREATE TABLE cache_warm_jobs (
    id           bigint GENERATED ALWAYS AS IDENTITY,
    state        text COLLATE "C"         NOT NULL DEFAULT 'queued',
    function     oid                      NOT NULL,
    name         text                     NOT NULL,
    role         oid                      NOT NULL,
    session_role oid                      NOT NULL,
    total        bigint                   NOT NULL,
    done         bigint                   NOT NULL DEFAULT 0,
    stored       bigint                   NOT NULL DEFAULT 0,
    failed       bigint                   NOT NULL DEFAULT 0,
    error        text,
    queued_at    timestamp with time zone NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    started_at   timestamp with time zone,
    finished_at  timestamp with time zone,
    pid          integer,
    database     oid                      NOT NULL,
    calls        jsonb                    NOT NULL,
    settings     jsonb,
    CONSTRAINT cache_warm_jobs_pkey PRIMARY KEY (id),
    CONSTRAINT cache_warm_jobs_state_check CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['queued'::pg_catalog.text, 'running'::pg_catalog.text,
                                                   'done'::pg_catalog.text, 'failed'::pg_catalog.text]))
);
CREATE INDEX cache_warm_jobs_open_idx ON cache_warm_jobs (id) WHERE state OPERATOR(pg_catalog.=) ANY (ARRAY['queued'::pg_catalog.text, 'running'::pg_catalog.text]);
CREATE POLICY own_jobs ON cache_warm_jobs FOR SELECT USING (pg_catalog.pg_has_role(role, 'USAGE'::pg_catalog.text));
COMMENT ON POLICY own_jobs ON cache_warm_jobs IS 'each role sees its own jobs';
COMMENT ON TABLE cache_warm_jobs IS
    'warming in the background: jobs that wait, run or are over; kept for 7 days; each role sees its own';
COMMENT ON COLUMN cache_warm_jobs.id IS 'number, as warm_cache_in_background() returned it';
COMMENT ON COLUMN cache_warm_jobs.state IS 'queued, running, done (all calls were made, whatever came of each) or failed';
COMMENT ON COLUMN cache_warm_jobs.function IS 'oid of the cached function';
COMMENT ON COLUMN cache_warm_jobs.name IS 'its name, with its schema';
COMMENT ON COLUMN cache_warm_jobs.role IS 'oid of the role that asked, for which the calls are made';
COMMENT ON COLUMN cache_warm_jobs.session_role IS 'oid of the role of its session, as which the background process connects';
COMMENT ON COLUMN cache_warm_jobs.total IS 'calls to be made';
COMMENT ON COLUMN cache_warm_jobs.done IS 'calls made; while the job runs see cache_progress';
COMMENT ON COLUMN cache_warm_jobs.stored IS 'of these, whose result was in the cache then';
COMMENT ON COLUMN cache_warm_jobs.failed IS 'of these, that ended with an error';
COMMENT ON COLUMN cache_warm_jobs.error IS 'why the job failed; of a job that is done, the first call that failed or was not stored';
COMMENT ON COLUMN cache_warm_jobs.queued_at IS 'when it was queued';
COMMENT ON COLUMN cache_warm_jobs.started_at IS 'when it was started';
COMMENT ON COLUMN cache_warm_jobs.finished_at IS 'when it was over';
COMMENT ON COLUMN cache_warm_jobs.pid IS 'the background process';
COMMENT ON COLUMN cache_warm_jobs.database IS 'oid of the database; jobs that came with a template database are not run';
COMMENT ON COLUMN cache_warm_jobs.calls IS 'the arguments of each call';
COMMENT ON COLUMN cache_warm_jobs.settings IS 'settings that the session was given, until the job is over';

CREATE FUNCTION warm_cache_in_background(function regprocedure, calls jsonb DEFAULT '{}') RETURNS bigint
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'warm_cache_in_background_wrapper';
COMMENT ON FUNCTION warm_cache_in_background(regprocedure, jsonb) IS
    'queues calls of a cached function, to be made by a background process for the caller''s role and settings once the transaction has committed; returns the number of the job';

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
FROM @extschema@.cache_progress_places() AS p;
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

-- rights.sql

-- Who may do what. Closed by default: everything of the extension is taken
-- from PUBLIC, then what is right for an audience is given to it.
--
--   audience     what                                                             has it at CREATE EXTENSION
--   everybody    creates and drops cached functions with the caller's own         PUBLIC
--                rights; or checks a right itself (TRIGGER on the table,
--                ownership of the function); or shows what the catalog shows
--   caller       the cached functions that come with the extension: they run      PUBLIC; where Supabase's roles exist
--                with the caller's rights, as the functions they cache            authenticated and service_role
--   explainer    cache_explain: evaluates a text with the caller's rights, so     PUBLIC; where Supabase's roles exist
--                it must not be open to the callers of an API                     pg_monitor and service_role
--   application  values: whoever has them reads and writes the values of all;     service_role
--                warming: calls are made for the caller, in the background too
--   monitor      counters, entries without keys and values, health, history       pg_monitor, service_role
--   maintenance  invalidation, clean-up, configuration                            service_role
--   owner        the rest; keys and values                                        nobody
--
-- anon has nothing. grant_cache_access() gives an application's own roles what
-- service_role has here. The list is a function, so that the script, that
-- function and people read the same one. Row-level security is on for all
-- tables: rows are for those who may execute cache_stats(), and the owner.

CREATE FUNCTION cache_access_list() RETURNS TABLE (object_name text, audience text)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 80
BEGIN ATOMIC
    SELECT pg_catalog.unnest(a.names), a.audience
    FROM (VALUES
        ('everybody', ARRAY[
            'cache_function', 'uncache_function', 'cache_track_table', 'cache_untrack_table', 'cache_tracker',
            'cache_function_resume', 'cache_reasons', 'cached_functions', 'cache_key', 'cache_progress', 'cache_progress_places',
            'cache_warm_jobs']),
        ('caller', ARRAY[
            'get_expert_sessions_with_stats_cached', 'get_product_performance_cached',
            'get_enterprise_contacts_summary_cached', 'get_department_contacts_summary_cached']),
        ('explainer', ARRAY[
            'cache_explain']),
        ('application', ARRAY[
            'cache_set', 'cache_set_many', 'cache_get', 'cache_get_many', 'cache_exists', 'cache_ttl', 'cache_touch',
            'cache_delete', 'cache_delete_many', 'cache_delete_pattern', 'cache_keys', 'cache_increment', 'cache_remember',
            'cache_value_stats', 'warm_cache', 'warm_cache_many', 'warm_cache_in_background']),
        ('monitor', ARRAY[
            'cache_stats', 'cache_function_counters', 'cache_function_stats', 'cache_memory_entries', 'get_top_cache_entries',
            'get_cache_cleanup_stats', 'analyze_cache_health', 'cache_analytics', 'cache_metrics', 'cache_access_list', 'cache_config',
            'query_cache', 'cache_cleanup_log', 'cache_quarantine', 'cache_configuration', 'cache_configuration_log',
            'cache_trends']),
        ('maintenance', ARRAY[
            'invalidate_cache', 'invalidate_cache_function', 'invalidate_cache_table', 'invalidate_cache_pattern', 'clear_cache',
            'clear_department_cache', 'cleanup_expired_cache', 'flush_cache', 'optimize_cache', 'emergency_clear_cache',
            'set_cache_config']),
        ('owner', ARRAY[
            'cached_call_handler', 'cached_validator', 'cache_row_is_dead', 'cache_configuration_changed', 'cache_key_matches',
            'cache_value_sum', 'cache_ranking', 'cache_values', 'cache_access_apply', 'grant_cache_access', 'revoke_cache_access'])
    ) AS a (audience, names);
END;
COMMENT ON FUNCTION cache_access_list() IS 'for whom each object of the extension is; grant_cache_access() gives rights by it';

-- GRANT or REVOKE what audiences have, with the rights of who calls it.
-- `roles` is a list as GRANT takes it.
CREATE FUNCTION cache_access_apply(command text, audiences text[], roles text) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $apply$
DECLARE
    extension CONSTANT pg_catalog.pg_extension DEFAULT (SELECT e FROM pg_catalog.pg_extension AS e
                                        WHERE e.extname OPERATOR(pg_catalog.=) 'pg_query_cache'::pg_catalog.name);
    statement text;
    done      integer DEFAULT 0;
BEGIN
    IF NOT pg_catalog.pg_has_role(extension.extowner, 'USAGE'::pg_catalog.text) THEN
        RAISE insufficient_privilege USING MESSAGE = 'must be owner of extension pg_query_cache';
    END IF;
    FOR statement IN
        WITH members AS (
            SELECT p.proname AS name, pg_catalog.concat('EXECUTE ON FUNCTION ', p.oid::pg_catalog.regprocedure) AS privilege
            FROM pg_catalog.pg_depend AS d
            JOIN pg_catalog.pg_proc AS p
              ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid OPERATOR(pg_catalog.=) d.objid
            WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
              AND d.refobjid OPERATOR(pg_catalog.=) extension.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"
            UNION ALL
            SELECT c.relname,
                   -- Neither keys and values, nor the arguments and settings of somebody's calls.
                   pg_catalog.concat(CASE
                       WHEN c.relname OPERATOR(pg_catalog.=) 'query_cache'::pg_catalog.name THEN 'SELECT (cache_key, function, hit_count, created_at, expires_at, cost_ms,'
                                               ' size_bytes, priority, kind, by_age) ON '
                       WHEN c.relname OPERATOR(pg_catalog.=) 'cache_warm_jobs'::pg_catalog.name THEN 'SELECT (id, state, function, name, role, session_role, total, done, stored,'
                                                   ' failed, error, queued_at, started_at, finished_at, pid, database) ON '
                       ELSE 'SELECT ON ' END, c.oid::pg_catalog.regclass)
            FROM pg_catalog.pg_depend AS d
            JOIN pg_catalog.pg_class AS c
              ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid OPERATOR(pg_catalog.=) d.objid
            WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
              AND d.refobjid OPERATOR(pg_catalog.=) extension.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"
              AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r'::pg_catalog."char", 'v'::pg_catalog."char"])
        )
        SELECT pg_catalog.concat_ws(' '::pg_catalog.text, command, m.privilege,
                                    CASE WHEN command OPERATOR(pg_catalog.=) 'GRANT'::pg_catalog.text THEN 'TO' ELSE 'FROM' END, roles)
        FROM members AS m
        JOIN @extschema@.cache_access_list() AS l ON l.object_name OPERATOR(pg_catalog.=) m.name::pg_catalog.text
        WHERE l.audience OPERATOR(pg_catalog.=) ANY (audiences)
        ORDER BY m.privilege
    LOOP
        EXECUTE statement;
        done := done OPERATOR(pg_catalog.+) 1;
    END LOOP;
    RETURN done;
END
$apply$;
COMMENT ON FUNCTION cache_access_apply(text, text[], text) IS
    'grants to roles, or revokes from them, what audiences have; returns the number of statements';

CREATE FUNCTION grant_cache_access(app_role regrole DEFAULT NULL, admin_role regrole DEFAULT NULL) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $grant$
DECLARE
    namespace CONSTANT pg_catalog.regnamespace DEFAULT (SELECT e.extnamespace FROM pg_catalog.pg_extension AS e
                                        WHERE e.extname OPERATOR(pg_catalog.=) 'pg_query_cache'::pg_catalog.name);
    grantee   pg_catalog.regrole;
    done      integer DEFAULT 0;
BEGIN
    IF app_role IS NOT NULL THEN
        done := done OPERATOR(pg_catalog.+) @extschema@.cache_access_apply(
            'GRANT'::pg_catalog.text, '{caller,application}'::pg_catalog.text[], app_role::pg_catalog.text);
    END IF;
    IF admin_role IS NOT NULL THEN
        done := done OPERATOR(pg_catalog.+) @extschema@.cache_access_apply(
            'GRANT'::pg_catalog.text, '{caller,explainer,application,monitor,maintenance}'::pg_catalog.text[], admin_role::pg_catalog.text);
    END IF;
    FOREACH grantee IN ARRAY pg_catalog.array_remove(ARRAY[app_role, admin_role], NULL) LOOP
        IF NOT pg_catalog.has_schema_privilege(grantee, namespace, 'USAGE'::pg_catalog.text) THEN
            EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA %s TO %s', namespace, grantee);
            done := done OPERATOR(pg_catalog.+) 1;
        END IF;
    END LOOP;
    RETURN done;
END
$grant$;
COMMENT ON FUNCTION grant_cache_access(regrole, regrole) IS
    'lets app_role call cached functions and keep values, and admin_role look at the cache and maintain it; returns the number of GRANTs';

CREATE FUNCTION revoke_cache_access(role regrole) RETURNS integer
    LANGUAGE sql STRICT SET search_path = pg_catalog, pg_temp
AS $revoke$
    SELECT @extschema@.cache_access_apply(
        'REVOKE'::pg_catalog.text, '{caller,explainer,application,monitor,maintenance}'::pg_catalog.text[], role::pg_catalog.text)
$revoke$;
COMMENT ON FUNCTION revoke_cache_access(regrole) IS 'takes back what grant_cache_access() gave; returns the number of REVOKEs';

DO $rights$
DECLARE
    -- Supabase grants rights on new objects to its roles by default; what is not meant is taken back.
    supabase CONSTANT pg_catalog.text[] DEFAULT ARRAY(SELECT pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_roles AS r
                                      WHERE r.rolname OPERATOR(pg_catalog.=) ANY (
                                          ARRAY['anon'::pg_catalog.name, 'authenticated'::pg_catalog.name, 'service_role'::pg_catalog.name]));
    everybody CONSTANT pg_catalog.text DEFAULT pg_catalog.array_to_string(
        pg_catalog.array_prepend('PUBLIC'::pg_catalog.text, supabase), ', '::pg_catalog.text);
    others CONSTANT pg_catalog.text[] DEFAULT pg_catalog.array_remove(supabase, 'anon'::pg_catalog.text);
    callers CONSTANT pg_catalog.text DEFAULT CASE WHEN pg_catalog.cardinality(others) OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'::pg_catalog.text
                                                  ELSE pg_catalog.array_to_string(others, ', '::pg_catalog.text) END;
    service CONSTANT pg_catalog.text DEFAULT CASE WHEN 'service_role'::pg_catalog.text OPERATOR(pg_catalog.=) ANY (supabase)
                                                  THEN 'service_role'::pg_catalog.text END;
    readers CONSTANT pg_catalog.text DEFAULT pg_catalog.concat_ws(', '::pg_catalog.text, 'pg_monitor'::pg_catalog.text, service);
    member  record;
BEGIN
    FOR member IN
        SELECT CASE WHEN p.oid IS NOT NULL THEN pg_catalog.concat('FUNCTION ', p.oid::pg_catalog.regprocedure)
                    WHEN c.relkind OPERATOR(pg_catalog.=) 'S'::pg_catalog."char"
                    THEN pg_catalog.concat('SEQUENCE ', c.oid::pg_catalog.regclass)
                    ELSE pg_catalog.concat('TABLE ', c.oid::pg_catalog.regclass) END AS object,
               CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'r'::pg_catalog."char" THEN c.oid::pg_catalog.regclass END AS "table"
        FROM pg_catalog.pg_extension AS e
        JOIN pg_catalog.pg_depend AS d
          ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
         AND d.refobjid OPERATOR(pg_catalog.=) e.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"
        LEFT JOIN pg_catalog.pg_proc AS p
          ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid OPERATOR(pg_catalog.=) d.objid
        LEFT JOIN pg_catalog.pg_class AS c
          ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid OPERATOR(pg_catalog.=) d.objid
         AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r'::pg_catalog."char", 'v'::pg_catalog."char", 'S'::pg_catalog."char"])
        WHERE e.extname OPERATOR(pg_catalog.=) 'pg_query_cache'::pg_catalog.name AND (p.oid IS NOT NULL OR c.oid IS NOT NULL)
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM %s', member.object, everybody);
        IF member."table" IS NOT NULL THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', member."table");
            EXECUTE pg_catalog.format($policy$
                CREATE POLICY readers ON %s FOR SELECT
                    USING (pg_catalog.has_function_privilege('@extschema@.cache_stats()'::pg_catalog.regprocedure, 'EXECUTE'::pg_catalog.text))$policy$,
                member."table");
            EXECUTE pg_catalog.format('COMMENT ON POLICY readers ON %s IS %L', member."table",
                                      'rows are for those who may execute cache_stats()');
        END IF;
    END LOOP;
    PERFORM @extschema@.cache_access_apply('GRANT'::pg_catalog.text, '{everybody}'::pg_catalog.text[], 'PUBLIC'::pg_catalog.text),
            @extschema@.cache_access_apply('GRANT'::pg_catalog.text, '{caller}'::pg_catalog.text[], callers),
            @extschema@.cache_access_apply('GRANT'::pg_catalog.text, '{explainer}'::pg_catalog.text[],
                CASE WHEN pg_catalog.cardinality(supabase) OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'::pg_catalog.text ELSE readers END),
            @extschema@.cache_access_apply('GRANT'::pg_catalog.text, '{monitor}'::pg_catalog.text[], readers);
    IF service IS NOT NULL THEN
        PERFORM @extschema@.cache_access_apply('GRANT'::pg_catalog.text, '{application,maintenance}'::pg_catalog.text[], service);
    END IF;
END
$rights$;
