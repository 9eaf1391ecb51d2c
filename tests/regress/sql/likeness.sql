-- A cached function stays declared as its base function is: defaults and names of arguments, STRICT, volatility, parallel mark, COST, ROWS.
\set ECHO errors
CREATE SCHEMA likeness_test;
SET search_path = likeness_test, public;
CREATE FUNCTION declared(function regprocedure) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat_ws(' ', pg_get_function_arguments(oid), provolatile, proparallel, proisstrict, procost, prorows) FROM pg_proc WHERE oid = $1
$$;
CREATE FUNCTION findings() RETURNS SETOF text LANGUAGE sql VOLATILE AS $$
    SELECT concat_ws(' | ', finding, status, value, sql) FROM analyze_cache_health() WHERE finding ~ '^declared otherwise.*likeness_test'
$$;
\set ECHO all
CREATE FUNCTION f(n integer DEFAULT 10) RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT n';
SELECT cache_function('f(integer)');
SELECT declared('f_cached(integer,interval)');
SELECT f_cached(), f_cached();
CREATE OR REPLACE FUNCTION f(n integer DEFAULT 50) RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE COST 7 AS 'SELECT n';
SELECT f_cached(), f_cached(), f_cached(cache_duration => '1 minute');
SELECT declared('f_cached(integer,interval)');
ALTER FUNCTION f PARALLEL UNSAFE COST 200;
SELECT declared('f_cached(integer,interval)');
ALTER FUNCTION f PARALLEL RESTRICTED VOLATILE;
SELECT declared('f_cached(integer,interval)');
ALTER FUNCTION f PARALLEL RESTRICTED STABLE;
SELECT declared('f_cached(integer,interval)');

-- Names and defaults that come later; columns of the result between the arguments.
CREATE FUNCTION g(integer, integer) RETURNS TABLE (a integer, b integer) LANGUAGE sql STABLE ROWS 5 AS 'SELECT $1, $2';
SELECT cache_function('g(integer,integer)');
SELECT declared('g_cached(integer,integer,interval)');
CREATE OR REPLACE FUNCTION g(x integer, y integer DEFAULT 1 + length('ab')) RETURNS TABLE (a integer, b integer) LANGUAGE sql STABLE ROWS 50 AS 'SELECT $1, $2';
SELECT declared('g_cached(integer,integer,interval)');
SELECT * FROM g_cached(1);
SELECT * FROM g_cached(y => 3, x => 2);
CREATE FUNCTION two() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 2';
CREATE OR REPLACE FUNCTION g(x integer, y integer DEFAULT two()) RETURNS TABLE (a integer, b integer) LANGUAGE sql STABLE ROWS 50 AS 'SELECT $1, $2';
SELECT * FROM g_cached(1);
DROP FUNCTION two();
CREATE FUNCTION h(integer, OUT total integer, INOUT more integer) LANGUAGE sql STABLE AS 'SELECT $1, $2';
SELECT cache_function('h(integer,integer)');
CREATE OR REPLACE FUNCTION h(k integer, OUT total integer, INOUT more integer) LANGUAGE sql STABLE AS 'SELECT $1, $2';
SELECT h_cached(k => 1, more => 2);

-- STRICT. Done on the cached function itself it is refused, and so is what else it cannot be.
CREATE FUNCTION s(n integer) RETURNS text LANGUAGE sql STRICT STABLE AS 'SELECT coalesce(n::text, ''nothing'')';
CREATE FUNCTION s_cached(n integer) RETURNS text LANGUAGE cached STRICT STABLE PARALLEL RESTRICTED AS '{"function": "s(integer)"}';
SELECT declared('s_cached(integer)');
SELECT s_cached(NULL);
CREATE OR REPLACE FUNCTION s(n integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT coalesce(n::text, ''nothing'')';
SELECT s_cached(NULL), declared('s_cached(integer)');
ALTER FUNCTION s_cached(integer) STRICT;
ALTER FUNCTION s_cached(integer) IMMUTABLE;
ALTER FUNCTION s_cached(integer) PARALLEL SAFE;
ALTER FUNCTION s_cached(integer) PARALLEL RESTRICTED;
ALTER FUNCTION s_cached(integer) COST 3;
SELECT s_cached(NULL), declared('s_cached(integer)');
SET check_function_bodies = off;
CREATE FUNCTION s_other(n integer) RETURNS text LANGUAGE cached STRICT STABLE PARALLEL RESTRICTED AS '{"function": "s(integer)"}';
RESET check_function_bodies;
SELECT s_other(NULL), declared('s_other(integer)');

-- What its owner has declared otherwise is his, and shown.
CREATE FUNCTION f_own(n integer DEFAULT 3) RETURNS integer LANGUAGE cached STABLE PARALLEL RESTRICTED COST 1 AS '{"function": "f(integer)"}';
CREATE OR REPLACE FUNCTION f(n integer DEFAULT 51) RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE COST 8 AS 'SELECT n';
SELECT f_own(), f_cached(), declared('f_own(integer)');
SELECT findings();
SELECT query_cache_internal.cache_function_follow('f_own(integer)'), f_own();
SELECT f_own(), declared('f_own(integer)'), query_cache_internal.cache_function_follow('f_own(integer)');
SELECT findings();

-- A cached function of another role: a default is code that its callers would run.
CREATE ROLE likeness_ann;
CREATE ROLE likeness_bob;
GRANT USAGE, CREATE ON SCHEMA likeness_test TO likeness_ann, likeness_bob;
SET ROLE likeness_ann;
CREATE FUNCTION of_ann(n integer DEFAULT 1, m integer DEFAULT 1) RETURNS integer LANGUAGE sql STABLE AS 'SELECT n';
SET ROLE likeness_bob;
CREATE FUNCTION of_bob(n integer DEFAULT 1, m integer DEFAULT 1) RETURNS integer LANGUAGE cached STABLE AS '{"function": "of_ann(integer,integer)"}';
SET ROLE likeness_ann;
CREATE OR REPLACE FUNCTION of_ann(n integer DEFAULT 2, m integer DEFAULT 1) RETURNS integer LANGUAGE sql STABLE AS 'SELECT n';
SELECT of_bob();
CREATE FUNCTION three() RETURNS integer LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''I am %'', current_user; RETURN 3; END';
CREATE OR REPLACE FUNCTION of_ann(n integer DEFAULT three(), m integer DEFAULT 1) RETURNS integer LANGUAGE sql STABLE AS 'SELECT n';
RESET ROLE;
SELECT of_bob();
SELECT findings();
DROP OWNED BY likeness_ann, likeness_bob CASCADE;
DROP ROLE likeness_ann, likeness_bob;

-- An EXCEPTION block fails below a parallel plan, so a function that has one is PARALLEL UNSAFE, and so is the cached one.
CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 1000) AS g;
CREATE FUNCTION guarded(n integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN 10 / n;
EXCEPTION WHEN division_by_zero THEN
    RETURN 0;
END $$;
SELECT cache_function('guarded(integer)');
CREATE FUNCTION guarded_own(n integer) RETURNS integer LANGUAGE cached STABLE PARALLEL RESTRICTED AS '{"function": "guarded(integer)"}';
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET force_parallel_mode = on;
SELECT sum(guarded(id)) FROM t;
SELECT sum(guarded_cached(id)), sum(guarded_own(id)) FROM t;
RESET force_parallel_mode;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
SET client_min_messages = error;
DROP SCHEMA likeness_test CASCADE;
