-- invalidate_…(), clear_cache(): at once for the transaction itself, at commit for others, never after a rollback.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA invalidation_test;
SET search_path = invalidation_test, public;
\i :outcomes
-- What earlier tests have left may share a slot with what is counted here.
SELECT clear_cache() \g /dev/null
SELECT cleanup_expired_cache() \g /dev/null
\set ECHO all
CREATE TABLE a (id integer);
CREATE TABLE b (id integer);
SELECT cache_track_table('a'), cache_track_table('b');
CREATE FUNCTION count_a(tenant integer, colour text) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM a';
CREATE FUNCTION count_b(tenant integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM b';
SELECT cache_function('count_a(int,text)', tags => '{everything,tenant:$1,"$2 of $1"}'), cache_function('count_b(int)', tags => '{everything,tenant:$1}');

-- Calls all there is, and shows what became of it.
CREATE FUNCTION ask() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM count_a_cached(1, 'red'), count_a_cached(1, NULL), count_a_cached(12, 'red'), count_b_cached(1), count_b_cached(2);
    RETURN (SELECT string_agg(o, '; ') FROM outcomes() AS o);
END $$;
SELECT ask();
SELECT ask();

-- By tag: what the body says, with the arguments filled in. The number is that of the entries that carry one.
SELECT invalidate_cache('{tenant:1}');
SELECT ask();
SELECT invalidate_cache('{tenant:12}');
SELECT ask();
SELECT invalidate_cache('{tenant:2,red of 1}');
SELECT ask();
SELECT invalidate_cache(ARRAY[' of 1', 'red of 1', 'tenant:1']);
SELECT ask();
SELECT invalidate_cache('{everything}');
SELECT ask();
SELECT invalidate_cache('{nobody carries this}'), invalidate_cache('{}'), invalidate_cache('{NULL}'), invalidate_cache(NULL);
SELECT ask();

-- By function, by table, all.
SELECT invalidate_cache_function('count_a_cached(int,text,interval)');
SELECT ask();
SELECT invalidate_cache_table('b');
SELECT ask();
SELECT clear_cache() > 0 AS some;
SELECT ask();

-- In a transaction: its own calls are answered by the function at once; a rollback leaves the entries alone.
BEGIN;
SELECT invalidate_cache('{tenant:1}');
SELECT ask();
SELECT invalidate_cache_function('count_a_cached(int,text,interval)');
SELECT ask();
ROLLBACK;
SELECT ask();
BEGIN;
SELECT invalidate_cache_table('a');
SELECT ask();
ROLLBACK;
SELECT ask();
BEGIN;
SELECT clear_cache() > 0 AS some;
SELECT ask();
ROLLBACK;
SELECT ask();
BEGIN;
SELECT invalidate_cache('{tenant:1}');
SAVEPOINT s;
SELECT invalidate_cache('{everything}');
ROLLBACK TO s;
COMMIT;
SELECT ask();
SELECT ask();

-- A tag with all that text can be. Two long ones differ in their first 255 bytes or not at all.
CREATE FUNCTION tagged(t text) RETURNS text LANGUAGE sql STABLE AS 'SELECT t';
SELECT cache_function('tagged(text)', tags => '{"<$1>"}');
CREATE FUNCTION tag_hits(t text) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN PERFORM tagged_cached(t); RETURN invalidate_cache(ARRAY['<' || t || '>']); END $$;
SELECT tag_hits(''), tag_hits('Grüße $1 $2 {}"'), tag_hits(repeat('ü', 1000)), tag_hits(E'\n\t');
-- One tag does not stand for another that looks alike.
SELECT tagged_cached('x') \g /dev/null
SELECT invalidate_cache('{<X>,<x,x>,"<x> "}'), invalidate_cache('{<x>}');
-- What a nested call carries, the call around it carries too, whether the inner one was computed or was there already.
CREATE FUNCTION around(t text) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'around ' || tagged_cached(t)$$;
SELECT cache_function('around(text)');
SELECT around_cached('n'), around_cached('n');
SELECT outcomes() \g /dev/null
SELECT invalidate_cache('{<n>}');
SELECT around_cached('n'), around_cached('n');
SELECT outcomes();
SELECT invalidate_cache_function('around_cached(text,interval)');
SELECT around_cached('n');
SELECT invalidate_cache_function('tagged_cached(text,interval)');
SELECT around_cached('n');
SELECT outcomes();

-- Text of one argument that looks like the place of another.
CREATE FUNCTION pair_of(a text, b text) RETURNS text LANGUAGE sql STABLE AS 'SELECT a || b';
SELECT cache_function('pair_of(text,text)', tags => '{$1/$2}');
SELECT pair_of_cached('x', '$1'), pair_of_cached('$2', 'y');
SELECT invalidate_cache('{x/$1}'), invalidate_cache('{$2/y}'), invalidate_cache('{x/x,y/y}');

-- It writes nothing that READ ONLY is about.
SELECT ask() \g /dev/null
BEGIN READ ONLY;
SELECT invalidate_cache('{everything}');
COMMIT;
SELECT ask();

-- A command that has to be the first of its transaction is not made the second by us, and marks nevertheless.
CREATE FUNCTION has_index() RETURNS boolean LANGUAGE sql STABLE AS $$SELECT to_regclass('a_id') IS NOT NULL$$;
CREATE INDEX a_id ON a (id);
SELECT cache_function('has_index()');
SELECT has_index_cached();
DROP INDEX CONCURRENTLY a_id;
SELECT has_index_cached();
SELECT outcomes();
-- An index takes a name that a table elsewhere had.
CREATE INDEX CONCURRENTLY a_id ON a (id);
SELECT has_index_cached();
CREATE SCHEMA invalidation_first;
CREATE TABLE invalidation_first.t (id integer);
SET search_path = invalidation_first, invalidation_test, public;
CREATE FUNCTION has_named() RETURNS oid LANGUAGE sql STABLE AS $$SELECT to_regclass('b')::oid$$;
SELECT cache_function('has_named()');
SELECT has_named_cached() = has_named() AS same, has_named_cached() = has_named() AS same;
CREATE INDEX b ON invalidation_first.t (id);
SELECT has_named_cached() = has_named() AS same, has_named_cached() = 'invalidation_first.b'::regclass AS the_index;
-- It gets another oid.
REINDEX INDEX CONCURRENTLY b;
SELECT has_named_cached() = has_named() AS same;
SELECT count(*) > 0 AS any_hits FROM cache_function_stats WHERE function::text LIKE '%has_named%' AND hits > 0;
DROP SCHEMA invalidation_first CASCADE;
SET search_path = invalidation_test, public;
-- A temporary function has no results; what has its slot is somebody else's.
CREATE FUNCTION pg_temp.mine_cached() RETURNS boolean LANGUAGE cached STABLE AS '{"function": "has_index()"}';
BEGIN;
SELECT invalidate_cache_function('pg_temp.mine_cached()');
SELECT pg_current_xact_id_if_assigned() IS NULL AS nothing_marked;
SELECT invalidate_cache_function('has_index_cached(interval)') IS NOT NULL AS invalidated;
SELECT pg_current_xact_id_if_assigned() IS NULL AS nothing_marked;
COMMIT;

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA invalidation_test CASCADE;
