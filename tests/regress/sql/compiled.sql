-- What PL/pgSQL has compiled under something else than what holds now is nobody else's: other settings, another search path.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA compiled_test;
CREATE SCHEMA compiled_one;
CREATE SCHEMA compiled_two;
SET search_path = compiled_test, public;
\i :outcomes
\set ECHO all
CREATE DOMAIN compiled_one.amount AS numeric(12, 2);
CREATE DOMAIN compiled_two.amount AS numeric(12, 0);
CREATE TABLE items (id integer PRIMARY KEY, price numeric);
INSERT INTO items VALUES (1, 8.67);
SELECT cache_track_table('items');
SET search_path = compiled_test, compiled_one, public;
CREATE FUNCTION escaped() RETURNS integer LANGUAGE plpgsql STABLE AS $$BEGIN RETURN length('a\\b'); END$$;
CREATE FUNCTION priced(i integer) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE x amount;
BEGIN SELECT price INTO x FROM compiled_test.items WHERE id = i; RETURN x; END$$;
CREATE FUNCTION of_column(i integer) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE x compiled_test.items.price%TYPE;
BEGIN SELECT price INTO x FROM compiled_test.items WHERE id = i; RETURN x; END$$;
CREATE FUNCTION plainly(i integer) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE x numeric(12, 2) := 0; /* amount */ y CONSTANT text[] DEFAULT '{}'; r record;
BEGIN SELECT price INTO x FROM compiled_test.items WHERE id = i; RETURN x; END$$;
CREATE FUNCTION pathed(i integer) RETURNS text LANGUAGE plpgsql STABLE SET search_path = compiled_one AS $$
DECLARE x amount;
BEGIN SELECT price INTO x FROM compiled_test.items WHERE id = i; RETURN x; END$$;
CREATE FUNCTION around(i integer) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN compiled_test.priced(i) || 'x'; END$$;
SELECT cache_function(f::regprocedure) FROM unnest('{escaped(),priced(integer),of_column(integer),plainly(integer),pathed(integer),around(integer)}'::text[]) AS f;
SET search_path = compiled_one, compiled_test, public;
SELECT priced(1), of_column(1), plainly(1), pathed(1), around(1);
SET search_path = compiled_two, compiled_test, public;
SELECT priced_cached(1), of_column_cached(1), plainly_cached(1), pathed_cached(1), around_cached(1);
SELECT outcomes();
-- Not again either where they were compiled: a statement that first runs now is read as it is now.
SET search_path = compiled_one, compiled_test, public;
SELECT priced_cached(1), around_cached(1);
SELECT outcomes();
-- How literals are read.
SET standard_conforming_strings = off;
SELECT escaped();
SET standard_conforming_strings = on;
SELECT escaped_cached();
SELECT outcomes();
-- A new session reads them anew, as does everybody when the function is replaced.
\c
SET search_path = compiled_two, compiled_test, public;
SELECT priced_cached(1), around_cached(1), escaped_cached();
SELECT priced(1) = priced_cached(1) AS same, around(1) = around_cached(1) AS same, escaped() = escaped_cached() AS same;
SELECT outcomes();
CREATE OR REPLACE FUNCTION compiled_test.priced(i integer) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE x amount;
BEGIN SELECT price INTO x FROM compiled_test.items WHERE id = i; RETURN 'now ' || x; END$$;
SELECT priced_cached(1), around_cached(1);
SELECT outcomes();
-- Temporary objects come first in every search path.
\c
SET search_path = compiled_one, compiled_test, public;
CREATE TEMP TABLE amount ();
SELECT priced(1) IS NULL AS none;
DROP TABLE amount;
SELECT priced_cached(1);
SELECT outcomes();

-- A definition that changes: the session goes on with what it has compiled, and stores it for nobody.
\c
SET search_path = compiled_test, public;
CREATE TABLE measures (id integer PRIMARY KEY, size numeric(12, 0));
INSERT INTO measures VALUES (1, 8.67);
SELECT cache_track_table('measures');
CREATE COLLATION compiled_test.sorted FROM "C";
CREATE FUNCTION of_type(i integer) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE "The Size" compiled_test.measures.size%TYPE := 8.67; other CONSTANT text COLLATE compiled_test.sorted NOT NULL DEFAULT ';';
BEGIN PERFORM FROM compiled_test.measures WHERE id = i; RETURN "The Size" || other; END$$;
CREATE FUNCTION of_cursor(i integer) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE c NO SCROLL CURSOR (a compiled_test.measures.size%TYPE, b timestamp(0) with time zone, d character varying(3)[]) FOR SELECT a || ';' FROM compiled_test.measures WHERE id = i;
        r text;
BEGIN OPEN c(8.67, now(), '{}'); FETCH c INTO r; CLOSE c; RETURN r; END$$;
CREATE FUNCTION of_row(i integer) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE r measures%ROWTYPE; d measures; days interval day to second(3); n record; a integer ARRAY[4]; p ALIAS FOR $1;
BEGIN SELECT * INTO r FROM compiled_test.measures WHERE id = p; RETURN r.size; END$$;
CREATE FUNCTION of_definer(i integer) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = compiled_test AS $$
DECLARE x measures.size%TYPE := 8.67;
BEGIN PERFORM FROM compiled_test.measures WHERE id = i; RETURN x; END$$;
CREATE FUNCTION of_nothing(i integer) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE x text := 8.67;
BEGIN PERFORM FROM compiled_test.measures WHERE id = i; RETURN x; END$$;
SELECT cache_function(f::regprocedure) FROM unnest('{of_type(integer),of_cursor(integer),of_row(integer),of_definer(integer),of_nothing(integer)}'::text[]) AS f;
SELECT of_type(1), of_cursor(1), of_row(1), of_definer(1), of_nothing(1);
-- What concerns none of the names is none of their business.
CREATE DOMAIN compiled_test.unknown AS integer;
ALTER TABLE measures ADD COLUMN more text;
ALTER TABLE items ALTER price TYPE numeric(12, 0);
SELECT of_type_cached(1), of_cursor_cached(1), of_row_cached(1), of_definer_cached(1), of_nothing_cached(1);
SELECT outcomes();
ALTER TABLE measures ALTER size TYPE numeric(12, 1);
SELECT of_type_cached(1), of_cursor_cached(1), of_row_cached(1), of_definer_cached(1), of_nothing_cached(1);
SELECT outcomes();
\c
SET search_path = compiled_test, public;
SELECT of_type_cached(1), of_cursor_cached(1), of_row_cached(1), of_definer_cached(1), of_nothing_cached(1);
SELECT of_type(1) = of_type_cached(1) AS type, of_cursor(1) = of_cursor_cached(1) AS cursor, of_definer(1) = of_definer_cached(1) AS definer;
SELECT outcomes();
-- A type that comes first in the path.
SET search_path = compiled_test, compiled_one, public;
SELECT priced(1);
CREATE DOMAIN compiled_test.amount AS numeric(12, 1);
SELECT priced_cached(1);
SELECT outcomes();
DROP DOMAIN compiled_test.amount;
-- A query of a cursor is made ready under one search path and runs under another; the function is compiled when it runs.
\c
SET search_path = compiled_one, compiled_test, public;
UPDATE items SET price = 7;
SELECT 1 FROM items WHERE CASE WHEN id = 2 THEN priced(id) END IS NOT NULL;
BEGIN;
DECLARE c CURSOR FOR SELECT priced(1);
SET search_path = compiled_two, compiled_test, public;
FETCH c;
COMMIT;
SET search_path = compiled_one, compiled_test, public;
SELECT priced_cached(1);
SELECT outcomes();

-- The cursor of a savepoint that was released goes on when another one is rolled back.
\c
SET search_path = compiled_one, compiled_test, public;
SELECT 1 FROM items WHERE CASE WHEN id = 2 THEN priced(id) END IS NOT NULL;
BEGIN;
SAVEPOINT a;
DECLARE c CURSOR FOR SELECT priced(1);
RELEASE a;
SAVEPOINT b;
ROLLBACK TO b;
SET search_path = compiled_two, compiled_test, public;
FETCH c;
COMMIT;
SET search_path = compiled_one, compiled_test, public;
UPDATE items SET price = 7;
SELECT priced_cached(1);
SELECT outcomes();

\set ECHO none
SET client_min_messages = warning;
SET search_path = compiled_test;
DROP SCHEMA compiled_test, compiled_one, compiled_two CASCADE;
