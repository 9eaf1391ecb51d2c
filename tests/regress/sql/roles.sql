-- Whose result it is: nobody gets what the function itself would not have answered to them.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA roles_test;
SET search_path = roles_test, public;
\i :outcomes
\set ECHO all
CREATE ROLE roles_ann;
CREATE ROLE roles_bob;
CREATE ROLE roles_staff;
CREATE ROLE roles_nobody;
GRANT USAGE ON SCHEMA roles_test TO roles_ann, roles_bob, roles_staff, roles_nobody;
CREATE TABLE notes (id integer PRIMARY KEY, owner text, tenant text, body text);
INSERT INTO notes VALUES (1, 'roles_ann', 'a', 'of ann'), (2, 'roles_bob', 'b', 'of bob'), (3, 'roles_bob', 'a', 'of bob too');
SELECT cache_track_table('notes');
CREATE FUNCTION list() RETURNS text LANGUAGE sql STABLE AS $$SELECT string_agg(body, ', ' ORDER BY id) FROM notes$$;
SELECT cache_function('list()');
GRANT SELECT ON notes TO roles_ann, roles_bob, roles_staff;

-- Row-level security: each role its own entry.
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (owner = current_user);
SELECT list_cached(), list_cached();
SET ROLE roles_ann;
SELECT list_cached(), list_cached();
SET ROLE roles_bob;
SELECT list_cached(), list_cached();
SET ROLE roles_staff;
SELECT list_cached() IS NULL AS nothing, list_cached() IS NULL AS nothing;
RESET ROLE;
SELECT outcomes();
-- Without a right on the table: an error, with entries of others or without.
SET ROLE roles_nobody;
SELECT list_cached();
SELECT list();
RESET ROLE;
-- Policies change: the next answer is right.
CREATE POLICY tenant_a ON notes USING (tenant = 'a' AND current_user = 'roles_ann');
SET ROLE roles_ann;
SELECT list_cached(), list_cached();
RESET ROLE;
DROP POLICY tenant_a ON notes;
SET ROLE roles_ann;
SELECT list_cached();
RESET ROLE;
ALTER ROLE roles_staff BYPASSRLS;
SET ROLE roles_staff;
SELECT list_cached();
RESET ROLE;
ALTER ROLE roles_staff NOBYPASSRLS;
SET ROLE roles_staff;
SELECT list_cached() IS NULL AS nothing;
SET row_security = off;
SELECT list_cached();
RESET row_security;
RESET ROLE;
-- Membership: a policy by group.
CREATE POLICY staff ON notes TO roles_staff USING (true);
SET ROLE roles_ann;
SELECT list_cached();
RESET ROLE;
GRANT roles_staff TO roles_ann;
SET ROLE roles_ann;
SELECT list_cached();
RESET ROLE;
REVOKE roles_staff FROM roles_ann;
SET ROLE roles_ann;
SELECT list_cached();
RESET ROLE;
DROP POLICY staff ON notes;

-- REVOKE on the table, on a column, on the base function, on the cached function.
SET ROLE roles_ann;
SELECT list_cached();
RESET ROLE;
REVOKE SELECT ON notes FROM roles_ann;
SET ROLE roles_ann;
SELECT list_cached();
RESET ROLE;
GRANT SELECT (id, owner, body) ON notes TO roles_ann;
SET ROLE roles_ann;
SELECT list_cached();
RESET ROLE;
REVOKE SELECT (body) ON notes FROM roles_ann;
SET ROLE roles_ann;
SELECT list_cached();
RESET ROLE;
GRANT SELECT ON notes TO roles_ann;
SET ROLE roles_ann;
SELECT list_cached();
RESET ROLE;
REVOKE EXECUTE ON FUNCTION list() FROM PUBLIC;
SET ROLE roles_ann;
SELECT list_cached();
RESET ROLE;
GRANT EXECUTE ON FUNCTION list() TO roles_ann;
SET ROLE roles_ann;
SELECT list_cached();
RESET ROLE;
REVOKE EXECUTE ON FUNCTION list_cached(interval) FROM PUBLIC;
SET ROLE roles_ann;
SELECT list_cached();
RESET ROLE;
REVOKE USAGE ON SCHEMA roles_test FROM roles_bob;
SET ROLE roles_bob;
SELECT roles_test.list_cached();
RESET ROLE;
GRANT USAGE ON SCHEMA roles_test TO roles_bob;
GRANT EXECUTE ON FUNCTION list(), list_cached(interval) TO PUBLIC;

-- What an application sets for the session: Supabase's claims, an app.who.
DROP POLICY own ON notes;
CREATE POLICY by_setting ON notes USING (owner = current_setting('app.who', true));
CREATE POLICY by_claim ON notes USING (tenant = (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant'));
SELECT outcomes() \g /dev/null
SET ROLE roles_ann;
SET app.who = 'roles_ann';
SELECT list_cached(), list_cached();
SET app.who = 'roles_bob';
SELECT list_cached(), list_cached();
SET app.who = 'roles_ann';
SELECT list_cached();
RESET app.who;
SELECT list_cached() IS NULL AS nothing;
SELECT set_config('request.jwt.claims', '{"tenant": "a"}', false);
SELECT list_cached(), list_cached();
BEGIN;
SET LOCAL request.jwt.claims = '{"tenant": "b"}';
SELECT list_cached(), list_cached();
COMMIT;
SELECT list_cached();
RESET ROLE;
SELECT outcomes();
-- "scope": "claims" keeps claims and roles apart and nothing else; "shared" nothing at all: its owner says so.
SELECT cache_function('list()', scope => 'claims', name => 'list_by_claims'), cache_function('list()', scope => 'shared', name => 'list_shared');
SET ROLE roles_bob;
SET request.jwt.claims = '{"tenant": "a"}';
SELECT list_by_claims(), list_shared();
SET request.jwt.claims = '{"tenant": "b"}';
SELECT list_by_claims(), list_shared();
SET app.other = 'x';
SELECT list_by_claims();
RESET ROLE;
SELECT list_by_claims(), list_shared();
SELECT outcomes();
RESET request.jwt.claims;
RESET app.other;

-- SECURITY DEFINER: one result for all, computed with the owner's rights; still each role has to be allowed to call it.
CREATE FUNCTION list_all() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = roles_test
    AS $$SELECT string_agg(body, ', ' ORDER BY id) || ' for ' || current_user || ' called by ' || session_user FROM notes$$;
SELECT cache_function('list_all()');
SET ROLE roles_nobody;
SELECT list_all_cached(), list_all_cached() = list_all() AS same;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION list_all() FROM PUBLIC;
SET ROLE roles_nobody;
SELECT list_all_cached();
RESET ROLE;
-- The cached function itself as SECURITY DEFINER: the base function runs as its owner.
CREATE FUNCTION list_definer() RETURNS text LANGUAGE cached STABLE SECURITY DEFINER SET search_path = roles_test AS '{"function": "list_all()"}';
SET ROLE roles_nobody;
SELECT list_definer(), list_definer();
RESET ROLE;
-- The session's own user.
CREATE FUNCTION who() RETURNS text LANGUAGE sql STABLE AS $$SELECT session_user || ' as ' || current_user$$;
SELECT cache_function('who()');
SELECT who_cached();
SET ROLE roles_ann;
SELECT who_cached();
RESET ROLE;
SET SESSION AUTHORIZATION roles_ann;
SELECT who_cached();
SET ROLE roles_ann;
SELECT who_cached();
RESET SESSION AUTHORIZATION;
SELECT who_cached();

-- A shared entry is no way around the right to run the base function.
CREATE FUNCTION secret() RETURNS text LANGUAGE sql STABLE AS $$SELECT 'the secret'$$;
REVOKE EXECUTE ON FUNCTION secret() FROM PUBLIC;
SELECT cache_function('secret()', scope => 'shared');
SET ROLE roles_nobody;
SELECT secret_cached();
RESET ROLE;
SELECT secret_cached();
SET ROLE roles_nobody;
SELECT secret_cached();
RESET ROLE;

-- To cache a function one needs what CREATE FUNCTION needs; other people's cached functions are theirs.
SET ROLE roles_nobody;
SELECT cache_function('list()', name => 'mine');
SELECT uncache_function('list_cached(interval)');
RESET ROLE;
GRANT CREATE ON SCHEMA roles_test TO roles_nobody;
SET ROLE roles_nobody;
SELECT cache_function('list()', name => 'mine');
SELECT mine();
SELECT uncache_function('mine(interval)');
RESET ROLE;

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA roles_test CASCADE;
DROP ROLE roles_ann, roles_bob, roles_staff, roles_nobody;
