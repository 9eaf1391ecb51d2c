-- pg_query_cache.depends_on in the SET clause of a base function: which rows of what it reads its result depends on.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA keys_test;
SET search_path = keys_test, public;
\i :outcomes
\set ECHO all
CREATE TABLE t (id integer, k bigint, label text, doc jsonb, w integer);
CREATE TABLE other (id integer);
INSERT INTO t SELECT g, g % 3, 'l' || g % 2, '{}', g FROM generate_series(1, 9) AS g;
SELECT cache_track_table('t', '{id,k,label}'), cache_track_table('other', '{id}');
CREATE FUNCTION f(k bigint, v integer DEFAULT 0) RETURNS bigint LANGUAGE sql STABLE
    SET pg_query_cache.depends_on = '{"keys_test.t": {"k": "$1"}}'
    AS 'SELECT sum(w) FROM t WHERE t.k = f.k';
SELECT cache_function('f(bigint,integer)');
-- What the calls for 1 and for 2 say after a write.
CREATE FUNCTION ask() RETURNS SETOF text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF f_cached(1, 0) IS DISTINCT FROM f(1, 0) OR f_cached(2, 0) IS DISTINCT FROM f(2, 0) THEN RAISE 'wrong'; END IF;
    RETURN QUERY SELECT * FROM outcomes();
END $$;
CREATE FUNCTION tags_of(call text) RETURNS SETOF text LANGUAGE sql VOLATILE AS $$
    SELECT t FROM cache_explain(call) AS e, unnest(e.tags) AS t WHERE t NOT LIKE 'definitions%' AND t NOT LIKE 'roles%'
$$;
SELECT ask();
SELECT ask();
SELECT tags_of('f_cached(1, 0)');
UPDATE t SET w = w + 1 WHERE k = 1;
SELECT ask();
UPDATE t SET k = 2 WHERE id = 1;
SELECT ask();
TRUNCATE t;
SELECT ask();
INSERT INTO t SELECT g, g % 3, 'l' || g % 2, '{}', g FROM generate_series(1, 9) AS g;
SELECT ask();
-- It narrows what is read, and adds nothing: the table that it does not read is no dependency.
ALTER FUNCTION f SET pg_query_cache.depends_on = '{"keys_test.t": {"k": "$1"}, "keys_test.other": {"id": "$2"}, "keys_test.nosuch": {}}';
SELECT ask() \g /dev/null
SELECT tags_of('f_cached(1, 0)');

-- Whatever cannot be understood counts as not said: the whole table. Never an error.
CREATE PROCEDURE say(what text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER FUNCTION f SET pg_query_cache.depends_on = %L', what);
    COMMIT;
    PERFORM ask();
    COMMIT;
    RAISE NOTICE '%: %', left(what, 150), (SELECT string_agg(x, ', ') FROM tags_of('f_cached(1, 0)') AS x WHERE x NOT LIKE 'function%');
END $$;
\set VERBOSITY terse
CALL say('{"keys_test.t": {"k": "$1"}}');
CALL say('');
CALL say('nonsense');
CALL say('[]');
CALL say('{"keys_test.t": "k"}');
CALL say('{"keys_test.t": {}}');
CALL say('{"keys_test.t": {"k": 1}}');
CALL say('{"keys_test.t": {"k": "$3"}}');
CALL say('{"keys_test.t": {"k": "1"}}');
CALL say('{"keys_test.t": {"nosuch": "$1"}}');
CALL say('{"keys_test.t": {"ctid": "$1"}}');
CALL say('{"keys_test.t": {"w": "$1"}}');          -- not marked
CALL say('{"keys_test.t": {"label": "$1"}}');      -- a text is no bigint
CALL say('{"keys_test.t": {"k": "$1", "label": "$1"}}');
CALL say('{"t": {"k": "$1"}}');                    -- another table under another search_path
CALL say('{"a.b.keys_test.t": {"k": "$1"}, "": {"k": "$1"}, "\"": {"k": "$1"}, "nosuch.t": {"k": "$1"}, "keys_test.f": {"k": "$1"}}');
CALL say('{"\"keys_test\".T": {"k": "$1"}}');      -- read as every name in SQL
CALL say(repeat('{"a":', 1000));

-- It belongs to the text of the function: who replaces one has to say the other anew.
CALL say('{"keys_test.t": {"k": "$1"}}');
CREATE OR REPLACE FUNCTION f(k bigint, v integer DEFAULT 0) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(w) FROM t';
SELECT ask();
SELECT tags_of('f_cached(1, 0)');
INSERT INTO t VALUES (10, 3, 'x', '{}', 100);
SELECT ask();
-- What the cached function says itself goes before.
CREATE OR REPLACE FUNCTION f(k bigint, v integer DEFAULT 0) RETURNS bigint LANGUAGE sql STABLE
    SET pg_query_cache.depends_on = '{"keys_test.t": {"k": "$1"}}' AS 'SELECT sum(w) FROM t WHERE t.k = f.k AND id = v';
SELECT cache_function('f(bigint,integer)', depends_on => '{"t": {"id": "$2"}}', name => 'f_by_id');
SELECT f_by_id(1, 7);
SELECT tags_of('f_by_id(1, 7)');
-- In a session it is a word and nothing else; nobody has a key of their own by it.
SELECT f_cached(1, 0) \g /dev/null
SELECT outcomes() \g /dev/null
SET pg_query_cache.depends_on = '{"keys_test.t": {"k": "$1"}}';
SELECT f_cached(1, 0) \g /dev/null
SELECT outcomes();
RESET pg_query_cache.depends_on;

-- Named in a schema that the caller may not use: the function that is SECURITY DEFINER may.
CREATE SCHEMA keys_hidden;
CREATE TABLE keys_hidden.t (id integer);
SELECT cache_track_table('keys_hidden.t', '{id}');
CREATE FUNCTION peek(id integer) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT count(*) FROM keys_hidden.t WHERE t.id = peek.id';
SELECT cache_function('peek(integer)', depends_on => '{"keys_hidden.t": {"id": "$1"}}');
CREATE ROLE regress_keys;
GRANT USAGE ON SCHEMA keys_test TO regress_keys;
SET ROLE regress_keys;
SELECT peek_cached(1), peek_cached(1);
-- To say something of a function takes its owner.
ALTER FUNCTION peek(integer) SET pg_query_cache.depends_on = '{}';
RESET ROLE;
INSERT INTO keys_hidden.t VALUES (2);
SET ROLE regress_keys;
SELECT peek_cached(1), peek_cached(2);
RESET ROLE;
INSERT INTO keys_hidden.t VALUES (1);
SET ROLE regress_keys;
SELECT peek_cached(1), peek_cached(2);
RESET ROLE;
SELECT outcomes();

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA keys_test, keys_hidden CASCADE;
DROP ROLE regress_keys;
