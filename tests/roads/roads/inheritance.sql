-- Tables with several parents: written by way of one, read by way of another.
-- world
CREATE TABLE one.a (id integer, x integer)
CREATE TABLE one.b (id integer, y integer DEFAULT 0)
CREATE TABLE one.ch () INHERITS (one.a, one.b)
CREATE TABLE one.below () INHERITS (one.ch)
INSERT INTO one.ch SELECT g, g, g FROM generate_series(0, 2) AS g
INSERT INTO one.below SELECT g, g, g FROM generate_series(0, 2) AS g
CREATE FUNCTION one.sum_b() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT coalesce(sum(id + 10 * y), 0) FROM one.b'
CREATE FUNCTION one.of_b(id integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT coalesce(sum(y), -1) FROM one.b WHERE b.id = of_b.id'
CREATE FUNCTION one.both_of() RETURNS text LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM one.a)::text || '' '' || (SELECT sum(y) FROM one.ch)::text; END'
@SELECT cache_function('one.sum_b()')
@SELECT cache_function('one.of_b(integer)', depends_on => '{"one.b": {"id": "$1"}}')
@SELECT cache_function('one.both_of()')
@SELECT cache_track_table('one.{a|b|ch|below}', '{id}')
@SELECT cache_track_table('one.a')
@SELECT cache_track_table('one.b')
@SELECT cache_track_table('one.ch')
-- calls
one.sum_b{}()
one.of_b{}(<k>)
one.both_of{}()
-- moves
UPDATE one.{a|b|ch|below} SET id = <k> WHERE id = <k>
UPDATE ONLY one.{a|b|ch|below} SET id = <k> WHERE id = <k>
UPDATE one.{b|ch|below} SET y = <v> WHERE id = <k>
UPDATE one.a SET x = <v>
DELETE FROM one.{a|b|ch|below} WHERE id = <k>
INSERT INTO one.{b|ch|below} (id, y) VALUES (<k>, <v>)
MERGE INTO one.{a|b} AS t USING (SELECT <k> AS i) AS s ON t.id = s.i WHEN MATCHED THEN {DELETE|UPDATE SET id = <k>}
WITH w AS (UPDATE one.{a|b} SET id = id + 1 WHERE id = <k> RETURNING id) SELECT count(*) FROM w
TRUNCATE {ONLY |}one.{a|b|ch|below}
CREATE TABLE one.more () INHERITS (one.{a|b}, one.{ch|below})
CREATE TABLE one.more (id integer, x integer, y integer)
INSERT INTO one.more (id, y) VALUES (<k>, <v>)
UPDATE one.more SET y = <v>
ALTER TABLE one.{ch|below|more} {INHERIT|NO INHERIT} one.{a|b|ch}
DROP TABLE IF EXISTS one.more CASCADE
ALTER TABLE one.{a|b|ch} ADD COLUMN z<k> integer
