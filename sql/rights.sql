-- Who may do what. Closed by default: every function of the extension is taken
-- from PUBLIC, then the few that are safe for everybody are given back.
--
--   everybody        cache_function, uncache_function   create and drop functions with the caller's own rights
--                    cache_track_table, …untrack…       check the TRIGGER privilege on the table themselves
--                    cache_function_resume              checks that the caller owns the function
--                    cache_tracker                      whoever creates a tracking trigger needs it; marks writes only
--                    cached_functions                   shows what pg_proc shows everybody
--                    cache_reasons                      a list of words
--                    cache_explain                      evaluates its arguments with the caller's rights, explains functions that the
--                                                       caller may execute; where Supabase's roles exist for pg_monitor and
--                                                       service_role only, because a text that is evaluated must not be open to
--                                                       callers of an API
--                    get_…_cached                       run with the caller's rights, as the functions they cache
--   pg_monitor       counters, entries without keys and values, health, clean-up history
--   service_role     the same, and maintenance: invalidation, clean-up, flush (if the role exists, as on Supabase)
--   the owner        everything; keys and values in query_cache are for the owner alone
--
-- With Supabase's roles the cached functions of the application are for
-- authenticated and service_role; anon has nothing. Row-level security is on
-- for all tables: rows are shown to those named here, and to the owner.

CREATE POLICY query_cache_monitor ON query_cache FOR SELECT TO pg_monitor USING (true);
CREATE POLICY cache_cleanup_log_monitor ON cache_cleanup_log FOR SELECT TO pg_monitor USING (true);
CREATE POLICY cache_quarantine_monitor ON cache_quarantine FOR SELECT TO pg_monitor USING (true);

DO $rights$
DECLARE
    -- Supabase grants rights on new objects to its roles by default; what is not meant is taken back.
    roles CONSTANT text[] := ARRAY(SELECT pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_roles AS r
                                   WHERE r.rolname IN ('anon', 'authenticated', 'service_role'));
    callers CONSTANT text := COALESCE(NULLIF(pg_catalog.array_to_string(pg_catalog.array_remove(roles, 'anon'), ', '), ''), 'PUBLIC');
    everybody CONSTANT text := pg_catalog.array_to_string(array['PUBLIC'] || roles, ', ');
    readers CONSTANT text := CASE WHEN 'service_role' = ANY (roles) THEN 'pg_monitor, service_role' ELSE 'pg_monitor' END;
    f record;
BEGIN
    EXECUTE pg_catalog.format('REVOKE ALL ON query_cache, cache_cleanup_log, cache_quarantine, cached_functions, cache_function_stats FROM %s',
                              everybody);
    EXECUTE pg_catalog.format('REVOKE ALL ON SEQUENCE cache_cleanup_log_id_seq FROM %s', everybody);
    GRANT SELECT ON cached_functions TO PUBLIC;
    EXECUTE pg_catalog.format('GRANT SELECT ON cache_cleanup_log, cache_quarantine, cache_function_stats TO %s', readers);
    EXECUTE pg_catalog.format('GRANT SELECT (cache_key, function, hit_count, created_at, expires_at, cost_ms, size_bytes, priority, '
                              'kind, by_age) ON query_cache TO %s', readers);
    IF 'service_role' = ANY (roles) THEN
        CREATE POLICY query_cache_service ON query_cache FOR SELECT TO service_role USING (true);
        CREATE POLICY cache_cleanup_log_service ON cache_cleanup_log FOR SELECT TO service_role USING (true);
        CREATE POLICY cache_quarantine_service ON cache_quarantine FOR SELECT TO service_role USING (true);
    END IF;
    FOR f IN
        SELECT p.oid::pg_catalog.regprocedure::text AS signature, p.proname::text AS name, l.lanname = 'cached' AS is_cached
        FROM pg_catalog.pg_extension AS e
        JOIN pg_catalog.pg_depend AS d
          ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid AND d.deptype = 'e'
         AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
        JOIN pg_catalog.pg_proc AS p ON p.oid = d.objid
        JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
        WHERE e.extname = 'pg_query_cache'
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM %s', f.signature, everybody);
        IF f.name IN ('cache_function', 'uncache_function', 'cache_track_table', 'cache_untrack_table', 'cache_tracker',
                      'cache_function_resume', 'cache_reasons') THEN
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', f.signature);
        ELSIF f.name = 'cache_explain' THEN
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %s', f.signature,
                                      CASE WHEN roles = '{}' THEN 'PUBLIC' ELSE readers END);
        ELSIF f.is_cached THEN
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %s', f.signature, callers);
        ELSIF f.name IN ('cache_stats', 'cache_function_counters', 'cache_memory_entries', 'get_top_cache_entries',
                         'get_cache_cleanup_stats', 'analyze_cache_health') THEN
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %s', f.signature, readers);
        ELSIF f.name IN ('invalidate_cache', 'invalidate_cache_function', 'invalidate_cache_table', 'clear_cache',
                         'cleanup_expired_cache', 'flush_cache') AND 'service_role' = ANY (roles) THEN
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO service_role', f.signature);
        END IF;
    END LOOP;
END
$rights$;
