-- invalidate_cache_pattern(), clear_department_cache(), and the functions of the application that are cached from the beginning.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA clearing_test;
SET search_path = clearing_test, public;
\i :outcomes
-- What earlier tests have left may share a slot with what is counted here.
SELECT clear_cache() \g /dev/null
SELECT cleanup_expired_cache() \g /dev/null
\set ECHO all
CREATE FUNCTION one(i integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT i';
CREATE FUNCTION two(i integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT i';
SELECT cache_function('one(integer)', name => 'get_one'), cache_function('two(integer)', name => 'get%two'),
       cache_function('two(integer)', name => 'set_a\_c'), cache_function('two(integer)', name => 'A_b');
ALTER FUNCTION "A_b"(integer, interval) RENAME TO "A.b";
CREATE FUNCTION around(i integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT get_one(i)';
SELECT cache_function('around(integer)', name => 'get_around');
CREATE FUNCTION ask() RETURNS SETOF text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM get_one(1), get_one(2), "get%two"(1), "set_a\_c"(1), "A.b"(1), get_around(1);
    RETURN QUERY SELECT * FROM outcomes();
END $$;
SELECT ask();

-- An entry counts once, even if it is the result of one matching function and contains that of another.
SELECT invalidate_cache_pattern('get_*');
SELECT ask();
SELECT invalidate_cache_pattern('get_one');
SELECT ask();
SELECT p, invalidate_cache_pattern(p)
FROM unnest(ARRAY['', 'get', 'get_on', 'get_one_', 'Get_one', 'get%', 'get_%', 'set_a_c', 'set_a\\_c', 'nothing*', '?', 'A?b', '*.get_onee', '.', 'get_one\']) AS p;
SELECT ask();
SELECT invalidate_cache_pattern('get%two'), invalidate_cache_pattern('set_a\_c'), invalidate_cache_pattern('???_one'), invalidate_cache_pattern('*o?e');
SELECT ask();
-- With a dot the schema counts.
SELECT invalidate_cache_pattern('clearing_test.get_*'), invalidate_cache_pattern('public.get_*'), invalidate_cache_pattern('clearing_test.A.b'), invalidate_cache_pattern('A.b');
SELECT ask();
SELECT invalidate_cache_pattern('*') >= 6 AS all, invalidate_cache_pattern('**?***') >= 6 AS all, invalidate_cache_pattern(NULL);
SELECT ask();
-- It cannot run away.
SELECT invalidate_cache_pattern(repeat('*?', 100000)), invalidate_cache_pattern(repeat('*e', 30)), invalidate_cache_pattern(repeat('x', 1000000));
-- Transactional.
BEGIN;
SELECT invalidate_cache_pattern('get_one');
SELECT ask();
ROLLBACK;
SELECT ask();
-- The name is that of now.
ALTER FUNCTION get_around RENAME TO "was around";
SELECT get_one(1), "was around"(1) \g /dev/null
SELECT invalidate_cache_pattern('get_around'), invalidate_cache_pattern('was*');
ALTER FUNCTION "was around" RENAME TO get_around;

-- Without functions of the application.
SELECT get_enterprise_contacts_summary_cached(7);
SELECT get_department_contacts_summary_cached(7, 3, '5 minutes');
SELECT get_expert_sessions_with_stats_cached();
SELECT clear_department_cache(), clear_department_cache(7);

-- An application's own functions, whatever they read, and nothing said about it: exact, by the whole table.
CREATE TABLE people (firm bigint, room bigint, name text);
INSERT INTO people SELECT g % 3, g % 6, 'n' || g FROM generate_series(1, 12) AS g;
SELECT cache_track_table('people', '{firm,room}');
CREATE FUNCTION get_enterprise_contacts_summary(e bigint) RETURNS jsonb LANGUAGE sql STABLE
    AS $$SELECT jsonb_build_object('own', count(*) FILTER (WHERE firm = e), 'all', count(*)) FROM people$$;
CREATE FUNCTION get_department_contacts_summary(e bigint, d bigint) RETURNS jsonb LANGUAGE sql STABLE
    AS $$SELECT jsonb_build_object('own', count(*) FILTER (WHERE firm = e AND room = d), 'all', count(*)) FROM people$$;
CREATE FUNCTION summaries() RETURNS SETOF text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM get_enterprise_contacts_summary_cached(e), get_department_contacts_summary_cached(e, d)
    FROM (VALUES (1, 1), (1, 4), (12, 1), (12, NULL)) AS v (e, d);
    RETURN QUERY SELECT * FROM outcomes();
END $$;
SELECT summaries();
SELECT summaries();
SELECT get_enterprise_contacts_summary_cached(1), get_department_contacts_summary_cached(1, 4);
INSERT INTO people VALUES (2, 2, 'new');
SELECT get_enterprise_contacts_summary_cached(1), get_department_contacts_summary_cached(1, 4);
SELECT summaries() \g /dev/null
-- Of one enterprise: its departments, not it, and not those of another that begins with the same digit.
SELECT clear_department_cache(1);
SELECT summaries();
SELECT clear_department_cache(enterprise_id => 12);
SELECT summaries();
SELECT clear_department_cache(-1), clear_department_cache(9223372036854775807);
SELECT summaries();
SELECT clear_department_cache();
SELECT summaries();
SELECT invalidate_cache('{enterprise:1}');
SELECT summaries();
BEGIN;
SELECT clear_department_cache(1);
SELECT summaries();
ROLLBACK;
SELECT summaries();
-- Names that an application could have put before those of the server.
CREATE FUNCTION concat(text, bigint, text) RETURNS text LANGUAGE sql AS $$SELECT 'mine'$$;
CREATE FUNCTION invalidate_cache(text[]) RETURNS bigint LANGUAGE sql AS 'SELECT -1::bigint';
SET search_path = clearing_test, pg_catalog, public;
SELECT summaries() \g /dev/null
SELECT clear_department_cache(12);
SET search_path = clearing_test, public;

-- Maintenance: not for everybody.
CREATE ROLE regress_clearing;
GRANT USAGE ON SCHEMA clearing_test TO regress_clearing;
SET ROLE regress_clearing;
SELECT clear_department_cache();
SELECT invalidate_cache_pattern('*');
RESET ROLE;

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA clearing_test CASCADE;
DROP ROLE regress_clearing;
