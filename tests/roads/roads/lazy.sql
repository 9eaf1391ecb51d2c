-- Functions that return sets, of which only some rows are asked for.
-- world
CREATE TABLE one.l (k integer, v integer)
INSERT INTO one.l SELECT g % 3, g FROM generate_series(0, 8) AS g
CREATE FUNCTION one.rows_l(n integer) RETURNS SETOF integer LANGUAGE sql STABLE AS 'SELECT v FROM one.l WHERE k <= n ORDER BY v'
CREATE FUNCTION one.fails_l(n integer) RETURNS SETOF integer LANGUAGE sql STABLE AS 'SELECT 12 / (n - g) FROM generate_series(0, 3) AS g'
CREATE FUNCTION one.fails_too(n integer) RETURNS SETOF integer LANGUAGE plpgsql STABLE AS 'BEGIN RETURN QUERY SELECT 12 / (v - n) FROM one.l ORDER BY v; END'
CREATE FUNCTION one.pairs_l(n integer, OUT a integer, OUT b text) RETURNS SETOF record LANGUAGE {sql STABLE AS 'SELECT v, k::text FROM one.l WHERE v > n ORDER BY v'|plpgsql STABLE AS 'BEGIN RETURN QUERY SELECT v, k::text FROM one.l WHERE v > n ORDER BY v; END'}
CREATE FUNCTION one.over_l(n integer) RETURNS SETOF integer LANGUAGE sql STABLE AS 'SELECT x + 1 FROM one.rows_l{}(n) AS x ORDER BY x'
@SELECT cache_function('one.rows_l(integer)')
@SELECT cache_function('one.fails_l(integer)')
@SELECT cache_function('one.fails_too(integer)')
@SELECT cache_function('one.pairs_l(integer)')
@SELECT cache_function('one.over_l(integer)')
@SELECT cache_track_table('one.l')
-- calls
SELECT one.rows_l{}(<k>) LIMIT {1|2|100}
SELECT * FROM one.rows_l{}(<k>) LIMIT {1|100}
SELECT one.fails_too{}(<k>) LIMIT {1|2|3|10}
SELECT one.rows_l{}(<k>), one.rows_l{}(<k>) LIMIT {2|9}
SELECT one.pairs_l{}(<k>) LIMIT {1|9}
SELECT count(*) FROM (SELECT one.rows_l{}(k) FROM one.l) AS s
SELECT one.over_l{}(<k>) LIMIT {1|9}
SELECT (SELECT x FROM one.rows_l{}(k) AS x LIMIT 1) FROM one.l ORDER BY v
SELECT one.fails_l{}(<k>) LIMIT {1|2|3|10}
SELECT EXISTS (SELECT one.fails_l{}(<k>))
-- moves
BEGIN; DECLARE c CURSOR FOR SELECT one.{rows_l|over_l|fails_l}{}(<k>)
BEGIN; DECLARE c SCROLL CURSOR FOR SELECT one.rows_l{}(<k>)
DECLARE h CURSOR WITH HOLD FOR SELECT one.{rows_l|over_l}{}(<k>)
FETCH {1|2|ALL|BACKWARD 1} FROM {c|h}
FETCH 1 FROM c; UPDATE one.l SET v = v + 1 WHERE k = <k>; FETCH ALL FROM c
CLOSE {c|h}
UPDATE one.l SET v = <v> WHERE k = <k>
INSERT INTO one.l VALUES (<k>, <v>)
DELETE FROM one.l WHERE v = <v>
DO $$DECLARE r integer; BEGIN FOR r IN SELECT one.rows_l{}(<k>) LOOP UPDATE one.l SET v = v + 1 WHERE v = r; EXIT WHEN r > <v>; END LOOP; END$$
CREATE OR REPLACE FUNCTION one.rows_l(n integer) RETURNS SETOF integer LANGUAGE sql STABLE AS 'SELECT v + <v> FROM one.l WHERE k <= n ORDER BY v'
DO $$DECLARE r integer; BEGIN FOR r IN SELECT one.fails_l{}(<k>) LOOP EXIT WHEN r < 7; END LOOP; EXCEPTION WHEN division_by_zero THEN NULL; END$$
