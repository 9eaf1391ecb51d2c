-- Values of the application: what each function does, errors, transactions, expiry, tags, rights, namespaces, limits.
\set ECHO errors
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE regress_values_a;
CREATE ROLE regress_values_b;
GRANT regress_values_a, regress_values_b TO CURRENT_USER;
SELECT set_config('search_path', 'public', false) AS path \gset
SELECT clear_cache() AS cleared \gset
CREATE FUNCTION memory(OUT hits bigint, OUT misses bigint, OUT bypasses bigint, OUT fills bigint) LANGUAGE sql VOLATILE AS
    'SELECT hits, misses, bypasses, fills FROM cache_value_stats()';
-- What cache_get did since the last time.
CREATE TABLE seen (hits bigint, misses bigint, bypasses bigint, fills bigint);
INSERT INTO seen SELECT * FROM memory();
CREATE FUNCTION did() RETURNS text LANGUAGE sql VOLATILE AS $$
    WITH now AS MATERIALIZED (SELECT * FROM memory()),
         changed AS (UPDATE seen AS s SET (hits, misses, bypasses, fills) = (n.hits, n.misses, n.bypasses, n.fills)
                     FROM now AS n, seen AS o
                     RETURNING n.hits - o.hits AS h, n.misses - o.misses AS m, n.bypasses - o.bypasses AS b, n.fills - o.fills AS f)
    SELECT format('%s from memory, %s from the table, %s past memory, %s kept', h, m, b, f) FROM changed
$$;
\set ECHO all

-- Keys from parts: different parts, different keys.
SELECT cache_key('user', '7', 'cart'), cache_key('user:7', 'cart'), cache_key('a\', 'b'), cache_key('a', '\b'), cache_key(''), cache_key('', '');
SELECT count(*), count(DISTINCT cache_key(VARIADIC p))
FROM (SELECT DISTINCT ARRAY(SELECT (ARRAY['', ':', '\', 'a', '\:', ':\'])[1 + (n / (6 ^ i)::int) % 6] FROM generate_series(0, l - 1) AS i) AS p
      FROM generate_series(1, 4) AS l, generate_series(0, 1295) AS n) AS all_parts;
SELECT cache_key('a', NULL);
SELECT cache_key(VARIADIC '{}');

-- Set, get, set again. The first look goes to the table, the second to memory.
SELECT cache_get('greeting'), cache_exists('greeting'), cache_ttl('greeting');
SELECT did() IS NOT NULL AS ignored;
SELECT cache_set('greeting', '"hello"');
SELECT cache_get('greeting');
SELECT cache_get('greeting'), cache_exists('greeting'), cache_ttl('greeting');
SELECT did();
SELECT cache_set('greeting', '{"to": ["all", 1.50, null]}');
SELECT cache_get('greeting');
SELECT cache_get('greeting');
SELECT did();
SELECT cache_get(NULL), cache_exists(NULL), cache_ttl(NULL), cache_delete(NULL);
-- Within one statement a set is not seen, in the next it is.
SELECT cache_set('now', '1'), cache_get('now');
SELECT cache_get('now'), cache_delete('now'), cache_get('now');
SELECT cache_get('now'), cache_delete('now');
-- JSON null is a value.
SELECT cache_set('null', 'null');
SELECT cache_get('null'), cache_get('null') IS NULL AS absent, cache_exists('null');

-- Errors.
SELECT cache_set('', '1');
SELECT cache_set(repeat('x', 1025), '1');
SELECT cache_set(repeat('ü', 512), '1'), cache_get(repeat('ü', 512));
SELECT cache_get(repeat('x', 1025));
SELECT cache_set(NULL, '1');
SELECT cache_set('k', NULL);
SELECT cache_set('k', '1', '0');
SELECT cache_set('k', '1', '-1 second');
SELECT cache_set('k', '1', '178000000 years');
SELECT cache_set('k', '1', NULL, '{a,NULL}');
SELECT cache_set('k', '1', NULL, '{""}');
SELECT cache_set('k', '1', NULL, ARRAY[repeat('x', 256)]);
SELECT cache_set('k', '1', NULL, array_fill('t'::text, '{17}'));
SELECT cache_set('k', '1', priority => 4);
SELECT cache_set('k', '1', priority => -1);
SELECT cache_set_many('[1]');
SELECT cache_set_many('{"fine": 1, "": 2}');
SELECT cache_exists('fine');
SET pg_query_cache.max_entry_size = '1kB';
SELECT cache_set('k', to_jsonb(repeat('x', 1025)));
SELECT cache_set_many(jsonb_build_object('k', repeat('x', 1025)));
SELECT length(cache_remember('large', $$SELECT repeat('x', 1025)$$)::text), cache_exists('large');
RESET pg_query_cache.max_entry_size;
SELECT cache_exists('k');
\set VERBOSITY sqlstate
SELECT cache_set('k', '1', '0');
SELECT cache_set(NULL, '1');
SELECT cache_key('a', NULL);
SET pg_query_cache.max_entry_size = '1kB';
SELECT cache_set('k', to_jsonb(repeat('x', 1025)));
RESET pg_query_cache.max_entry_size;
\set VERBOSITY terse

-- A value that memory has no room for is read from the table each time.
SELECT cache_set('big', to_jsonb(repeat('x', 100000)));
SET pg_query_cache.max_entry_size = '10kB';
SELECT did() IS NOT NULL AS ignored;
SELECT length(cache_get('big')::text);
SELECT length(cache_get('big')::text);
SELECT did();
RESET pg_query_cache.max_entry_size;

-- Many at once.
SELECT cache_set_many('{"m:1": 1, "m:2": [2], "m:3": null, "other": true}', tags => '{many}');
SELECT * FROM cache_get_many('{m:2,nope,m:1,m:2,NULL,m:3}');
SELECT * FROM cache_get_many('{}');
SELECT cache_delete_many('{m:1,m:2,nope,NULL,m:1}'), cache_set_many('{}');
SELECT * FROM cache_get_many('{m:1,m:2,m:3}');

-- Transactions: nothing of what is rolled back ever was, the transaction itself sees what it did.
BEGIN;
SELECT cache_set('greeting', '"in a transaction"');
SELECT cache_get('greeting');
SAVEPOINT s;
SELECT cache_set('greeting', '"in a savepoint"'), cache_set('new', '1'), cache_delete('null');
SELECT cache_get('greeting'), cache_get('new'), cache_exists('null');
ROLLBACK TO s;
SELECT cache_get('greeting'), cache_get('new'), cache_exists('null');
ROLLBACK;
SELECT cache_get('greeting'), cache_get('new'), cache_exists('null');
BEGIN;
SELECT cache_set('greeting', '"kept"');
SAVEPOINT s;
SELECT cache_set('new', '1');
RELEASE s;
COMMIT;
SELECT cache_get('greeting'), cache_get('new');
-- In one snapshot for all.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT cache_get('greeting'), cache_set('greeting', '"repeatable"');
SELECT cache_get('greeting'), cache_remember('rr', 'SELECT 1');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT cache_get('greeting'), cache_exists('rr');
SELECT count(*) > 0 AS followed FROM pg_locks WHERE mode = 'SIReadLock' AND relation IN ('cache_values'::regclass, 'cache_values_pkey'::regclass);
COMMIT;
-- READ ONLY reads and does not write.
BEGIN READ ONLY;
SELECT cache_get('greeting'), cache_exists('greeting'), cache_ttl('greeting'), cache_remember('ro', 'SELECT 2');
SELECT count(*) FROM cache_keys();
SAVEPOINT s;
SELECT cache_set('greeting', '1');
ROLLBACK TO s;
SELECT cache_increment('n');
ROLLBACK TO s;
SELECT cache_touch('greeting', NULL);
ROLLBACK TO s;
SELECT cache_delete('greeting');
ROLLBACK TO s;
SELECT cache_delete_pattern('*');
ROLLBACK TO s;
SELECT invalidate_cache('{nobody has it}');
SELECT invalidate_cache('{many}');
ROLLBACK;
SELECT cache_exists('ro');
-- A cursor reads through the snapshot of its opening.
BEGIN;
DECLARE c CURSOR FOR SELECT cache_get('greeting') FROM generate_series(1, 2);
SELECT cache_set('greeting', '"later"');
FETCH ALL FROM c;
COMMIT;
-- Switched off: the table answers.
SET pg_query_cache.enabled = off;
SELECT cache_get('greeting'), cache_set('off', '1');
SELECT cache_get('off');
RESET pg_query_cache.enabled;
SELECT cache_get('off');

-- The table is nobody's; who changes it by hand is noticed.
SELECT cache_get('greeting') IS NOT NULL AS loaded;
UPDATE cache_values SET value = '"by hand"' WHERE key = 'greeting';
SELECT cache_get('greeting');
DELETE FROM cache_values WHERE key = 'greeting';
SELECT cache_get('greeting');
SELECT cache_set('greeting', '1');
SELECT cache_get('greeting'), cache_get('off');
BEGIN;
TRUNCATE cache_values;
SELECT cache_get('greeting'), cache_get('off');
ROLLBACK;
SELECT cache_get('greeting'), cache_get('off');
-- Not tracked, not kept.
SELECT cache_untrack_table('cache_values');
SELECT did() IS NOT NULL AS ignored;
SELECT cache_get('greeting');
UPDATE cache_values SET value = '2' WHERE key = 'greeting';
SELECT cache_get('greeting');
SELECT did();
SELECT cache_track_table('cache_values', '{key}');

-- Time: nobody sees what has expired, whether it is still there or not.
SELECT clear_cache() > 0 AS cleared;
SELECT cache_set('short', '1', '10 minutes', '{t}'), cache_set('long', '1', '10 days', '{t}'), cache_set('good', '1');
SELECT cache_get('short'), cache_get('long'), cache_get('good');
SELECT date_trunc('minute', cache_ttl('short') + '1 second') AS short, date_trunc('minute', cache_ttl('long') + '1 second') AS long, cache_ttl('good');
SET pg_query_cache.clock_offset = 599;
SELECT cache_get('short'), cache_ttl('short') < '1 second' AS nearly;
SET pg_query_cache.clock_offset = 600;
SELECT cache_get('short'), cache_exists('short'), cache_ttl('short'), cache_get('long'), cache_get('good');
SELECT key FROM cache_get_many('{short,long,good}');
SELECT * FROM cache_keys();
SELECT keys, expired FROM cache_value_stats();
SELECT cache_touch('short', '1 hour'), cache_delete('short'), cache_delete_many('{short}');
SELECT cache_set('short', '1', '10 minutes', '{t}');
SET pg_query_cache.clock_offset = 1200;
SELECT cache_increment('short'), cache_ttl('short');
SELECT cache_set('short', '1', '10 minutes', '{t}');
SET pg_query_cache.clock_offset = 1800;
SELECT cache_remember('short', 'SELECT 2');
SELECT cache_get('short');
SELECT cache_touch('short', '5 minutes'), cache_touch('good', '5 minutes'), cache_touch('long', NULL), cache_touch('nope', NULL), cache_touch(NULL, NULL);
SELECT cache_touch('short', '5 minutes'), cache_touch('good', '5 minutes'), cache_touch('long', NULL), cache_touch('nope', NULL);
SELECT cache_get('short'), date_trunc('minute', cache_ttl('short') + '1 second'), cache_ttl('long');
SELECT cache_touch('short', '0');
SET pg_query_cache.clock_offset = 2100;
SELECT cache_get('short'), cache_get('good'), cache_get('long');
SELECT count(*) FROM cache_values;
SELECT cleanup_expired_cache() > 0 AS removed;
SELECT key FROM cache_values;
RESET pg_query_cache.clock_offset;

-- Numbers.
SELECT cache_increment('n'), cache_increment('n'), cache_increment('n', 40), cache_increment('n', -2), cache_get('n');
SELECT cache_get('n');
SELECT cache_increment('window', 1, '1 minute');
SELECT cache_increment('window', 1, '1 hour'), cache_ttl('window') <= '1 minute' AS of_the_first;
SELECT cache_increment('n', 9223372036854775807);
SELECT cache_increment('n', NULL);
SELECT cache_set_many('{"text": "5", "float": 1.5, "object": {}, "null": null, "large": 9223372036854775808, "exp": 1e3}');
SELECT cache_increment('text');
SELECT cache_increment('float');
SELECT cache_increment('object');
SELECT cache_increment('null');
SELECT cache_increment('large');
SELECT cache_increment('exp');
\set VERBOSITY sqlstate
SELECT cache_increment('text');
SELECT cache_increment('large');
\set VERBOSITY terse
SELECT cache_increment('min', -9223372036854775808);
SELECT cache_increment('min', -1);
SELECT cache_set('tagged', '1', NULL, '{t}', 2), cache_increment('tagged');
SELECT value, tags, priority FROM cache_values WHERE key = 'tagged';

-- Patterns.
SELECT clear_cache() > 0 AS cleared;
SELECT cache_set_many(jsonb_object_agg(k, 1)) FROM unnest('{user:1,user:2,user:10,user:1:cart,users,u*er,u\\er,[x],ü:1,ö:2,a%b,a_b}'::text[]) AS k;
SELECT * FROM cache_keys('user:*');
SELECT * FROM cache_keys('user:?');
SELECT * FROM cache_keys('user:[^2]');
SELECT * FROM cache_keys('u\*er');
SELECT * FROM cache_keys('u\\er');
SELECT * FROM cache_keys('\[x\]');
SELECT * FROM cache_keys('[ä-ü]:?');
SELECT * FROM cache_keys('a[%_]b');
SELECT * FROM cache_keys('');
SELECT * FROM cache_keys(most => 3);
SELECT * FROM cache_keys('*', -1);
SELECT * FROM cache_keys('[a');
SELECT * FROM cache_keys('a\');
SELECT count(*) FROM cache_keys(repeat('*', 2049));
SELECT cache_delete_pattern(''), cache_delete_pattern('nope*'), cache_delete_pattern('user:[0-9]'), cache_delete_pattern('*:cart');
SELECT * FROM cache_keys();
-- As LIKE has it, on patterns and keys that chance makes.
SELECT setseed(0.5);
CREATE TEMPORARY TABLE chance AS
SELECT (SELECT string_agg((ARRAY['a', 'b', 'ü', '%', '_', '%'])[1 + floor(random() * 6)], '') FROM generate_series(1, n % 7)) AS pattern,
       (SELECT string_agg((ARRAY['a', 'b', 'ü'])[1 + floor(random() * 3)], '') FROM generate_series(0, n % 8)) AS key
FROM generate_series(1, 20000) AS n;
SELECT count(*) > 1000 AS many, count(*) FILTER (WHERE query_cache_internal.cache_key_matches(key, translate(pattern, '%_', '*?')) <> (key LIKE pattern)) AS differ
FROM chance WHERE pattern IS NOT NULL AND key LIKE pattern IS NOT NULL;
DROP TABLE chance;
DISCARD TEMP;
-- It cannot run away.
SELECT cache_set(repeat('a', 1024), '1');
SET statement_timeout = '120s';
SELECT cache_delete_pattern(repeat('a*', 500) || 'b'), cache_delete_pattern('a*a*a*a*b');
RESET statement_timeout;
-- The index is asked for what the pattern begins with.
SELECT cache_set_many(jsonb_object_agg('many:' || g, g)) FROM generate_series(1, 5000) AS g;
SELECT cache_delete_pattern('many:12?'), cache_delete_pattern('many:*'), cache_delete_pattern('*');
SELECT * FROM cache_keys();

-- Tags.
SELECT cache_set('t1', '1', NULL, '{a,b}'), cache_set('t2', '1', NULL, '{b}'), cache_set('t3', '1', NULL, '{{c,a}}'), cache_set('t4', '1');
SELECT cache_get('t1'), cache_get('t2'), cache_get('t3'), cache_get('t4');
BEGIN;
SELECT invalidate_cache('{a,nope}');
SELECT key FROM cache_keys() AS key;
ROLLBACK;
SELECT cache_get('t1');
SELECT invalidate_cache('{a,nope}'), invalidate_cache('{a}'), invalidate_cache('{}'), invalidate_cache('{NULL}');
SELECT cache_get('t1'), cache_get('t2'), cache_get('t3'), cache_get('t4');
SELECT clear_cache() >= 2 AS cleared;
SELECT * FROM cache_keys();

-- Remember.
CREATE SEQUENCE computed;
SELECT cache_remember('r', $$SELECT nextval('computed')$$), cache_remember('r', $$SELECT nextval('computed')$$, '1 hour');
SELECT cache_get('r'), cache_remember('r', 'this is not even looked at'), cache_ttl('r');
SELECT cache_remember('with ttl', 'VALUES (ARRAY[1, 2])', '1 hour', '{t}'), cache_ttl('with ttl') > '59 minutes' AS an_hour, invalidate_cache('{t}');
SELECT cache_remember('types 1', $$WITH q (x) AS (SELECT 'text') SELECT x FROM q$$), cache_remember('types 2', $$SELECT '{"a": 1}'::jsonb$$),
       cache_remember('types 3', $$SELECT '{"a":1}'::json$$), cache_remember('types 4', 'SELECT ROW(1, 2)'), cache_remember('types 5', 'SELECT 1.50; ');
SELECT * FROM cache_get_many('{types 1,types 2,types 3,types 4,types 5}');
SELECT cache_remember('none', 'SELECT 1 WHERE false'), cache_remember('none', 'SELECT NULL::int'), cache_exists('none');
SELECT cache_remember('e', 'SELECT 1, 2');
SELECT cache_remember('e', 'SELECT FROM seen');
SELECT cache_remember('e', 'VALUES (1), (2)');
SELECT cache_remember('e', 'SELECT generate_series(1, 1000000000)');
SELECT cache_remember('e', 'SELECT 1; SELECT 2');
SELECT cache_remember('e', '');
SELECT cache_remember('e', '-- nothing');
SELECT cache_remember('e', 'DELETE FROM seen RETURNING 1');
SELECT cache_remember('e', 'WITH d AS (DELETE FROM seen RETURNING 1) SELECT count(*) FROM d');
SELECT cache_remember('e', 'SELECT 1 INTO x');
SELECT cache_remember('e', 'SHOW work_mem');
SELECT cache_remember('e', 'SELECT $1::int');
SELECT cache_remember('e', 'SELECT nosuch');
SELECT cache_remember('e', 'SELEC 1');
SELECT cache_remember('e', 'SELECT 1 / 0');
SELECT cache_remember(NULL, 'SELECT 1');
SELECT cache_remember('e', NULL);
SELECT cache_remember('e', 'SELECT 1', '0');
SELECT cache_exists('e');
\set VERBOSITY default
SELECT cache_remember('e', 'SELECT 1, 2');
SELECT cache_remember('e', 'VALUES (1), (2)');
SELECT cache_increment('e', 1, '-1 day');
\set VERBOSITY sqlstate
SELECT cache_remember('e', 'SELECT 1, 2');
SELECT cache_remember('e', 'VALUES (1), (2)');
SELECT cache_remember('e', 'SHOW work_mem');
\set VERBOSITY terse
-- An error that is caught leaves nothing behind, and the next call computes.
DO $$ BEGIN
    PERFORM cache_remember('caught', 'SELECT 1 / 0');
EXCEPTION WHEN division_by_zero THEN
    RAISE WARNING '% %', cache_remember('caught', 'SELECT 7'), cache_get('caught');
END $$;
-- A rollback takes the value along; the next call keeps it again.
BEGIN;
SELECT cache_remember('rolled back', 'SELECT 1');
SAVEPOINT s;
SELECT cache_remember('savepoint', 'SELECT 1');
ROLLBACK TO s;
SELECT cache_remember('savepoint', 'SELECT 2'), cache_remember('rolled back', 'SELECT 2');
ROLLBACK;
SELECT cache_remember('savepoint', 'SELECT 3'), cache_remember('rolled back', 'SELECT 3');
-- With the rights, the search path and the name of the caller.
CREATE SCHEMA values_path;
CREATE TABLE values_path.here (x integer);
INSERT INTO values_path.here VALUES (5);
GRANT USAGE ON SCHEMA values_path TO regress_values_a;
GRANT SELECT ON values_path.here TO regress_values_a;
GRANT EXECUTE ON FUNCTION cache_set(text, jsonb, interval, text[], integer), cache_get(text), cache_get_many(text[]), cache_exists(text), cache_ttl(text),
    cache_touch(text, interval), cache_delete(text), cache_delete_many(text[]), cache_delete_pattern(text), cache_keys(text, integer),
    cache_increment(text, bigint, interval), cache_remember(text, text, interval, text[]), cache_set_many(jsonb, interval, text[], integer),
    invalidate_cache(text[]), cache_value_stats() TO regress_values_a, regress_values_b;
SET ROLE regress_values_a;
SET search_path = values_path, public;
SELECT cache_remember('who', 'SELECT current_user'), cache_remember('where', 'SELECT x FROM here'), cache_remember('path', $$SELECT current_setting('search_path')$$);
SHOW search_path;
SELECT current_user;
SELECT cache_remember('secret', 'SELECT count(*) FROM seen');
-- The table is not theirs.
SELECT * FROM cache_values;
DELETE FROM cache_values;
-- Nor do their operators get into our statements.
RESET ROLE;
RESET search_path;
GRANT CREATE ON SCHEMA values_path TO regress_values_a;
SET ROLE regress_values_a;
CREATE FUNCTION values_path.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'trapped as %', current_user; END$$;
CREATE OPERATOR values_path.= (FUNCTION = values_path.trap, LEFTARG = text, RIGHTARG = text);
SET search_path = values_path, pg_catalog, public;
SELECT cache_set('safe', '1'), cache_touch('safe', '1 hour'), cache_increment('safe'), cache_delete_many('{safe}'), cache_delete('safe');
SELECT cache_set('safe', '1', NULL, '{trap}'), cache_delete_pattern('saf?'), invalidate_cache('{trap}');
SELECT count(*) > 0 AS some FROM cache_keys('*');
RESET ROLE;
RESET search_path;

-- Namespaces.
SELECT clear_cache() > 0 AS cleared;
SET ROLE regress_values_a;
SET pg_query_cache.value_namespace = 'role';
RESET ROLE;
SELECT cache_set('k', '"everybody"', NULL, '{t}');
SELECT cache_get('k');
SET pg_query_cache.value_namespace = 'role';
SET ROLE regress_values_a;
SELECT cache_get('k'), cache_exists('k'), cache_ttl('k'), cache_delete('k'), cache_touch('k', '1 hour');
SELECT cache_set('k', '"a"', '1 hour', '{t}'), cache_set('only a', '1');
SELECT cache_get('k');
SELECT cache_get('k');
SET ROLE regress_values_b;
SELECT cache_get('k'), cache_exists('k'), cache_ttl('k'), cache_delete('k'), cache_touch('k', '1 hour');
SELECT * FROM cache_keys();
SELECT * FROM cache_get_many('{k,only a}');
SELECT cache_delete_pattern('*'), cache_delete_many('{k,only a}'), invalidate_cache('{t}');
SELECT * FROM cache_value_stats();
SELECT cache_remember('k', $$SELECT 'b'$$), cache_increment('n');
SELECT cache_get('k');
SET ROLE regress_values_a;
SELECT cache_get('k'), cache_get('only a'), cache_increment('n', 10);
SELECT * FROM cache_keys();
SELECT keys, expired, hits FROM cache_value_stats();
SELECT invalidate_cache('{t}'), cache_delete_pattern('*');
RESET ROLE;
RESET pg_query_cache.value_namespace;
SELECT cache_get('k');
SELECT (SELECT rolname FROM pg_roles WHERE oid = namespace), key, value FROM cache_values ORDER BY 1, 2;
SELECT keys FROM cache_value_stats();
-- As the definer.
CREATE FUNCTION of_b(key text) RETURNS jsonb LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT public.cache_get($1)';
ALTER FUNCTION of_b(text) OWNER TO regress_values_b;
SET pg_query_cache.value_namespace = 'role';
SELECT of_b('k'), cache_get('k');
RESET pg_query_cache.value_namespace;
-- What belonged to a role that is gone goes.
DROP FUNCTION of_b(text);
DROP OWNED BY regress_values_b;
DROP ROLE regress_values_b;
SELECT cleanup_expired_cache() > 0 AS removed;
SELECT namespace, key FROM cache_values;

-- Inside of a cached function a value is one more thing that it reads.
CREATE FUNCTION uses(k text) RETURNS jsonb LANGUAGE sql STABLE AS $$SELECT jsonb_build_array(cache_get(k))$$;
SELECT cache_function('uses(text)');
SELECT cache_set('inner', '1'), cache_set('ending', '1', '1 hour');
SELECT uses_cached('inner'), uses_cached('absent'), uses_cached('ending');
SELECT uses_cached('inner'), uses_cached('absent'), uses_cached('ending');
SELECT hits, fills, reasons FROM cache_function_stats WHERE function = 'uses_cached(text,interval)'::regprocedure;
SELECT cache_set('inner', '2'), cache_set('absent', '3');
SELECT uses_cached('inner'), uses_cached('absent');
SELECT uses_cached('inner'), uses_cached('absent');
BEGIN;
SELECT cache_set('inner', '4');
SELECT uses_cached('inner'), uses('inner');
ROLLBACK;
SELECT uses_cached('inner'), uses('inner');
CREATE FUNCTION keeps() RETURNS jsonb LANGUAGE plpgsql STABLE AS $$BEGIN RETURN cache_remember('kept', 'SELECT 1'); END$$;
SELECT cache_function('keeps()');
SELECT keeps_cached();
SELECT cache_set('kept', '2');
SELECT keeps_cached();
SELECT fills, reasons FROM cache_function_stats WHERE function = 'keeps_cached(interval)'::regprocedure;

-- The inventory names them, and the table of results has none of them.
SELECT clear_cache() > 0 AS cleared, cache_set('shown', '1', priority => 3);
SELECT cache_get('shown') FROM generate_series(1, 3);
SELECT function, cache_key ~ '^cache_get:[0-9a-f]{16}$' AS named, hit_count, in_memory FROM get_top_cache_entries(1);
SELECT priority, dead FROM cache_memory_entries() WHERE function = 'cache_get(text)'::regprocedure AND NOT dead;
SELECT flush_cache();
SELECT count(*) FROM query_cache;
SELECT count(*) > 3 AS looked, count(*) FILTER (WHERE concat(finding, value, recommendation) LIKE '%cache_get%') AS named FROM analyze_cache_health();
SELECT * FROM cache_explain($$cache_get('shown')$$);
SELECT invalidate_cache_function('cache_get(text)');

-- At most pg_query_cache.max_values: the lowest priority first, of these the longest unwritten.
SELECT clear_cache() > 0 AS cleared;
SELECT cache_set('v' || g, '1', priority => g % 3) FROM generate_series(1, 9) AS g;
SELECT cache_set('v1', '1', priority => 1), cache_set('v3', '1');
ALTER SYSTEM SET pg_query_cache.max_values = 7;
SELECT pg_reload_conf();
\c
SELECT cleanup_expired_cache() > 0 AS removed;
SELECT key, priority FROM cache_values ORDER BY key;
ALTER SYSTEM RESET pg_query_cache.max_values;
SELECT pg_reload_conf();

-- A cached function has an answer for each set of values that it can have read, also one whose owner says that the answer is everybody's.
CREATE FUNCTION reads(key text) RETURNS jsonb LANGUAGE sql STABLE AS 'SELECT public.cache_get($1)';
SELECT cache_function('reads(text)', scope => 'shared');
CREATE FUNCTION reads_alone(key text) RETURNS jsonb LANGUAGE sql STABLE AS 'SELECT public.cache_get($1)';
SELECT cache_function('reads_alone(text)');
SELECT cache_set('whose', '"everybody"');
SELECT reads_cached('whose'), reads_alone_cached('whose');
SELECT reads_cached('whose'), reads_alone_cached('whose');
SET pg_query_cache.value_namespace = 'role';
SELECT reads_cached('whose'), reads_alone_cached('whose');
SELECT cache_set('whose', '"mine"');
SELECT reads_cached('whose'), reads_alone_cached('whose');
SELECT reads_cached('whose'), reads_alone_cached('whose');
SET ROLE regress_values_a;
SELECT reads_cached('whose'), reads_alone_cached('whose');
RESET ROLE;
RESET pg_query_cache.value_namespace;
-- Who shares everybody's values is not told how many others have of their own.
SELECT count(*) = (SELECT keys FROM cache_value_stats()) AS all_of_them FROM cache_values;
SET ROLE regress_values_a;
SELECT keys FROM cache_value_stats();
RESET ROLE;
SELECT count(*) FROM cache_values WHERE namespace = 0;
SELECT reads_cached('whose'), reads_alone_cached('whose');

-- A parallel worker reads for the fill of its leader, though the function that does so should not have said that it may.
CREATE TABLE many AS SELECT i FROM generate_series(1, 1000) AS i;
CREATE FUNCTION worker_reads(key text) RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS 'BEGIN RETURN public.cache_get(key); END';
CREATE FUNCTION worker_sees() RETURNS bigint LANGUAGE plpgsql STABLE
    SET parallel_setup_cost = 0 SET parallel_tuple_cost = 0 SET min_parallel_table_scan_size = 0 SET parallel_leader_participation = off AS $$
BEGIN
    RETURN (SELECT count(*) FROM many WHERE worker_reads(left('worked', 6 + 0 * i)) = '1');
END $$;
SELECT cache_function('worker_sees()');
SELECT cache_set('worked', '1'), cache_track_table('many');
SELECT worker_sees_cached();
SELECT worker_sees_cached();
SELECT cache_set('worked', '2');
SELECT worker_sees_cached();

-- Where the configuration has the cache off, values are read from the table.
SELECT cache_get('worked'), cache_get('worked');
SELECT set_cache_config('enabled', 'off');
SELECT hits, bypasses FROM cache_value_stats() \gset
SELECT cache_get('worked'), cache_get('worked');
SELECT hits - :hits AS hits, bypasses - :bypasses AS bypasses FROM cache_value_stats();
SELECT set_cache_config('enabled', NULL);
SELECT hits FROM cache_value_stats() \gset
SELECT cache_get('worked'), cache_get('worked');
SELECT hits - :hits AS hits FROM cache_value_stats();

-- A transaction that remembers more keys than a session can compute at once keeps the first sixteen of them, the next one goes on.
SELECT count(cache_remember('more' || g, 'SELECT 1')) FROM generate_series(1, 300) AS g;
SELECT count(*) < 300 AS less, count(*) > 0 AS some FROM cache_keys('more*');
SELECT count(cache_remember('more' || g, 'SELECT 1')) FROM generate_series(1, 300) AS g;
SELECT count(cache_remember('more' || g, 'SELECT 1')) FROM generate_series(1, 300) AS g;
SELECT count(*) FROM cache_keys('more*');

\set ECHO none
SET client_min_messages = warning;
SELECT clear_cache() AS cleared \gset
DROP FUNCTION memory, did, uses, uses_cached, keeps, keeps_cached, reads, reads_cached, reads_alone, reads_alone_cached, worker_reads,
    worker_sees, worker_sees_cached;
DROP TABLE seen, many;
DROP SEQUENCE computed;
DROP SCHEMA values_path CASCADE;
DROP OWNED BY regress_values_a;
DROP ROLE regress_values_a;
