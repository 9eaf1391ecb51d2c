-- Functions that are not worth caching rest, say so, and come back.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA adaptive_test;
SET search_path = adaptive_test, public;
\i :outcomes
\set ECHO all
CREATE TABLE t (id integer PRIMARY KEY, n integer);
INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) AS i;
SELECT cache_track_table('t');
-- Dear enough that a hit would pay, and cheap enough that storing is noticed.
CREATE FUNCTION summed(first integer) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT sum(a.n) FROM t AS a WHERE a.id >= first AND (SELECT count(*) FROM t AS b WHERE b.id < a.id) >= 0);
END $$;
SELECT cache_function('summed(int)');

-- Each call finds its result invalidated; none is hit. A CALL is one statement: what it counts is judged when it ends.
CREATE PROCEDURE write_and_read(times integer) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..times LOOP
        UPDATE t SET n = n + 1 WHERE id = 100;
        COMMIT;
        IF summed_cached(100) IS DISTINCT FROM summed(100) THEN
            RAISE EXCEPTION 'wrong';
        END IF;
        COMMIT;
    END LOOP;
END $$;
CREATE VIEW state AS
SELECT storing, resting_since IS NOT NULL AS since, run_us > 0 AS run, store_us > 0 AS store
FROM cache_function_stats WHERE function = 'summed_cached(int,interval)'::regprocedure;

-- As long as some hundreds have not been stored in vain nothing is said.
CALL write_and_read(500);
SELECT * FROM state;
SELECT outcome, reason FROM cache_explain('summed_cached(100)');
CALL write_and_read(50);
SELECT * FROM state;
SELECT outcomes();

-- A call is answered by the function, unless its key is in the share that is on trial.
CREATE FUNCTION explained(OUT outcome text, OUT reason text, OUT detail text, OUT hint text, OUT keys bigint) RETURNS SETOF record
LANGUAGE sql AS $$
    SELECT e.outcome, e.reason, regexp_replace(e.detail, '[0-9]+(\.[0-9])?', '…', 'g'), e.hint, count(*)
    FROM generate_series(1, 99) AS i, cache_explain(format('summed_cached(%s)', i)) AS e
    WHERE e.outcome = 'bypass'
    GROUP BY 1, 2, 3, 4
$$;
SELECT outcome, reason, detail, hint, keys BETWEEN 80 AND 99 AS most FROM explained() \gx
SELECT count(summed_cached(i)) FROM generate_series(1, 99) AS i;
SELECT (reasons ->> 'not_worthwhile')::int >= 80 AS most, misses BETWEEN 551 AND 570 AS some
FROM cache_function_stats WHERE function = 'summed_cached(int,interval)'::regprocedure;
SELECT finding, status, regexp_replace(value, '[0-9]+(\.[0-9])?', '…', 'g') AS value, threshold, recommendation, sql
FROM analyze_cache_health() WHERE finding ~ '^resting' \gx
SELECT regexp_replace(line, '.*(function_resting.*)', '\1')
FROM regexp_split_to_table(cache_metrics(), '\n') AS line WHERE line ~ '_resting\{.*summed';
SELECT * FROM cache_reasons() WHERE code = 'not_worthwhile' \gx

-- Warming stores all the same, and says nothing about those who call.
SELECT warm_cache('summed_cached(int,interval)', '{"first": 7}');
SELECT stored, reason FROM warm_cache_many('summed_cached(int,interval)', '[{"first": 208}, {"first": 209}, {"first": 210}]');
SELECT * FROM state;
-- Inside of another cached function it goes on as usual: what it depends on is handed up.
CREATE FUNCTION outer_sum() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT summed_cached(7)';
SELECT cache_function('outer_sum()');
SELECT count(*) FROM outcomes();
SELECT outer_sum_cached();
SELECT outcomes();
-- An error of the caller's is one still.
SELECT summed_cached(1, cache_duration => '-1 s');

-- Switched off, for one function and for all: nothing rests, and what was found is forgotten.
SELECT set_cache_config('function.summed_cached(int,interval).adaptive', 'off');
SELECT storing FROM state;
SELECT count(summed_cached(i)) FROM generate_series(1, 99) AS i;
SELECT sum(summed_cached(i)) = sum(summed(i)) FROM generate_series(1, 99) AS i;
SELECT outcome, reason FROM cache_explain('summed_cached(50)');
SELECT count(*) FROM analyze_cache_health() WHERE finding ~ '^resting.*summed';
SELECT set_cache_config('function.summed_cached(int,interval).adaptive', NULL);
SELECT storing FROM state;
CALL write_and_read(600);
SELECT storing FROM state;
SELECT set_cache_config('adaptive', 'off');
SELECT storing FROM state;
CALL write_and_read(600);
SELECT storing FROM state;
SELECT set_cache_config('adaptive', 'on');
SELECT name, value, default_value, kind, source FROM cache_config() WHERE name ~ 'adaptive$' AND name !~ '\.get_' ORDER BY name;
SELECT set_cache_config('adaptive', 'perhaps');
SELECT set_cache_config('adaptiv', 'on');
SELECT set_cache_config('function.nothing(int).adaptive', 'off');

-- Judged anew, it rests again; when nobody writes any more it comes back, by the share of keys whose turn it is. No test waits: the clock
-- by which the turns are measured is set.
CALL write_and_read(600);
SELECT storing FROM state;
CREATE PROCEDURE read_until_stored() LANGUAGE plpgsql AS $$
DECLARE
    turns integer := 0;
BEGIN
    WHILE (SELECT storing <> 'yes' FROM state) AND turns < 40 LOOP
        turns := turns + 1;
        PERFORM set_config('pg_query_cache.clock_offset', turns * 5 || 's', false);
        -- Two seconds' worth of calls.
        FOR i IN 1..100 LOOP
            IF summed_cached(100) IS DISTINCT FROM summed(100) THEN
                RAISE EXCEPTION 'wrong';
            END IF;
        END LOOP;
        COMMIT;
    END LOOP;
    RAISE NOTICE 'comes back: %, within all turns: %', turns < 40, turns <= 20;
END $$;
CALL read_until_stored();
SELECT * FROM state;
SELECT outcome, reason FROM cache_explain('summed_cached(100)');

-- What becomes too old before it is hit rests too.
CREATE FUNCTION aged(n integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(id + n) FROM t';
SELECT cache_function('aged(int)', ttl => '1 second');
DO $$
BEGIN
    FOR i IN 1..600 LOOP
        PERFORM set_config('pg_query_cache.clock_offset', i * 2 || 's', false);
        PERFORM aged_cached(1);
    END LOOP;
END $$;
RESET pg_query_cache.clock_offset;
SELECT storing FROM cache_function_stats WHERE function = 'aged_cached(int,interval)'::regprocedure;

-- What takes less time to run than to look up rests, however often it is hit. The times are said, so that no busy machine changes them; and
-- one of many results that took long to compute is not run to be measured.
SET pg_query_cache.assumed_hit = 400;
SET pg_query_cache.assumed_run = 100;
CREATE FUNCTION next_number(n integer) RETURNS integer LANGUAGE internal STRICT STABLE AS 'int4um';
SELECT cache_function('next_number(int)');
CREATE FUNCTION storing(function regprocedure) RETURNS text LANGUAGE sql VOLATILE AS
    'SELECT s.storing FROM cache_function_stats AS s WHERE s.function = $1';
SELECT count(next_number_cached(i % 100)) FROM generate_series(1, 100000) AS i;
SELECT storing('next_number_cached(int,interval)');
SELECT regexp_replace(detail, '[0-9]+(\.[0-9])?', '…', 'g') FROM cache_explain('next_number_cached(1)');
SELECT regexp_replace(value, '[0-9]+(\.[0-9])?', '…', 'g') AS value, recommendation
FROM analyze_cache_health() WHERE finding ~ '^resting.*next_number' \gx
-- It takes longer now.
SET pg_query_cache.assumed_run = 1000;
CREATE OR REPLACE FUNCTION next_number(n integer) RETURNS integer LANGUAGE sql STRICT STABLE AS
    'SELECT -n + 0 * count(*)::integer FROM generate_series(1, 300)';
SELECT count(next_number_cached(1)) FROM generate_series(1, 2000);
SELECT storing('next_number_cached(int,interval)');
RESET pg_query_cache.assumed_hit;
RESET pg_query_cache.assumed_run;
SELECT next_number_cached(1);

-- What is volatile stays the same for as long as it is kept, whatever it costs.
CREATE FUNCTION token() RETURNS text LANGUAGE sql VOLATILE AS 'SELECT random()::text';
SELECT cache_function('token()', consistency => 'ttl');
SELECT count(DISTINCT token_cached()) FROM generate_series(1, 100000);
SELECT storing('token_cached(interval)');

-- Who is nobody in particular sees nothing of it, and changes nothing.
CREATE ROLE regress_adaptive;
GRANT USAGE ON SCHEMA adaptive_test TO regress_adaptive;
GRANT SELECT ON t TO regress_adaptive;
SET ROLE regress_adaptive;
SELECT storing FROM cache_function_stats;
SELECT set_cache_config('adaptive', 'off');
SELECT aged_cached(1);
RESET ROLE;
SELECT set_cache_config('adaptive', NULL);

DROP SCHEMA adaptive_test CASCADE;
DROP ROLE regress_adaptive;
