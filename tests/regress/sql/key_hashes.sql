-- Values of key columns: what is marked and what is depended on are the same for all values that a function can call equal.
\set ECHO errors
CREATE SCHEMA key_hashes_test;
SET search_path = key_hashes_test, public;
SET statement_timeout = '30s';
\set ECHO all
-- A collation by which different texts are equal.
CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE t (k text COLLATE nd, w integer);
INSERT INTO t VALUES ('A', 1);
CREATE FUNCTION by_name(k name) RETURNS bigint LANGUAGE sql STABLE
    AS 'SELECT sum(w) FROM t WHERE t.k = by_name.k::text COLLATE nd';
CREATE FUNCTION by_text(k text) RETURNS bigint LANGUAGE sql STABLE
    AS 'SELECT sum(w) FROM t WHERE t.k = by_text.k';
SELECT cache_track_table('t', '{k}') > 0;
SELECT cache_function('by_name(name)', depends_on => '{"t": {"k": "$1"}}'), cache_function('by_text(text)', depends_on => '{"t": {"k": "$1"}}');
SELECT by_name_cached('A'), by_text_cached('A');
INSERT INTO t VALUES ('a', 4);
SELECT by_name_cached('A') = by_name('A'), by_text_cached('A') = by_text('A');
INSERT INTO t VALUES ('b', 4);
SELECT outcome FROM cache_explain('by_text_cached(''A'')');
-- The collation of the call decides where the column has none of its own.
CREATE TABLE u (k text, w integer);
INSERT INTO u VALUES ('A', 1);
CREATE FUNCTION of_u(k text) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(w) FROM u WHERE u.k = of_u.k';
SELECT cache_track_table('u', '{k}') > 0;
SELECT cache_function('of_u(text)', depends_on => '{"u": {"k": "$1"}}');
SELECT of_u_cached('A' COLLATE nd), of_u_cached('A');
INSERT INTO u VALUES ('a', 4);
SELECT outcome FROM cache_explain('of_u_cached(''A'')');
SELECT of_u_cached('A' COLLATE nd) = of_u('A' COLLATE nd), of_u_cached('A') = of_u('A');

-- A type whose values are hashed by a function in SQL, which is replaced while somebody has marked.
CREATE TYPE pair AS (a integer, b integer);
CREATE FUNCTION pair_equal(pair, pair) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS 'SELECT ($1).a = ($2).a';
CREATE FUNCTION pair_hash(pair) RETURNS integer LANGUAGE sql IMMUTABLE STRICT AS 'SELECT ($1).a';
CREATE FUNCTION pair_hash(pair, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT AS 'SELECT ($1).a::bigint';
CREATE OPERATOR === (LEFTARG = pair, RIGHTARG = pair, FUNCTION = pair_equal, COMMUTATOR = ===, HASHES);
CREATE OPERATOR CLASS pair_class DEFAULT FOR TYPE pair USING hash AS
    OPERATOR 1 ===, FUNCTION 1 pair_hash(pair), FUNCTION 2 pair_hash(pair, bigint);
CREATE TABLE p (k pair, w integer);
INSERT INTO p VALUES ((1, 1), 1);
CREATE FUNCTION of_p(k pair) RETURNS bigint LANGUAGE sql STABLE SET pg_query_cache.depends_on = '{"key_hashes_test.p": {"k": "$1"}}'
    AS 'SELECT sum(w) FROM p WHERE p.k === of_p.k';
SELECT cache_track_table('p', '{k}');
SELECT cache_track_table('p') > 0;
CREATE TRIGGER i AFTER INSERT ON p REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION cache_tracker('k');
CREATE TRIGGER u AFTER UPDATE ON p REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION cache_tracker('k');
CREATE TRIGGER d AFTER DELETE ON p REFERENCING OLD TABLE AS o FOR EACH STATEMENT EXECUTE FUNCTION cache_tracker('k');
ALTER TABLE p ENABLE ALWAYS TRIGGER i, ENABLE ALWAYS TRIGGER u, ENABLE ALWAYS TRIGGER d;
SELECT cache_function('of_p(pair)') IS NOT NULL;
BEGIN;
INSERT INTO p VALUES ((1, 2), 4);
PREPARE TRANSACTION 'key_hashes';
CREATE OR REPLACE FUNCTION pair_hash(pair, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT AS 'SELECT ($1).a::bigint + 1000';
SELECT of_p_cached((1, 1));
COMMIT PREPARED 'key_hashes';
SELECT of_p_cached((1, 1)) = of_p((1, 1));

-- Triggers of somebody else's that call our function and get not all rows that change.
CREATE TABLE v (k integer, w integer);
INSERT INTO v VALUES (1, 1);
CREATE FUNCTION of_v(k integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(w) FROM v WHERE v.k = of_v.k';
SELECT cache_track_table('v') > 0;
CREATE TRIGGER a AFTER INSERT ON v REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION cache_tracker('k');
CREATE TRIGGER b AFTER UPDATE ON v REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION cache_tracker('k');
CREATE TRIGGER c AFTER DELETE ON v REFERENCING OLD TABLE AS o FOR EACH STATEMENT EXECUTE FUNCTION cache_tracker('k');
ALTER TABLE v ENABLE ALWAYS TRIGGER a, ENABLE ALWAYS TRIGGER b, ENABLE ALWAYS TRIGGER c;
CREATE FUNCTION of_v_cached(k integer) RETURNS bigint LANGUAGE cached STABLE AS '{"function": "of_v(integer)", "depends_on": {"v": {"k": "$1"}}}';
SELECT of_v_cached(1);
UPDATE v SET k = 2;
SELECT of_v_cached(1) IS NOT DISTINCT FROM of_v(1);
-- Without any rows it would mark nothing, so it fails.
DROP TRIGGER b ON v;
CREATE TRIGGER b AFTER UPDATE ON v FOR EACH STATEMENT EXECUTE FUNCTION cache_tracker('k');
ALTER TABLE v ENABLE ALWAYS TRIGGER b;
SELECT of_v_cached(2);
UPDATE v SET k = 3;
SELECT of_v_cached(2) IS NOT DISTINCT FROM of_v(2);
-- With ours beside them all is marked.
DROP TRIGGER b ON v;
SELECT cache_track_table('v', '{k}') > 0;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'v'::regclass ORDER BY 1;
UPDATE v SET k = 3;
SELECT of_v_cached(3), of_v_cached(2);
UPDATE v SET k = 2;
SELECT of_v_cached(3) IS NOT DISTINCT FROM of_v(3), of_v_cached(2) IS NOT DISTINCT FROM of_v(2);
SET client_min_messages = error;
DROP SCHEMA key_hashes_test CASCADE;
