-- Starting and stopping to track, with settings, names, triggers and rights set against us.
\set ECHO errors
CREATE SCHEMA hostile_tracking;
SET search_path = hostile_tracking, public;
CREATE ROLE tracking_mallory;
CREATE ROLE tracking_alice;
CREATE ROLE tracking_bob;
GRANT USAGE, CREATE ON SCHEMA hostile_tracking TO tracking_mallory, tracking_alice, tracking_bob;
CREATE VIEW triggers AS
    SELECT c.relname, t.tgname, t.tgenabled, t.tgfoid = 'cache_tracker'::regproc AS calls_tracker,
           EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid AND d.deptype = 'x') AS belongs
    FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'hostile_tracking'::regnamespace AND NOT t.tgisinternal
    ORDER BY 1, 2;
CREATE VIEW powerful AS SELECT rolname FROM pg_roles WHERE rolname LIKE 'tracking_%' AND rolsuper;
GRANT SELECT ON triggers, powerful TO PUBLIC;
-- They are for developers; what each may do is asked of the tables.
GRANT EXECUTE ON FUNCTION cache_track_table(regclass, name[]), cache_untrack_table(regclass)
    TO tracking_mallory, tracking_alice, tracking_bob;
\set ECHO all

-- No name is ever read as SQL, whatever the settings of the session are.
SET ROLE tracking_mallory;
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SET backslash_quote = on;
CREATE TABLE injected (a integer, "\'); ALTER ROLE tracking_mallory SUPERUSER; --" integer, "plain'quote" integer);
SELECT cache_track_table('injected', (SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'injected'::regclass AND attnum > 1));
SELECT tgname, tgnargs, encode(tgargs, 'escape') FROM pg_trigger WHERE tgrelid = 'injected'::regclass ORDER BY tgname;
INSERT INTO injected VALUES (1, 2, 3);
SELECT cache_untrack_table('injected');
CREATE TABLE "in'jected\" (a integer, "\'); ALTER ROLE tracking_mallory SUPERUSER; --" integer);
CREATE FUNCTION "read'\it"(k integer, "\'arg" text DEFAULT 'it''s \\ it') RETURNS bigint LANGUAGE sql STABLE AS $$SELECT count(*) FROM "in'jected\"$$;
SELECT cache_function('"read''\\it"(integer, text)',
    depends_on => json_build_object('hostile_tracking."in''jected\\"', json_build_object('\\''); ALTER ROLE tracking_mallory SUPERUSER; --', '$1'))::jsonb,
    tags => ARRAY['it''s \\ a \\'' tag']);
SELECT function, depends_on, tags FROM cached_functions WHERE owner = 'tracking_mallory';
SELECT "read'\it_cached"(1), "read'\it_cached"(1);
CREATE TABLE "part'ed\" (k integer, "\'); ALTER ROLE tracking_mallory SUPERUSER; --" integer) PARTITION BY LIST (k);
SELECT cache_track_table('"part''ed\\"', (SELECT array_agg(attname) FROM pg_attribute WHERE attrelid = '"part''ed\\"'::regclass AND attnum = 2));
CREATE TABLE "joins'\" PARTITION OF "part'ed\" FOR VALUES IN (1);
SELECT relname, tgname, belongs FROM triggers WHERE relname = 'joins''\\';
SELECT uncache_function('"read''\\it_cached"(integer, text, interval)');
RESET standard_conforming_strings;
RESET escape_string_warning;
RESET backslash_quote;
SELECT * FROM powerful;
DROP TABLE injected, "in'jected\", "part'ed\";
DROP FUNCTION "read'\it";

-- A trigger of somebody else's that has one of our names is neither replaced nor dropped.
SET ROLE tracking_alice;
CREATE FUNCTION alices() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''the trigger of alice''; RETURN NULL; END';
CREATE TABLE named (id integer);
CREATE TRIGGER pg_query_cache_write AFTER INSERT ON named FOR EACH STATEMENT EXECUTE FUNCTION alices();
SELECT cache_track_table('named');
SELECT cache_untrack_table('named');
INSERT INTO named VALUES (1);
ALTER TRIGGER pg_query_cache_write ON named RENAME TO hers;
SELECT cache_track_table('named');
ALTER TRIGGER pg_query_cache_write ON named RENAME TO ours;
-- Hers calls our function, but does not belong to the extension.
CREATE TRIGGER pg_query_cache_write AFTER INSERT ON named FOR EACH ROW EXECUTE FUNCTION cache_tracker();
SELECT cache_track_table('named', '{id}');
SELECT * FROM triggers;
SELECT cache_untrack_table('named');
SELECT * FROM triggers;
-- Neither does ours keep hers from firing for who applies rows: it is told by its function, not by its name.
DROP TRIGGER pg_query_cache_write ON named;
DROP TRIGGER hers ON named;
CREATE TRIGGER pg_query_cache_replica AFTER INSERT ON named FOR EACH ROW EXECUTE FUNCTION alices();
ALTER TABLE named ENABLE REPLICA TRIGGER pg_query_cache_replica;
RESET ROLE;
SET session_replication_role = replica;
INSERT INTO named VALUES (2);
RESET session_replication_role;

-- A right that everybody has is not one to slow others' writers down; one by name, or by a membership, is.
SET ROLE tracking_alice;
CREATE TABLE open_to_all (id integer);
GRANT ALL ON open_to_all TO PUBLIC;
SET ROLE tracking_bob;
SELECT cache_track_table('open_to_all');
SET ROLE tracking_alice;
GRANT TRIGGER ON open_to_all TO tracking_mallory;
SET ROLE tracking_bob;
SELECT cache_track_table('open_to_all');
RESET ROLE;
GRANT tracking_mallory TO tracking_bob;
SET ROLE tracking_bob;
SELECT cache_track_table('open_to_all');
-- Stopping takes the owner.
SELECT cache_untrack_table('open_to_all');
RESET ROLE;
REVOKE tracking_mallory FROM tracking_bob;
-- Of a tree, each table's.
SET ROLE tracking_alice;
CREATE TABLE tree (id integer) PARTITION BY LIST (id);
CREATE TABLE branch PARTITION OF tree FOR VALUES IN (1);
SELECT cache_track_table('tree');
RESET ROLE;
ALTER TABLE branch OWNER TO tracking_mallory;
SET ROLE tracking_alice;
SELECT cache_untrack_table('tree');
SET ROLE tracking_mallory;
SELECT cache_untrack_table('branch');
SELECT cache_track_table('branch', '{id}');
RESET ROLE;
SELECT cache_track_table('tree', '{id}');
SELECT cache_untrack_table('branch');
DROP TABLE tree, open_to_all;
SELECT cache_track_table(1::regclass), cache_untrack_table(1::regclass);

-- An event trigger that forbids DDL forbids ours, and it sees who wants it.
CREATE FUNCTION forbids() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_user <> 'tracking_alice' THEN
        RAISE EXCEPTION '% is forbidden to %', tg_tag, current_user;
    END IF;
END $$;
CREATE TABLE guarded (id integer, k integer) PARTITION BY LIST (k);
ALTER TABLE guarded OWNER TO tracking_bob;
GRANT TRIGGER ON guarded TO tracking_alice;
CREATE EVENT TRIGGER hostile_tracking_forbids ON ddl_command_start WHEN tag IN ('CREATE TRIGGER', 'DROP TRIGGER') EXECUTE FUNCTION forbids();
SET ROLE tracking_bob;
SELECT cache_track_table('guarded');
SET ROLE tracking_alice;
SELECT cache_track_table('guarded');
SET ROLE tracking_bob;
SELECT cache_untrack_table('guarded');
-- A command of the owner's does not fail for our trigger: the tree is not tracked any more.
CREATE TABLE guarded_1 PARTITION OF guarded FOR VALUES IN (1);
SELECT * FROM triggers WHERE relname LIKE 'guarded%';
RESET ROLE;
DROP EVENT TRIGGER hostile_tracking_forbids;
-- What an event trigger changes on the way counts as any change of definitions.
CREATE FUNCTION answer() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION reads_guarded() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN answer() || ' ' || (SELECT count(*) FROM guarded); END$$;
SELECT cache_function('reads_guarded()'), cache_track_table('guarded');
SELECT reads_guarded_cached(), reads_guarded_cached();
CREATE FUNCTION changes() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    CREATE OR REPLACE FUNCTION answer() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 2';
END $$;
CREATE EVENT TRIGGER hostile_tracking_changes ON ddl_command_start WHEN tag IN ('CREATE TRIGGER') EXECUTE FUNCTION changes();
CREATE TABLE unrelated (id integer);
SELECT cache_track_table('unrelated');
SELECT reads_guarded(), reads_guarded_cached();
DROP EVENT TRIGGER hostile_tracking_changes;

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA hostile_tracking CASCADE;
REVOKE EXECUTE ON FUNCTION cache_track_table(regclass, name[]), cache_untrack_table(regclass)
    FROM tracking_mallory, tracking_alice, tracking_bob;
DROP ROLE tracking_mallory, tracking_alice, tracking_bob;
