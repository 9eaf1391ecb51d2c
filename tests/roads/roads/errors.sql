-- Errors that a function catches: those that its data made are part of the result, a lock or a timeout is nobody's but the caller's.
-- world
CREATE TABLE one.e (k integer, v integer, s text)
INSERT INTO one.e SELECT g, g, g::text FROM generate_series(0, 2) AS g
CREATE FUNCTION one.sum_e(n integer) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT sum(v) FROM one.e WHERE k = n)::text; EXCEPTION WHEN lock_not_available OR query_canceled THEN RETURN 'by chance'; END$$
CREATE FUNCTION one.each_e(n integer) RETURNS text LANGUAGE plpgsql STABLE AS $$DECLARE x text := ''; r record; BEGIN FOR r IN SELECT v FROM one.e WHERE k >= n ORDER BY v LOOP x := x || r.v || ' '; END LOOP; RETURN x; EXCEPTION WHEN {OTHERS|lock_not_available OR query_canceled} THEN RETURN 'by chance'; END$$
CREATE FUNCTION one.divided(n integer) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT string_agg((12 / v)::text, ' ' ORDER BY v) FROM one.e WHERE k = n); EXCEPTION WHEN division_by_zero THEN RETURN 'divided by zero'; END$$
CREATE FUNCTION one.read_as(n integer) RETURNS text LANGUAGE plpgsql STABLE AS $$DECLARE x integer; BEGIN SELECT s::integer INTO STRICT x FROM one.e WHERE k = n; RETURN x; EXCEPTION WHEN {OTHERS THEN RETURN CASE WHEN sqlstate ~ '^5[57]' THEN 'by chance' ELSE sqlstate END|data_exception OR no_data_found OR too_many_rows THEN RETURN sqlstate}; END$$
CREATE FUNCTION one.over(n integer) RETURNS text LANGUAGE plpgsql STABLE AS $$DECLARE x text; BEGIN BEGIN x := one.sum_e{}(n); EXCEPTION WHEN OTHERS THEN x := 'by chance'; END; RETURN x || ' ' || one.divided{}(n) || one.read_as(n); EXCEPTION WHEN lock_not_available THEN RETURN 'by chance'; END$$
CREATE FUNCTION one.aside(n integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT one.sum_e(n) || ' ' || (SELECT count(*) FROM one.e)$$
@SELECT cache_function('one.sum_e(integer)')
@SELECT cache_function('one.each_e(integer)')
@SELECT cache_function('one.divided(integer)')
@SELECT cache_function('one.read_as(integer)')
@SELECT cache_function('one.over(integer)')
@SELECT cache_function('one.aside(integer)')
@SELECT cache_track_table('one.e')
-- calls
one.sum_e{}(<k>)
one.each_e{}(<k>)
one.divided{}(<k>)
one.read_as{}(<k>)
one.over{}(<k>)
one.aside{}(<k>)
-- moves
BEGIN; LOCK TABLE one.e
BEGIN; LOCK TABLE one.e
ALTER TABLE one.e ADD COLUMN c<k> integer
SET lock_timeout = '1s'; SET statement_timeout = '150ms'
SET lock_timeout = '100ms'; SET statement_timeout = 0
UPDATE one.e SET v = <v> WHERE k = <k>
UPDATE one.e SET v = 0 WHERE k = <k>
UPDATE one.e SET s = {'x'|'7'|NULL} WHERE k = <k>
INSERT INTO one.e VALUES (<k>, <v>, '1')
DELETE FROM one.e WHERE k = <k>
ALTER TABLE one.e RENAME COLUMN {v TO w|w TO v}
