-- What a function reads of the session besides its role, its search path and what applications set: settings without a dot, facts
-- that only one session has, things outside of every transaction.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA session_test;
SET search_path = session_test, public;
\i :outcomes
\set ECHO all
CREATE TABLE items (id integer);
INSERT INTO items VALUES (1), (2);
SELECT cache_track_table('items');

-- A setting without a dot: seen at the first call, part of the key from then on.
CREATE FUNCTION named() RETURNS text LANGUAGE sql STABLE AS
    $$SELECT current_setting('application_name') || ' ' || count(*) FROM items$$;
SELECT cache_function('named()');
SET application_name = 'one';
SELECT outcomes() \g /dev/null
SELECT named_cached();
SELECT outcomes();
SELECT named_cached();
SELECT named_cached();
SELECT outcomes();
SET application_name = 'two';
SELECT named_cached();
SELECT named_cached();
SET application_name = 'one';
SELECT named_cached();
SELECT outcomes();
-- For a moment only, also inside of a function's own SET.
BEGIN;
SET LOCAL application_name = 'three';
SELECT named_cached() = named() AS same;
ROLLBACK;
SELECT named_cached() = named() AS same;
CREATE FUNCTION as_four() RETURNS text LANGUAGE plpgsql STABLE SET application_name = 'four' AS $$BEGIN RETURN named_cached(); END$$;
SELECT as_four(), named_cached();
-- Numbers, switches, enumerations.
CREATE FUNCTION planner() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN RETURN current_setting('work_mem') || current_setting('enable_seqscan') || current_setting('random_page_cost')
             || current_setting('constraint_exclusion') || current_setting('transaction_read_only'); END$$;
SELECT cache_function('planner()');
SELECT planner_cached() \g /dev/null
SELECT planner_cached() = planner() AS same;
SET work_mem = '77MB';
SELECT planner_cached() = planner() AS same;
SET enable_seqscan = off;
SELECT planner_cached() = planner() AS same;
SET random_page_cost = 1.25;
SELECT planner_cached() = planner() AS same;
SET constraint_exclusion = on;
SELECT planner_cached() = planner() AS same, planner_cached();
BEGIN READ ONLY;
SELECT planner_cached() = planner() AS same;
COMMIT;
RESET work_mem;
RESET enable_seqscan;
RESET random_page_cost;
RESET constraint_exclusion;
SELECT planner_cached() = planner() AS same;
-- By SHOW.
CREATE FUNCTION shown() RETURNS text LANGUAGE plpgsql VOLATILE AS $$DECLARE v text; BEGIN EXECUTE 'SHOW application_name' INTO v; RETURN v; END$$;
SELECT cache_function('shown()', consistency => 'ttl');
SELECT shown_cached(), shown_cached();
SET application_name = 'five';
SELECT shown_cached(), shown_cached();
-- Through another cached function, which is found in the cache.
CREATE FUNCTION outer_named() RETURNS text LANGUAGE sql STABLE AS $$SELECT 'outer ' || named_cached()$$;
SELECT cache_function('outer_named()');
SELECT named_cached(), outer_named_cached();
SET application_name = 'six';
SELECT outer_named_cached();
SELECT outer_named_cached();
SET application_name = 'five';
SELECT outer_named_cached();
-- A view, and a policy.
CREATE VIEW named_items AS SELECT id FROM items WHERE current_setting('application_name') <> 'seven';
CREATE FUNCTION in_view() RETURNS bigint LANGUAGE sql STABLE AS $$SELECT count(*) FROM named_items$$;
SELECT cache_function('in_view()');
SELECT in_view_cached(), in_view_cached();
SET application_name = 'seven';
SELECT in_view_cached(), in_view_cached();
RESET application_name;
-- An expression that the transaction made ready outside of the fill.
CREATE FUNCTION kept() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN current_setting('application_name'); END$$;
SELECT cache_function('kept()');
BEGIN;
SELECT kept();
SELECT kept_cached(), kept_cached();
COMMIT;
SET application_name = 'eight';
SELECT kept_cached();
RESET application_name;

-- What only this session has: not stored.
CREATE FUNCTION pid() RETURNS boolean LANGUAGE sql STABLE AS $$SELECT pg_backend_pid() > 0$$;
CREATE FUNCTION snapshot() RETURNS boolean LANGUAGE plpgsql STABLE AS $$BEGIN RETURN pg_current_snapshot() IS NOT NULL; END$$;
CREATE FUNCTION all_settings() RETURNS boolean LANGUAGE sql STABLE AS $$SELECT count(*) > 10 FROM pg_settings$$;
CREATE FUNCTION client() RETURNS boolean LANGUAGE sql STABLE AS $$SELECT inet_client_addr() IS NULL$$;
SELECT cache_function('pid()'), cache_function('snapshot()'), cache_function('all_settings()'), cache_function('client()');
SELECT outcomes() \g /dev/null
SELECT pid_cached();
SELECT snapshot_cached();
SELECT all_settings_cached();
SELECT client_cached();
SELECT outcomes();
-- Made ready before, in the same transaction.
BEGIN;
SELECT snapshot();
SELECT snapshot_cached();
COMMIT;
-- What the caller's own query reads is nothing to the function.
BEGIN;
SELECT pg_backend_pid() > 0 AS yes;
SELECT named_cached(), named_cached();
COMMIT;
SELECT outcomes();
-- A fill that changes a setting would not do so from the cache.
CREATE FUNCTION sets() RETURNS text LANGUAGE sql STABLE AS $$SELECT set_config('session_test.x', 'y', false)$$;
SELECT cache_function('sets()');
SELECT sets_cached();
RESET session_test.x;
SELECT sets_cached(), current_setting('session_test.x');

-- Outside of every transaction: not stored, unless age is enough.
CREATE FUNCTION size() RETURNS boolean LANGUAGE sql STABLE AS $$SELECT pg_relation_size('session_test.items') > 0$$;
SELECT cache_function('size()'), cache_function('size()', consistency => 'ttl', name => 'size_by_age');
SELECT size_cached(), size_by_age();
SELECT size_cached(), size_by_age();
SELECT lo_from_bytea(4711, 'old') AS large_object;
CREATE FUNCTION large() RETURNS text LANGUAGE sql STABLE AS $$SELECT encode(lo_get(4711), 'escape')$$;
SELECT cache_function('large()');
SELECT large_cached();
SELECT lo_put(4711, 0, 'new');
SELECT large_cached();
SELECT lo_unlink(4711);
SELECT outcomes();

-- A cursor that holds what was read before: whoever fetches from it runs no query.
CREATE FUNCTION fetched(held refcursor) RETURNS integer LANGUAGE plpgsql STABLE AS $$
DECLARE n integer; BEGIN MOVE ABSOLUTE 0 FROM held; FETCH held INTO n; RETURN n; END$$;
CREATE FUNCTION of_items() RETURNS bigint LANGUAGE sql STABLE AS $$SELECT count(*) FROM items$$;
SELECT cache_function('fetched(refcursor)'), cache_function('of_items()');
DECLARE held SCROLL CURSOR WITH HOLD FOR SELECT id FROM items ORDER BY id;
SELECT fetched_cached('held'), of_items_cached();
CLOSE held;
DECLARE held SCROLL CURSOR WITH HOLD FOR SELECT id * 100 FROM items ORDER BY id;
SELECT fetched_cached('held'), of_items_cached();
SELECT outcomes();
CLOSE held;
SELECT of_items_cached(), of_items_cached();
SELECT outcomes();

-- The owner's word on the scope stands.
SELECT cache_function('named()', scope => 'claims', name => 'named_by_claims'), cache_function('pid()', scope => 'shared', name => 'pid_shared');
SELECT named_by_claims();
SET application_name = 'nine';
SELECT named_by_claims(), pid_shared(), pid_shared();
SELECT outcomes();
RESET application_name;

\set ECHO errors
SET client_min_messages = warning;
DROP SCHEMA session_test CASCADE;
