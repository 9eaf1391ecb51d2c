-- What is wrong, said with the statement that mends it. Each is provoked, and the statement run as it is printed.
\set ECHO errors
CREATE SCHEMA "Health's ""test""";
SET search_path = "Health's ""test""", public;
\set ECHO all
-- Everything is looked at, also if all is well; what is wrong comes first, and has words.
SELECT count(DISTINCT split_part(finding, ':', 1)), bool_and(threshold <> ''), bool_and(value <> '') FROM analyze_cache_health();
SELECT bool_and((status = 'ok') = (recommendation = '')), bool_and(status <> 'ok' OR sql IS NULL),
       array_agg(DISTINCT status) <@ '{critical,warning,info,ok}'
FROM analyze_cache_health();
CREATE FUNCTION out_of_order() RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM (SELECT status, lag(status, 1, 'critical') OVER (ORDER BY ordinality) AS before
                          FROM analyze_cache_health() WITH ORDINALITY) AS h
    WHERE (status, before) IN (('critical', 'warning'), ('critical', 'ok'), ('warning', 'ok')) $$;
SELECT out_of_order();
CREATE FUNCTION about(what text) RETURNS TABLE (finding text, status text, value text, threshold text, sql text) LANGUAGE sql AS $$
    SELECT finding, status, value, threshold, sql FROM analyze_cache_health() WHERE finding LIKE what || '%' $$;

-- Switched off, here and for the database.
SET pg_query_cache.enabled = off;
SELECT finding, status, value, recommendation, sql FROM analyze_cache_health() LIMIT 1;
SELECT out_of_order();
SELECT sql FROM about('caching switched on') \gexec
SELECT * FROM about('caching switched on');
ALTER DATABASE pgqc_regress SET pg_query_cache.enabled = off;
\c
SET search_path = "Health's ""test""", public;
SELECT * FROM about('caching switched on');
SELECT sql FROM about('caching switched on') \gexec
\c
SET search_path = "Health's ""test""", public;
SELECT * FROM about('caching switched on');
ALTER DATABASE pgqc_regress RESET pg_query_cache.enabled;

-- An untracked table.
CREATE TABLE "it's a \ ""table""" (id integer);
CREATE FUNCTION "reads ""it""'s"() RETURNS bigint LANGUAGE sql STABLE AS $$SELECT count(*) FROM "it's a \ ""table"""$$;
SELECT cache_function('"reads ""it""''s"()', name => 'reads "it"''s cached');
SELECT "reads ""it""'s cached"(), "reads ""it""'s cached"();
SELECT * FROM about('reads an untracked');
SELECT sql FROM about('reads an untracked') \gexec
SELECT "reads ""it""'s cached"(), "reads ""it""'s cached"();
SELECT * FROM about('reads an untracked');
-- One that cannot be tracked.
CREATE FUNCTION catalog() RETURNS boolean LANGUAGE sql STABLE AS 'SELECT count(*) > 0 FROM pg_class';
SELECT cache_function('catalog()');
SELECT catalog_cached();
SELECT * FROM about('reads an untracked');
SELECT sql FROM about('reads an untracked') \gexec
SELECT * FROM about('reads an untracked');

-- One whose stored result was wrong.
CREATE FUNCTION own_setting() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN current_setting('health_test.mine'); END$$;
SELECT cache_function('own_setting()', scope => 'shared');
SET health_test.mine = 'one';
SELECT own_setting_cached();
SET health_test.mine = 'two';
SET pg_query_cache.verify_sample_rate = 1;
SELECT own_setting_cached();
RESET pg_query_cache.verify_sample_rate;
SELECT own_setting_cached();
SELECT * FROM about('quarantined');
SELECT * FROM about('differences');
SELECT sql FROM about('quarantined') \gexec
SELECT * FROM about('quarantined');
SELECT uncache_function('own_setting_cached(interval)');

-- One that is written to before anybody asks again.
CREATE TABLE hot (id integer);
SELECT cache_track_table('hot', '{id}');
CREATE FUNCTION how_hot() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM hot';
SELECT cache_function('how_hot()');
DO $$ BEGIN FOR i IN 1..99 LOOP PERFORM how_hot_cached(); FOR j IN 1..5 LOOP INSERT INTO hot SELECT generate_series(1, 500); END LOOP; COMMIT; END LOOP; END $$;
SELECT * FROM about('costs more');
SELECT * FROM about('high invalidation');
SELECT how_hot_cached();
SELECT finding, status, value ~ '^saved 0.000 s, writers were charged 0\.\d+ s$' AS value, threshold, sql FROM about('costs more');
SELECT finding, status, value, threshold, sql FROM about('high invalidation');
SELECT format('SELECT count(*) FROM (%s) AS looked', sql) FROM about('high invalidation') \gexec
SELECT action, sql FROM optimize_cache() WHERE action = 'recommended';
SELECT sql FROM about('costs more') \gexec
SELECT * FROM about('costs more');
SELECT * FROM about('high invalidation');

-- Results that do not fit.
CREATE FUNCTION long(n integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT repeat('x', n)$$;
SELECT cache_function('long(int)');
SET pg_query_cache.max_entry_size = '16kB';
SELECT length(long_cached(20000));
SELECT * FROM about('too large');
RESET pg_query_cache.max_entry_size;
SELECT length(long_cached(20000)) FROM generate_series(1, 2);
SELECT uncache_function('long_cached(int,interval)');

-- Entries that are past their time.
SET pg_query_cache.clock_offset = '2h';
SELECT finding, status, split_part(value, ' ', 1) = split_part(value, ' ', 3) AS all_of_them, threshold, sql FROM about('expired');
SELECT replace(sql, 'SELECT', 'SELECT 0 <') AS sql FROM about('expired') \gexec
SELECT * FROM about('expired');
RESET pg_query_cache.clock_offset;

-- No danger from the cache itself.
SELECT finding, status, value ~ '^database is \d+ transactions old, \d+ are left$' AS value, sql FROM about('transaction id');

-- A switch goes by the name of its function; of one that is gone the report says how to take it out.
CREATE FUNCTION switched() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
SELECT cache_function('switched()');
SELECT set_cache_config('function.switched_cached(interval).enabled', 'off') IS NULL AS switched_off;
ALTER FUNCTION switched_cached(interval) RENAME TO renamed_cached;
SELECT finding, status, threshold, recommendation, sql FROM analyze_cache_health() WHERE finding LIKE 'configured: function.%';
SELECT sql FROM analyze_cache_health() WHERE finding LIKE 'configured: function.%' \gexec
SELECT count(*) FROM analyze_cache_health() WHERE finding LIKE 'configured: function.%';
\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA "Health's ""test""" CASCADE;
