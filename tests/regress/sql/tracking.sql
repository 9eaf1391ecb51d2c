-- Which writes are seen, of which tables, by whom tracking may be started.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA tracking_test;
SET search_path = tracking_test, public;
\i :outcomes
-- What the functions check themselves is asked here, as roles that have the right to call them.
GRANT EXECUTE ON FUNCTION cache_track_table, cache_untrack_table TO PUBLIC;
\set ECHO all
CREATE TABLE t (id integer PRIMARY KEY, grp integer, v text);
CREATE FUNCTION count_t() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM t';
SELECT cache_function('count_t()');

-- Untracked: answered, not stored.
SELECT count_t_cached(), count_t_cached();
SELECT outcomes();
-- Starting twice adds nothing; stopping drops what there is.
SELECT cache_track_table('t');
SELECT cache_track_table('t');
SELECT tgname, tgenabled, tgtype, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 't'::regclass ORDER BY 1;
SELECT count_t_cached(), count_t_cached();
SELECT outcomes();
SELECT cache_untrack_table('t');
SELECT cache_untrack_table('t');
SELECT count_t_cached(), count_t_cached();
SELECT outcomes();
SELECT cache_track_table('t');

-- Every kind of write. A statement that changes nothing, or is rolled back, leaves or loses no more than its own result.
-- Shows what was done, the count, what the cached function says of it, and what became of that call.
CREATE FUNCTION step(what text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    plain bigint := count_t();
    cached bigint := count_t_cached();
BEGIN
    RETURN concat_ws(' | ', what, plain, CASE WHEN plain = cached THEN 'right' ELSE 'WRONG: ' || cached END,
                     (SELECT string_agg(o, '; ') FROM outcomes() AS o));
END $$;
SELECT step('first');
\pset tuples_only on
\pset format unaligned
INSERT INTO t VALUES (1, 1, 'one'), (2, 1, 'two');
SELECT step('INSERT');
SELECT step('again');
UPDATE t SET v = 'zwei' WHERE id = 2;
SELECT step('UPDATE');
DELETE FROM t WHERE id = 2;
SELECT step('DELETE');
INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING;
SELECT step('INSERT ON CONFLICT');
MERGE INTO t USING (VALUES (1), (2)) AS s (id) ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = 'm' WHEN NOT MATCHED THEN INSERT VALUES (s.id);
SELECT step('MERGE');
COPY t FROM STDIN;
5	5	five
\.
SELECT step('COPY');
WITH w AS (DELETE FROM t RETURNING id) SELECT count(*) FROM w;
SELECT step('in WITH');
PREPARE p AS INSERT INTO t VALUES ($1);
EXECUTE p(1);
SELECT step('EXECUTE');
DO $$BEGIN EXECUTE 'INSERT INTO t VALUES (2)'; END$$;
SELECT step('DO');
CREATE VIEW v AS SELECT id FROM t;
INSERT INTO v VALUES (3);
SELECT step('through a view');
BEGIN;
DELETE FROM t;
SELECT step('in the transaction itself');
ROLLBACK;
SELECT step('ROLLBACK');
BEGIN;
SAVEPOINT s;
DELETE FROM t;
ROLLBACK TO s;
SELECT step('ROLLBACK TO');
COMMIT;
SELECT step('COMMIT');
TRUNCATE t;
SELECT step('TRUNCATE');
SET session_replication_role = replica;
INSERT INTO t VALUES (1);
SELECT step('INSERT as replica');
TRUNCATE t;
SELECT step('TRUNCATE as replica');
RESET session_replication_role;
SELECT step('again');
-- DDL.
ALTER TABLE t ALTER v TYPE varchar(100);
SELECT step('ALTER TABLE');
ALTER TABLE t RENAME TO u;
SELECT count_t_cached();
ALTER TABLE u RENAME TO t;
SELECT step('RENAME');
CREATE INDEX ON t (grp);
SELECT step('CREATE INDEX');
ANALYZE t;
REINDEX TABLE t;
VACUUM t;
SELECT step('no change of content');

-- Cascades: foreign keys and triggers.
CREATE TABLE parent (id integer PRIMARY KEY);
INSERT INTO parent VALUES (1), (2), (3);
INSERT INTO t VALUES (1, 1), (2, 2);
ALTER TABLE t ADD FOREIGN KEY (grp) REFERENCES parent ON DELETE CASCADE ON UPDATE SET NULL;
SELECT step('before');
DELETE FROM parent WHERE id = 1;
SELECT step('ON DELETE CASCADE');
UPDATE parent SET id = 9 WHERE id = 2;
SELECT step('ON UPDATE SET NULL');
CREATE FUNCTION into_t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO t VALUES (NEW.id); RETURN NEW; END';
CREATE TRIGGER into_t BEFORE INSERT ON parent FOR EACH ROW EXECUTE FUNCTION into_t();
INSERT INTO parent VALUES (20);
SELECT step('trigger of another table');
TRUNCATE parent CASCADE;
SELECT step('TRUNCATE CASCADE');
DROP TABLE parent CASCADE;

-- A disabled or changed trigger means untracked: nothing is stored that nobody watches. Tracking again mends it.
SELECT step('before');
ALTER TABLE t DISABLE TRIGGER pg_query_cache_write;
SELECT step('DISABLE TRIGGER');
INSERT INTO t VALUES (30);
SELECT step('unseen INSERT');
ALTER TABLE t ENABLE TRIGGER pg_query_cache_write;
SELECT step('ENABLE TRIGGER, not ALWAYS');
SELECT cache_track_table('t');
SELECT step('tracked again');
SELECT step('again');
DROP TRIGGER pg_query_cache_write ON t;
INSERT INTO t VALUES (31);
SELECT step('DROP TRIGGER');
SELECT cache_track_table('t');
ALTER TRIGGER pg_query_cache_write ON t RENAME TO mine;
SELECT step('renamed trigger works still');
INSERT INTO t VALUES (32);
SELECT step('INSERT');
SELECT cache_untrack_table('t');
SELECT tgname FROM pg_trigger WHERE tgrelid = 't'::regclass AND NOT tgisinternal;
SELECT step('untracked');
SELECT cache_track_table('t');

-- Partitions: a write through any member is seen by readers of any other, also of members that come later.
CREATE TABLE p (id integer, k integer) PARTITION BY LIST (k);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2, 3) PARTITION BY LIST (k);
CREATE TABLE p2a PARTITION OF p2 FOR VALUES IN (2);
SELECT cache_track_table('p1');
SELECT c.relname, array_agg(t.tgname ORDER BY t.tgname) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE c.relname LIKE 'p%' GROUP BY 1 ORDER BY 1;
CREATE FUNCTION count_p() RETURNS text LANGUAGE sql STABLE AS $$SELECT concat_ws(' ', count(*), count(*) FILTER (WHERE k = 2)) FROM p$$;
CREATE FUNCTION count_p2a() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM p2a';
SELECT cache_function('count_p()'), cache_function('count_p2a()');
CREATE FUNCTION step_p(what text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    right_p boolean := count_p() = count_p_cached();
    right_p2a boolean := count_p2a() = count_p2a_cached();
BEGIN
    RETURN concat_ws(' | ', what, count_p(), count_p2a(), CASE WHEN right_p AND right_p2a THEN 'right' ELSE 'WRONG' END,
                     (SELECT string_agg(o, '; ') FROM outcomes() AS o));
END $$;
SELECT step_p('empty');
INSERT INTO p VALUES (1, 1), (2, 2);
SELECT step_p('through the root');
INSERT INTO p2a VALUES (3, 2);
SELECT step_p('through a leaf');
DELETE FROM p2;
SELECT step_p('through the middle');
UPDATE p SET k = 2 WHERE k = 1;
SELECT step_p('a row moves');
TRUNCATE p2a;
SELECT step_p('truncate a leaf');
CREATE TABLE p2b PARTITION OF p2 FOR VALUES IN (3);
INSERT INTO p2b VALUES (4, 3);
SELECT step_p('new partition, written directly');
SELECT step_p('again');
CREATE TABLE later (id integer, k integer);
INSERT INTO later VALUES (5, 4);
ALTER TABLE p ATTACH PARTITION later FOR VALUES IN (4);
SELECT step_p('attached');
INSERT INTO later VALUES (6, 4);
SELECT step_p('written directly');
ALTER TABLE p DETACH PARTITION later;
SELECT step_p('detached');
INSERT INTO later VALUES (7, 4);
SELECT step_p('written after');
DROP TABLE p2b;
SELECT step_p('dropped');
SELECT cache_untrack_table('p');
SELECT count(*) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid WHERE c.relname LIKE 'p%';

\pset tuples_only off
\pset format aligned
-- Inheritance.
CREATE TABLE base (id integer);
CREATE TABLE child (extra text) INHERITS (base);
SELECT cache_track_table('base');
CREATE FUNCTION count_base() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM base';
SELECT cache_function('count_base()');
SELECT count_base_cached(), count_base_cached();
INSERT INTO child VALUES (1, 'x');
SELECT count_base_cached(), count_base_cached();
CREATE TABLE grandchild () INHERITS (child);
INSERT INTO grandchild VALUES (2, 'y');
SELECT count_base_cached(), count_base_cached();
INSERT INTO grandchild VALUES (3, 'z');
SELECT count_base_cached(), count_base_cached();
ALTER TABLE grandchild NO INHERIT child;
SELECT count_base_cached(), count_base_cached();
SELECT outcomes();

-- What cannot be tracked is answered and not stored; "consistency": "ttl" stores it, and then age alone counts.
CREATE FUNCTION schemas() RETURNS bigint LANGUAGE sql STABLE AS $$SELECT count(*) FROM pg_namespace WHERE nspname = 'made_later'$$;
SELECT cache_function('schemas()'), cache_function('schemas()', consistency => 'ttl', name => 'schemas_by_age');
SELECT schemas_cached(), schemas_cached(), schemas_by_age(), schemas_by_age();
SELECT outcomes();
CREATE EXTENSION postgres_fdw;
CREATE SERVER nowhere FOREIGN DATA WRAPPER postgres_fdw;
CREATE FOREIGN TABLE foreign_table (id integer) SERVER nowhere;
SELECT cache_track_table('foreign_table');
CREATE FOREIGN TABLE foreign_child () INHERITS (base) SERVER nowhere;
SELECT cache_track_table('base');
DROP EXTENSION postgres_fdw CASCADE;
CREATE TEMPORARY TABLE temporary_table (id integer);
\set VERBOSITY sqlstate
SELECT cache_track_table('temporary_table');
\set VERBOSITY default
DROP TABLE temporary_table;
CREATE UNLOGGED TABLE unlogged_table (id integer);
SELECT cache_track_table('unlogged_table');

-- A materialized view is tracked without triggers; its own tables need not be.
CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM t;
CREATE FUNCTION read_m() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT n FROM m';
SELECT cache_function('read_m()');
SELECT cache_track_table('m');
SELECT read_m_cached(), read_m_cached();
INSERT INTO t VALUES (100);
SELECT read_m_cached();
REFRESH MATERIALIZED VIEW m;
SELECT read_m_cached(), read_m_cached();
INSERT INTO t VALUES (101);
CREATE UNIQUE INDEX ON m (n);
SELECT read_m_cached();
REFRESH MATERIALIZED VIEW CONCURRENTLY m;
SELECT read_m_cached(), read_m_cached();
SELECT outcomes();

-- Keys: a write concerns the results that depend on the values in its old and new rows, and no others.
CREATE TABLE accounts (id integer PRIMARY KEY, owner integer, balance numeric);
INSERT INTO accounts SELECT i, i % 3, i FROM generate_series(1, 9) AS i;
CREATE FUNCTION wealth(owner integer) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT sum(balance) FROM accounts AS a WHERE $1 IS NULL OR a.owner = $1';
SELECT cache_function('wealth(int)', depends_on => '{"accounts": {"owner": "$1"}}');
SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'accounts'::regclass ORDER BY 1;
CREATE FUNCTION step_k(what text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    answer text;
    same boolean;
BEGIN
    SELECT string_agg(concat(coalesce(o::text, 'all'), ': ', wealth(o)), ', ' ORDER BY o),
           bool_and(wealth(o) IS NOT DISTINCT FROM wealth_cached(o))
    INTO answer, same FROM unnest('{0,1,2,NULL}'::integer[]) AS o;
    RETURN concat_ws(' | ', what, answer, CASE WHEN same THEN 'right' ELSE 'WRONG' END, (SELECT string_agg(o, '; ') FROM outcomes() AS o));
END $$;
\pset tuples_only on
\pset format unaligned
SELECT step_k('first');
SELECT step_k('again');
UPDATE accounts SET balance = balance + 1 WHERE owner = 1;
SELECT step_k('UPDATE of owner 1');
UPDATE accounts SET owner = 2 WHERE id = 1;
SELECT step_k('from owner 1 to 2');
INSERT INTO accounts VALUES (10, 0, 100);
SELECT step_k('INSERT for owner 0');
DELETE FROM accounts WHERE id = 10;
SELECT step_k('DELETE of owner 0');
INSERT INTO accounts VALUES (11, NULL, 1000), (12, 7, 1);
SELECT step_k('INSERT for nobody and 7');
UPDATE accounts SET balance = 0 WHERE false;
SELECT step_k('nothing changed');
SET session_replication_role = replica;
UPDATE accounts SET balance = balance + 1 WHERE owner = 1;
RESET session_replication_role;
SELECT step_k('UPDATE of owner 1 as replica');
ALTER TABLE accounts RENAME COLUMN owner TO holder;
CREATE OR REPLACE FUNCTION wealth(owner integer) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT sum(balance) FROM accounts AS a WHERE $1 IS NULL OR a.holder = $1';
SELECT step_k('column renamed');
UPDATE accounts SET balance = balance + 1 WHERE holder = 1;
SELECT step_k('UPDATE of owner 1');
ALTER TABLE accounts RENAME COLUMN holder TO owner;
CREATE OR REPLACE FUNCTION wealth(owner integer) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT sum(balance) FROM accounts AS a WHERE $1 IS NULL OR a.owner = $1';
SELECT step_k('renamed back');
UPDATE accounts SET balance = balance + 1 WHERE owner = 1;
SELECT step_k('UPDATE of owner 1');
TRUNCATE accounts;
SELECT step_k('TRUNCATE');
INSERT INTO accounts SELECT i, i, i FROM generate_series(1, 3000) AS i;
SELECT step_k('3,000 values at once');
-- A key that is no part of a write: the other key columns are still right.
SELECT cache_track_table('accounts', '{id}');
SELECT DISTINCT regexp_replace(pg_get_triggerdef(oid), '.* EXECUTE', 'EXECUTE') FROM pg_trigger WHERE tgrelid = 'accounts'::regclass ORDER BY 1;
UPDATE accounts SET balance = -1 WHERE id = 2;
SELECT step_k('UPDATE of owner 2');
\pset tuples_only off
\pset format aligned
-- Case and collation: what "=" calls equal is one key.
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE people (name text COLLATE nocase, age integer);
INSERT INTO people VALUES ('Ann', 30);
CREATE FUNCTION age_of(name text) RETURNS integer LANGUAGE sql STABLE AS 'SELECT age FROM people AS p WHERE p.name = $1';
SELECT cache_function('age_of(text)', depends_on => '{"people": {"name": "$1"}}');
SELECT age_of_cached('Ann'), age_of_cached('ANN'), age_of_cached('ann');
UPDATE people SET age = 31 WHERE name = 'aNN';
SELECT age_of_cached('Ann'), age_of_cached('ANN'), age_of_cached('ann'), age_of('ANN');
SELECT outcomes();

-- Rights: whoever may create triggers on the table may track it; nobody needs a right of ours.
CREATE ROLE tracking_owner;
CREATE ROLE tracking_stranger;
GRANT USAGE, CREATE ON SCHEMA tracking_test TO tracking_owner, tracking_stranger;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA tracking_test TO tracking_stranger;
SET ROLE tracking_owner;
CREATE TABLE owned (id integer);
GRANT SELECT, INSERT ON owned TO tracking_stranger;
SELECT cache_track_table('owned');
SELECT cache_untrack_table('owned');
SELECT cache_track_table('t');
SET ROLE tracking_stranger;
SELECT cache_track_table('owned');
SELECT cache_untrack_table('t');
SELECT cache_untrack_table('owned');
CREATE FUNCTION count_owned() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM owned';
SELECT cache_function('count_owned()', depends_on => '{"owned": {}}');
SET ROLE tracking_owner;
GRANT TRIGGER ON owned TO tracking_stranger;
SET ROLE tracking_stranger;
SELECT cache_track_table('owned');
SELECT count_owned_cached(), count_owned_cached();
INSERT INTO owned VALUES (1);
SELECT count_owned_cached(), count_owned_cached();
RESET ROLE;
SELECT outcomes();
-- The trigger function by itself harms nobody.
SET ROLE tracking_stranger;
CREATE TABLE mine (id integer);
CREATE TRIGGER odd AFTER INSERT OR UPDATE OR DELETE ON mine FOR EACH ROW EXECUTE FUNCTION cache_tracker('no', 'such', 'columns');
CREATE TRIGGER instead_of AFTER INSERT ON mine REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION cache_tracker('nothing');
INSERT INTO mine VALUES (1);
UPDATE mine SET id = 2;
DELETE FROM mine;
RESET ROLE;
-- A mark of the catalog, without which no trigger fires, that somebody has taken away by hand.
SELECT count_owned_cached(), count_owned_cached();
SELECT outcomes();
UPDATE pg_class SET relhastriggers = false WHERE oid = 'owned'::regclass;
SELECT count_owned_cached();
INSERT INTO owned VALUES (1);
SELECT count_owned() = count_owned_cached() AS same;
UPDATE pg_class SET relhastriggers = true WHERE oid = 'owned'::regclass;
SELECT count_owned() = count_owned_cached() AS same, count_owned() = count_owned_cached() AS same;
SELECT outcomes();

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA tracking_test CASCADE;
DROP ROLE tracking_owner, tracking_stranger;
REVOKE EXECUTE ON FUNCTION cache_track_table, cache_untrack_table FROM PUBLIC;
