-- Sets in a SELECT list: the caller asks for rows one by one, and gets what it asks for, as from the function itself. Stored is what was
-- read to its end.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA lazy_test;
SET search_path = lazy_test, public;
\i :outcomes
\set ECHO all
-- What is computed for nothing would not end.
SET statement_timeout = '2min';
CREATE TABLE items (id integer PRIMARY KEY, divisor integer, name text);
INSERT INTO items VALUES (1, 1, 'one'), (2, 0, 'two'), (3, 3, repeat('three', 1000));
CREATE TABLE others (id integer PRIMARY KEY);
INSERT INTO others VALUES (1), (2), (3);
SELECT cache_track_table('items'), cache_track_table('others');

-- An error in a row that nobody asks for; a set without an end, by recursion of a query and of functions; each in SQL.
CREATE FUNCTION shares(n integer) RETURNS SETOF integer LANGUAGE sql STABLE AS $$SELECT n / divisor FROM items ORDER BY id$$;
CREATE FUNCTION endless(n integer) RETURNS SETOF integer LANGUAGE sql STABLE AS $$WITH RECURSIVE r (i) AS (SELECT n UNION ALL SELECT i % 1000 + 1 FROM r) SELECT i FROM r$$;
CREATE FUNCTION down(n integer) RETURNS SETOF integer LANGUAGE sql STABLE AS $$SELECT n UNION ALL SELECT lazy_test.down(n + 1)$$;
SELECT cache_function(oid) FROM pg_proc WHERE pronamespace = 'lazy_test'::regnamespace AND proname IN ('shares', 'endless', 'down') ORDER BY proname;
SELECT shares(6) LIMIT 1;
SELECT shares_cached(6) LIMIT 1;
SELECT endless(7) LIMIT 3;
SELECT endless_cached(7) LIMIT 3;
SELECT down(1) LIMIT 2;
SELECT down_cached(1) LIMIT 2;
SELECT EXISTS (SELECT shares_cached(6)) AS any, (SELECT endless_cached(1) LIMIT 1) AS one;
SELECT i.id, (SELECT endless_cached(i.id) LIMIT 1) FROM items AS i ORDER BY 1;
SELECT outcomes();
-- A function in C that returns row by row.
CREATE FUNCTION series_cached(a integer, b integer, cache_duration interval DEFAULT NULL) RETURNS SETOF integer LANGUAGE cached STABLE
AS '{"function": "pg_catalog.generate_series(integer, integer)"}';
SELECT series_cached(1, 2000000000) LIMIT 2;
SELECT i, (SELECT series_cached(i, 2000000000) LIMIT 1) FROM generate_series(1, 3) AS i;
SELECT series_cached(1, 3) UNION ALL SELECT series_cached(1, 3);
SELECT outcomes();
-- Who asks for that row gets the error, after those before it.
BEGIN;
DECLARE c CURSOR FOR SELECT shares_cached(6);
FETCH 1 FROM c;
FETCH 1 FROM c;
ROLLBACK;
SELECT outcomes();
-- Where the cache does not answer it is the same: the own write, the cache switched off.
BEGIN;
UPDATE items SET name = 'ONE' WHERE id = 1;
SELECT shares_cached(6) LIMIT 1;
SET LOCAL pg_query_cache.enabled = off;
SELECT shares_cached(6) LIMIT 1;
SELECT endless_cached(7) LIMIT 1;
ROLLBACK;
SELECT outcomes();
-- The code, and its words.
SELECT code, kind, meaning, remedy FROM cache_reasons() WHERE code = 'read_in_parts';

-- Read to the end: stored, whatever is returned. PL/pgSQL returns all rows at once.
CREATE FUNCTION ids(n integer) RETURNS SETOF integer LANGUAGE sql STABLE AS $$SELECT NULLIF(id, 2) FROM items WHERE id <= n ORDER BY id$$;
CREATE FUNCTION rows_of(n integer) RETURNS SETOF items LANGUAGE sql STABLE AS $$SELECT * FROM items WHERE id <= n ORDER BY id$$;
CREATE FUNCTION table_of(n integer) RETURNS TABLE (id integer, name text) LANGUAGE sql STABLE AS $$SELECT i.id, left(i.name, 5) FROM items AS i WHERE i.id <= n ORDER BY 1$$;
CREATE FUNCTION names(n integer) RETURNS SETOF text LANGUAGE sql STABLE AS $$SELECT name FROM items WHERE id <= n ORDER BY id$$;
CREATE FUNCTION two_steps(n integer) RETURNS SETOF integer LANGUAGE sql STABLE AS $$SELECT count(*) FROM others; SELECT id FROM items WHERE id <= n ORDER BY id$$;
CREATE FUNCTION any_of(a anyarray) RETURNS SETOF anyelement LANGUAGE sql STABLE AS $$SELECT u FROM unnest(a) AS u$$;
CREATE FUNCTION strictly(n integer) RETURNS SETOF integer LANGUAGE sql STABLE STRICT AS $$SELECT id FROM items WHERE id <= n ORDER BY id$$;
CREATE FUNCTION lent(n integer) RETURNS SETOF integer LANGUAGE sql STABLE SECURITY DEFINER SET search_path = lazy_test AS $$SELECT id FROM items WHERE id <= n ORDER BY id$$;
CREATE FUNCTION ids_pl(n integer) RETURNS SETOF integer LANGUAGE plpgsql STABLE AS $$BEGIN RETURN QUERY SELECT id FROM items WHERE id <= n ORDER BY id; END$$;
SELECT cache_function(oid) FROM pg_proc WHERE pronamespace = 'lazy_test'::regnamespace
AND proname IN ('ids', 'rows_of', 'table_of', 'names', 'two_steps', 'any_of', 'strictly', 'lent', 'ids_pl') ORDER BY proname;
CREATE FUNCTION of(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE found text;
BEGIN
    EXECUTE format('SELECT md5(string_agg(r::text, E''\n'')) || '' '' || count(*) FROM (SELECT %s AS r) AS s', call) INTO found;
    RETURN found;
END
$$;
CREATE FUNCTION same(call text) RETURNS boolean LANGUAGE sql AS $$
SELECT bool_and(lazy_test.of(replace(call, '(', '_cached(')) = lazy_test.of(call)) FROM generate_series(1, 2)$$;
SELECT count(outcomes()) >= 0 AS from_here_on;
SELECT call, same(call), outcomes() FROM unnest(ARRAY['ids(3)', 'ids(1)', 'rows_of(3)', 'table_of(3)', 'names(3)', 'two_steps(3)', 'strictly(2)', 'lent(3)',
    'ids_pl(3)', 'any_of(ARRAY[1, 2])', 'any_of(ARRAY[''x''::text, NULL])']) WITH ORDINALITY AS c (call, nth) ORDER BY nth;
SELECT ids_cached(0), strictly_cached(NULL);
SELECT ids_cached(0);
SELECT outcomes();
-- The same entry in every place: from the select list into FROM, expanded, as a whole row, below another set, in its argument.
SELECT * FROM table_of_cached(3) UNION ALL SELECT (table_of_cached(3)).* UNION ALL SELECT (r).id, left((r).name, 5) FROM (SELECT rows_of_cached(2) AS r) AS s;
SELECT outcomes();
SELECT ids_cached(ids_cached(3)), generate_series(1, 2);
SELECT i, strictly_cached(i) FROM generate_series(1, 3) AS i;
SELECT * FROM generate_series(2, 3) AS i, LATERAL (SELECT two_steps_cached(i) AS two LIMIT 1) AS s;
SELECT outcomes();

-- Side by side, the same and others, of different lengths.
SELECT invalidate_cache_table('items') AS nothing;
SELECT ids_cached(1), strictly_cached(3), two_steps_cached(2);
SELECT outcomes();
SELECT two_steps_cached(3), two_steps_cached(3);
SELECT outcomes();

-- Cursors side by side, forth and back, held over the end of the transaction, closed before the end.
SELECT invalidate_cache_table('items') AS nothing;
BEGIN;
DECLARE a SCROLL CURSOR FOR SELECT ids_cached(3);
DECLARE b CURSOR FOR SELECT names_cached(2);
DECLARE h CURSOR WITH HOLD FOR SELECT two_steps_cached(2);
FETCH 1 FROM a;
FETCH 1 FROM b;
FETCH 1 FROM h;
FETCH ALL FROM b;
FETCH ALL FROM a;
FETCH BACKWARD 2 FROM a;
FETCH ABSOLUTE 1 FROM a;
DECLARE d CURSOR FOR SELECT strictly_cached(3);
FETCH 1 FROM d;
CLOSE d;
COMMIT;
FETCH ALL FROM h;
CLOSE h;
SELECT outcomes();
-- Row by row, with nothing in between, it is one result.
BEGIN;
DECLARE c CURSOR FOR SELECT strictly_cached(3);
FETCH 1 FROM c;
FETCH 1 FROM c;
FETCH 2 FROM c;
COMMIT;
SELECT strictly_cached(3);
SELECT outcomes();

-- Between two rows the caller does something: writes, sets, becomes another, begins a query, makes a function ready, changes a function.
-- The rows are the function's own, under its own snapshot, and not stored.
CREATE FUNCTION setting(n integer) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN IF n > 1 THEN RETURN current_setting('lazy.x', true); END IF; RETURN 'none'; END$$;
CREATE FUNCTION settings() RETURNS SETOF text LANGUAGE sql STABLE AS $$SELECT lazy_test.setting(id) FROM items ORDER BY id$$;
SELECT cache_function('settings()');
CREATE FUNCTION meanwhile(call text, does text) RETURNS TABLE (own text, cached text) LANGUAGE plpgsql AS $$
DECLARE a refcursor; b refcursor; x text; y text;
BEGIN
    OPEN a FOR EXECUTE 'SELECT ' || call;
    OPEN b FOR EXECUTE 'SELECT ' || replace(call, '(', '_cached(');
    own := ''; cached := '';
    LOOP
        FETCH a INTO x;
        FETCH b INTO y;
        EXIT WHEN NOT FOUND;
        own := own || ' ' || COALESCE(left(x, 12), '-');
        cached := cached || ' ' || COALESCE(left(y, 12), '-');
        EXECUTE does;
    END LOOP;
    RETURN NEXT;
END
$$;
SELECT invalidate_cache_table('items') AS nothing;
SELECT * FROM meanwhile('ids(3)', $$INSERT INTO items SELECT max(id) + 1, 1, 'new' FROM items$$);
DELETE FROM items WHERE id > 3;
SELECT * FROM meanwhile('names(3)', 'SET LOCAL lazy.x = 1');
SELECT * FROM meanwhile('settings()', $$SELECT set_config('lazy.x', COALESCE(NULLIF(current_setting('lazy.x', true), ''), 'x') || 'x', true), lazy_test.setting(2)$$);
SELECT * FROM meanwhile('two_steps(3)', 'SELECT 1');
SELECT * FROM meanwhile('table_of(3)', $$CREATE OR REPLACE FUNCTION table_of(n integer) RETURNS TABLE (id integer, name text) LANGUAGE sql STABLE AS 'SELECT i.id, left(i.name, 4) FROM items AS i WHERE i.id <= n ORDER BY 1'$$);
SELECT outcomes();
-- Later calls are right. (And nothing is left of many that were not read to their end: then nothing more could be stored.)
SELECT count(*), sum(first) FROM (SELECT (SELECT endless_cached(i) LIMIT 1) AS first FROM generate_series(1, 300) AS i) AS s;
SELECT call, same(call) FROM unnest(ARRAY['ids(3)', 'names(3)', 'settings()', 'two_steps(3)', 'table_of(3)']) AS call;
SELECT outcomes();

-- A savepoint is rolled back between two rows, the cursor goes on; an error in the middle is caught, and the call is made again.
SELECT invalidate_cache_table('items') AS nothing;
BEGIN;
DECLARE d CURSOR FOR SELECT strictly_cached(3);
FETCH 1 FROM d;
SAVEPOINT s;
INSERT INTO items VALUES (0, 1, 'zero');
ROLLBACK TO s;
FETCH ALL FROM d;
COMMIT;
SELECT outcomes();
DO $$
DECLARE r integer; total integer := 0; errors integer := 0;
BEGIN
    FOR i IN 1..3 LOOP
        BEGIN
            FOR r IN SELECT shares_cached(6) LOOP total := total + r; END LOOP;
        EXCEPTION WHEN division_by_zero THEN errors := errors + 1;
        END;
    END LOOP;
    RAISE NOTICE '% %', total, errors;
END
$$;
UPDATE items SET divisor = 2 WHERE id = 2;
SELECT shares_cached(6);
SELECT shares_cached(6);
SELECT outcomes();

-- Inside of another cached function: what the rows rest on, that rests on too, whether all were read or not.
CREATE FUNCTION first_of(n integer) RETURNS integer LANGUAGE sql STABLE AS $$SELECT ids_cached(n) LIMIT 1$$;
CREATE FUNCTION sum_of(n integer) RETURNS bigint LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT sum(s.a) FROM (SELECT ids_cached(n) AS a, strictly_cached(n) AS b) AS s); END$$;
CREATE FUNCTION tagged(n integer) RETURNS SETOF integer LANGUAGE sql STABLE AS $$SELECT g FROM generate_series(n, n + 1000) AS g$$;
SELECT cache_function('first_of(int)'), cache_function('sum_of(int)'), cache_function('tagged(int)', tags => ARRAY['t']);
CREATE FUNCTION first_tagged(n integer) RETURNS integer LANGUAGE sql STABLE AS $$SELECT tagged_cached(n) LIMIT 1$$;
SELECT cache_function('first_tagged(int)');
SELECT invalidate_cache_table('items') AS nothing;
SELECT first_of_cached(3), sum_of_cached(3), first_tagged_cached(3);
SELECT first_of_cached(3), sum_of_cached(3), first_tagged_cached(3);
SELECT outcomes();
UPDATE items SET id = 4 WHERE id = 1;
SELECT invalidate_cache(ARRAY['t']) AS tagged;
SELECT first_of_cached(4), sum_of_cached(4), first_tagged_cached(3);
SELECT first_of_cached(3), sum_of_cached(3);
SELECT outcomes();

-- Too large to be stored, and read in parts: what it costs to know that is bounded, and no row is missing.
SET pg_query_cache.max_entry_size = '64kB';
CREATE FUNCTION large(n integer) RETURNS SETOF text LANGUAGE sql STABLE AS $$SELECT repeat('x', 1000) || g FROM generate_series(1, n) AS g$$;
SELECT cache_function('large(int)');
SELECT count(*), max(length(r)) FROM (SELECT large_cached(500) AS r) AS s;
SELECT count(*), max(length(r)) FROM (SELECT large_cached(20) AS r) AS s;
SELECT count(*), max(length(r)) FROM (SELECT large_cached(20) AS r) AS s;
RESET pg_query_cache.max_entry_size;
SELECT outcomes();
-- What a health report would ask: a function of which nobody reads all rows.
SELECT function, storing FROM cache_function_stats WHERE function::text ~ '^(endless|large)_cached' ORDER BY function::text;

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA lazy_test CASCADE;
