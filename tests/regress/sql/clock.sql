-- The clock: what is said of functions that use it, and "clock", which makes it part of the key.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA clock_test;
SET search_path = clock_test, public;
\i :outcomes
\set ECHO all
-- About noon, so that no day ends meanwhile.
SELECT set_config('TimeZone', (12 - extract(hour FROM now() AT TIME ZONE 'UTC'))::text, false) IS NOT NULL AS noon;
\set explain 'SELECT outcome, reason, detail, hint FROM cache_explain'
CREATE TABLE orders (id integer, day date, now timestamptz);
SELECT cache_track_table('orders');

-- Each way to ask for the time of the transaction, in SQL and PL/pgSQL, at any depth.
CREATE FUNCTION by_now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now()';
CREATE FUNCTION by_word() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM orders WHERE day = current_Date';
CREATE FUNCTION by_precision() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN LOCALTIMESTAMP(0)::text; END$$;
CREATE FUNCTION by_atomic() RETURNS date LANGUAGE sql STABLE RETURN pg_catalog.transaction_timestamp()::date;
CREATE FUNCTION by_age(t timestamp) RETURNS interval LANGUAGE sql STABLE AS 'SELECT age(t)';
CREATE VIEW of_today AS SELECT * FROM orders WHERE day = CURRENT_DATE;
CREATE VIEW "Of that" AS SELECT id FROM of_today;
CREATE FUNCTION by_view() RETURNS bigint LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT count(*) FROM clock_test."Of that"); END$$;
CREATE FUNCTION by_tree() RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT count(*) FROM of_today; END;
CREATE FUNCTION helper(i integer) RETURNS date LANGUAGE plpgsql STABLE AS $$DECLARE d date := "now"()::date + i; BEGIN RETURN d; END$$;
CREATE FUNCTION deep() RETURNS date LANGUAGE sql STABLE AS 'SELECT clock_test.helper(abs((SELECT max(id) FROM orders)))';
CREATE FUNCTION by_statement() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT statement_timestamp()';
CREATE SCHEMA clock_elsewhere;
CREATE FUNCTION clock_elsewhere.hidden() RETURNS date LANGUAGE sql STABLE AS 'SELECT CURRENT_DATE';
CREATE FUNCTION by_path() RETURNS date LANGUAGE sql STABLE SET search_path = clock_elsewhere AS 'SELECT hidden()';
SELECT cache_function('by_now()');
SELECT cache_function('by_word()');
SELECT cache_function('by_precision()');
SELECT cache_function('by_atomic()');
SELECT cache_function('by_age(timestamp)');
SELECT cache_function('by_view()');
SELECT cache_function('by_tree()');
SELECT cache_function('deep()');
SELECT cache_function('by_statement()');
SELECT cache_function('by_path()');
SELECT current_setting('search_path');
-- By way of a cached function.
CREATE FUNCTION around() RETURNS date LANGUAGE sql STABLE AS 'SELECT deep_cached()';
SELECT cache_function('around()');
-- These do not: a column, a comment, a literal, another function of the name, two ages. Nor is anything said of what age decides anyway.
CREATE FUNCTION innocent() RETURNS bigint LANGUAGE sql STABLE AS $$SELECT count(now) FROM orders WHERE age(now, now) IS NULL -- now()
    AND 'CURRENT_DATE' <> $a$now()$a$ /* LOCALTIME */$$;
CREATE FUNCTION now(i integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT i';
CREATE FUNCTION another() RETURNS integer LANGUAGE sql STABLE AS 'SELECT now(1)';
SELECT cache_function('innocent()'), cache_function('another()');
CREATE FUNCTION aged() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now()';
SELECT cache_function('aged()', consistency => 'ttl');
-- Functions that call each other come to an end; so does a long chain.
CREATE FUNCTION ping(n integer) RETURNS date LANGUAGE plpgsql STABLE AS $$BEGIN RETURN pong(n - 1); END$$;
CREATE FUNCTION pong(n integer) RETURNS date LANGUAGE plpgsql STABLE AS $$BEGIN RETURN CASE WHEN n < 0 THEN CURRENT_DATE ELSE ping(n) END; END$$;
SELECT cache_function('ping(integer)');
DO $$
BEGIN
    EXECUTE 'CREATE FUNCTION chain_0() RETURNS date LANGUAGE sql STABLE AS ''SELECT CURRENT_DATE''';
    FOR i IN 1..300 LOOP
        EXECUTE format('CREATE FUNCTION chain_%s() RETURNS date LANGUAGE sql STABLE AS ''SELECT chain_%s()''', i, i - 1);
    END LOOP;
END$$;
SELECT cache_function('chain_300()'), cache_function('chain_200()', name => 'short');
-- Whoever may not look into a schema is not told of it, and nothing fails.
CREATE ROLE clock_role;
GRANT ALL ON SCHEMA clock_test TO clock_role;
CREATE FUNCTION qualified() RETURNS date LANGUAGE sql STABLE AS 'SELECT clock_elsewhere.hidden()';
ALTER FUNCTION qualified() OWNER TO clock_role;
SET ROLE clock_role;
SELECT cache_function('qualified()');
RESET ROLE;
SELECT cache_function('qualified()', name => 'qualified_again');

-- What a question is told.
SELECT by_word_cached();
:explain('by_word_cached()');
:explain('deep_cached()');
SELECT innocent_cached();
:explain('innocent_cached()');
SELECT aged_cached() IS NULL;
:explain('aged_cached()');

-- With "clock" the day is part of the key, and it is exact.
CREATE FUNCTION today() RETURNS date LANGUAGE sql STABLE AS 'SELECT CURRENT_DATE';
CREATE FUNCTION this_hour() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN date_trunc('hour', now()); END$$;
CREATE FUNCTION this_minute() RETURNS SETOF text LANGUAGE sql STABLE AS $$SELECT date_trunc('minute', now())::text$$;
SELECT cache_function('today()', clock => 'day', ttl => '10 days'), cache_function('this_hour()', clock => 'hour', ttl => '10 days'),
    cache_function('this_minute()', clock => 'minute', ttl => '10 days');
SELECT cache_function('by_statement()', clock => 'day', name => 'by_statement_and_day');
SELECT function, clock FROM cached_functions WHERE clock IS NOT NULL ORDER BY function::text;
BEGIN;
SELECT today_cached() = today() AS right;
:explain('today_cached()');
-- No longer than it can be of use: no day is longer than 25 hours.
SELECT expires_in <= '25 hours' AND expires_in < ttl AS day FROM cache_explain('today_cached()');
SELECT this_hour_cached() = this_hour() AS right, (SELECT min(m) FROM this_minute_cached() AS m) = (SELECT min(m) FROM this_minute() AS m) AS right;
SELECT expires_in <= '1 hour' IS NOT FALSE AS hour FROM cache_explain('this_hour_cached()');
SELECT expires_in <= '1 minute' IS NOT FALSE AS minute FROM cache_explain('this_minute_cached()');
COMMIT;
:explain('by_statement_and_day()');

-- In each time zone the period is the one that the server sees, and the answer is right.
CREATE FUNCTION offset_of(moment timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('UTC%s%s:%s', CASE WHEN o < 0 THEN '-' ELSE '+' END, lpad((abs(o) / 3600)::text, 2, '0'), lpad((abs(o) / 60 % 60)::text, 2, '0'))
           || CASE WHEN o % 60 <> 0 THEN to_char(abs(o) % 60, '":"FM00') ELSE '' END
    FROM (SELECT extract(timezone FROM moment)::integer AS o) AS a$$;
CREATE FUNCTION differing(zones text[]) RETURNS TABLE (zone text, cached text, itself text) LANGUAGE plpgsql AS $$
BEGIN
    FOREACH zone IN ARRAY zones LOOP
        PERFORM set_config('TimeZone', zone, true);
        SELECT today_cached()::text, today()::text INTO cached, itself;
        IF cached IS DISTINCT FROM itself THEN RETURN NEXT; END IF;
        SELECT session -> 'clock' ->> 'day', to_char(now(), 'YYYY-MM-DD ') || offset_of(now()) INTO cached, itself FROM cache_explain('today_cached()');
        IF cached IS DISTINCT FROM itself THEN RETURN NEXT; END IF;
        SELECT this_hour_cached(), this_hour() INTO cached, itself;
        IF cached IS DISTINCT FROM itself THEN RETURN NEXT; END IF;
        SELECT session -> 'clock' ->> 'hour', to_char(now(), 'YYYY-MM-DD HH24:00 ') || offset_of(now()) INTO cached, itself FROM cache_explain('this_hour_cached()');
        IF cached IS DISTINCT FROM itself THEN RETURN NEXT; END IF;
        SELECT session -> 'clock' ->> 'minute', to_char(now(), 'YYYY-MM-DD HH24:MI ') || offset_of(now()) INTO cached, itself FROM cache_explain('this_minute_cached()');
        IF cached IS DISTINCT FROM itself THEN RETURN NEXT; END IF;
    END LOOP;
END$$;
SELECT * FROM differing((SELECT array_agg(name ORDER BY name) FROM pg_timezone_names WHERE name NOT LIKE 'posix/%'));
SELECT * FROM differing('{<A>-05:45,<A>+09:30,<A>-14,<A>+12,-3.5,5.75,0.01,-11.999}');
-- Zones of which the summer begins or ends in the present hour, some minutes ago or ahead.
SELECT count(*) FROM generate_series(-3, 3) AS n,
    LATERAL (SELECT extract(doy FROM now() AT TIME ZONE 'UTC') AS day, to_char(now() AT TIME ZONE 'UTC' + n * interval '7 min', 'HH24:MI:SS') AS begins,
             to_char(now() AT TIME ZONE 'UTC' + n * interval '7 min' + interval '1 hour', 'HH24:MI:SS') AS ends) AS t,
    LATERAL (SELECT * FROM differing(ARRAY[format('A0B,%s/%s,%s/0', day - 1, begins, CASE WHEN day > 180 THEN 20 ELSE 300 END),
                                           format('A0B,%s/0,%s/%s', CASE WHEN day > 180 THEN 20 ELSE 300 END, day - 1, ends)])) AS d;
-- The base function's own zone is what counts for it.
CREATE FUNCTION far() RETURNS text LANGUAGE sql STABLE SET TimeZone = 'Pacific/Kiritimati' AS $$SELECT to_char(CURRENT_DATE, 'YYYY-MM-DD')$$;
SELECT cache_function('far()', clock => 'day');
BEGIN;
SET LOCAL TimeZone = '<A>+12';
SELECT far_cached() = far() AS right, split_part(session -> 'clock' ->> 'day', ' ', 1) = far() AS right FROM cache_explain('far_cached()');
ALTER FUNCTION far() SET TimeZone = '-11';
SELECT split_part(session -> 'clock' ->> 'day', ' ', 1) = far() AS right FROM cache_explain('far_cached()');
ROLLBACK;
ALTER FUNCTION far() SET TIME ZONE INTERVAL '05:30' HOUR TO MINUTE;
:explain('far_cached()');
SELECT cache_function('far()', clock => 'day', name => 'farther');

-- Values that it does not have.
SELECT cache_function('today()', clock => 'week', name => 'weekly');
SELECT cache_function('today()', clock => '', name => 'weekly');
CREATE FUNCTION weekly() RETURNS date LANGUAGE cached STABLE AS '{"function": "clock_test.today()", "clock": "Day"}';
CREATE FUNCTION weekly() RETURNS date LANGUAGE cached STABLE AS '{"function": "clock_test.today()", "clock": 1}';
CREATE FUNCTION daily() RETURNS date LANGUAGE cached STABLE AS '{"function": "clock_test.today()", "clock": "day"}';
SELECT daily() = CURRENT_DATE AS right;

-- "trust" as an argument.
CREATE FUNCTION chance() RETURNS double precision LANGUAGE sql STABLE AS 'SELECT random()';
SELECT cache_function('chance()', trust => '{pg_catalog.random()}');
SELECT trust FROM cached_functions WHERE function = 'chance_cached(interval)'::regprocedure;
SELECT chance_cached() = chance_cached() AS stored;
SELECT cache_function('chance()', trust => '{random}', name => 'untrusted');

-- Functions that are never stored are a finding.
CREATE FUNCTION luck() RETURNS double precision LANGUAGE sql STABLE AS 'SELECT random()';
SELECT cache_function('luck()');
SELECT count(luck_cached());
SELECT finding, status, value, recommendation, sql FROM analyze_cache_health() WHERE finding LIKE 'never stored%';

-- How a call and a function are written.
SELECT * FROM cache_explain('select today_cached()');
SELECT * FROM cache_explain(' SELECT to_char(x_cached(''a''), ''b'') ; ');
SELECT * FROM cache_explain('today_cached();');
SELECT * FROM cache_explain('select a from f_cached(1)');
SELECT * FROM cache_explain('WITH a AS (SELECT 1) SELECT today_cached()');
SELECT outcome FROM cache_explain('today_cached() -- select 1;');
SELECT cache_function('today');
SELECT cache_function('clock_test.helper');
SELECT cache_function('now');
SELECT cache_function('"no such');
SELECT cache_function('nothing');
SELECT cache_function('nothing()');
SELECT cache_function('');
SELECT cache_function('"it''s(x"');
SELECT cache_function('-');
SELECT cache_function(NULL);
SELECT cache_function('today()'::regprocedure, name => 'a'), cache_function('today'::regproc, name => 'b'),
    cache_function('today()'::text, name => 'c'), cache_function('today()'::regprocedure::oid::text, name => 'd');
-- What is built on results that are bounded by age ends with them.
CREATE FUNCTION within_it() RETURNS text LANGUAGE sql STABLE AS 'SELECT now()::text || count(*) FROM clock_test.orders';
SELECT cache_function('within_it()', ttl => '1 hour');
CREATE FUNCTION around_it() RETURNS text LANGUAGE sql STABLE AS 'SELECT clock_test.within_it_cached()';
SELECT cache_function('around_it()', clock => 'day', ttl => '10 days');
SELECT around_it_cached() = within_it_cached() AS same;
SELECT expires_in <= '1 hour' AS bounded, reason FROM cache_explain('around_it_cached()');
SELECT clear_cache() > 0 AS cleared;
SELECT within_it_cached() = around_it_cached() AS same;
SELECT expires_in <= '1 hour' AS bounded, reason FROM cache_explain('around_it_cached()');
\set VERBOSITY terse
SET client_min_messages = warning;
RESET search_path;
DROP SCHEMA clock_test, clock_elsewhere CASCADE;
DROP ROLE clock_role;
