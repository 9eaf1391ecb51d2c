-- Tables with several parents: a statement on one parent changes rows that are read by way of another.
\set ECHO errors
CREATE SCHEMA inheritance_test;
SET search_path = inheritance_test, public;
SET statement_timeout = '30s';
\set ECHO all
CREATE TABLE a (id integer, x integer);
CREATE TABLE b (id integer, y integer DEFAULT 0);
CREATE TABLE ab () INHERITS (a, b);
CREATE TABLE below () INHERITS (ab);
INSERT INTO ab SELECT g, g, g FROM generate_series(1, 3) AS g;
INSERT INTO below SELECT g, g, g FROM generate_series(4, 6) AS g;
CREATE FUNCTION sum_b() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT coalesce(sum(id + y), 0) FROM b';
CREATE FUNCTION of_b(id integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT coalesce(sum(y), -1) FROM b WHERE b.id = of_b.id';
SELECT cache_function('sum_b()'), cache_function('of_b(integer)', depends_on => '{"b": {"id": "$1"}}');
SELECT cache_track_table('b', '{id}') >= 0 AS tracked;
-- Both parents' triggers are needed.
SELECT DISTINCT tgrelid::regclass FROM pg_trigger WHERE tgname LIKE 'pg_query_cache%' AND tgrelid <> 'cache_values'::regclass ORDER BY 1;

-- Whether what is stored is right before a write, in its transaction and afterwards.
CREATE FUNCTION wrong() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    answers text;
BEGIN
    SELECT string_agg(concat(what, ': ', cached, ' for ', own), ', ') INTO answers
    FROM (SELECT 'sum_b' AS what, sum_b_cached() AS cached, sum_b() AS own
          UNION ALL SELECT 'of_b ' || i, of_b_cached(i), of_b(i) FROM generate_series(0, 6) AS i) AS answered
    WHERE cached IS DISTINCT FROM own;
    RETURN coalesce(answers, 'right');
END $$;
CREATE PROCEDURE write(statement text) LANGUAGE plpgsql AS $$
DECLARE
    inside text;
    outcome text;
BEGIN
    PERFORM wrong();
    COMMIT;
    SELECT e.outcome INTO outcome FROM cache_explain('sum_b_cached()') AS e;
    EXECUTE statement;
    inside := wrong();
    COMMIT;
    RAISE NOTICE '% | % | % | %', statement, outcome, inside, wrong();
END $$;
CALL write('UPDATE a SET id = id - 1');
CALL write('UPDATE a SET id = id + 1 WHERE id = 4');
CALL write('DELETE FROM a WHERE id = 3');
CALL write('MERGE INTO a USING (VALUES (2)) AS v (id) ON a.id = v.id WHEN MATCHED THEN UPDATE SET id = 7');
CALL write('MERGE INTO a USING (VALUES (7)) AS v (id) ON a.id = v.id WHEN MATCHED THEN DELETE');
CALL write('COPY ab FROM PROGRAM ''echo 2,2,2'' (FORMAT csv)');
CALL write('INSERT INTO below VALUES (3, 3, 3)');
CALL write('WITH gone AS (DELETE FROM a WHERE id = 2 RETURNING *) INSERT INTO ab SELECT id + 1, x, 5 FROM gone');
CALL write('TRUNCATE a');
CALL write('INSERT INTO below VALUES (1, 1, 1), (2, 2, 2)');
SELECT sum_b_cached();
SELECT invalidate_cache_table('a') > 0 AS invalidated;
SELECT outcome FROM cache_explain('sum_b_cached()');

-- Trees that come to share a member, and no longer share one.
CREATE TABLE c (z integer);
CREATE FUNCTION count_c() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM c';
SELECT cache_function('count_c()');
SELECT cache_track_table('c') >= 0 AS tracked;
ALTER TABLE ab ADD COLUMN z integer;
SELECT count_c_cached() = count_c();
SELECT outcome FROM cache_explain('count_c_cached()');
ALTER TABLE ab INHERIT c;
SELECT count_c_cached() = count_c();
SELECT outcome FROM cache_explain('count_c_cached()');
DELETE FROM a WHERE id = 1;
SELECT count_c_cached() = count_c(), wrong();
UPDATE c SET z = 1;
DELETE FROM c;
SELECT count_c_cached() = count_c(), wrong();
INSERT INTO below VALUES (1, 1, 1), (2, 2, 2);
SELECT count_c_cached() = count_c(), wrong();
ALTER TABLE ab NO INHERIT b;
SELECT count_c_cached() = count_c(), wrong();
UPDATE a SET id = id + 1;
DELETE FROM a WHERE id = 2;
SELECT count_c_cached() = count_c(), wrong();

-- A tree that was not tracked joins one that was.
CREATE TABLE plain (x integer);
CREATE TABLE joined () INHERITS (a, plain);
SELECT cache_track_table('c') >= 0 AS tracked;
SELECT count_c_cached() = count_c();
SELECT outcome, reason FROM cache_explain('count_c_cached()');
DELETE FROM plain;
UPDATE a SET x = x;
SELECT count_c_cached() = count_c();

-- What a transaction has prepared it has locked; so have those who prepare a change of the tree.
BEGIN;
UPDATE c SET z = 2;
PREPARE TRANSACTION 'writer';
SET lock_timeout = '10ms';
ALTER TABLE ab NO INHERIT c;
ALTER TABLE below NO INHERIT ab;
RESET lock_timeout;
SELECT count_c_cached() = count_c(), wrong();
COMMIT PREPARED 'writer';
SELECT count_c_cached() = count_c(), wrong();
BEGIN;
ALTER TABLE ab NO INHERIT c;
PREPARE TRANSACTION 'shape';
SET lock_timeout = '10ms';
DELETE FROM c;
RESET lock_timeout;
INSERT INTO c VALUES (1);
COMMIT PREPARED 'shape';
SELECT count_c_cached() = count_c(), wrong();

-- A member that cannot be tracked.
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE far (x integer) INHERITS (plain) SERVER nowhere;
SELECT cache_track_table('b');
SELECT cache_track_table('a');
DROP FOREIGN DATA WRAPPER nothing CASCADE;
DROP TABLE joined;
SELECT count(*) > 0 AS untracked FROM cache_untrack_table('b');
SET client_min_messages = error;
DROP SCHEMA inheritance_test CASCADE;
