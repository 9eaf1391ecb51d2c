-- Equal names in several schemas, and search paths that choose among them.
-- world
CREATE TABLE one.s (k integer, v integer)
CREATE TABLE two.s (k integer, v integer)
INSERT INTO one.s VALUES (0, 1), (1, 2), (2, 3)
INSERT INTO two.s VALUES (0, 10), (1, 20), (2, 30)
CREATE FUNCTION one.h(n integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT n + 100'
CREATE FUNCTION two.h(n integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT n + 200'
CREATE DOMAIN one.dm AS integer CHECK (VALUE < 1000)
CREATE DOMAIN two.dm AS numeric(6,2)
CREATE VIEW one.vs AS SELECT * FROM one.s
CREATE FUNCTION one.sum_s(n integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM s WHERE k >= n'
CREATE FUNCTION one.pl_s(n integer) RETURNS text LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT sum(v) FROM s WHERE k = n)::text || '' '' || h(n); END'
CREATE FUNCTION one.typed(n integer) RETURNS text LANGUAGE plpgsql STABLE AS 'DECLARE x dm := n; BEGIN RETURN x::text || pg_typeof(x)::text; END'
CREATE FUNCTION one.cast_s(n integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT (n::dm)::text'
CREATE FUNCTION one.dynamic(n integer) RETURNS text LANGUAGE plpgsql STABLE AS 'DECLARE x text; BEGIN EXECUTE ''SELECT h($1)::text || (SELECT count(*) FROM s)'' INTO x USING n; RETURN x; END'
CREATE FUNCTION one.there(n integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT (to_regclass('s') IS NULL)::text || (to_regprocedure('h(bigint)') IS NULL)::text || n$$
@SELECT cache_function('one.sum_s(integer)')
@SELECT cache_function('one.pl_s(integer)')
@SELECT cache_function('one.typed(integer)')
@SELECT cache_function('one.cast_s(integer)')
@SELECT cache_function('one.dynamic(integer)')
@SELECT cache_function('one.there(integer)')
@SELECT cache_track_table('one.s')
@SELECT cache_track_table('two.s')
-- calls
one.sum_s{}(<k>)
one.pl_s{}(<k>)
one.typed{}(<k>)
one.cast_s{}(<k>)
one.dynamic{}(<k>)
one.there{}(<k>)
-- moves
SET search_path = {one, public|two, public|one, two|two, one|two|public, one}
SET search_path = {one, public|two, public|one, two|two, one|two|public, one}
SET LOCAL search_path = {one, two|two, one}
SET search_path = "$user", {one|two}
UPDATE {one|two}.s SET v = <v> WHERE k = <k>
INSERT INTO {one|two}.s VALUES (<k>, <v>)
ALTER TABLE {one|two}.s RENAME TO s_old
ALTER TABLE {one|two}.s_old RENAME TO s
ALTER TABLE one.s SET SCHEMA two
ALTER TABLE two.s SET SCHEMA one
CREATE TABLE {one|two}.s AS SELECT 1 AS k, <v> AS v
CREATE TEMP TABLE s AS SELECT 1 AS k, <v> AS v
DROP TABLE pg_temp.s
DROP TABLE {one|two}.s_old CASCADE
CREATE VIEW {one|two}.s AS SELECT 1 AS k, <v> AS v
CREATE OR REPLACE FUNCTION {one|two|public}.h(n integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT n + <v>'
CREATE OR REPLACE FUNCTION {one|two}.h(n bigint) RETURNS integer LANGUAGE sql STABLE AS 'SELECT <v>'
DROP FUNCTION IF EXISTS {one|two|public}.h({integer|bigint}) CASCADE
ALTER FUNCTION {one|two}.h(integer) RENAME TO h_old
ALTER FUNCTION {one|two}.h_old(integer) RENAME TO h
CREATE DOMAIN {one|two}.dm AS {text|integer|numeric(4,1)}
ALTER DOMAIN {one|two}.dm RENAME TO dm_old
ALTER DOMAIN {one|two}.dm_old RENAME TO dm
ALTER FUNCTION one.{sum_s|pl_s|cast_s|dynamic}(integer) SET search_path = {one|two}
ALTER FUNCTION one.{sum_s|pl_s|cast_s|dynamic}(integer) RESET search_path
