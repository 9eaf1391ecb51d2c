-- Functions, tables, columns, views and types that are renamed, moved and swapped below what is cached.
-- world
CREATE TABLE one.r1 (k integer, v integer)
CREATE TABLE one.r2 (k integer, v integer)
INSERT INTO one.r1 VALUES (0, 1), (1, 2), (2, 3)
INSERT INTO one.r2 VALUES (0, 10), (1, 20), (2, 30)
CREATE VIEW one.rv AS SELECT k, v FROM one.r1
CREATE TYPE one.en AS ENUM ('a', 'b', 'c')
CREATE TYPE one.pair AS (a integer, b integer)
CREATE FUNCTION one.h1(n integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT n + 1'
CREATE FUNCTION one.h2(n integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT n + 2'
CREATE FUNCTION one.uses_h(n integer) RETURNS integer LANGUAGE {sql STABLE AS 'SELECT one.h1(n)'|plpgsql STABLE AS 'BEGIN RETURN one.h1(n); END'|sql STABLE RETURN one.h1(n)}
CREATE FUNCTION one.uses_r(n integer) RETURNS bigint LANGUAGE {sql STABLE AS 'SELECT sum(v) FROM one.r1 WHERE k >= n'|plpgsql STABLE AS 'BEGIN RETURN (SELECT sum(v) FROM one.r1 WHERE k >= n); END'|sql STABLE RETURN (SELECT sum(v) FROM one.r1 WHERE k >= n)}
CREATE FUNCTION one.uses_v() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) + one.h1(0) FROM one.rv'
CREATE FUNCTION one.of_r(k integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM one.r1 WHERE r1.k = of_r.k'
CREATE FUNCTION one.uses_e(n integer) RETURNS text LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (enum_range(NULL::one.en))[n + 1]::text || (ROW(n, 2)::one.pair).a; END'
@SELECT cache_function('one.uses_h(integer)')
@SELECT cache_function('one.uses_r(integer)')
@SELECT cache_function('one.uses_v()')
@SELECT cache_function('one.of_r(integer)', depends_on => '{"one.r1": {"k": "$1"}}')
@SELECT cache_function('one.uses_e(integer)')
@SELECT cache_track_table('one.r1', '{k}')
@SELECT cache_track_table('one.r2', '{k}')
-- calls
one.uses_h{}(<k>)
one.uses_r{}(<k>)
one.uses_v{}()
one.of_r{}(<k>)
one.uses_e{}(<k>)
-- moves
ALTER TABLE one.r1 RENAME TO r0; ALTER TABLE one.r2 RENAME TO r1; ALTER TABLE one.r0 RENAME TO r2
ALTER TABLE one.{r1 RENAME TO r3|r3 RENAME TO r1|r2 RENAME TO r3}
ALTER TABLE one.r1 RENAME COLUMN k TO k0; ALTER TABLE one.r1 RENAME COLUMN v TO k; ALTER TABLE one.r1 RENAME COLUMN k0 TO v
ALTER TABLE {one|two}.r1 SET SCHEMA {one|two}
UPDATE one.{r1|r2|rv} SET v = <v> WHERE k = <k>
INSERT INTO one.{r1|r2|r3} VALUES (<k>, <v>)
CREATE OR REPLACE VIEW one.rv AS SELECT k, v FROM one.{r1|r2} WHERE k >= <k>
ALTER VIEW one.rv RENAME TO rv_old; CREATE VIEW one.rv AS SELECT 1 AS k, <v> AS v
ALTER TYPE one.en RENAME VALUE {'a' TO 'd'|'d' TO 'a'|'b' TO 'a'}
ALTER TYPE one.en ADD VALUE IF NOT EXISTS 'e' BEFORE '{a|b}'
ALTER TYPE one.en RENAME TO en_old; CREATE TYPE one.en AS ENUM ('x', 'y', 'z')
ALTER TYPE one.pair RENAME ATTRIBUTE {a TO c|b TO a|c TO b}
CREATE OR REPLACE FUNCTION one.h{1|2}(n integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT n + <v>'
ALTER FUNCTION one.h{1|2}(integer) RENAME TO h3
ALTER FUNCTION one.h3(integer) RENAME TO h{1|2}
ALTER FUNCTION one.h1(integer) RENAME TO h0; ALTER FUNCTION one.h2(integer) RENAME TO h1; ALTER FUNCTION one.h0(integer) RENAME TO h2
BEGIN; ALTER TABLE one.r1 RENAME TO r0; ALTER TABLE one.r2 RENAME TO r1; ALTER TABLE one.r0 RENAME TO r2
