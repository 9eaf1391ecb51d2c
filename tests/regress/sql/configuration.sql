-- Configuration: what can be changed while the server runs, who changed it, and that calls do as it says.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA configuration_test;
SET search_path = configuration_test, public;
\i :outcomes
CREATE ROLE configuration_ann;
CREATE ROLE configuration_nobody;
CREATE TABLE t (id integer PRIMARY KEY, x integer);
INSERT INTO t VALUES (1, 1), (2, 2), (3, 3);
SELECT cache_track_table('t');
CREATE FUNCTION f(id integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT t.x FROM t WHERE t.id = f.id';
CREATE FUNCTION "G g"(id integer, VARIADIC more integer[]) RETURNS integer LANGUAGE sql STABLE AS 'SELECT t.x FROM t WHERE t.id = $1';
SELECT cache_function('f(int)', class => 'sessions'), cache_function('"G g"(int,int[])');
CREATE FUNCTION asked(call text) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT outcome || '': '' || reason || '': '' || hint FROM cache_explain(call)';
TRUNCATE cache_configuration_log;
\set ECHO all

-- All names with their defaults; what is a setting of the server cannot be set here.
SELECT name, value, default_value, kind, source, changed_by, description FROM cache_config() WHERE source <> 'server setting' AND name NOT LIKE 'function.public.%';
SELECT name, value, kind, description FROM cache_config() WHERE source = 'server setting' AND name ~ 'memory|fill_wait|auto_track|verify' ORDER BY name;
SELECT bool_and(value IS NOT NULL AND default_value IS NOT NULL AND description LIKE '%ALTER SYSTEM SET pg_query_cache.%')
FROM cache_config() WHERE source = 'server setting';
\set SHOW_CONTEXT never
SELECT set_cache_config('pg_query_cache.memory', '1GB');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('flush_interval', '1s');
\echo :LAST_ERROR_SQLSTATE

-- Names and values that cannot be.
SELECT set_cache_config(NULL, 'on');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('max_entires', '1000');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('something', 'on');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('class.sessions', '1min');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('class.Reports.ttl', '1min');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('class..ttl', '1min');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('class.' || repeat('x', 64) || '.ttl', '1min');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('class.reports.enabled', 'off');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('enabled', 'perhaps');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('enabled', '');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('max_entries', 'many');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('max_entries', '-1');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('max_entries', '2147483648');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('class.sessions.ttl', '0');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('class.sessions.ttl', '-1 hour');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('class.sessions.ttl', '366 days');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('class.sessions.ttl', 'soon');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('function.f_cached.enabled', 'off');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('function.no_such(integer).enabled', 'off');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('function.f(integer).enabled', 'off');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('function.configuration_test.f(integer).enabled', 'off');
\echo :LAST_ERROR_SQLSTATE
SELECT set_cache_config('function.pg_catalog.now().enabled', NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM cache_configuration;
SELECT count(*) FROM cache_configuration_log;

-- The time to live of a class, for entries that are there as well.
SELECT f_cached(1);
SELECT set_cache_config('class.sessions.ttl', '1 minute 30 seconds');
SELECT ttl, max_age, outcome FROM cache_explain('f_cached(1)');
SET pg_query_cache.clock_offset = '100s';
SELECT asked('f_cached(1)');
SELECT set_cache_config('class.sessions.ttl', '2h');
SELECT ttl, max_age, outcome, expires_in < '300s' AS as_it_was_made FROM cache_explain('f_cached(1)');
RESET pg_query_cache.clock_offset;
-- A cache_duration of the call is the caller's word.
SELECT max_age, outcome FROM cache_explain('f_cached(1, ''1 s'')');
SELECT set_cache_config('class.sessions.ttl', NULL);
SELECT ttl FROM cache_explain('f_cached(1)');

-- A class of one's own.
SELECT cache_function('f(int)', name => 'report', class => 'reports');
SELECT cache_function('f(int)', name => 'report', class => 'Reports');
SELECT set_cache_config('class.report.ttl', '45 min'), set_cache_config('class.repors.ttl', '45 min'), set_cache_config('class.report.ttl', '46 min');
SELECT set_cache_config('class.report.ttl', NULL), set_cache_config('class.repors.ttl', NULL);
SELECT set_cache_config('class.reports.ttl', '45 min');
SELECT cache_function('f(int)', name => 'report', class => 'reports');
SELECT report(1);
SELECT ttl FROM cache_explain('report(1)');
SELECT expires_at - created_at AS lifetime FROM cache_memory_entries() WHERE function = 'report(int,interval)'::regprocedure;
SELECT set_cache_config('class.reports.ttl', NULL);
SELECT set_cache_config('class.reports.enabled', 'off');
SELECT asked('report(1)');
SELECT name, value, default_value, source FROM cache_config() WHERE name LIKE 'class.reports.%';
-- If it is not there all the same, its functions are of the class default.
DELETE FROM cache_configuration WHERE name LIKE 'class.reports.%';
SELECT ttl, outcome FROM cache_explain('report(1)');
SELECT set_cache_config('class.default.ttl', '20 min');
SELECT ttl, outcome FROM cache_explain('report(1)');
SELECT set_cache_config('class.reports.ttl', '1 h'), set_cache_config('class.reports.enabled', '0');
SELECT uncache_function('report(int,interval)');
SELECT set_cache_config('class.reports.ttl', NULL);
SELECT set_cache_config('class.reports.ttl', NULL);
SELECT name, value, changed_by = session_user AS mine FROM cache_configuration ORDER BY name;
SELECT set_cache_config('class.default.ttl', NULL);

-- Off: the function answers, nothing is stored or served; on again: what was stored is there.
SELECT f_cached(1), "G g_cached"(2, 2);
UPDATE t SET x = 10 WHERE id = 3;
SELECT f_cached(3), "G g_cached"(3, 3);
SELECT outcomes();
SELECT set_cache_config('function.f_cached( int4 , interval ).enabled', 'off');
SELECT name, value FROM cache_configuration;
SELECT asked('f_cached(1)');
SELECT f_cached(1), f_cached(2);
SELECT outcomes();
SELECT asked('"G g_cached"(3, 3)');
SELECT set_cache_config('function.configuration_test.f_cached(integer,interval).enabled', 'on');
SELECT asked('f_cached(1)'), asked('f_cached(2)');
SELECT set_cache_config('function.f_cached(integer,interval).enabled', NULL);
SELECT set_cache_config('function.configuration_test."G g_cached"(integer, integer[]).enabled', 'no');
SELECT asked('"G g_cached"(3, 3)'), asked('f_cached(1)');
SELECT set_cache_config('function.configuration_test."G g_cached"(integer,integer[]).enabled', 'yes');
SELECT set_cache_config('class.sessions.enabled', 'off');
SELECT asked('f_cached(1)'), asked('"G g_cached"(3, 3)');
SELECT set_cache_config('class.sessions.enabled', NULL);
SELECT set_cache_config('enabled', 'off');
SELECT asked('f_cached(1)'), asked('"G g_cached"(3, 3)');
SELECT f_cached(1), "G g_cached"(3, 3);
SELECT outcomes();
SELECT set_cache_config('enabled', 'on');
SELECT asked('f_cached(1)');
-- A switch for a function that is gone: shown so, and can be taken away.
SELECT set_cache_config('function."G g_cached"(integer,integer[]).enabled', 'off');
SELECT uncache_function('"G g_cached"(int,int[])');
SELECT name, value, description FROM cache_config() WHERE name LIKE 'function.configuration\_test.%';
SELECT set_cache_config('function.configuration_test."G g_cached"(integer,integer[]).enabled', NULL);
SELECT name, value, description FROM cache_config() WHERE name LIKE 'function.configuration\_test.%';

-- Transactional: its own transaction sees a change at once, and nobody sees one that is rolled back.
BEGIN;
SELECT set_cache_config('class.sessions.ttl', '1h');
SAVEPOINT s;
SELECT set_cache_config('class.sessions.ttl', '3h');
SELECT ttl FROM cache_explain('f_cached(1)');
ROLLBACK TO s;
SELECT ttl FROM cache_explain('f_cached(1)');
SELECT set_cache_config('enabled', 'off');
SELECT asked('f_cached(1)');
SELECT value FROM cache_config() WHERE name = 'enabled';
ROLLBACK;
SELECT ttl, outcome FROM cache_explain('f_cached(1)');
SELECT value FROM cache_config() WHERE name = 'enabled';
-- In a READ ONLY transaction: no.
BEGIN READ ONLY;
SELECT set_cache_config('enabled', 'off');
ROLLBACK;
-- SERIALIZABLE: neither hindered nor hindering.
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT asked('f_cached(1)');
SELECT set_cache_config('max_entries', '7');
COMMIT;
SELECT value FROM cache_config() WHERE name = 'max_entries';
SELECT set_cache_config('max_entries', NULL);

-- Who changed it: the role outside of all SECURITY DEFINER functions, and the one that had logged in.
TRUNCATE cache_configuration_log;
GRANT USAGE, CREATE ON SCHEMA configuration_test TO configuration_ann, configuration_nobody;
GRANT EXECUTE ON FUNCTION set_cache_config(text, text) TO configuration_ann;
SET ROLE configuration_nobody;
SELECT set_cache_config('enabled', 'off');
SELECT count(*) FROM cache_config();
SELECT count(*) FROM cache_configuration;
SET ROLE configuration_ann;
SELECT set_cache_config('max_entries', '10');
SELECT set_cache_config('max_entries', '10');
SELECT set_cache_config('max_entries', ' 0010 ');
-- An operator of her own is not met.
CREATE FUNCTION met(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'met by %', current_user; END$$;
CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = met);
SET search_path = configuration_test, pg_catalog, public;
SELECT 'a'::text = 'b'::text;
SELECT set_cache_config('max_entries', '11');
DELETE FROM cache_configuration;
RESET ROLE;
SET search_path = configuration_test, public;
DROP OPERATOR configuration_test.= (text, text);
SELECT set_cache_config('max_entries', NULL);
SELECT name, old_value, new_value, changed_by = 'configuration_ann' AS ann, session_role = session_user AS mine
FROM cache_configuration_log ORDER BY id;
SELECT name, value, source, changed_by, changed_at > now() - interval '1 minute' AS now
FROM cache_config() WHERE changed_at IS NOT NULL;

-- Written by hand: counts at once; what cannot be read counts as the default.
INSERT INTO cache_configuration (name, value) VALUES
    ('class.sessions.ttl', '7min'), ('class.analytics.ttl', 'for ever'), ('max_entries', '-5'), ('nonsense', '');
SELECT ttl FROM cache_explain('f_cached(1)');
SELECT name, value, default_value, source, description FROM cache_config() WHERE source = 'configuration';
UPDATE cache_configuration SET value = '8min' WHERE name = 'class.sessions.ttl';
SELECT ttl FROM cache_explain('f_cached(1)');
TRUNCATE cache_configuration;
SELECT ttl FROM cache_explain('f_cached(1)');

-- The most entries in memory.
SELECT clear_cache() > 0 AS some;
SELECT cleanup_expired_cache() > 0 AS some;
SELECT set_cache_config('max_entries', '2');
SELECT f_cached(1), f_cached(2), f_cached(3);
SELECT count(*) FROM cache_memory_entries();
SELECT f_cached(3);
SELECT outcomes();
SELECT set_cache_config('max_entries', '1');
-- What is too many a worker removes, as soon as it comes to it.
DO $$BEGIN WHILE (SELECT count(*) > 1 FROM cache_memory_entries()) LOOP PERFORM pg_sleep(0.01); END LOOP; END$$;
SELECT f_cached(4) IS NULL AS new, f_cached(4) IS NULL AS kept;
SELECT count(*) FROM cache_memory_entries();
-- An entry is exchanged for a newer one of the same call.
UPDATE t SET x = x + 1;
SELECT f_cached(1), f_cached(1);
SELECT count(*) FROM cache_memory_entries();
SELECT set_cache_config('max_entries', NULL);
SELECT f_cached(1), f_cached(2), f_cached(3);
SELECT count(*) FROM cache_memory_entries();

SELECT count(*) FROM outcomes();

-- A cached function that asks for it is not stored.
CREATE FUNCTION limit_now() RETURNS text LANGUAGE sql STABLE AS $$SELECT value FROM cache_config() WHERE name = 'max_entries'$$;
SELECT cache_function('limit_now()');
SELECT limit_now_cached();
SELECT set_cache_config('max_entries', '5');
SELECT limit_now_cached();
SELECT set_cache_config('max_entries', NULL);
SELECT outcomes();

-- A switch is found whatever the session says of how names are shown, and set from there it is the same one.
SET quote_all_identifiers = on;
SELECT set_cache_config('function.f_cached(int, interval).enabled', 'off');
SELECT reason FROM cache_explain('f_cached(1)');
RESET quote_all_identifiers;
SELECT name, value FROM cache_config() WHERE name LIKE 'function.%' AND source = 'configuration';
SELECT set_cache_config('function.f_cached(int, interval).enabled', NULL);

-- Nobody has it for a trigger of their own.
CREATE FUNCTION pg_temp.calls() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM query_cache_internal.cache_configuration_changed(); END';
SELECT pg_temp.calls();

\set ECHO none
SET client_min_messages = warning;
TRUNCATE cache_configuration, cache_configuration_log;
REVOKE EXECUTE ON FUNCTION set_cache_config(text, text) FROM configuration_ann;
DROP SCHEMA configuration_test CASCADE;
DROP ROLE configuration_ann, configuration_nobody;
