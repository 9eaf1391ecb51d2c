-- A crash, with transactions prepared before it that end beside open ones.
-- world
CREATE TABLE one.c (id integer PRIMARY KEY, v integer)
INSERT INTO one.c SELECT g, g FROM generate_series(0, 2) AS g
CREATE FUNCTION one.inner_c() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1'
CREATE FUNCTION one.outer_c(n integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT one.inner_c() + 0 * id FROM one.c WHERE id = n'
CREATE FUNCTION one.base_c(n integer) RETURNS integer LANGUAGE plpgsql STABLE AS 'BEGIN RETURN one.outer_c(n); END'
CREATE FUNCTION one.sum_c() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM one.c'
CREATE FUNCTION one.of_c(n integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT v FROM one.c WHERE id = n'
CREATE VIEW one.view_c AS SELECT id, v FROM one.c WHERE v < 5
CREATE FUNCTION one.seen_c() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT sum(v) FROM one.view_c); END'
@SELECT cache_function('one.base_c(integer)')
@SELECT cache_function('one.outer_c(integer)')
@SELECT cache_function('one.sum_c()')
@SELECT cache_function('one.of_c(integer)', depends_on => '{"one.c": {"id": "$1"}}')
@SELECT cache_function('one.seen_c()')
@SELECT cache_track_table('one.c')
-- calls
one.base_c{}(1)
one.base_c{}(1)
one.outer_c{}(1)
one.sum_c{}()
one.of_c{}(<k>)
one.seen_c{}()
-- moves
BEGIN; CREATE OR REPLACE FUNCTION one.inner_c() RETURNS integer LANGUAGE sql STABLE AS 'SELECT <v>'; PREPARE TRANSACTION 'p1' ;; CRASH
BEGIN; CREATE OR REPLACE VIEW one.view_c AS SELECT id, v FROM one.c WHERE v < <v>; PREPARE TRANSACTION 'p1' ;; CRASH
BEGIN; UPDATE one.c SET v = <v> WHERE id = <k>; PREPARE TRANSACTION 'p1' ;; CRASH
BEGIN; INSERT INTO one.c VALUES (10 + <v>, <v>); PREPARE TRANSACTION 'p1' ;; CRASH
BEGIN; INSERT INTO one.c VALUES (10 + <v>, <v>); PREPARE TRANSACTION 'p1'
BEGIN; SELECT one.base_c(1)
BEGIN; SELECT one.base_c(1)
BEGIN; SELECT one.base_c(1), one.sum_c()
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT one.sum_c()
COMMIT PREPARED 'p1'
COMMIT PREPARED 'p1'
COMMIT PREPARED 'p1'
ROLLBACK PREPARED 'p1'
CREATE OR REPLACE FUNCTION one.inner_c() RETURNS integer LANGUAGE sql STABLE AS 'SELECT <v>'
UPDATE one.c SET v = <v> WHERE id = <k>
CHECKPOINT
