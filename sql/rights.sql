-- Who may do what. Closed by default: everything of the extension is taken from everybody, then what is right for an audience is given
-- to it.
--
--   audience     what                                                             has it at CREATE EXTENSION
--   everybody    creates and drops cached functions with the caller's own         PUBLIC; where one of Supabase's roles exists the
--                rights; or checks a right itself (ownership of the function);    owner of the database, authenticated and
--                or shows what the catalog shows                                  service_role
--   developer    tracks tables: makes their writers do more; checks that the      PUBLIC; where one of Supabase's roles exists the
--                caller owns the table or has TRIGGER on it by name               owner of the database and service_role
--   caller       the cached functions that come with the extension: they run      as everybody
--                with the caller's rights, as the functions they cache
--   explainer    cache_explain: evaluates a text with the caller's rights, so     PUBLIC; where one of Supabase's roles exists the
--                it must not be open to the callers of an API                     owner of the database, pg_monitor and service_role
--   application  values: whoever has them reads and writes the values of all      service_role
--   warmer       warming: calls are made for the caller, in the background        as developer
--                too; of the caller's own functions, of all for those who were
--                given it by name
--   figures      figures by function, likewise                                    as explainer, pg_monitor by name
--   clearer      clears one function, likewise                                    as developer
--   monitor      counters, entries without keys and values, health, history       pg_monitor, service_role
--   dumper       the configuration, as pg_dump reads it                           the owner of the database, pg_monitor, service_role
--   maintenance  invalidation, clean-up, configuration                            service_role
--   owner        the rest; keys and values                                        nobody
--
-- anon has nothing. grant_cache_access() gives an application's own roles what service_role has here. The list is in the code
-- (src/access/list.rs), so that this script, that function and people read the same one. Row-level security is on for all tables but
-- the configuration: rows are for those who may execute cache_stats(), jobs for the role that queued them, and the owner.

CREATE FUNCTION cache_access_list() RETURNS TABLE (object_name text, audience text)
    LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 80 AS 'MODULE_PATHNAME', 'cache_access_list_wrapper';
COMMENT ON FUNCTION cache_access_list() IS 'for whom each object of the extension is; grant_cache_access() gives rights by it';

CREATE FUNCTION grant_cache_access(app_role regrole DEFAULT NULL, admin_role regrole DEFAULT NULL) RETURNS integer
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'grant_cache_access_wrapper';
COMMENT ON FUNCTION grant_cache_access(regrole, regrole) IS
    'lets app_role call cached functions and keep values, and admin_role look at the cache and maintain it; returns the number of GRANTs';

CREATE FUNCTION revoke_cache_access(role regrole) RETURNS integer
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'revoke_cache_access_wrapper';
COMMENT ON FUNCTION revoke_cache_access(regrole) IS 'takes back what grant_cache_access() gave; returns the number of REVOKEs';

CREATE FUNCTION query_cache_internal.cache_access_install(names text[]) RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'cache_access_install_wrapper';
COMMENT ON FUNCTION query_cache_internal.cache_access_install(text[]) IS
    'for the extension''s scripts: closes its objects to everybody, then opens each to its audience';

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

SELECT query_cache_internal.cache_access_install('{}'::pg_catalog.text[]);
