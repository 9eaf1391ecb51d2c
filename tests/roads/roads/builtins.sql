-- Any function that the server came with, with arguments that were made up: what is stored must be what another session gets later.
-- alone
-- world
CREATE TABLE one.things (id integer CONSTRAINT things_id PRIMARY KEY, x text)
INSERT INTO one.things SELECT g, 'thing ' || g FROM generate_series(0, 5) AS g
CREATE SEQUENCE one.numbers
CREATE PUBLICATION pub FOR TABLE one.things
CREATE FUNCTION one.p0() RETURNS text LANGUAGE plpgsql STABLE AS $f$BEGIN RETURN (SELECT string_agg(x::text, ',') FROM <builtin> AS x); END$f$
CREATE FUNCTION one.p1() RETURNS text LANGUAGE plpgsql STABLE AS $f$BEGIN RETURN (SELECT string_agg(x::text, ',') FROM <builtin> AS x); END$f$
CREATE FUNCTION one.p2() RETURNS text LANGUAGE plpgsql STABLE AS $f$BEGIN RETURN (SELECT string_agg(x::text, ',') FROM <builtin> AS x); END$f$
CREATE FUNCTION one.p3() RETURNS text LANGUAGE plpgsql STABLE AS $f$BEGIN RETURN (SELECT string_agg(x::text, ',') FROM <builtin> AS x); END$f$
CREATE FUNCTION one.p4() RETURNS text LANGUAGE plpgsql STABLE AS $f$BEGIN RETURN (SELECT string_agg(x::text, ',') FROM <builtin> AS x); END$f$
CREATE FUNCTION one.p5() RETURNS text LANGUAGE plpgsql STABLE AS $f$BEGIN RETURN (SELECT string_agg(x::text, ',') FROM <builtin> AS x); END$f$
CREATE FUNCTION one.p6() RETURNS text LANGUAGE plpgsql STABLE AS $f$BEGIN RETURN (SELECT string_agg(x::text, ',') FROM <builtin> AS x); END$f$
CREATE FUNCTION one.p7() RETURNS text LANGUAGE plpgsql STABLE AS $f$BEGIN RETURN (SELECT string_agg(x::text, ',') FROM <builtin> AS x); END$f$
CREATE FUNCTION one.p8() RETURNS text LANGUAGE plpgsql STABLE AS $f$BEGIN RETURN (SELECT string_agg(x::text, ',') FROM <builtin> AS x); EXCEPTION WHEN OTHERS THEN RETURN sqlstate || sqlerrm; END$f$
CREATE FUNCTION one.p9() RETURNS text LANGUAGE plpgsql STABLE AS $f$BEGIN RETURN (SELECT string_agg(x::text, ',') FROM <builtin> AS x); EXCEPTION WHEN OTHERS THEN RETURN sqlstate || sqlerrm; END$f$
@SELECT cache_function(oid::regprocedure) FROM pg_proc WHERE pronamespace = 'one'::regnamespace AND proname ~ '^p[0-9]$'
-- calls
one.p{0|1|2|3|4}{}()
one.p{5|6|7|8|9}{}()
-- moves
{VACUUM FULL|ANALYZE|REINDEX TABLE|TRUNCATE} one.things
CLUSTER one.things USING things_id
REINDEX TABLE CONCURRENTLY one.things
INSERT INTO one.things VALUES (10 + <k>, 'more')
UPDATE one.things SET x = x || '.' WHERE id = <k>
DELETE FROM one.things WHERE id = <k>
ALTER TABLE one.things SET (fillfactor = {50|70})
ALTER TABLE one.things ADD COLUMN c<k> integer
COMMENT ON TABLE one.things IS 'x<k>'
ALTER PUBLICATION pub {DROP|ADD} TABLE one.things
ALTER PUBLICATION pub SET TABLE one.things
SELECT nextval('one.numbers')
SELECT setval('one.numbers', 7)
SELECT pg_advisory_lock(1)
SELECT pg_try_advisory_xact_lock(2)
SELECT pg_advisory_unlock_all()
LISTEN x
UNLISTEN *
SELECT pg_notify('x', 'y')
SELECT txid_current()
SELECT setseed(0.5)
SET application_name = 'other<k>'
SET statement_timeout = 0
SET role = {pg_monitor|NONE}
<set>
RESET ALL
CREATE TEMP TABLE IF NOT EXISTS things (id integer)
CREATE TABLE one.new<k> (a integer)
DROP TABLE IF EXISTS one.new<k>
CREATE INDEX ON one.things (x)
GRANT SELECT ON one.things TO pg_monitor
REVOKE ALL ON one.things FROM pg_monitor
CHECKPOINT
DECLARE c CURSOR WITH HOLD FOR SELECT 1
CLOSE ALL
PREPARE st<k> AS SELECT 1
SELECT lo_create(0) > 0
SELECT pg_switch_wal() IS NULL
