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
    extension CONSTANT pg_extension := (SELECT e FROM pg_extension AS e WHERE e.extname = 'pg_query_cache');
    statement text;
    done      integer := 0;
BEGIN
    IF NOT pg_has_role(extension.extowner, 'USAGE') THEN
        RAISE insufficient_privilege USING MESSAGE = 'must be owner of extension pg_query_cache';
    END IF;
    FOR statement IN
        WITH members AS (
            SELECT p.proname AS name, 'EXECUTE ON FUNCTION ' || p.oid::regprocedure AS privilege
            FROM pg_depend AS d JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
            WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = extension.oid AND d.deptype = 'e'
            UNION ALL
            SELECT c.relname,
                   -- Neither keys and values, nor the arguments and settings of somebody's calls.
                   CASE c.relname
                       WHEN 'query_cache' THEN 'SELECT (cache_key, function, hit_count, created_at, expires_at, cost_ms,'
                                               ' size_bytes, priority, kind, by_age) ON '
                       WHEN 'cache_warm_jobs' THEN 'SELECT (id, state, function, name, role, session_role, total, done, stored,'
                                                   ' failed, error, queued_at, started_at, finished_at, pid, database) ON '
                       ELSE 'SELECT ON ' END || c.oid::regclass
            FROM pg_depend AS d JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
            WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = extension.oid AND d.deptype = 'e'
              AND c.relkind IN ('r', 'v')
        )
        SELECT concat_ws(' ', command, m.privilege, CASE command WHEN 'GRANT' THEN 'TO' ELSE 'FROM' END, roles)
        FROM members AS m
        JOIN @extschema@.cache_access_list() AS l ON l.object_name = m.name
        WHERE l.audience = ANY (audiences)
        ORDER BY m.privilege
    LOOP
        EXECUTE statement;
        done := done + 1;
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
    namespace CONSTANT regnamespace := (SELECT e.extnamespace FROM pg_extension AS e WHERE e.extname = 'pg_query_cache');
    grantee   regrole;
    done      integer := 0;
BEGIN
    IF app_role IS NOT NULL THEN
        done := done + @extschema@.cache_access_apply('GRANT', '{caller,application}', app_role::text);
    END IF;
    IF admin_role IS NOT NULL THEN
        done := done + @extschema@.cache_access_apply('GRANT', '{caller,explainer,application,monitor,maintenance}', admin_role::text);
    END IF;
    FOREACH grantee IN ARRAY array_remove(ARRAY[app_role, admin_role], NULL) LOOP
        IF NOT has_schema_privilege(grantee, namespace, 'USAGE') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %s TO %s', namespace, grantee);
            done := done + 1;
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
    SELECT @extschema@.cache_access_apply('REVOKE', '{caller,explainer,application,monitor,maintenance}', role::text)
$revoke$;
COMMENT ON FUNCTION revoke_cache_access(regrole) IS 'takes back what grant_cache_access() gave; returns the number of REVOKEs';

DO $rights$
DECLARE
    -- Supabase grants rights on new objects to its roles by default; what is not meant is taken back.
    supabase CONSTANT text[] := ARRAY(SELECT pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_roles AS r
                                      WHERE r.rolname IN ('anon', 'authenticated', 'service_role'));
    everybody CONSTANT text := pg_catalog.array_to_string(ARRAY['PUBLIC'] || supabase, ', ');
    callers CONSTANT text := COALESCE(NULLIF(pg_catalog.array_to_string(pg_catalog.array_remove(supabase, 'anon'), ', '), ''), 'PUBLIC');
    service CONSTANT text := CASE WHEN 'service_role' = ANY (supabase) THEN 'service_role' END;
    readers CONSTANT text := pg_catalog.concat_ws(', ', 'pg_monitor', service);
    member  record;
BEGIN
    FOR member IN
        SELECT CASE WHEN p.oid IS NOT NULL THEN 'FUNCTION ' || p.oid::pg_catalog.regprocedure
                    WHEN c.relkind = 'S' THEN 'SEQUENCE ' || c.oid::pg_catalog.regclass
                    ELSE 'TABLE ' || c.oid::pg_catalog.regclass END AS object,
               CASE WHEN c.relkind = 'r' THEN c.oid::pg_catalog.regclass END AS "table"
        FROM pg_catalog.pg_extension AS e
        JOIN pg_catalog.pg_depend AS d
          ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid AND d.deptype = 'e'
        LEFT JOIN pg_catalog.pg_proc AS p ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = d.objid
        LEFT JOIN pg_catalog.pg_class AS c
          ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = d.objid AND c.relkind IN ('r', 'v', 'S')
        WHERE e.extname = 'pg_query_cache' AND (p.oid IS NOT NULL OR c.oid IS NOT NULL)
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM %s', member.object, everybody);
        IF member."table" IS NOT NULL THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', member."table");
            EXECUTE pg_catalog.format($policy$
                CREATE POLICY readers ON %s FOR SELECT
                    USING (pg_catalog.has_function_privilege('cache_stats()'::pg_catalog.regprocedure, 'EXECUTE'))$policy$,
                member."table");
            EXECUTE pg_catalog.format('COMMENT ON POLICY readers ON %s IS %L', member."table",
                                      'rows are for those who may execute cache_stats()');
        END IF;
    END LOOP;
    PERFORM cache_access_apply('GRANT', '{everybody}', 'PUBLIC'),
            cache_access_apply('GRANT', '{caller}', callers),
            cache_access_apply('GRANT', '{explainer}', CASE WHEN supabase = '{}' THEN 'PUBLIC' ELSE readers END),
            cache_access_apply('GRANT', '{monitor}', readers);
    IF service IS NOT NULL THEN
        PERFORM cache_access_apply('GRANT', '{application,maintenance}', service);
    END IF;
END
$rights$;
