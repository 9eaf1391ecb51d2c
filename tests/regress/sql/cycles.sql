-- Cached functions whose base functions lead back to themselves: refused where they are made, and harmless where they are made
-- nevertheless.
CREATE FUNCTION one() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION two() RETURNS integer LANGUAGE cached STABLE AS '{"function": "one()"}';
CREATE FUNCTION three() RETURNS integer LANGUAGE cached STABLE AS '{"function": "two()"}';
SELECT three();
CREATE OR REPLACE FUNCTION two() RETURNS integer LANGUAGE cached STABLE AS '{"function": "two()"}';
CREATE OR REPLACE FUNCTION two() RETURNS integer LANGUAGE cached STABLE AS '{"function": "three()"}';
SELECT three();
-- Who switches the check off gets the server's own error at the call.
SET check_function_bodies = off;
CREATE OR REPLACE FUNCTION two() RETURNS integer LANGUAGE cached STABLE AS '{"function": "three()"}';
\set VERBOSITY terse
SELECT three();
SET pg_query_cache.enabled = off;
SELECT three();
RESET pg_query_cache.enabled;
SET max_stack_depth = '100kB';
SELECT three();
RESET max_stack_depth;
-- By way of functions of other languages.
CREATE FUNCTION four(depth integer) RETURNS integer LANGUAGE plpgsql STABLE AS 'BEGIN RETURN five(depth); END';
CREATE FUNCTION five(depth integer) RETURNS integer LANGUAGE cached STABLE AS '{"function": "four(integer)"}';
\set VERBOSITY sqlstate
SELECT five(1);
SELECT four(1);
-- A value that computes itself.
CREATE FUNCTION six() RETURNS jsonb LANGUAGE sql AS $$ SELECT cache_remember('six', 'SELECT six()') $$;
SELECT six();
-- Depth of other kinds: bodies, parameters, calls that are to be explained.
DO $$
BEGIN
    EXECUTE format('CREATE FUNCTION seven() RETURNS integer LANGUAGE cached STABLE AS %L',
        '{"function": "one()", "depends_on": ' || repeat('{"a": ', 100000) || '1' || repeat('}', 100000) || '}');
EXCEPTION WHEN invalid_function_definition THEN RAISE NOTICE 'refused';
END $$;
SELECT cache_function('one()', depends_on => (repeat('[', 1000) || repeat(']', 1000))::jsonb);
SELECT warm_cache('three()', (repeat('[', 1000) || repeat(']', 1000))::jsonb);
SELECT cache_explain(repeat('(', 100000) || 'three()' || repeat(')', 100000));
SELECT invalidate_cache_pattern(repeat('*a', 1000));
\set VERBOSITY default
SELECT 'alive' AS server;
DROP FUNCTION one(), two(), three(), four(integer), five(integer), six();
