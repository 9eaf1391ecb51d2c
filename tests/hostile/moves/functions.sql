-- Functions, honest and lying ones, and cached ones on them.
CREATE OR REPLACE FUNCTION <fname>(n int) RETURNS int LANGUAGE plpgsql <volatility> AS $f$BEGIN PERFORM ground.trap(<text>); RETURN n; END$f$
CREATE OR REPLACE FUNCTION <fname>(n int) RETURNS int LANGUAGE plpgsql <volatility> SECURITY DEFINER AS $f$BEGIN PERFORM ground.trap('definer'); RETURN n + (SELECT count(*) FROM <table>); END$f$
CREATE OR REPLACE FUNCTION <fname>(n int) RETURNS int LANGUAGE sql <volatility> AS $f$SELECT count(*)::int + n FROM <table>$f$
CREATE OR REPLACE FUNCTION <fname>(n int) RETURNS int LANGUAGE plpgsql <volatility> AS $f$BEGIN RETURN <fname>(n - 1); END$f$
CREATE OR REPLACE FUNCTION <fname>(n int) RETURNS int LANGUAGE plpgsql <volatility> AS $f$BEGIN PERFORM set_config('<setting>', <value>, true); RETURN n; EXCEPTION WHEN OTHERS THEN RETURN 0; END$f$
CREATE OR REPLACE FUNCTION <fname>(n int) RETURNS int LANGUAGE plpgsql <volatility> AS $f$BEGIN INSERT INTO <table> SELECT * FROM <table>; RETURN n; EXCEPTION WHEN OTHERS THEN RETURN 1; END$f$
CREATE OR REPLACE FUNCTION <fname>(n int) RETURNS int LANGUAGE plpgsql <volatility> AS $f$BEGIN EXECUTE <text>; RETURN n; EXCEPTION WHEN OTHERS THEN RETURN 1; END$f$
CREATE OR REPLACE FUNCTION <fname>(n int) RETURNS int LANGUAGE plpgsql <volatility> AS $f$BEGIN CREATE TEMP TABLE IF NOT EXISTS <name> (a int); PERFORM <groundcall>; DROP TABLE <name>; RETURN n; EXCEPTION WHEN OTHERS THEN RETURN 1; END$f$
CREATE OR REPLACE FUNCTION <fname>(n int) RETURNS int LANGUAGE plpgsql <volatility> AS $f$BEGIN SET LOCAL ROLE <role>; PERFORM <groundcall>; RESET ROLE; RETURN n; EXCEPTION WHEN OTHERS THEN RETURN 1; END$f$
CREATE OR REPLACE FUNCTION <fname>(n int) RETURNS int LANGUAGE sql <volatility> AS $f$SELECT length(string_agg(x, '')) FROM ground.secrets_cached(n) AS x$f$
CREATE OR REPLACE FUNCTION <fname>(n int) RETURNS SETOF text LANGUAGE sql <volatility> AS $f$SELECT repeat('x', 100000) FROM generate_series(1, <int>)$f$
CREATE OR REPLACE FUNCTION <fname>(n int) RETURNS int LANGUAGE cached AS <body>
CREATE OR REPLACE FUNCTION <fname>_cached(n int, cache_duration interval DEFAULT '1 minute') RETURNS int LANGUAGE cached <volatility> AS <body>
CREATE OR REPLACE FUNCTION pg_temp.<name>(n int) RETURNS int LANGUAGE cached AS '{"function": "pg_temp.<name>(int)"}'
CREATE OR REPLACE FUNCTION pg_temp.<name>(n int) RETURNS int LANGUAGE sql AS 'SELECT 1'
CREATE OR REPLACE FUNCTION <fname>() RETURNS trigger LANGUAGE plpgsql AS $f$BEGIN PERFORM ground.trap('trigger'); RETURN NEW; END$f$
CREATE OR REPLACE FUNCTION <fname>() RETURNS event_trigger LANGUAGE plpgsql AS $f$BEGIN PERFORM ground.trap('event'); END$f$
CREATE OR REPLACE FUNCTION <fname>(text, text) RETURNS boolean LANGUAGE plpgsql AS $f$BEGIN PERFORM ground.trap('operator'); RETURN true; END$f$
CREATE OR REPLACE FUNCTION public.<product>(<type>, <type>) RETURNS <type> LANGUAGE plpgsql AS $f$BEGIN PERFORM ground.trap('overload'); RETURN NULL; END$f$
CREATE OR REPLACE FUNCTION <schema>.<product>(<type>) RETURNS <type> LANGUAGE plpgsql AS $f$BEGIN PERFORM ground.trap('overload'); RETURN NULL; END$f$
CREATE OR REPLACE FUNCTION <schema>.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $f$BEGIN PERFORM ground.trap('format'); RETURN ''; END$f$
SELECT public.cache_function('<function>')
SELECT public.cache_function('<function>', ttl => <interval>, scope => 'shared', refresh_ahead => '50%')
SELECT public.cache_function('<function>', depends_on => <json>, tags => ARRAY[<text>, <text>], class => <text>, priority => <int>)
SELECT public.cache_function('<function>', consistency => 'ttl', name => '<odd>')
SELECT public.uncache_function('<function>')
SELECT <fname>(<int>)
SELECT <fname>_cached(<int>)
SELECT <fname>_cached(<int>, <interval>)
SELECT <fname>_cached(i), <groundcall> FROM generate_series(1, 30) AS i
SELECT pg_temp.<name>(<int>)
DO $d$BEGIN PERFORM <fname>_cached(<int>); EXCEPTION WHEN OTHERS THEN PERFORM <groundcall>; END$d$
DO $d$BEGIN FOR i IN 1..20 LOOP PERFORM <fname>_cached(i); END LOOP; END$d$
