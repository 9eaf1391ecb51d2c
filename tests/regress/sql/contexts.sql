-- Where a cached function can be called from, and what it must not forget there.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA contexts_test;
SET search_path = contexts_test, public;
\i :outcomes
\set ECHO all
CREATE TABLE t (id integer PRIMARY KEY, v integer);
INSERT INTO t SELECT i, i FROM generate_series(1, 10) AS i;
CREATE TABLE u (id integer PRIMARY KEY, v integer);
SELECT cache_track_table('t'), cache_track_table('u');
CREATE FUNCTION total() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM t';
CREATE FUNCTION value_of(id integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT v FROM t WHERE t.id = $1';
SELECT cache_function('total()'), cache_function('value_of(int)');

-- READ ONLY, every isolation level. SERIALIZABLE: the function answers.
BEGIN READ ONLY;
SELECT total_cached(), total_cached();
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT total_cached(), total_cached();
COMMIT;
SELECT outcomes();
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT total_cached(), total_cached();
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT total_cached();
COMMIT;
SELECT outcomes();
-- Switched off: silently.
SET pg_query_cache.enabled = off;
SELECT total_cached(), total_cached();
RESET pg_query_cache.enabled;
SELECT total_cached();
SELECT outcomes();

-- Prepared statements, with custom and generic plans.
PREPARE p (integer) AS SELECT value_of_cached($1);
EXECUTE p(1);
EXECUTE p(1);
SET plan_cache_mode = force_generic_plan;
EXECUTE p(1);
EXECUTE p(2);
UPDATE t SET v = 20 WHERE id = 2;
EXECUTE p(2);
RESET plan_cache_mode;
SELECT outcomes();

-- Cursors: they keep their view, before, after and WITH HOLD.
BEGIN;
DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT id, value_of_cached(id) FROM t WHERE id <= 3 ORDER BY id;
DECLARE d SCROLL CURSOR FOR SELECT id, value_of_cached(id), value_of(id) FROM t WHERE id <= 3 ORDER BY id;
FETCH 1 FROM d;
UPDATE t SET v = v + 100;
FETCH 1 FROM d;
SELECT value_of_cached(2), value_of(2);
FETCH 1 FROM d;
FETCH BACKWARD 2 FROM d;
COMMIT;
FETCH ALL FROM c;
CLOSE c;
SELECT id, value_of_cached(id) FROM t WHERE id <= 3 ORDER BY id;
UPDATE t SET v = id;
SELECT outcomes() \g /dev/null

-- PL/pgSQL: expressions, loops, statements between which the own transaction writes.
CREATE FUNCTION inside() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    seen text := total_cached();
    r record;
BEGIN
    seen := seen || ' ' || total_cached();
    UPDATE t SET v = v + 1 WHERE id = 1;
    seen := seen || ' ' || total_cached();
    FOR r IN SELECT total_cached() AS s FROM generate_series(1, 2) LOOP
        UPDATE t SET v = v + 1 WHERE id = 1;
        seen := seen || ' ' || r.s;
    END LOOP;
    IF total_cached() = total() THEN seen := seen || ' same'; END IF;
    BEGIN
        UPDATE t SET v = 0;
        seen := seen || ' ' || total_cached();
        RAISE EXCEPTION 'undone';
    EXCEPTION WHEN OTHERS THEN
        seen := seen || ' ' || total_cached();
    END;
    RETURN seen || ' ' || total_cached();
END $$;
SELECT inside();
SELECT total_cached(), total();
DO $$BEGIN RAISE NOTICE '%', total_cached(); END$$;
CREATE PROCEDURE in_steps() LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE '% %', total_cached(), total();
    UPDATE t SET v = v + 1000 WHERE id = 1;
    COMMIT;
    RAISE NOTICE '% %', total_cached(), total();
    UPDATE t SET v = v - 1000 WHERE id = 1;
    ROLLBACK;
    RAISE NOTICE '% %', total_cached(), total();
END $$;
CALL in_steps();
SELECT outcomes() \g /dev/null

-- Triggers: before and after rows, as conditions, in constraint triggers at commit.
CREATE TABLE log (what text, seen bigint, right_one bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log VALUES (TG_WHEN || ' ' || TG_LEVEL || ' ' || TG_OP || ' ' || TG_NAME, total_cached(), total());
    RETURN NEW;
END $$;
CREATE TRIGGER a_before BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER b_when BEFORE UPDATE ON t FOR EACH ROW WHEN (value_of_cached(NEW.id) > 0) EXECUTE FUNCTION note();
CREATE TRIGGER a_statement BEFORE UPDATE ON t FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER z_statement BEFORE UPDATE ON t FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER c_after AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note();
CREATE CONSTRAINT TRIGGER d_deferred AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
SELECT total_cached() \g /dev/null
UPDATE t SET v = v * 2 WHERE id IN (2, 3);
SELECT *, seen = right_one AS same FROM log;
\set VERBOSITY terse
DROP TABLE log;
DROP FUNCTION note() CASCADE;
\set VERBOSITY default
SELECT total_cached(), total();
SELECT outcomes() \g /dev/null

-- In WHERE, in CHECK, in a default, in a view, in RETURNING; not in an index.
SELECT id FROM t WHERE v = value_of_cached(2) ORDER BY id;
CREATE TABLE w (id integer DEFAULT total_cached(), CHECK (id <= total_cached()));
INSERT INTO w DEFAULT VALUES RETURNING id = total_cached() AS same;
CREATE VIEW view_of_total AS SELECT total_cached() AS total;
SELECT * FROM view_of_total;
INSERT INTO t VALUES (11, total_cached()) RETURNING v, total_cached(), total();
SELECT total_cached() = total() AS same;
UPDATE t SET v = total_cached() WHERE id = 11 RETURNING v = total_cached() AS same;
SELECT total_cached() = total() AS same;
CREATE INDEX ON t (value_of_cached(id));
DROP TABLE w;
SELECT outcomes() \g /dev/null

-- A fill that fails and is caught: the next call computes; nothing is left behind that others would wait for.
CREATE FUNCTION picky(i integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF (SELECT v FROM t WHERE id = i) > 5 THEN RAISE EXCEPTION '% is too much', i; END IF;
    RETURN i;
END $$;
SELECT cache_function('picky(int)');
DO $$
BEGIN
    FOR i IN 4..7 LOOP
        BEGIN
            RAISE NOTICE '%', picky_cached(i);
        EXCEPTION WHEN raise_exception THEN
            RAISE NOTICE 'caught: %', SQLERRM;
        END;
    END LOOP;
END $$;
SELECT picky_cached(4), picky_cached(5);
SELECT outcomes();

-- Nested: what the inner one has read, the outer one depends on, whether the inner one was computed, taken from the cache,
-- or failed.
CREATE FUNCTION outer_total() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT total_cached() * 2';
CREATE FUNCTION outer_picky(i integer) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN picky_cached(i);
EXCEPTION WHEN raise_exception THEN
    RETURN 'caught: ' || SQLERRM;
END $$;
SELECT cache_function('outer_total()'), cache_function('outer_picky(int)');
SELECT total_cached() \g /dev/null
SELECT outer_total_cached(), outer_total_cached();
SELECT outer_picky_cached(6), outer_picky_cached(6);
SELECT outcomes();
UPDATE t SET v = 1 WHERE id = 6;
SELECT outer_total_cached() = outer_total() AS same, outer_picky_cached(6), outer_picky(6);
UPDATE t SET v = 60 WHERE id = 6;
SELECT outer_total_cached() = outer_total() AS same, outer_picky_cached(6), outer_picky(6);
SELECT outcomes();
-- An inner one that age alone keeps makes the outer one no better than that.
CREATE FUNCTION by_age() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM pg_class WHERE relname = ''made_later''';
SELECT cache_function('by_age()', consistency => 'ttl');
CREATE FUNCTION around() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT by_age_cached()';
SELECT cache_function('around()'), cache_function('around()', consistency => 'ttl', name => 'around_by_age');
SELECT around_cached(), around_cached(), around_by_age(), around_by_age();
SELECT outcomes();

-- Recursion through the cache, deep and all the way to the bottom.
CREATE FUNCTION fib(n integer) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT 0';
SELECT cache_function('fib(int)');
CREATE OR REPLACE FUNCTION fib(n integer) RETURNS numeric LANGUAGE plpgsql STABLE AS
    'BEGIN RETURN CASE WHEN n < 2 THEN n ELSE fib_cached(n - 1) + fib_cached(n - 2) END; END';
SELECT fib_cached(200);
SELECT fib_cached(200), fib_cached(150);
SELECT outcomes();
CREATE FUNCTION endless(n integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 0';
SELECT cache_function('endless(int)');
CREATE OR REPLACE FUNCTION endless(n integer) RETURNS integer LANGUAGE plpgsql STABLE AS 'BEGIN RETURN endless_cached(n); END';
SET max_stack_depth = '500kB';
\set VERBOSITY sqlstate
SELECT endless_cached(1);
\set VERBOSITY default
RESET max_stack_depth;
SELECT total_cached() = total() AS same;
SELECT outcomes() \g /dev/null

-- A function with settings of its own; session settings that change what is printed; names that come to mean something else.
CREATE FUNCTION printed() RETURNS text LANGUAGE sql STABLE AS $$SELECT concat_ws(' ', '2024-02-03 12:00+00'::timestamptz, '1 day 2 hours'::interval, '\x01'::bytea, 0.1::float8 + 0.2)$$;
SELECT cache_function('printed()');
CREATE FUNCTION printed_in_paris() RETURNS text LANGUAGE sql STABLE SET timezone = 'Europe/Paris' AS $$SELECT printed_cached()$$;
SELECT cache_function('printed_in_paris()');
SELECT printed_cached();
SELECT printed_in_paris_cached(), printed_in_paris_cached();
SET TimeZone = 'Asia/Tokyo';
SELECT printed_cached(), printed_in_paris_cached();
SET DateStyle = 'ISO';
SELECT printed_cached();
SET IntervalStyle = 'iso_8601';
SELECT printed_cached();
SET bytea_output = 'escape';
SELECT printed_cached();
SET extra_float_digits = -3;
SELECT printed_cached(), printed();
RESET ALL;
SET search_path = contexts_test, public;
SELECT printed_cached();
SELECT outcomes();
CREATE SCHEMA contexts_other;
CREATE TABLE contexts_other.t (id integer, v integer);
INSERT INTO contexts_other.t VALUES (1, 1000000);
SELECT cache_track_table('contexts_other.t');
SET search_path = contexts_other, contexts_test, public;
SELECT total_cached(), total();
SET search_path = contexts_test, public;
SELECT total_cached() = total() AS same;
BEGIN;
SET LOCAL search_path = contexts_other, contexts_test, public;
SELECT total_cached();
ROLLBACK;
SELECT total_cached() = total() AS same;
SELECT outcomes();
-- A table that comes to stand before the one that was found.
CREATE SCHEMA contexts_first;
SET search_path = contexts_first, contexts_test, public;
SELECT total_cached() = total() AS same, total_cached() = total() AS same;
CREATE TABLE contexts_first.t AS SELECT 1 AS id, 7 AS v;
SELECT total_cached(), total();
DROP TABLE contexts_other.t;
ALTER TABLE contexts_first.t SET SCHEMA contexts_other;
SELECT total_cached() = total() AS same;
ALTER SCHEMA contexts_first RENAME TO contexts_last;
ALTER SCHEMA contexts_other RENAME TO contexts_first;
SELECT total_cached() = total() AS same;
SET search_path = contexts_test, public;
-- A temporary table of the same name: for this session, as long as it is there.
SELECT total_cached() AS permanent \gset
CREATE TEMPORARY TABLE t (id integer, v integer);
INSERT INTO t VALUES (1, 42);
SELECT total_cached(), total();
DROP TABLE pg_temp.t;
SELECT total_cached() = :permanent AS back;
BEGIN;
CREATE TEMPORARY TABLE t (id integer, v integer) ON COMMIT DROP;
SELECT total_cached(), total();
COMMIT;
SELECT total_cached() = :permanent AS back;
BEGIN;
CREATE TEMPORARY TABLE t (id integer, v integer);
SELECT total_cached(), total();
ROLLBACK;
SELECT total_cached() = :permanent AS back;
CREATE FUNCTION pg_temp.nothing() RETURNS integer LANGUAGE sql AS 'SELECT 1';
SELECT total_cached() = :permanent AS right;
DISCARD TEMP;
SELECT total_cached() = :permanent AS right;
SELECT outcomes() ~ 'temporary_objects' AS bypassed;

-- Parallel plans: the call stays with the leader, and what a parallel query reads is recorded.
SET max_parallel_workers_per_gather = 2;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
EXPLAIN (COSTS OFF) SELECT count(*) FROM t WHERE v > 0;
CREATE FUNCTION slow_count() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM t WHERE v > 0';
SELECT cache_function('slow_count()');
SELECT slow_count_cached(), slow_count_cached();
INSERT INTO t VALUES (12, 1);
SELECT slow_count_cached(), slow_count_cached();
EXPLAIN (COSTS OFF) SELECT count(*) FROM t WHERE v > value_of_cached(id) - 1;
SELECT count(*) FROM t WHERE v > value_of_cached(id) - 1;
SELECT outcomes();
-- A PARALLEL SAFE function that reads inside a worker.
CREATE FUNCTION safe_value(id integer) RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS 'BEGIN RETURN (SELECT count(*) FROM u WHERE u.id = $1); END';
CREATE FUNCTION with_workers() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(safe_value(id))::bigint FROM t';
SELECT cache_function('with_workers()');
SELECT with_workers_cached();
INSERT INTO u VALUES (3, 3);
SELECT with_workers_cached(), with_workers();
SET force_parallel_mode = on;
SELECT slow_count_cached() = slow_count() AS same, total_cached() = total() AS same;
RESET force_parallel_mode;
RESET max_parallel_workers_per_gather;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
SELECT outcomes() \g /dev/null

-- Reads that hide: dynamic SQL, views, a cursor opened before.
CREATE VIEW v AS SELECT sum(v) AS s FROM u;
CREATE FUNCTION by_view() RETURNS bigint LANGUAGE plpgsql STABLE AS $$DECLARE s bigint; BEGIN EXECUTE 'SELECT s FROM v' INTO s; RETURN s; END$$;
CREATE FUNCTION by_cursor(c refcursor) RETURNS integer LANGUAGE plpgsql STABLE AS $$DECLARE r record; BEGIN FETCH c INTO r; RETURN r.v; END$$;
SELECT cache_function('by_view()'), cache_function('by_cursor(refcursor)');
SELECT by_view_cached(), by_view_cached();
UPDATE u SET v = 33;
SELECT by_view_cached(), by_view();
CREATE OR REPLACE VIEW v AS SELECT sum(v) * 2 AS s FROM u;
SELECT by_view_cached(), by_view();
BEGIN;
DECLARE opened CURSOR FOR SELECT v FROM t ORDER BY id;
SELECT by_cursor_cached('opened'), by_cursor_cached('opened');
COMMIT;
SELECT outcomes();

-- A base function that writes, kept by age: it runs when there is nothing to serve.
CREATE FUNCTION writes() RETURNS integer LANGUAGE sql VOLATILE AS 'INSERT INTO u VALUES ((SELECT max(id) FROM u) + 1, 0) RETURNING id';
SELECT cache_function('writes()', consistency => 'ttl');
SELECT writes_cached(), writes_cached();
SELECT outcomes();
-- A volatile function inside a stable one takes newer snapshots.
CREATE FUNCTION newer() RETURNS bigint LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN (SELECT count(*) FROM u); END';
CREATE FUNCTION with_newer() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT newer()';
SELECT cache_function('with_newer()');
SELECT with_newer_cached() = with_newer() AS same;

-- Expiry, by the clock.
SELECT cache_function('total()', ttl => '1 minute', name => 'total_for_a_minute');
SELECT outcomes() \g /dev/null
SELECT total_for_a_minute(), total_for_a_minute();
SET pg_query_cache.clock_offset = '59s';
SELECT total_for_a_minute();
SELECT total_for_a_minute(cache_duration => '30 seconds');
SELECT total_for_a_minute(cache_duration => '30 seconds');
SET pg_query_cache.clock_offset = '130s';
SELECT total_for_a_minute();
RESET pg_query_cache.clock_offset;
SELECT outcomes();

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA contexts_test, contexts_first, contexts_last CASCADE;
