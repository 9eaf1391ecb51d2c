-- What is refused, and in which words; and errors of the base function, which pass untouched.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
\set refused :testdir '/lib/refused.sql'
CREATE SCHEMA errors_test;
SET search_path = errors_test, public;
\i :outcomes
\i :refused
\set ECHO all
CREATE TABLE t (id integer PRIMARY KEY, v text);
SELECT cache_track_table('t');
CREATE FUNCTION f(a integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT v FROM t WHERE id = a';

CREATE FUNCTION body(body text) RETURNS SETOF text LANGUAGE sql VOLATILE AS $$
    SELECT refused(format('CREATE FUNCTION c(a integer) RETURNS text LANGUAGE cached STABLE AS %L', body))
$$;
\pset tuples_only on
\pset format unaligned

-- The body: JSON with known keys of the right kind.
SELECT body('SELECT 1');
SELECT body('');
SELECT body('[]');
SELECT body('{}');
SELECT body('{"function": "f(integer)", "tll": "5 minutes"}');
SELECT body('{"function": "f(integer)", "function": "f(integer)"}');
SELECT body('{"function": 5}');
SELECT body('{"function": ""}');
SELECT body('{"function": "f"}');
SELECT body('{"function": "f(integer"}');
SELECT body('{"function": "f(no_such_type)"}');
SELECT body('{"function": "g(integer)"}');
SELECT body('{"function": "no_schema.f(integer)"}');
SELECT body('{"function": "f(integer)", "ttl": 5}');
SELECT body('{"function": "f(integer)", "ttl": "soon"}');
SELECT body('{"function": "f(integer)", "ttl": "0"}');
SELECT body('{"function": "f(integer)", "ttl": "-1 minute"}');
SELECT body('{"function": "f(integer)", "class": "gold"}');
SELECT body('{"function": "f(integer)", "scope": "everybody"}');
SELECT body('{"function": "f(integer)", "consistency": "eventual"}');
SELECT body('{"function": "f(integer)", "binding": "loose"}');
SELECT body('{"function": "f(integer)", "priority": 4}');
SELECT body('{"function": "f(integer)", "priority": -1}');
SELECT body('{"function": "f(integer)", "tags": "orders"}');
SELECT body('{"function": "f(integer)", "tags": [""]}');
SELECT body('{"function": "f(integer)", "depends_on": ["t"]}');
SELECT body('{"function": "f(integer)", "depends_on": {"u": {}}}');
SELECT body('{"function": "f(integer)", "depends_on": {"t": {"no_column": "$1"}}}');
SELECT body('{"function": "f(integer)", "depends_on": {"t": {"id": "a"}}}');
SELECT body('{"function": "f(integer)", "depends_on": {"t": {"id": "$2"}}}');
SELECT body('{"function": "f(integer)", "depends_on": {"t": {"id": "$0"}}}');
SELECT body('{"function": "f(integer)", "depends_on": {"t": {"v": "$1"}}}');
-- With bodies unchecked, as a restore does it, what needs no other object is checked still.
SET check_function_bodies = off;
SELECT body('nonsense');
RESET check_function_bodies;

-- The declaration has to fit the base function.
SELECT refused($$CREATE FUNCTION c(a integer) RETURNS integer LANGUAGE cached STABLE AS '{"function": "f(integer)"}'$$);
SELECT refused($$CREATE FUNCTION c(a integer) RETURNS SETOF text LANGUAGE cached STABLE AS '{"function": "f(integer)"}'$$);
SELECT refused($$CREATE FUNCTION c(a bigint) RETURNS text LANGUAGE cached STABLE AS '{"function": "f(integer)"}'$$);
SELECT refused($$CREATE FUNCTION c() RETURNS text LANGUAGE cached STABLE AS '{"function": "f(integer)"}'$$);
SELECT refused($$CREATE FUNCTION c(a integer, b integer) RETURNS text LANGUAGE cached STABLE AS '{"function": "f(integer)"}'$$);
SELECT refused($$CREATE FUNCTION c(a integer, b interval, c interval) RETURNS text LANGUAGE cached STABLE AS '{"function": "f(integer)"}'$$);
CREATE FUNCTION rows_of(OUT a integer, OUT b text) RETURNS SETOF record LANGUAGE sql STABLE AS 'SELECT id, v FROM t';
SELECT refused($$CREATE FUNCTION c(OUT a integer, OUT b integer) RETURNS SETOF record LANGUAGE cached STABLE AS '{"function": "rows_of()"}'$$);
SELECT refused($$CREATE FUNCTION c() RETURNS TABLE (a integer) LANGUAGE cached STABLE AS '{"function": "rows_of()"}'$$);
SELECT refused($$CREATE FUNCTION c() RETURNS SETOF t LANGUAGE cached STABLE AS '{"function": "rows_of()"}'$$);
CREATE FUNCTION any_of(VARIADIC list integer[]) RETURNS integer LANGUAGE sql STABLE AS 'SELECT list[1]';
SELECT refused($$CREATE FUNCTION c(list integer[]) RETURNS integer LANGUAGE cached STABLE AS '{"function": "any_of(integer[])"}'$$);
SELECT refused($$CREATE FUNCTION c(a integer) RETURNS text LANGUAGE cached IMMUTABLE AS '{"function": "f(integer)"}'$$);
SELECT refused($$CREATE FUNCTION c(a integer) RETURNS text LANGUAGE cached STABLE PARALLEL SAFE AS '{"function": "f(integer)"}'$$);
SELECT refused($$CREATE FUNCTION c(a integer) RETURNS text LANGUAGE cached STABLE STRICT AS '{"function": "f(integer)"}'$$);
SELECT refused($$CREATE FUNCTION c(a integer) RETURNS text LANGUAGE cached STABLE WINDOW AS '{"function": "f(integer)"}'$$);
SELECT refused($$CREATE PROCEDURE c(a integer) LANGUAGE cached AS '{"function": "f(integer)"}'$$);
SELECT refused($$CREATE FUNCTION c() RETURNS trigger LANGUAGE cached AS '{"function": "f(integer)"}'$$);
SELECT refused($$DO LANGUAGE cached 'anything'$$);

-- Functions whose results cannot be cached.
CREATE FUNCTION v(a integer) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT v FROM t WHERE id = a';
SELECT refused($$SELECT cache_function('v(int)')$$);
CREATE FUNCTION nothing() RETURNS void LANGUAGE sql STABLE AS 'SELECT';
SELECT refused($$SELECT cache_function('nothing()')$$);
CREATE FUNCTION shapeless() RETURNS record LANGUAGE sql STABLE AS 'SELECT 1, 2';
SELECT refused($$SELECT cache_function('shapeless()')$$);
CREATE FUNCTION shapeless_set() RETURNS SETOF record LANGUAGE sql STABLE AS 'SELECT 1, 2';
SELECT refused($$SELECT cache_function('shapeless_set()')$$);
CREATE FUNCTION shapeless_column(OUT a integer, OUT r record) LANGUAGE plpgsql STABLE AS 'BEGIN a := 1; r := ROW(1, 2); END';
SELECT refused($$SELECT cache_function('shapeless_column()')$$);
CREATE PROCEDURE p(a integer) LANGUAGE sql AS 'SELECT a';
SELECT refused($$SELECT cache_function('p(int)')$$);
SELECT refused($$SELECT cache_function('sum(integer)')$$);
SELECT refused($$SELECT cache_function('row_number()')$$);
SELECT refused($$SELECT cache_function('int4in(cstring)')$$);
SELECT refused($$SELECT cache_function('int4out(integer)')$$);
SELECT refused($$SELECT cache_function('array_agg_transfn(internal,anynonarray)')$$);
CREATE FUNCTION on_write() RETURNS trigger LANGUAGE plpgsql STABLE AS 'BEGIN RETURN NULL; END';
SELECT refused($$SELECT cache_function('on_write()')$$);
SELECT refused($$SELECT cache_function('format(text,"any")')$$);

-- cache_function(), uncache_function().
SELECT refused($$SELECT cache_function('no_such_function()')$$);
SELECT refused($$SELECT cache_function(0)$$);
SELECT refused($$SELECT cache_function(NULL)$$);
SELECT refused($$SELECT cache_function('f(int)', ttl => '-1 second')$$);
SELECT refused($$SELECT cache_function('f(int)', class => 'gold')$$);
SELECT refused($$SELECT cache_function('f(int)', scope => 'everybody')$$);
SELECT refused($$SELECT cache_function('f(int)', consistency => 'eventual')$$);
SELECT refused($$SELECT cache_function('f(int)', priority => 4)$$);
SELECT refused($$SELECT cache_function('f(int)', tags => '{a,""}')$$);
SELECT refused($$SELECT cache_function('f(int)', tags => '{"customer:$1","order:$2"}')$$);
SELECT refused($$SELECT cache_function('f(int)', depends_on => '{"u": {}}')$$);
SELECT refused($$SELECT cache_function('f(int)', depends_on => '[]')$$);
SELECT refused($$SELECT cache_function('f(int)', depends_on => '{"t": {"no_column": "$1"}}')$$);
SELECT refused($$SELECT cache_function('f(int)', depends_on => '{"t": {"id": "$2"}}')$$);
SELECT refused($$SELECT cache_function('f(int)', depends_on => '{"t": {"id": 1}}')$$);
SELECT refused($$SELECT cache_function('f(int)', class => 'Gold')$$);
SELECT refused($$SELECT cache_function('f(int)', class => 'gold', consistency => 'eventual')$$);
SELECT refused($$SELECT cache_function('f(int)', tags => array_fill('a'::text, '{17}'))$$);
SELECT refused($$SELECT cache_function('f(int)', refresh_ahead => 'soon')$$);
SELECT refused($$SELECT cache_function('f(int)', refresh_ahead => '51%')$$);
SELECT refused($$SELECT cache_function('f(int)', stale_while_revalidate => '1 minute')$$);
SELECT refused($$SELECT cache_function('f(int)', name => '')$$);
-- A name is a name, not a place.
SELECT refused($$SELECT cache_function('f(int)', name => 'errors_test.g')$$);
SELECT refused($$SELECT uncache_function('f(int)')$$);
SELECT refused($$SELECT uncache_function(0)$$);
SELECT cache_function('f(int)');
SELECT refused($$SELECT cache_function('f(int)')$$);
-- Names that agree in what a name can be long, a name that is anything else's, and the name of the argument that is added.
CREATE FUNCTION long_long_long_long_long_long_long_long_long_long_long_n_1(i integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
SELECT cache_function('long_long_long_long_long_long_long_long_long_long_long_n_1(int)');
CREATE FUNCTION long_long_long_long_long_long_long_long_long_long_long_n_2(i integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 2';
SELECT refused($$SELECT cache_function('long_long_long_long_long_long_long_long_long_long_long_n_2(int)')$$);
CREATE FUNCTION f0() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION occupied(interval) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
SELECT refused($$SELECT cache_function('f0()', name => 'occupied')$$);
CREATE FUNCTION lasting(i integer, cache_duration integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
SELECT refused($$SELECT cache_function('lasting(int, int)')$$);
CREATE FUNCTION columns_of(i integer) RETURNS TABLE (a integer, cache_duration integer) LANGUAGE sql STABLE AS 'SELECT 1, 2';
SELECT refused($$SELECT cache_function('columns_of(int)')$$);
-- No function caches itself.
SELECT refused($$CREATE OR REPLACE FUNCTION f_cached(a integer, cache_duration interval DEFAULT NULL) RETURNS text LANGUAGE cached STABLE AS '{"function": "f_cached(integer,interval)"}'$$);
-- A parameter of the name cache_duration stands in the way.
CREATE FUNCTION taken(cache_duration interval) RETURNS text LANGUAGE sql STABLE AS 'SELECT 1::text';
SELECT refused($$SELECT cache_function('taken(interval)')$$);

-- Tables that cannot be tracked.
SELECT refused($$SELECT cache_track_table('pg_class')$$);
SELECT refused($$SELECT cache_track_table('t', '{no_column}')$$);
SELECT refused($$SELECT cache_track_table('t', '{ctid}')$$);
SELECT refused($$SELECT cache_track_table(0)$$);
SELECT refused($$SELECT cache_untrack_table(0)$$);
CREATE VIEW view_of_t AS SELECT * FROM t;
SELECT refused($$SELECT cache_track_table('view_of_t')$$);
CREATE SEQUENCE s;
SELECT refused($$SELECT cache_track_table('s')$$);
SELECT refused($$SELECT cache_tracker()$$);
-- Triggers of another kind than cache_track_table() makes would mark nothing.
CREATE TABLE marked (id integer);
CREATE VIEW marked_view AS SELECT * FROM marked;
CREATE TRIGGER wrong AFTER INSERT ON marked FOR EACH STATEMENT EXECUTE FUNCTION cache_tracker('id');
SELECT refused($$INSERT INTO marked VALUES (1)$$);
DROP TRIGGER wrong ON marked;
CREATE TRIGGER wrong INSTEAD OF INSERT ON marked_view FOR EACH ROW EXECUTE FUNCTION cache_tracker();
SELECT refused($$INSERT INTO marked_view VALUES (1)$$);
DROP TRIGGER wrong ON marked_view;
SELECT cache_track_table('marked', '{id}') > 0 AS tracked;
INSERT INTO marked VALUES (1);
UPDATE marked SET id = 2;
DELETE FROM marked;
TRUNCATE marked;
SELECT refused($$SELECT invalidate_cache_function('f(int)')$$);
SELECT refused($$SELECT warm_cache('f(int)')$$);
-- The name alone will do where there is one of it.
SELECT warm_cache('f_cached'::regproc, '[1]') IS NOT NULL AS asked;
SELECT refused($$SELECT invalidate_cache_function(0)$$);

-- An error of the base function passes with all its fields, on a fill and when nothing is cached.
CREATE FUNCTION fails(how text) RETURNS integer LANGUAGE plpgsql STABLE AS $$
BEGIN
    CASE how
        WHEN 'raise' THEN
            RAISE EXCEPTION 'no luck today' USING ERRCODE = 'AB123', DETAIL = 'the detail', HINT = 'the hint',
                COLUMN = 'a column', CONSTRAINT = 'a constraint', DATATYPE = 'a type', TABLE = 'a table', SCHEMA = 'a schema';
        WHEN 'divide' THEN RETURN 1 / (SELECT count(*) FROM t);
        WHEN 'syntax' THEN EXECUTE 'SELECT 1 FROM';
        WHEN 'write' THEN INSERT INTO t VALUES (1);
        ELSE RETURN 1;
    END CASE;
END $$;
SELECT cache_function('fails(text)');
SELECT refused($$SELECT fails('raise')$$);
SELECT refused($$SELECT fails_cached('raise')$$);
SELECT refused($$SELECT fails('divide')$$);
SELECT refused($$SELECT fails_cached('divide')$$);
SELECT refused($$SELECT fails('syntax')$$);
SELECT refused($$SELECT fails_cached('syntax')$$);
SELECT refused($$SELECT fails('write')$$);
SELECT refused($$SELECT fails_cached('write')$$);
SET pg_query_cache.enabled = off;
SELECT refused($$SELECT fails_cached('raise')$$);
RESET pg_query_cache.enabled;
SELECT outcomes();
-- It is never stored: once the cause is gone there is a result.
INSERT INTO t VALUES (1, 'one');
SELECT fails_cached('divide'), fails_cached('divide');
SELECT outcomes();

-- A constraint violation inside keeps its names for who catches it.
CREATE DOMAIN positive AS integer CONSTRAINT must_be_positive CHECK (VALUE > 0);
CREATE FUNCTION to_positive(i integer) RETURNS positive LANGUAGE sql STABLE AS 'SELECT i::positive';
SELECT cache_function('to_positive(int)');
SELECT refused($$SELECT to_positive(-1)$$);
SELECT refused($$SELECT to_positive_cached(-1)$$);
\pset tuples_only off
\pset format aligned
SELECT to_positive_cached(1);
SELECT outcomes();
-- A set that fails on its way is not stored by halves.
CREATE FUNCTION breaks(n integer) RETURNS SETOF integer LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN NEXT 1;
    RETURN NEXT 10 / n;
END $$;
SELECT cache_function('breaks(int)');
SELECT * FROM breaks_cached(0);
SELECT * FROM breaks_cached(0);
SELECT * FROM breaks_cached(2);
SELECT outcomes();

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA errors_test CASCADE;
