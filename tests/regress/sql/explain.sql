-- cache_explain: what a call would do, and why.
CREATE SCHEMA explain_test;
SET search_path = explain_test, public;
CREATE TABLE orders (id integer PRIMARY KEY, customer integer, amount numeric);
CREATE TABLE other (id integer);
SELECT cache_track_table('orders', '{customer}');
CREATE FUNCTION revenue(customer integer, at_least numeric DEFAULT 0) RETURNS numeric LANGUAGE sql STABLE
    AS 'SELECT sum(amount) FROM orders AS o WHERE o.customer = $1 AND amount >= $2';
CREATE FUNCTION total() RETURNS numeric LANGUAGE sql STABLE AS 'SELECT sum(amount) FROM orders';
SELECT cache_function('revenue(int,numeric)', depends_on => '{"orders": {"customer": "$1"}}', tags => '{customer:$1,all}'),
       cache_function('total()');
-- What is the same in every run: no times, no numbers of transactions and processes.
\set explain 'SELECT outcome, reason, detail, hint, tier, hits, invalidated_by - ''{at,xid,pid}''::text[] AS invalidated_by FROM cache_explain'
\pset expanded on

-- Nothing stored; a hit, with all columns; invalidated by this very key; by another one not.
:explain('revenue_cached(7)');
SELECT revenue_cached(7), revenue_cached(8), total_cached();
SELECT revenue_cached(7);
SELECT function, outcome, reason, detail, hint, scope, session, tags, tier, age BETWEEN '0' AND '1 min' AS age, max_age, ttl,
       expires_in + age = ttl AS expires_in, computed_at <= clock_timestamp() AS computed_at, size_bytes, hits, cost_ms > 0 AS cost,
       invalidated_by - '{at,xid,pid}'::text[] AS invalidated_by
FROM cache_explain('revenue_cached(7)');
INSERT INTO orders VALUES (1, 7, 10), (2, 7, 20);
:explain('revenue_cached(7)');
:explain('revenue_cached(8)');
:explain('total_cached()');
-- It has changed nothing: the call that follows is the miss, and the first of its hits is counted as one.
SELECT hits, misses, invalidations FROM cache_function_stats WHERE function = 'revenue_cached(int,numeric,interval)'::regprocedure \gset before_
:explain('revenue_cached(7)');
SELECT hits - :before_hits AS hits, misses - :before_misses AS misses, invalidations - :before_invalidations AS invalidations
FROM cache_function_stats WHERE function = 'revenue_cached(int,numeric,interval)'::regprocedure;
SELECT revenue_cached(7), total_cached();
:explain('revenue_cached(7)');

-- Who it was: each operation, each function that invalidates, DDL; the tag that was invalidated.
UPDATE orders SET amount = 11 WHERE id = 1;
:explain('revenue_cached(7)');
SELECT revenue_cached(7);
DELETE FROM orders WHERE id = 1;
:explain('revenue_cached(7)');
SELECT revenue_cached(7);
TRUNCATE orders;
:explain('revenue_cached(7)');
SELECT revenue_cached(7);
SELECT invalidate_cache('{customer:7}');
:explain('revenue_cached(7)');
SELECT revenue_cached(7);
SELECT invalidate_cache_function('revenue_cached(int,numeric,interval)');
:explain('revenue_cached(7)');
SELECT revenue_cached(7);
SELECT invalidate_cache_table('orders');
:explain('revenue_cached(7)');
SELECT revenue_cached(7);
SELECT clear_cache() > 0 AS cleared;
:explain('revenue_cached(7)');
SELECT revenue_cached(7);
ALTER TABLE orders ADD COLUMN note text;
:explain('revenue_cached(7)');
SELECT revenue_cached(7);
CREATE ROLE explain_role;
:explain('revenue_cached(7)');
SELECT revenue_cached(7);
SELECT cache_track_table('orders', '{customer,note}');
:explain('revenue_cached(7)');
SELECT revenue_cached(7);

-- A transaction that rolls back is not to blame; one that writes itself is bypassed, and says by what.
BEGIN;
INSERT INTO orders VALUES (3, 7, 30);
:explain('revenue_cached(7)');
:explain('revenue_cached(8)');
ROLLBACK;
:explain('revenue_cached(7)');
-- A savepoint that was rolled back stands with its transaction.
BEGIN;
SAVEPOINT s;
DELETE FROM orders WHERE customer = 7;
INSERT INTO orders VALUES (3, 7, 30);
ROLLBACK TO s;
COMMIT;
:explain('revenue_cached(7)');
SELECT revenue_cached(7);

-- Age: the function's, and the caller's.
SET pg_query_cache.clock_offset = '5min';
SELECT outcome, reason, detail, hint, age BETWEEN '5min' AND '6min' AS age, max_age
FROM cache_explain('revenue_cached(7, cache_duration => ''1 min'')');
SET pg_query_cache.clock_offset = '15min';
SELECT outcome, reason, detail, hint, age BETWEEN '15min' AND '16min' AS age, max_age, expires_in BETWEEN '-6min' AND '-5min' AS expires_in
FROM cache_explain('revenue_cached(7)');
RESET pg_query_cache.clock_offset;

-- Why a result would not be stored.
:explain('revenue_cached(9, cache_duration => ''0'')');
:explain('revenue_cached(9, cache_duration => ''-1 s'')');
CREATE FUNCTION untracked() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM other';
CREATE FUNCTION never() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM pg_class';
CREATE FUNCTION large() RETURNS text LANGUAGE sql STABLE AS $$SELECT repeat('x', 2000000)$$;
CREATE FUNCTION locks_inside() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT count(*) FROM (SELECT FROM other FOR SHARE) AS o';
CREATE FUNCTION locks() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT locks_inside()';
CREATE FUNCTION newer_inside() RETURNS integer LANGUAGE sql VOLATILE AS 'SELECT count(*)::integer FROM orders';
CREATE FUNCTION newer() RETURNS integer LANGUAGE sql STABLE AS 'SELECT newer_inside()';
SELECT cache_function('untracked()'), cache_function('never()'), cache_function('large()'), cache_function('locks()'),
       cache_function('newer()');
:explain('untracked_cached()');
SELECT untracked_cached(), never_cached() > 0 AS never, length(large_cached()), locks_cached(), newer_cached();
:explain('untracked_cached()');
:explain('never_cached()');
:explain('large_cached()');
:explain('locks_cached()');
:explain('newer_cached()');
SELECT cache_track_table('other');
:explain('untracked_cached()');
SELECT untracked_cached();
:explain('untracked_cached()');
SELECT cache_untrack_table('other');
:explain('untracked_cached()');
CREATE FUNCTION backend() RETURNS boolean LANGUAGE sql STABLE AS 'SELECT pg_backend_pid() > 0';
CREATE FUNCTION asks() RETURNS text LANGUAGE sql STABLE AS $$SELECT current_setting('explain.asked', true)$$;
SELECT cache_function('backend()'), cache_function('asks()');
SET explain.asked = 'yes';
SELECT backend_cached(), asks_cached();
:explain('backend_cached()');
:explain('asks_cached()');
SELECT asks_cached();
SELECT outcome, session FROM cache_explain('asks_cached()');
RESET explain.asked;
BEGIN;
SELECT total_cached() IS NULL AS nothing;
CREATE TABLE made_here ();
:explain('total_cached()');
ROLLBACK;

-- Why the cache is passed by.
SET pg_query_cache.enabled = off;
:explain('revenue_cached(7)');
RESET pg_query_cache.enabled;
BEGIN ISOLATION LEVEL SERIALIZABLE;
:explain('revenue_cached(7)');
COMMIT;
SET session_replication_role = replica;
:explain('revenue_cached(7)');
RESET session_replication_role;
CREATE TEMPORARY TABLE mine ();
:explain('revenue_cached(7)');
DISCARD TEMP;
CREATE FUNCTION strict_one(a integer) RETURNS integer LANGUAGE sql STABLE STRICT AS 'SELECT a';
CREATE FUNCTION strict_set(a integer) RETURNS SETOF integer LANGUAGE sql STABLE STRICT AS 'SELECT a';
CREATE FUNCTION any_of(a anyelement) RETURNS text LANGUAGE sql STABLE AS 'SELECT a::text';
SELECT cache_function('strict_one(int)'), cache_function('strict_set(int)'), cache_function('any_of(anyelement)');
:explain('strict_one_cached(NULL)');
:explain('strict_set_cached(NULL)');
:explain('any_of_cached(ROW(1, 2))');

-- Calls of every kind: names, defaults, casts, variadics, sets, subqueries, polymorphic types, schemas.
CREATE FUNCTION add_up(VARIADIC n integer[]) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(i) FROM unnest(n) AS i';
CREATE FUNCTION rows_of(n integer) RETURNS TABLE (i integer, t text) LANGUAGE sql STABLE
    AS $$SELECT i, 'row ' || i FROM generate_series(1, n) AS i$$;
SELECT cache_function('add_up(int[])'), cache_function('rows_of(int)');
SELECT revenue_cached(7, 5), add_up_cached(1, 2), any_of_cached(5), any_of_cached('x'::text), strict_one_cached(1);
SELECT * FROM rows_of_cached(2);
\pset expanded off
SELECT call, e.function, e.outcome, e.reason
FROM unnest(ARRAY[
    'revenue_cached(7, 5)', 'revenue_cached(at_least => 5, customer => 7)', 'revenue_cached(at_least := ''5'', customer := 3 + 4)',
    'explain_test.revenue_cached((SELECT max(c) FROM (VALUES (6), (7)) AS v (c)), 5)', 'revenue_cached(7, 6)', 'revenue_cached(7)',
    'add_up_cached(1, 2)', 'add_up_cached(VARIADIC ARRAY[1, 2])', 'add_up_cached(1, 3)', 'any_of_cached(5)', 'any_of_cached(5.0)',
    'any_of_cached(''x''::text)', 'any_of_cached(CAST(''x'' AS text))', 'strict_one_cached(1)', 'strict_one_cached(length(''x''))',
    'rows_of_cached(2)', '"rows_of_cached" (2 ) ', E'-- a comment\nrows_of_cached(2 /* rows */)', 'rows_of_cached(3)']) AS call,
     cache_explain(call) AS e;

-- Anything else is refused; the text is never a statement of its own.
\getenv testdir PG_ABS_SRCDIR
\set refused :testdir '/lib/refused.sql'
\set ECHO none
\i :refused
\set ECHO all
SELECT call, refused(format('SELECT cache_explain(%L)', call)) FROM unnest(ARRAY[
    '', '1', 'x', 'revenue_cached', 'revenue_cached(7);', 'revenue_cached(7); SELECT 1', 'SELECT revenue_cached(7)', 'revenue_cached(7), revenue_cached(8)',
    'revenue_cached(7) + 1', 'revenue_cached(7)::text', 'revenue_cached(7) AS r', '(revenue_cached(7))', 'revenue_cached(7) FROM orders',
    'revenue_cached(id) FROM orders', 'revenue_cached(7) LIMIT 1', 'revenue_cached(7) WHERE true', 'DISTINCT revenue_cached(7)',
    'revenue_cached(7) UNION SELECT 1', 'revenue_cached(7) INTO explain_test.stolen', 'revenue_cached(7) OVER ()', 'revenue_cached(7) FILTER (WHERE true)',
    'revenue_cached(generate_series(1, 2))', 'revenue(7)', 'sum(1)', 'coalesce(revenue_cached(7), 1)', 'now()', 'nosuch(1)', 'revenue_cached(nosuch)',
    'revenue_cached($1)', 'revenue_cached(''x'')', 'revenue_cached(1/0)', 'revenue_cached(', 'orders', '*', 'nosuch.revenue_cached(7)']) AS call;

-- What of the session is in the key; a cached function with settings and a role of its own.
\pset expanded on
SET explain.tenant = 'a';
SET "request.jwt.claims" = '{"sub": "me"}';
SET TimeZone = 'Asia/Tokyo';
SELECT cache_function('total()', scope => 'claims', name => 'total_claims'), cache_function('total()', scope => 'shared', name => 'total_shared');
CREATE FUNCTION total_definer() RETURNS numeric LANGUAGE cached STABLE SECURITY DEFINER SET IntervalStyle = 'iso_8601' SET search_path = explain_test, public
AS '{"function": "explain_test.total()"}';
SELECT scope, session FROM cache_explain('total_cached()');
SELECT scope, session FROM cache_explain('total_claims()');
SELECT scope, session FROM cache_explain('total_shared()');
GRANT USAGE ON SCHEMA explain_test TO explain_role;
GRANT SELECT ON orders TO explain_role;
SET ROLE explain_role;
SELECT scope, session, outcome FROM cache_explain('total_cached()');
SELECT scope, session, outcome FROM cache_explain('total_definer()');
RESET ROLE;
RESET explain.tenant;
RESET "request.jwt.claims";
RESET TimeZone;

-- Dependencies of inner calls; what cannot be named is counted.
CREATE FUNCTION around() RETURNS numeric LANGUAGE sql STABLE AS 'SELECT revenue_cached(7) + 1';
CREATE MATERIALIZED VIEW m AS SELECT 1 AS a;
CREATE FUNCTION of_view() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM m';
SELECT cache_function('around()'), cache_function('of_view()');
SELECT around_cached(), of_view_cached();
SELECT outcome, tags FROM cache_explain('around_cached()');
SELECT outcome, tags FROM cache_explain('of_view_cached()');
REFRESH MATERIALIZED VIEW m;
:explain('of_view_cached()');
\pset expanded off

-- The codes.
SELECT code, kind FROM cache_reasons() ORDER BY kind, code;
SELECT count(*) AS without_words FROM cache_reasons() WHERE meaning = '' OR remedy !~ '^[A-Z].*[.;]$';
SELECT count(*) FROM cache_reasons() HAVING count(*) <> count(DISTINCT code);

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA explain_test CASCADE;
DROP ROLE explain_role;
