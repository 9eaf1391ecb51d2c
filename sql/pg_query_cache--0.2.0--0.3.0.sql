-- Updates 0.2.0 to 0.3.0. What is new is here as it is in the files of the same
-- names; a test compares the outcome with a new installation, object by object.

\echo Use "ALTER EXTENSION pg_query_cache UPDATE" to load this file. \quit

-- Work for others carries what it rests on. What an earlier version queued does not, and is refused.
ALTER TABLE cache_warm_jobs ADD COLUMN rests_on bytea;
COMMENT ON COLUMN cache_warm_jobs.calls IS 'the arguments of each call, until the job is over';
COMMENT ON COLUMN cache_warm_jobs.rests_on IS 'digest of functions, roles and their settings when the job was queued; it is not run if they have changed';
-- A job can have several turns.
ALTER TABLE cache_warm_jobs ADD COLUMN used_us bigint NOT NULL DEFAULT 0;
ALTER TABLE cache_warm_jobs ADD COLUMN cut_short integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN cache_warm_jobs.used_us IS 'microseconds that its turns have taken so far; pg_query_cache.warm_job_timeout is for all of them together';
COMMENT ON COLUMN cache_warm_jobs.cut_short IS 'how often the next call was begun and cancelled because others waited; see pg_query_cache.warm_call_turn';
COMMENT ON COLUMN cache_warm_jobs.done IS 'calls made in the turns that are over; while the job runs see cache_progress';
COMMENT ON COLUMN cache_warm_jobs.started_at IS 'when its last turn was started';

-- language.sql

-- What only the extension itself calls is in a schema of its own, in which nobody may create: whoever may create in the schema of the
-- extension could put functions and operators beside ours that fit a call better. A schema of this name that is there already is not
-- taken: it may hold anything.
CREATE SCHEMA query_cache_internal;
COMMENT ON SCHEMA query_cache_internal IS 'what only pg_query_cache itself calls; nobody may create here';

ALTER FUNCTION @extschema@.cached_call_handler() SET SCHEMA query_cache_internal;
ALTER FUNCTION @extschema@.cached_validator(pg_catalog.oid) SET SCHEMA query_cache_internal;
ALTER FUNCTION @extschema@.cache_row_is_dead(pg_catalog.bytea) SET SCHEMA query_cache_internal;
ALTER FUNCTION @extschema@.cache_function_counters() SET SCHEMA query_cache_internal;
ALTER FUNCTION @extschema@.cache_configuration_changed() SET SCHEMA query_cache_internal;
ALTER FUNCTION @extschema@.cache_ranking(pg_catalog.text) SET SCHEMA query_cache_internal;
ALTER FUNCTION @extschema@.cache_key_matches(pg_catalog.text, pg_catalog.text) SET SCHEMA query_cache_internal;
ALTER FUNCTION @extschema@.cache_value_sum(pg_catalog.jsonb, pg_catalog.int8) SET SCHEMA query_cache_internal;
ALTER FUNCTION @extschema@.cache_progress_places() SET SCHEMA query_cache_internal;
DROP FUNCTION @extschema@.cache_access_apply(pg_catalog.text, pg_catalog.text[], pg_catalog.text);

-- A publication of all tables publishes the logged ones of the extension too. What another server's cache has written stays there.
CREATE FUNCTION query_cache_internal.cache_stays_here() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'cache_stays_here';
COMMENT ON FUNCTION query_cache_internal.cache_stays_here() IS
    'trigger function that leaves out changes which logical replication brings';

CREATE TRIGGER cache_stays_here BEFORE INSERT OR UPDATE OR DELETE ON cache_cleanup_log
    FOR EACH ROW EXECUTE FUNCTION query_cache_internal.cache_stays_here();
ALTER TABLE cache_cleanup_log ENABLE REPLICA TRIGGER cache_stays_here;
COMMENT ON TRIGGER cache_stays_here ON cache_cleanup_log IS 'what another server''s cache has written stays there';
CREATE TRIGGER cache_stays_here BEFORE INSERT OR UPDATE OR DELETE ON cache_quarantine
    FOR EACH ROW EXECUTE FUNCTION query_cache_internal.cache_stays_here();
ALTER TABLE cache_quarantine ENABLE REPLICA TRIGGER cache_stays_here;
COMMENT ON TRIGGER cache_stays_here ON cache_quarantine IS 'what another server''s cache has written stays there';
CREATE TRIGGER cache_stays_here BEFORE INSERT OR UPDATE OR DELETE ON cache_configuration
    FOR EACH ROW EXECUTE FUNCTION query_cache_internal.cache_stays_here();
ALTER TABLE cache_configuration ENABLE REPLICA TRIGGER cache_stays_here;
COMMENT ON TRIGGER cache_stays_here ON cache_configuration IS 'what another server''s cache has written stays there';
CREATE TRIGGER cache_stays_here BEFORE INSERT OR UPDATE OR DELETE ON cache_configuration_log
    FOR EACH ROW EXECUTE FUNCTION query_cache_internal.cache_stays_here();
ALTER TABLE cache_configuration_log ENABLE REPLICA TRIGGER cache_stays_here;
COMMENT ON TRIGGER cache_stays_here ON cache_configuration_log IS 'what another server''s cache has written stays there';
CREATE TRIGGER cache_stays_here BEFORE INSERT OR UPDATE OR DELETE ON cache_trends
    FOR EACH ROW EXECUTE FUNCTION query_cache_internal.cache_stays_here();
ALTER TABLE cache_trends ENABLE REPLICA TRIGGER cache_stays_here;
COMMENT ON TRIGGER cache_stays_here ON cache_trends IS 'what another server''s cache has written stays there';
CREATE TRIGGER cache_stays_here BEFORE INSERT OR UPDATE OR DELETE ON cache_warm_jobs
    FOR EACH ROW EXECUTE FUNCTION query_cache_internal.cache_stays_here();
ALTER TABLE cache_warm_jobs ENABLE REPLICA TRIGGER cache_stays_here;
COMMENT ON TRIGGER cache_stays_here ON cache_warm_jobs IS 'what another server''s cache has written stays there';
ALTER TABLE cache_trends REPLICA IDENTITY FULL;

-- A dump takes the configuration along and nothing else. What has been marked for dumps stays marked until it leaves the extension.
ALTER EXTENSION pg_query_cache DROP TABLE @extschema@.cache_cleanup_log;
ALTER EXTENSION pg_query_cache ADD TABLE @extschema@.cache_cleanup_log;
ALTER EXTENSION pg_query_cache DROP SEQUENCE @extschema@.cache_cleanup_log_id_seq;
ALTER EXTENSION pg_query_cache ADD SEQUENCE @extschema@.cache_cleanup_log_id_seq;
ALTER EXTENSION pg_query_cache DROP TABLE @extschema@.cache_configuration_log;
ALTER EXTENSION pg_query_cache ADD TABLE @extschema@.cache_configuration_log;
ALTER EXTENSION pg_query_cache DROP SEQUENCE @extschema@.cache_configuration_log_id_seq;
ALTER EXTENSION pg_query_cache ADD SEQUENCE @extschema@.cache_configuration_log_id_seq;
ALTER EXTENSION pg_query_cache DROP TABLE @extschema@.cache_trends;
ALTER EXTENSION pg_query_cache ADD TABLE @extschema@.cache_trends;

-- caching.sql

-- What is cached is bound by oid from now on: to what was found under the name in the body when the function was created.
CREATE FUNCTION query_cache_internal.bind_functions() RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'bind_functions_of_earlier_versions_wrapper';
SELECT query_cache_internal.bind_functions();
DROP FUNCTION query_cache_internal.bind_functions();

-- The library is looked for in its folder only.
CREATE FUNCTION query_cache_internal.name_library() RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'name_library_of_functions_wrapper';
SELECT query_cache_internal.name_library();
DROP FUNCTION query_cache_internal.name_library();

CREATE FUNCTION query_cache_internal.cache_function_follow(function regprocedure) RETURNS boolean
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'cache_function_follow_wrapper';
COMMENT ON FUNCTION query_cache_internal.cache_function_follow(regprocedure) IS
    'writes the present name of its base function into the body of a cached function; false if it is there, or if somebody else is changing the function';

CREATE FUNCTION query_cache_internal.cached_body(source text) RETURNS jsonb
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cached_body_wrapper';
COMMENT ON FUNCTION query_cache_internal.cached_body(text) IS
    'the body of a cached function, NULL if it cannot be shown: one function must not hide all others in the view cached_functions';

-- New arguments: clock and trust.
DROP FUNCTION @extschema@.cache_function(pg_catalog.regprocedure, pg_catalog.interval, pg_catalog.jsonb, pg_catalog.text[], pg_catalog.text,
    pg_catalog.text, pg_catalog.text, pg_catalog.int4, pg_catalog.text, pg_catalog.text, pg_catalog.interval);
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

-- Whatever is bound to other objects by name is bound anew: somebody may have put objects of his own beside ours when 0.2.0 was created.
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
       (body.json OPERATOR(pg_catalog.->>) 'stale_while_revalidate'::pg_catalog.text)::pg_catalog.interval  AS stale_while_revalidate,
       body.json OPERATOR(pg_catalog.->>) 'clock'::pg_catalog.text                                          AS clock,
       body.json OPERATOR(pg_catalog.->) 'trust'::pg_catalog.text                                           AS trust
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
-- The CASE, so that no condition of a caller makes the planner read the source of a function in another language as a body.
CROSS JOIN LATERAL (SELECT CASE WHEN l.lanname OPERATOR(pg_catalog.=) 'cached'::pg_catalog.name
                                THEN query_cache_internal.cached_body(p.prosrc) END) AS body (json)
WHERE l.lanname OPERATOR(pg_catalog.=) 'cached'::pg_catalog.name;

COMMENT ON COLUMN cached_functions.clock IS 'minute, hour or day: so much of the time is part of the key';
COMMENT ON COLUMN cached_functions.trust IS 'functions for which the owner vouches';

CREATE OR REPLACE VIEW cache_function_stats AS
SELECT c.function::pg_catalog.regprocedure AS function,
       c.calls, c.hits, c.misses, c.bypasses, c.hit_rate, c.fills, c.waits, c.refreshes, c.stale, c.invalidations, c.expirations,
       c.fill_seconds, c.fill_p50_ms, c.fill_p95_ms, c.fill_p99_ms, c.fill_max_ms,
       c.saved_seconds, c.writer_seconds, c.net_benefit_seconds, c.entries, c.memory_bytes,
       c.verified, c.differences, c.quarantined, c.storing, c.resting_since, c.run_us, c.hit_us, c.store_us, c.reasons
FROM query_cache_internal.cache_function_counters() AS c
JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) c.function;

-- clearing.sql

CREATE OR REPLACE FUNCTION clear_department_cache(enterprise_id bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT @extschema@.invalidate_cache(
        ARRAY[CASE WHEN enterprise_id IS NULL THEN 'departments'::pg_catalog.text
                   ELSE pg_catalog.concat('enterprise:'::pg_catalog.text, enterprise_id, ':departments'::pg_catalog.text)
              END]::pg_catalog.text[]);
END;

-- looking.sql

CREATE OR REPLACE FUNCTION get_top_cache_entries(n integer DEFAULT 10, by text DEFAULT 'hits')
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

-- upkeep.sql

CREATE OR REPLACE FUNCTION cache_function_resume(function regprocedure) RETURNS boolean
    LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'cache_function_resume_v0_3_wrapper';

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

-- values.sql

CREATE OR REPLACE FUNCTION cache_get_many(keys text[]) RETURNS TABLE (key text, value jsonb)
    LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED ROWS 10
BEGIN ATOMIC
    SELECT k.key, v.value
    FROM pg_catalog.unnest(keys) WITH ORDINALITY AS k (key, n)
    -- Once for each key, not once more for the condition.
    CROSS JOIN LATERAL (SELECT @extschema@.cache_get(k.key) AS value OFFSET 0) AS v
    WHERE v.value IS NOT NULL
    ORDER BY k.n;
END;

-- warming.sql

CREATE OR REPLACE VIEW cache_progress AS
SELECT p.pid,
       pg_catalog.current_database()                    AS database,
       pg_catalog.pg_get_userbyid(p.role)               AS role,
       p.function::pg_catalog.regprocedure              AS function,
       p.command, p.phase, p.job, p.total, p.done, p.stored, p.failed, p.started_at
FROM query_cache_internal.cache_progress_places() AS p;

-- rights.sql

CREATE OR REPLACE FUNCTION cache_access_list() RETURNS TABLE (object_name text, audience text)
    LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 80 AS 'MODULE_PATHNAME', 'cache_access_list_wrapper';

CREATE OR REPLACE FUNCTION grant_cache_access(app_role regrole DEFAULT NULL, admin_role regrole DEFAULT NULL) RETURNS integer
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'grant_cache_access_wrapper';

CREATE OR REPLACE FUNCTION revoke_cache_access(role regrole) RETURNS integer
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'revoke_cache_access_wrapper';

CREATE FUNCTION query_cache_internal.cache_access_install(names text[]) RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'cache_access_install_wrapper';
COMMENT ON FUNCTION query_cache_internal.cache_access_install(text[]) IS
    'for the extension''s scripts: closes its objects to everybody, then opens each to its audience';

DROP POLICY readers ON query_cache;
DROP POLICY readers ON cache_cleanup_log;
DROP POLICY readers ON cache_quarantine;
DROP POLICY readers ON cache_values;
DROP POLICY readers ON cache_configuration_log;
DROP POLICY readers ON cache_trends;
DROP POLICY readers ON cache_configuration;
DROP POLICY readers ON cache_warm_jobs;
DROP POLICY own_jobs ON cache_warm_jobs;
ALTER TABLE cache_configuration DISABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON query_cache FOR SELECT
    USING (pg_catalog.has_function_privilege('@extschema@.cache_stats()'::pg_catalog.regprocedure, 'EXECUTE'::pg_catalog.text));
COMMENT ON POLICY readers ON query_cache IS 'rows are for those who may execute cache_stats()';
CREATE POLICY readers ON cache_cleanup_log FOR SELECT
    USING (pg_catalog.has_function_privilege('@extschema@.cache_stats()'::pg_catalog.regprocedure, 'EXECUTE'::pg_catalog.text));
COMMENT ON POLICY readers ON cache_cleanup_log IS 'rows are for those who may execute cache_stats()';
CREATE POLICY readers ON cache_quarantine FOR SELECT
    USING (pg_catalog.has_function_privilege('@extschema@.cache_stats()'::pg_catalog.regprocedure, 'EXECUTE'::pg_catalog.text));
COMMENT ON POLICY readers ON cache_quarantine IS 'rows are for those who may execute cache_stats()';
CREATE POLICY readers ON cache_values FOR SELECT
    USING (pg_catalog.has_function_privilege('@extschema@.cache_stats()'::pg_catalog.regprocedure, 'EXECUTE'::pg_catalog.text));
COMMENT ON POLICY readers ON cache_values IS 'rows are for those who may execute cache_stats()';
CREATE POLICY readers ON cache_configuration_log FOR SELECT
    USING (pg_catalog.has_function_privilege('@extschema@.cache_stats()'::pg_catalog.regprocedure, 'EXECUTE'::pg_catalog.text));
COMMENT ON POLICY readers ON cache_configuration_log IS 'rows are for those who may execute cache_stats()';
CREATE POLICY readers ON cache_trends FOR SELECT
    USING (pg_catalog.has_function_privilege('@extschema@.cache_stats()'::pg_catalog.regprocedure, 'EXECUTE'::pg_catalog.text));
COMMENT ON POLICY readers ON cache_trends IS 'rows are for those who may execute cache_stats()';
CREATE POLICY own_jobs ON cache_warm_jobs FOR SELECT
    USING (pg_catalog.pg_has_role(role, 'USAGE'::pg_catalog.text));
COMMENT ON POLICY own_jobs ON cache_warm_jobs IS 'each role sees its own jobs';

-- What is new, what has moved, and what is not for the same audience any more. Of all the rest the rights stay; what the server takes for
-- those of every installation is set right.
SELECT query_cache_internal.cache_access_install(
    ARRAY['query_cache_internal', 'cached_call_handler', 'cached_validator', 'cache_row_is_dead', 'cache_configuration_changed',
          'cache_stays_here', 'cache_key_matches', 'cache_value_sum', 'cache_ranking', 'cache_access_install', 'cached_body', 'cache_function_follow',
          'cache_function', 'uncache_function', 'cache_tracker', 'cache_function_resume', 'cache_reasons', 'cached_functions',
          'cached', 'cache_key', 'cache_progress', 'cache_progress_places', 'cache_warm_jobs', 'cache_track_table',
          'cache_untrack_table', 'get_expert_sessions_with_stats_cached', 'get_product_performance_cached',
          'get_enterprise_contacts_summary_cached', 'get_department_contacts_summary_cached', 'cache_configuration', 'cache_explain',
          'warm_cache', 'warm_cache_many', 'warm_cache_in_background', 'cache_function_counters', 'cache_function_stats',
          'invalidate_cache_function']::pg_catalog.text[]);
