-- What a session has compiled or planned, and definitions that change beneath it.
-- world
CREATE TABLE one.w (k integer, v integer)
INSERT INTO one.w SELECT g, 100 + g FROM generate_series(0, 2) AS g
CREATE TABLE two.w (k integer, v text)
INSERT INTO two.w SELECT g, 'w' || g FROM generate_series(0, 2) AS g
CREATE DOMAIN one.m AS numeric(6,1)
CREATE DOMAIN two.m AS text
CREATE FUNCTION one.declared(n integer) RETURNS text LANGUAGE plpgsql STABLE AS 'DECLARE x m := n; BEGIN RETURN x::text; END'
CREATE FUNCTION one.row_of(n integer) RETURNS text LANGUAGE plpgsql STABLE AS 'DECLARE r one.w; BEGIN SELECT * INTO r FROM one.w WHERE k = n; RETURN r::text; END'
CREATE FUNCTION one.loop_of(n integer) RETURNS text LANGUAGE plpgsql STABLE AS 'DECLARE r record; x text := ''''; BEGIN FOR r IN SELECT * FROM w WHERE k >= n ORDER BY k LOOP x := x || r.v; END LOOP; RETURN x; END'
CREATE FUNCTION one.conflict(v integer) RETURNS text LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT max(v)::text FROM one.w); END'
CREATE FUNCTION one.one_of(n integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT (SELECT r FROM one.w AS r WHERE k = n)::text'
CREATE FUNCTION one.part_of(n integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT v::text FROM one.w WHERE k = n'
CREATE FUNCTION one.top_of(n integer) RETURNS text LANGUAGE plpgsql STABLE AS 'DECLARE x text; BEGIN x := one.part_of(n); RETURN x || one.one_of(n); END'
@SELECT cache_function('one.declared(integer)')
@SELECT cache_function('one.row_of(integer)')
@SELECT cache_function('one.loop_of(integer)')
@SELECT cache_function('one.conflict(integer)')
@SELECT cache_function('one.one_of(integer)')
@SELECT cache_function('one.top_of(integer)')
@SELECT cache_track_table('one.w')
@SELECT cache_track_table('two.w')
-- calls
one.declared{}(<k>)
one.row_of{}(<k>)
one.loop_of{}(<k>)
one.conflict{}(<k>)
one.one_of{}(<k>)
one.top_of{}(<k>)
-- moves
SET search_path = {one, public|two, public|one, two|two, one}
SET search_path = {one, public|two, public|one, two|two, one}
SET plpgsql.variable_conflict = {use_variable|use_column|error}
SET plpgsql.extra_errors = {none|'too_many_rows'}
UPDATE {one|two}.w SET v = v WHERE k = <k>
UPDATE one.w SET v = <v> WHERE k = <k>
ALTER TABLE one.w ALTER COLUMN v TYPE {bigint|text|integer USING 7|numeric(8,2) USING 3}
ALTER TABLE one.w ADD COLUMN z integer DEFAULT <v>
ALTER TABLE one.w DROP COLUMN IF EXISTS z
ALTER TABLE one.w RENAME COLUMN {v TO u|u TO v}
CREATE OR REPLACE FUNCTION one.part_of(n integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT v::text || <v> FROM one.w WHERE k = n'
ALTER DOMAIN {one|two}.m RENAME TO m_old
ALTER DOMAIN {one|two}.m_old RENAME TO m
BEGIN; SELECT one.part_of(<k>), one.top_of(<k>)
CREATE TEMP TABLE IF NOT EXISTS w AS SELECT 1 AS k, 'temporary'::text AS v
DROP TABLE IF EXISTS pg_temp.w
