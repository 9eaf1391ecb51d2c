-- Turning functions into cached ones and back; what replaces, drops and renames mean.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA caching_test;
SET search_path = caching_test, public;
\i :outcomes
\set ECHO all
CREATE TABLE orders (id integer PRIMARY KEY, customer integer, amount numeric);
INSERT INTO orders VALUES (1, 1, 10), (2, 1, 20), (3, 2, 5);
CREATE FUNCTION total(customer integer, at_least numeric DEFAULT 0) RETURNS numeric LANGUAGE sql STABLE
    AS 'SELECT sum(amount) FROM orders AS o WHERE o.customer = $1 AND amount >= $2';

-- With nothing said.
SELECT cache_function('total(int,numeric)');
SELECT prosrc::jsonb, pg_get_function_arguments(oid), pg_get_function_result(oid), provolatile, proparallel, proisstrict
FROM pg_proc WHERE oid = 'total_cached(int,numeric,interval)'::regprocedure;
SELECT * FROM cached_functions WHERE function::text LIKE 'total%' \gx
SELECT uncache_function('total_cached(int,numeric,interval)');
SELECT count(*) FROM cached_functions WHERE function::text LIKE 'total%';
SELECT total(1);

-- With everything said; the tables named are tracked at once.
SELECT cache_function('total(int,numeric)', ttl => '90 seconds', depends_on => '{"orders": {"customer": "$1"}}',
                      tags => '{orders,customer:$1}', class => 'analytics', scope => 'shared', consistency => 'strict',
                      priority => 2, name => 'Total of "Orders"');
SELECT * FROM cached_functions WHERE base_function LIKE 'caching_test.%' \gx
SELECT tgname FROM pg_trigger WHERE tgrelid = 'orders'::regclass ORDER BY 1;
SELECT "Total of ""Orders"""(1), "Total of ""Orders"""(1), "Total of ""Orders"""(1, 15), total(1, 15);
SELECT outcomes();
-- A time to live of any kind, in the body as in words.
SELECT cache_function('total(int,numeric)', ttl => ttl, name => 't' || n) FROM
    (VALUES (1, '1 month 2 days 03:04:05'::interval), (2, '0.5 seconds'), (3, '2 years'), (4, '5 minutes')) AS v (n, ttl);
SELECT function, ttl, prosrc::jsonb ->> 'ttl' AS in_words FROM cached_functions AS c JOIN pg_proc AS p ON p.oid = c.function
WHERE function::text LIKE 't_(%' ORDER BY 1;
SELECT uncache_function(function) FROM cached_functions WHERE base_function LIKE 'caching_test.%';

-- Written by hand, with an age of its own by default.
CREATE FUNCTION total_by_hand(customer integer, at_least numeric DEFAULT 5, cache_duration interval DEFAULT '1 hour')
RETURNS numeric LANGUAGE cached STABLE PARALLEL RESTRICTED
AS '{"function": "total(integer,numeric)", "class": "analytics"}';
SELECT total_by_hand(2), total_by_hand(2), total_by_hand(2, cache_duration => '1 second');
-- Without the additional argument.
CREATE FUNCTION total_plain(customer integer, at_least numeric) RETURNS numeric LANGUAGE cached STABLE
AS '{"function": "total(integer,numeric)"}';
SELECT total_plain(1, 0), total_plain(1, 0);
SELECT outcomes();

-- The base function is replaced: the next answer is the new one's. So it is when the cached function is.
CREATE OR REPLACE FUNCTION total(customer integer, at_least numeric DEFAULT 0) RETURNS numeric LANGUAGE sql STABLE
    AS 'SELECT -sum(amount) FROM orders AS o WHERE o.customer = $1 AND amount >= $2';
SELECT total_plain(1, 0), total_plain(1, 0);
CREATE FUNCTION count_of(customer integer, at_least numeric) RETURNS numeric LANGUAGE sql STABLE
    AS 'SELECT count(*) FROM orders AS o WHERE o.customer = $1 AND amount >= $2';
CREATE OR REPLACE FUNCTION total_plain(customer integer, at_least numeric) RETURNS numeric LANGUAGE cached STABLE
AS '{"function": "count_of(integer,numeric)"}';
SELECT total_plain(1, 0), total_plain(1, 0);
SELECT outcomes();
-- A function that the base function calls.
CREATE FUNCTION factor() RETURNS numeric LANGUAGE sql STABLE AS 'SELECT 2.0';
CREATE FUNCTION scaled(customer integer) RETURNS numeric LANGUAGE plpgsql STABLE AS 'BEGIN RETURN factor() * total(customer); END';
SELECT cache_function('scaled(int)');
SELECT scaled_cached(1), scaled_cached(1);
CREATE OR REPLACE FUNCTION factor() RETURNS numeric LANGUAGE sql STABLE AS 'SELECT 3.0';
SELECT scaled_cached(1), scaled_cached(1);
ALTER FUNCTION factor() RENAME TO old_factor;
SELECT scaled_cached(1);
ALTER FUNCTION old_factor() RENAME TO factor;
SELECT scaled_cached(1), scaled_cached(1);
SELECT outcomes();
-- A change that is rolled back changes nothing.
BEGIN;
CREATE OR REPLACE FUNCTION factor() RETURNS numeric LANGUAGE sql STABLE AS 'SELECT 99.0';
SELECT scaled_cached(1);
ROLLBACK;
SELECT scaled_cached(1);
-- A base function that cannot be cached any more answers by itself; a cached one whose results the planner would keep is refused at the call.
ALTER FUNCTION scaled(int) VOLATILE;
SELECT scaled_cached(1);
SELECT reason FROM cache_explain('scaled_cached(1)');
SELECT finding, status, value, sql FROM analyze_cache_health() WHERE finding LIKE 'base function cannot be cached: %';
ALTER FUNCTION scaled(int) STABLE;
ALTER FUNCTION scaled_cached(int, interval) IMMUTABLE;
SELECT scaled_cached(1);
ALTER FUNCTION scaled_cached(int, interval) STABLE;
SELECT scaled_cached(1);
SELECT outcomes();

-- The cached function depends on its base function, and on the extension.
\set VERBOSITY terse
DROP FUNCTION scaled(int);
DROP FUNCTION total(int, numeric);
\set VERBOSITY default
DROP FUNCTION scaled(int);
BEGIN;
DROP FUNCTION scaled(int) CASCADE;
SELECT count(*) FROM cached_functions WHERE function::text LIKE 'scaled%';
ROLLBACK;
-- One that was replaced no longer depends on what it cached before.
SELECT refobjid::regprocedure FROM pg_depend
WHERE objid = 'total_plain(int,numeric)'::regprocedure AND refclassid = 'pg_proc'::regclass;
DROP EXTENSION pg_query_cache;
DROP LANGUAGE cached;
-- Names: the base function may be renamed; the cached one goes on calling it, and its body says what it is named by now.
ALTER FUNCTION scaled(int) RENAME TO scaled_anew;
SELECT scaled_cached(1);
SELECT base_function FROM cached_functions WHERE function::text LIKE 'scaled%';
CREATE FUNCTION scaled(customer integer) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT -1.0';
SELECT scaled_cached(1);
DROP FUNCTION scaled(int);
ALTER FUNCTION scaled_anew(int) RENAME TO scaled;
SELECT scaled_cached(1);
-- STRICT and VARIADIC can change as well.
CREATE FUNCTION some_of(list integer[]) RETURNS integer LANGUAGE sql STABLE STRICT AS 'SELECT list[1]';
CREATE FUNCTION some_of_cached(list integer[]) RETURNS integer LANGUAGE cached STABLE STRICT AS '{"function": "some_of(int[])", "consistency": "strict"}';
SELECT prosrc FROM pg_proc WHERE proname = 'some_of_cached';
ALTER FUNCTION some_of(integer[]) CALLED ON NULL INPUT;
SELECT some_of_cached('{1}'), reason FROM cache_explain('some_of_cached(ARRAY[1])');
ALTER FUNCTION some_of(integer[]) STRICT;
CREATE OR REPLACE FUNCTION some_of(VARIADIC list integer[]) RETURNS integer LANGUAGE sql STABLE STRICT AS 'SELECT list[1]';
SELECT some_of_cached('{2}'), reason FROM cache_explain('some_of_cached(ARRAY[1])');
SELECT finding, value FROM analyze_cache_health() WHERE finding LIKE 'base function cannot be cached: %';
DROP FUNCTION some_of_cached(integer[]), some_of(integer[]);
-- What is looked up at each call does not run with the rights of the owner.
CREATE FUNCTION late(customer integer) RETURNS numeric LANGUAGE cached STABLE SECURITY DEFINER AS '{"function": "scaled(integer)", "binding": "late"}';
CREATE FUNCTION late(customer integer) RETURNS numeric LANGUAGE cached STABLE AS '{"function": "scaled(integer)", "binding": "late"}';
SELECT late(1);
ALTER FUNCTION late(integer) SECURITY DEFINER;
SELECT late(1);
DROP FUNCTION late(integer);
-- Nor does it run what is no plain function: those expect another caller.
SET check_function_bodies = off;
CREATE FUNCTION numbered() RETURNS bigint LANGUAGE cached STABLE AS '{"function": "row_number()", "binding": "late"}';
CREATE FUNCTION lagging(anyelement) RETURNS anyelement LANGUAGE cached STABLE AS '{"function": "pg_catalog.lag(anyelement)"}';
CREATE FUNCTION counted() RETURNS bigint LANGUAGE cached STABLE AS '{"function": "count()", "binding": "late"}';
CREATE FUNCTION input(cstring) RETURNS integer LANGUAGE cached STABLE AS '{"function": "pg_catalog.int4in(cstring)"}';
CREATE FUNCTION internally(internal) RETURNS internal LANGUAGE cached STABLE AS '{"function": "pg_catalog.none(internal)"}';
CREATE FUNCTION triggered() RETURNS trigger LANGUAGE cached STABLE AS '{"function": "none()"}';
CREATE FUNCTION listed(VARIADIC "any") RETURNS text LANGUAGE cached STABLE AS '{"function": "concat(VARIADIC \"any\")"}';
CREATE FUNCTION windowed() RETURNS bigint LANGUAGE cached WINDOW STABLE AS '{"function": "row_number()"}';
CREATE PROCEDURE proceeds() LANGUAGE cached AS '{"function": "none()"}';
RESET check_function_bodies;
SELECT numbered();
SELECT lagging(1);
SELECT counted();
-- The rows of a set are compared with what the query expects.
CREATE FUNCTION un(anyarray) RETURNS SETOF anyelement LANGUAGE cached STABLE AS '{"function": "pg_catalog.unnest(anyarray)"}';
SELECT * FROM un(ARRAY[ROW(40000, 2)]) AS x(a bytea, b integer);
SELECT * FROM un(ARRAY[ROW(1, 2)]) AS x(a text, b text, c integer);
SELECT * FROM un(ARRAY[ROW(1, 2)]) AS x(a integer);
SELECT * FROM un(ARRAY[ROW(1, 'a'::varchar), NULL, ROW(2, 'b'::varchar)]) AS x(a integer, b text);
CREATE FUNCTION records(integer) RETURNS SETOF record LANGUAGE sql STABLE AS 'SELECT i, i::text FROM generate_series(1, $1) AS i';
CREATE FUNCTION records_by_plpgsql(integer) RETURNS SETOF record LANGUAGE plpgsql STABLE AS 'BEGIN RETURN QUERY SELECT i, i::text FROM generate_series(1, $1) AS i; END';
SET check_function_bodies = off;
CREATE FUNCTION records_cached(integer) RETURNS SETOF record LANGUAGE cached STABLE AS '{"function": "records(integer)"}';
CREATE FUNCTION records_by_plpgsql_cached(integer) RETURNS SETOF record LANGUAGE cached STABLE AS '{"function": "records_by_plpgsql(integer)"}';
RESET check_function_bodies;
SELECT * FROM records_cached(2) AS x(a integer, b text);
SELECT * FROM records_cached(2) AS x(a bytea, b text);
SELECT * FROM records_by_plpgsql_cached(2) AS x(a integer, b text);
SELECT * FROM records_by_plpgsql_cached(2) AS x(a bytea, b text);
DROP FUNCTION numbered(), lagging(anyelement), counted(), un(anyarray), records_cached(integer), records_by_plpgsql_cached(integer);
SELECT cache_function('scaled_cached(integer, interval)');
CREATE VIEW of_orders AS SELECT * FROM orders;
SELECT invalidate_cache_table('of_orders');
DROP VIEW of_orders;
-- A result depends on so many relations at most.
DO $$BEGIN EXECUTE format('CREATE FUNCTION too_many() RETURNS numeric LANGUAGE cached STABLE AS %L',
    json_build_object('function', 'scaled(integer)', 'depends_on', (SELECT json_object_agg('t' || i, json_object('{}')) FROM generate_series(1, 65) AS i))); END$$;
-- A name under which calls could mean either function.
CREATE FUNCTION part(a integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT a';
CREATE FUNCTION part(a integer, b interval) RETURNS integer LANGUAGE sql STABLE AS 'SELECT -a';
CREATE FUNCTION part(a integer, b text) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 10 * a';
CREATE FUNCTION part(a text) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 100';
SELECT cache_function('part(integer)');
SELECT cache_function('part(integer, interval)');
SELECT cache_function('part(integer, text)');
SELECT cache_function('part(text)'), cache_function('part(integer, text)', name => 'text_part');
SELECT part_cached(1), part_cached(1, '1 minute'), part_cached('1'::text), text_part(1, 'a');
DROP FUNCTION part(integer), part(integer, interval), part(integer, text), part(text) CASCADE;

-- Functions of the catalog: their cached functions must not become part of it.
SELECT cache_function('initcap(text)');
SELECT pronamespace::regnamespace FROM pg_proc WHERE proname = 'initcap_cached';

-- One that another overload hides is told apart by its argument types.
CREATE FUNCTION kind(a integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'integer'$$;
CREATE FUNCTION kind(a text) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'text'$$;
SELECT cache_function('kind(int)'), cache_function('kind(text)');
SELECT kind_cached(1), kind_cached('1'), kind_cached(1), kind_cached('1');
SELECT outcomes();
-- Names that need quotes.
CREATE FUNCTION "It's a ""function"""("a b" integer DEFAULT 5) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'it''s ' || "a b"$$;
SELECT cache_function('"It''s a ""function"""(int)');
SELECT "It's a ""function""_cached"(), "It's a ""function""_cached"("a b" => 5);
SELECT outcomes();
-- The longest name that there is leaves no room for "_cached".
DO $$BEGIN EXECUTE format('CREATE FUNCTION %I() RETURNS int LANGUAGE sql STABLE AS ''SELECT 1''', repeat('n', 63)); END$$;
SELECT cache_function((repeat('n', 63) || '()')::regprocedure);
SELECT cache_function((repeat('n', 63) || '()')::regprocedure, name => 'short');
SELECT short();
-- A body that no text can hold does not hide the others.
SET check_function_bodies = off;
CREATE FUNCTION unshowable() RETURNS int LANGUAGE cached STABLE AS '{"function": "none()", "tags": ["a\u0000b"]}';
RESET check_function_bodies;
SELECT function, base_function, tags FROM cached_functions WHERE function::text LIKE 'unshow%' ORDER BY 1;
-- One of the server's own functions is named in full, whatever the search path was.
CREATE FUNCTION lowered(k text) RETURNS text LANGUAGE cached STABLE AS '{"function": "lower(text)"}';
CREATE FUNCTION appended(anycompatiblearray, anycompatible) RETURNS anycompatiblearray LANGUAGE cached STABLE AS '{"function": "array_append(anycompatiblearray, anycompatible)"}';
SELECT lowered('ABC'), lowered('ABC'), appended('{1}'::int[], 2);
SELECT proname, prosrc FROM pg_proc WHERE proname IN ('lowered', 'appended') ORDER BY 1;
SELECT finding, value FROM analyze_cache_health() WHERE finding LIKE 'body names%';

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA caching_test CASCADE;
