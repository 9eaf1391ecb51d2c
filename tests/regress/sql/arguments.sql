-- Arguments of every kind: what a function can tell apart has entries of its own, and nothing else has.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA arguments_test;
SET search_path = arguments_test, public;
\i :outcomes
\set ECHO all
CREATE TYPE pair AS (a integer, b text);

-- Defaults, named and mixed notation: the same call, however it is written (one without any text has no collation, and an entry of
-- its own).
CREATE FUNCTION describe(a integer, b text DEFAULT 'x', c boolean DEFAULT NULL) RETURNS text LANGUAGE sql STABLE
    AS $$SELECT concat_ws(' ', a, b, coalesce(c::text, 'unknown'))$$;
SELECT cache_function('describe(int,text,bool)');
SELECT describe_cached(1), describe_cached(1, 'x'), describe_cached(b => 'x', a => 1), describe_cached(1, c => NULL);
SELECT outcomes();
SELECT describe_cached(1, 'y'), describe_cached(1, c => true), describe_cached(c => false, a => 1), describe_cached(2);
SELECT outcomes();
-- The age that a caller accepts is no part of the key.
SELECT describe_cached(1, cache_duration => '1 hour'), describe_cached(1, cache_duration => NULL), describe_cached(1, 'x', NULL, '1 second');
SELECT outcomes();
-- Zero accepts nothing that is stored, and stores nothing; less than zero is an error.
SELECT describe_cached(1, cache_duration => '0'), describe_cached(1);
SELECT outcomes();
SELECT describe_cached(1, cache_duration => '-1 second');

-- NULL, empty, and values that print alike.
CREATE FUNCTION kind_of(t text) RETURNS text LANGUAGE sql STABLE AS $$SELECT coalesce('<' || t || '>', 'NULL')$$;
SELECT cache_function('kind_of(text)');
SELECT kind_of_cached(NULL), kind_of_cached(''), kind_of_cached(' '), kind_of_cached('NULL');
SELECT kind_of_cached(NULL), kind_of_cached(''), kind_of_cached(' '), kind_of_cached('NULL');
SELECT outcomes();
CREATE FUNCTION digits(n numeric) RETURNS text LANGUAGE sql STABLE AS $$SELECT n::text$$;
SELECT cache_function('digits(numeric)');
SELECT digits_cached(1), digits_cached(1.0), digits_cached(1.00), digits_cached('NaN'), digits_cached(1);
CREATE FUNCTION sign_of(f double precision) RETURNS text LANGUAGE sql STABLE AS $$SELECT f::text$$;
SELECT cache_function('sign_of(float8)');
SELECT sign_of_cached(0), sign_of_cached('-0'), sign_of_cached('NaN'), sign_of_cached('-infinity'), sign_of_cached(0);
SELECT outcomes();

-- A strict function is not run for NULL: no entry.
CREATE FUNCTION careful(a integer, b integer) RETURNS integer LANGUAGE plpgsql STABLE STRICT
    AS $$BEGIN RAISE NOTICE 'runs with % and %', a, b; RETURN a + b; END$$;
SELECT cache_function('careful(int,int)');
SELECT careful_cached(1, NULL), careful_cached(NULL, 1), careful_cached(1, 2), careful_cached(1, 2);
CREATE FUNCTION careful_set(a integer) RETURNS SETOF integer LANGUAGE sql STABLE STRICT AS $$SELECT generate_series(1, a)$$;
SELECT cache_function('careful_set(int)');
SELECT count(*) FROM careful_set_cached(NULL);
SELECT outcomes();

-- Arrays, composites, ranges, domains, JSON, bytes.
CREATE DOMAIN label AS text CHECK (VALUE <> '');
CREATE FUNCTION show(a integer[], p pair, r int4range, l label, j jsonb, b bytea) RETURNS text LANGUAGE sql STABLE
    AS $$SELECT concat_ws(' | ', a, p, r, l, j, b)$$;
SELECT cache_function('show(int[],pair,int4range,label,jsonb,bytea)');
SELECT show_cached('{1,2}', '(1,x)', '[1,3)', 'l', '{"a": 1}', '\x00');
SELECT show_cached('{1,2}', '(1,x)', '[1,2]', 'l', '{"a":1}', '\x00');
SELECT show_cached('[0:1]={1,2}', '(1,x)', '[1,3)', 'l', '{"a": 1}', '\x00');
SELECT show_cached('{1,NULL}', '(,x)', '[1,3)', 'l', '{"a": 1}', '\x00');
SELECT show_cached('{}', '(1,)', 'empty', 'l', '[]', '');
SELECT show_cached(NULL, NULL, NULL, NULL, NULL, NULL);
SELECT show_cached(NULL, NULL, NULL, NULL, NULL, NULL);
SELECT outcomes();
SELECT show_cached(NULL, NULL, NULL, '', NULL, NULL);

-- The same value, stored compressed, out of line, or short.
CREATE TABLE texts (t text);
INSERT INTO texts SELECT string_agg(md5(i::text), '') FROM generate_series(1, 500) AS i;
INSERT INTO texts SELECT repeat('abc', 10000);
INSERT INTO texts VALUES ('short');
CREATE FUNCTION digest(t text) RETURNS text LANGUAGE sql STABLE AS $$SELECT left(md5(t), 8) || ' ' || length(t)$$;
SELECT cache_function('digest(text)');
SELECT digest_cached(t) FROM texts;
SELECT digest_cached(string_agg(md5(i::text), '')) FROM generate_series(1, 500) AS i;
SELECT digest_cached(repeat('abc', 10000)), digest_cached('sho' || 'rt');
SELECT outcomes();

-- VARIADIC: a list or an array, the same call. There is no cache_duration then.
CREATE FUNCTION total(VARIADIC numbers integer[]) RETURNS bigint LANGUAGE sql STABLE AS $$SELECT sum(n) FROM unnest(numbers) AS n$$;
SELECT cache_function('total(int[])');
SELECT total_cached(1, 2, 3), total_cached(VARIADIC '{1,2,3}'), total_cached(1), total_cached(VARIADIC '{}');
SELECT outcomes();

-- Polymorphic: each actual type has entries of its own, and results of its own type.
CREATE FUNCTION twice(v anyelement) RETURNS anyarray LANGUAGE sql STABLE AS $$SELECT ARRAY[v, v]$$;
SELECT cache_function('twice(anyelement)');
SELECT twice_cached(1), twice_cached(1::bigint), twice_cached('1'::text), twice_cached('(1,x)'::pair), twice_cached(1);
SELECT pg_typeof(twice_cached(1)), pg_typeof(twice_cached(1::bigint)), pg_typeof(twice_cached('(1,x)'::pair));
SELECT outcomes();
CREATE FUNCTION first_of(VARIADIC list anyarray) RETURNS anyelement LANGUAGE sql STABLE AS $$SELECT list[1]$$;
SELECT cache_function('first_of(anyarray)');
SELECT first_of_cached(1, 2), first_of_cached('a'::text, 'b'), first_of_cached(VARIADIC ARRAY[true]), first_of_cached(1, 2);
CREATE FUNCTION spread(v anyelement, OUT same anyelement, OUT list anyarray) LANGUAGE sql STABLE AS $$SELECT v, ARRAY[v, v]$$;
SELECT cache_function('spread(anyelement)');
SELECT * FROM spread_cached(1) AS a, spread_cached('x'::text) AS b, spread_cached(1) AS c;
CREATE FUNCTION each(v anyarray) RETURNS SETOF anyelement LANGUAGE sql STABLE AS $$SELECT unnest(v)$$;
SELECT cache_function('each(anyarray)');
SELECT each_cached(ARRAY[1, 2]), each_cached(ARRAY['a', 'b']), each_cached(ARRAY[1, 2]);
SELECT outcomes();
-- Anonymous rows: what they consist of is known to one session only, so nothing is stored.
CREATE FUNCTION as_text(v anyelement) RETURNS text LANGUAGE sql STABLE AS $$SELECT v::text$$;
CREATE FUNCTION unchanged(v anyelement) RETURNS anyelement LANGUAGE sql STABLE AS $$SELECT v$$;
SELECT cache_function('as_text(anyelement)'), cache_function('unchanged(anyelement)');
\c -
SET search_path = arguments_test, public;
SELECT as_text_cached(ROW(1, 3)), unchanged_cached(ROW(1, 3)), as_text_cached(ARRAY[ROW(1, 3)]);
\c -
SET search_path = arguments_test, public;
SELECT as_text_cached(ROW(1, '2000-01-04'::date)), unchanged_cached(ROW(1, '2000-01-04'::date)), as_text_cached(ARRAY[ROW(1, '2000-01-04'::date)]);
SELECT outcomes();

-- Collations are part of a call.
CREATE FUNCTION before(a text, b text) RETURNS boolean LANGUAGE sql STABLE AS $$SELECT a < b$$;
SELECT cache_function('before(text,text)');
SELECT before_cached('a', 'B') AS default_order, before_cached('a' COLLATE "en-x-icu", 'B') AS english,
       before_cached('a' COLLATE "C", 'B') AS bytes;
SELECT before('a', 'B') AS default_order, before('a' COLLATE "en-x-icu", 'B') AS english,
       before('a' COLLATE "C", 'B') AS bytes;
SELECT outcomes();

-- Parameters of a prepared statement, and arguments that are columns.
PREPARE p (integer, text) AS SELECT describe_cached($1, $2);
EXECUTE p(7, 'p');
EXECUTE p(7, 'p');
EXECUTE p(7, NULL);
SELECT describe_cached(i / 2, 'col') FROM generate_series(2, 5) AS i;
SELECT outcomes();

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA arguments_test CASCADE;
