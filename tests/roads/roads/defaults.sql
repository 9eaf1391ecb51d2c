-- What a call looks like changes: defaults and names of arguments, STRICT, volatility, and the body with them.
-- world
CREATE TABLE one.d (k integer, v integer)
INSERT INTO one.d SELECT g, g FROM generate_series(0, 2) AS g
CREATE FUNCTION one.dv() RETURNS integer LANGUAGE sql STABLE AS 'SELECT max(v) FROM one.d'
CREATE FUNCTION one.def(n integer DEFAULT 1, m integer DEFAULT 0) RETURNS integer LANGUAGE {sql STABLE AS 'SELECT coalesce(n, -5) + coalesce(m, 7)'|plpgsql STABLE AS 'BEGIN RETURN coalesce(n, -5) + (SELECT sum(v) FROM one.d WHERE k >= m); END'}
CREATE FUNCTION one.def_t(t text DEFAULT 'x') RETURNS text LANGUAGE sql STABLE AS 'SELECT coalesce(t, ''none'') || count(*) FROM one.d'
CREATE FUNCTION one.def_rows(n integer DEFAULT 1) RETURNS SETOF integer LANGUAGE plpgsql STABLE AS 'BEGIN RETURN QUERY SELECT v FROM one.d WHERE k <= n ORDER BY v; END'
CREATE FUNCTION one.def_over(n integer DEFAULT 2) RETURNS text LANGUAGE plpgsql STABLE AS 'BEGIN RETURN one.def_t{}() || one.def{}(n)::text || one.def{}()::text; END'
@SELECT cache_function('one.def(integer, integer)')
@SELECT cache_function('one.def_t(text)')
@SELECT cache_function('one.def_rows(integer)')
@SELECT cache_function('one.def_over(integer)')
@SELECT cache_track_table('one.d')
-- calls
one.def{}()
one.def{}(<k>)
one.def{}(n => NULL)
one.def{}(m => <k>)
one.def_t{}()
one.def_t{}(NULL)
SELECT * FROM one.def_rows{}()
one.def_over{}()
-- moves
CREATE OR REPLACE FUNCTION one.def(n integer DEFAULT <v>, m integer DEFAULT {<k>|one.dv()|NULL}) RETURNS integer LANGUAGE sql {STABLE|IMMUTABLE|STABLE STRICT|VOLATILE} AS 'SELECT coalesce(n, -5) + coalesce(m, <v>)'
CREATE OR REPLACE FUNCTION one.def(n integer DEFAULT <v>, m integer DEFAULT <k>) RETURNS integer LANGUAGE plpgsql {STABLE|STABLE STRICT} AS 'BEGIN RETURN coalesce(n, -5) + (SELECT sum(v) FROM one.d WHERE k >= m); END'
CREATE OR REPLACE FUNCTION one.def_t(t text DEFAULT {'y'|NULL|upper('z')|current_setting('DateStyle')}) RETURNS text LANGUAGE sql {STABLE|STABLE STRICT} AS 'SELECT coalesce(t, ''none'') || count(*) FROM one.d'
CREATE OR REPLACE FUNCTION one.def_rows(n integer DEFAULT <k>) RETURNS SETOF integer LANGUAGE plpgsql {STABLE|STABLE STRICT|VOLATILE} ROWS 10 AS 'BEGIN RETURN QUERY SELECT v + <v> FROM one.d WHERE k <= n ORDER BY v; END'
ALTER FUNCTION one.{def(integer, integer)|def_t(text)|def_rows(integer)|def_over(integer)} {STRICT|CALLED ON NULL INPUT|VOLATILE|STABLE|PARALLEL SAFE|PARALLEL UNSAFE|COST 5|SECURITY DEFINER|SECURITY INVOKER|SET DateStyle = German|RESET ALL}
CREATE OR REPLACE FUNCTION one.dv() RETURNS integer LANGUAGE sql STABLE AS 'SELECT <v>'
UPDATE one.d SET v = <v> WHERE k = <k>
INSERT INTO one.d VALUES (<k>, <v>)
@SELECT cache_function('one.def(integer, integer)')
