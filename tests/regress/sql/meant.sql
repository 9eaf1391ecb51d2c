-- Names in depends_on mean for good what they meant when they were said. Where one means something else by now the result depends on the
-- whole table, since a function may read what it read, by a view, or what has the name, by its text.
SET client_min_messages = warning;
CREATE SCHEMA meant_test;
SET search_path = meant_test, public;
CREATE FUNCTION meant_health() RETURNS TABLE (function text, value text, sql text) LANGUAGE sql AS $$
    SELECT split_part(finding, 'meant_test.', 2), value, sql FROM analyze_cache_health() WHERE finding ~ '^depends_on means .*meant_test'
    ORDER BY 1
$$;
-- How the call is answered, and the keys that it depends on.
CREATE FUNCTION looked(call text, OUT outcome text, OUT keys text) LANGUAGE sql AS $$
    SELECT outcome, (SELECT string_agg(tag, ', ' ORDER BY tag) FROM unnest(tags) tag WHERE tag ~ ' = ') FROM cache_explain(call)
$$;
CREATE FUNCTION made() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DROP TABLE IF EXISTS meant_test.t, meant_test.other CASCADE;
    CREATE TABLE meant_test.t (id int PRIMARY KEY, k int, v int);
    INSERT INTO meant_test.t SELECT i, i % 5, i FROM generate_series(1, 50) i;
    CREATE TABLE meant_test.other (LIKE meant_test.t INCLUDING ALL);
    INSERT INTO meant_test.other SELECT i, i % 5, i * 100 FROM generate_series(1, 50) i;
    PERFORM cache_track_table('meant_test.t', '{k}');
END $$;
SELECT made();
CREATE VIEW tv AS SELECT k, v FROM t;
CREATE FUNCTION f(x int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM meant_test.tv WHERE k = x';
SELECT cache_function('f(int)', depends_on => '{"t": {"k": "$1"}}');
SELECT f_cached(1), f_cached(1);
SELECT * FROM looked('f_cached(1)');

-- A column.
ALTER TABLE t RENAME k TO k_old;
SELECT * FROM meant_health();
ALTER TABLE t ADD k bigint;
SELECT f(1), f_cached(1), f_cached(1);
SELECT * FROM looked('f_cached(1)');
UPDATE t SET v = v + 1000 WHERE id = 1;
SELECT f(1), f_cached(1);
SELECT * FROM meant_health();

-- The statement of the report mends it; of the two columns nobody can tell which is read, so the table is depended on as a whole.
CREATE ROLE meant_nobody;
GRANT USAGE ON SCHEMA query_cache_internal, meant_test TO meant_nobody;
SET ROLE meant_nobody;
SELECT query_cache_internal.cache_function_follow('f_cached(int,interval)');
RESET ROLE;
SELECT query_cache_internal.cache_function_follow('f_cached(int,interval)');
SELECT depends_on FROM cached_functions WHERE function = 'f_cached(int,interval)'::regprocedure;
SELECT * FROM meant_health();
SELECT f(1), f_cached(1);

-- Its owner says which.
SELECT uncache_function('f_cached(int,interval)'), cache_function('f(int)', depends_on => '{"t": {"k_old": "$1"}}');
SELECT cache_track_table('t', '{k_old}') > 0;
SELECT f_cached(1), f_cached(1);
SELECT * FROM looked('f_cached(1)');

-- A column that has another name, and nothing that has its name.
ALTER TABLE t RENAME k_old TO k_older;
SELECT * FROM meant_health();
SELECT query_cache_internal.cache_function_follow('f_cached(int,interval)');
SELECT depends_on FROM cached_functions WHERE function = 'f_cached(int,interval)'::regprocedure;
SELECT * FROM meant_health();
SELECT cache_track_table('t', '{k_older}') > 0;
SELECT f_cached(1), f_cached(1);
SELECT * FROM looked('f_cached(1)');
UPDATE t SET v = v + 1000 WHERE id = 1;
SELECT f(1), f_cached(1);

-- The type of a column is changed: it is the same column.
ALTER TABLE t ADD n int;
CREATE FUNCTION g(x int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM meant_test.t WHERE n = x';
UPDATE t SET n = id % 3;
SELECT cache_function('g(int)', depends_on => '{"t": {"n": "$1"}}');
SELECT cache_track_table('t', '{n}') > 0;
SELECT g_cached(1);
ALTER TABLE t ALTER n TYPE bigint;
SELECT g_cached(1), g_cached(1);
SELECT * FROM looked('g_cached(1)');
-- It is dropped, and another one gets its name: another column.
ALTER TABLE t DROP n;
ALTER TABLE t ADD n int;
UPDATE t SET n = id % 3;
SELECT cache_track_table('t', '{n}') >= 0;
SELECT g_cached(1), g_cached(1);
SELECT * FROM looked('g_cached(1)');
SELECT * FROM meant_health();
SELECT query_cache_internal.cache_function_follow('g_cached(int,interval)');
UPDATE t SET v = v + 1;
SELECT g_cached(1), g_cached(1);
SELECT * FROM looked('g_cached(1)');
SELECT * FROM meant_health();

-- Two tables change their names, in one transaction.
SELECT uncache_function('g_cached(int,interval)'), uncache_function('f_cached(int,interval)');
DROP FUNCTION g, f CASCADE;
SELECT made();
CREATE FUNCTION f(x int) RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT sum(v) FROM meant_test.t WHERE k = x; END;
CREATE FUNCTION g(x int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM meant_test.t WHERE k = x';
SELECT cache_function('f(int)', depends_on => '{"t": {"k": "$1"}}'), cache_function('g(int)', depends_on => '{"t": {"k": "$1"}}');
SELECT cache_track_table('other', '{k}') > 0;
SELECT f_cached(1), g_cached(1);
BEGIN;
ALTER TABLE t RENAME TO swap;
ALTER TABLE other RENAME TO t;
ALTER TABLE swap RENAME TO other;
COMMIT;
SELECT f(1), f_cached(1), g(1), g_cached(1);
SELECT * FROM looked('f_cached(1)');
UPDATE t SET v = v + 1 WHERE id = 1;
UPDATE other SET v = v + 1 WHERE id = 1;
SELECT f(1), f_cached(1), g(1), g_cached(1);
SELECT * FROM meant_health();

-- A schema, and a table that comes into another one.
SELECT uncache_function('g_cached(int,interval)'), uncache_function('f_cached(int,interval)');
DROP FUNCTION g, f;
SELECT made();
CREATE FUNCTION f(x int) RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT sum(v) FROM meant_test.t WHERE k = x; END;
SELECT cache_function('f(int)', depends_on => '{"t": {"k": "$1"}}');
SELECT f_cached(1), f_cached(1);
CREATE SCHEMA meant_there;
ALTER TABLE t SET SCHEMA meant_there;
ALTER TABLE other RENAME TO t;
SELECT cache_track_table('t', '{k}') > 0;
SELECT f_cached(1), f_cached(1);
SELECT * FROM looked('f_cached(1)');
UPDATE meant_there.t SET v = v + 1 WHERE id = 1;
SELECT f(1), f_cached(1);
DROP TABLE t;
SELECT * FROM meant_health();
SELECT query_cache_internal.cache_function_follow('f_cached(int,interval)');
SELECT depends_on FROM cached_functions WHERE function = 'f_cached(int,interval)'::regprocedure;
ALTER SCHEMA meant_there RENAME TO meant_elsewhere;
SELECT f_cached(1), f_cached(1);
SELECT * FROM meant_health();
SELECT query_cache_internal.cache_function_follow('f_cached(int,interval)');
SELECT cache_track_table('meant_elsewhere.t', '{k}') >= 0;
UPDATE meant_elsewhere.t SET v = v + 1;
SELECT f_cached(1), f_cached(1);
SELECT * FROM looked('f_cached(1)');

-- What the base function says of itself.
SELECT uncache_function('f_cached(int,interval)');
DROP FUNCTION f;
DROP SCHEMA meant_elsewhere CASCADE;
SELECT made();
CREATE VIEW tv AS SELECT k, v FROM t;
CREATE FUNCTION f(x int) RETURNS bigint LANGUAGE sql STABLE SET pg_query_cache.depends_on = '{"meant_test.t": {"k": "$1"}}'
    AS 'SELECT sum(v) FROM meant_test.tv WHERE k = x';
SELECT cache_function('f(int)');
SELECT f_cached(1), f_cached(1);
SELECT * FROM looked('f_cached(1)');
ALTER TABLE t RENAME k TO k_old;
ALTER TABLE t ADD k int;
SELECT cache_track_table('t', '{k,k_old}') > 0;
-- Says nothing of it.
ALTER FUNCTION f COST 50;
SELECT f_cached(1), f_cached(1);
SELECT * FROM looked('f_cached(1)');
UPDATE t SET v = v + 1000 WHERE id = 1;
SELECT f(1), f_cached(1);
SELECT * FROM meant_health();
ALTER FUNCTION f SET pg_query_cache.depends_on = '{"meant_test.t": {"k_old": "$1"}}';
SELECT f_cached(1), f_cached(1);
SELECT * FROM looked('f_cached(1)');
SELECT * FROM meant_health();
-- The table comes anew: what is read is another table.
DROP VIEW tv;
SELECT made();
CREATE VIEW tv AS SELECT k AS k_old, v FROM t;
CREATE OR REPLACE FUNCTION f(x int) RETURNS bigint LANGUAGE sql STABLE SET pg_query_cache.depends_on = '{"meant_test.t": {"k": "$1"}}'
    AS 'SELECT sum(v) FROM meant_test.tv WHERE k_old = x';
SELECT f_cached(1), f_cached(1);
SELECT * FROM looked('f_cached(1)');
DROP VIEW tv;
SELECT made();
CREATE VIEW tv AS SELECT k AS k_old, v FROM t;
SELECT f_cached(1), f_cached(1);
SELECT * FROM looked('f_cached(1)');
SELECT * FROM meant_health();
ALTER FUNCTION meant_test.f(integer) SET pg_query_cache.depends_on = '{"meant_test.t": {"k": "$1"}}';
SELECT f_cached(1), f_cached(1);
SELECT * FROM looked('f_cached(1)');
SELECT * FROM meant_health();

-- A name without a schema means to a caller what it does, but no other table's columns are keys.
SELECT uncache_function('f_cached(int,interval)');
CREATE FUNCTION own(x int) RETURNS bigint LANGUAGE cached STABLE PARALLEL RESTRICTED
    AS '{"function": "meant_test.f(integer)", "depends_on": {"t": {"k": "$1"}}}';
SELECT own(1), own(1);
SELECT * FROM looked('own(1)');
CREATE SCHEMA meant_tenant
    CREATE TABLE t (k int, v int);
SELECT cache_track_table('meant_tenant.t', '{k}') > 0;
SET search_path = meant_tenant, meant_test, public;
CREATE FUNCTION meant_test.late(x int) RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT sum(v) FROM t WHERE k = x); END';
SET search_path = meant_test, public;
CREATE FUNCTION late_cached(x int) RETURNS bigint LANGUAGE cached STABLE PARALLEL RESTRICTED
    AS '{"function": "meant_test.late(integer)", "depends_on": {"t": {"k": "$1"}}}';
SELECT late_cached(1), late_cached(1);
SELECT * FROM looked('late_cached(1)');
SET search_path = meant_tenant, meant_test, public;
SELECT late_cached(1), late_cached(1);
SELECT * FROM looked('late_cached(1)');
SET search_path = meant_test, public;
DROP SCHEMA meant_tenant CASCADE;
DROP FUNCTION own, late_cached, late;

-- A dump is restored: the functions come before the tables. What the names mean is recorded as soon as they mean something.
DROP VIEW tv;
DROP TABLE t;
SET check_function_bodies = off;
CREATE FUNCTION early(x int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM meant_test.t WHERE k = x';
CREATE FUNCTION early_cached(x int) RETURNS bigint LANGUAGE cached STABLE PARALLEL RESTRICTED
    AS '{"function": "meant_test.early(integer)", "depends_on": {"meant_test.t": {"k": "$1"}}}';
RESET check_function_bodies;
SELECT made();
SELECT early_cached(1), early_cached(1);
SELECT * FROM looked('early_cached(1)');
DO $$
BEGIN
    LOOP
        EXIT WHEN EXISTS (SELECT FROM pg_depend WHERE objid = 'early_cached'::regproc AND refclassid = 'pg_language'::regclass AND refobjsubid <> 0);
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
SELECT early_cached(1), early_cached(1);
SELECT * FROM looked('early_cached(1)');
ALTER TABLE t RENAME k TO k_old;
ALTER TABLE t ADD k int;
SELECT cache_track_table('t', '{k}') >= 0;
SELECT early_cached(1);
SELECT * FROM looked('early_cached(1)');
SELECT made();
CREATE VIEW tv AS SELECT k AS k_old, v FROM t;
DROP FUNCTION early_cached, early;

-- Nobody is kept from dropping what is named, nor the function.
SELECT cache_function('f(int)', depends_on => '{"t": {"k": "$1"}}');
DROP TABLE t CASCADE;
SELECT * FROM meant_health();
SELECT query_cache_internal.cache_function_follow('f_cached(int,interval)');
SELECT * FROM meant_health();
DROP FUNCTION f_cached;
DROP SCHEMA meant_test CASCADE;
DROP OWNED BY meant_nobody;
DROP ROLE meant_nobody;
