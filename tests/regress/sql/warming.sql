-- Calls that are made before anybody waits for them.
CREATE SCHEMA warming;
SET search_path = warming, public;
SET client_min_messages = notice;
\set VERBOSITY terse

CREATE TABLE orders (id integer PRIMARY KEY, enterprise integer, amount numeric);
INSERT INTO orders SELECT g, g % 5, g FROM generate_series(1, 100) AS g;
SELECT cache_track_table('orders');
CREATE FUNCTION revenue(enterprise integer DEFAULT 3, factor numeric DEFAULT 1.0) RETURNS numeric LANGUAGE sql STABLE AS
    'SELECT sum(amount * factor) FROM orders AS o WHERE o.enterprise = revenue.enterprise';
-- One of the same name that a call with fewer arguments could mean.
CREATE FUNCTION revenue_cached(enterprise integer) RETURNS text LANGUAGE sql AS $$SELECT 'another'$$;
SELECT cache_function('revenue(integer, numeric)');
CREATE FUNCTION counts(name text) RETURNS text LANGUAGE sql VOLATILE AS
    $$SELECT format('hits %s, fills %s', s.hits, s.fills) FROM cache_function_stats AS s JOIN pg_proc AS p ON p.oid = s.function WHERE p.proname = name AND s.fills > 0$$;

-- The entry that is filled is the one that calls find.
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '{"enterprise": 1}');
SELECT counts('revenue_cached');
SELECT revenue_cached(1, 1.0);
SELECT counts('revenue_cached');
-- Again: nothing to do.
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '{"enterprise": 1}');
SELECT counts('revenue_cached');
-- By position, with defaults, with NULL, all of them defaults; strings go through the type's input function.
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '[2, "2.50"]');
SELECT revenue_cached(2, 2.50);
SELECT warm_cache('revenue_cached(integer, numeric, interval)');
SELECT revenue_cached();
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '{"factor": 7, "enterprise": null}');
SELECT revenue_cached(NULL, 7);
SELECT counts('revenue_cached');
-- 7.0 is another key than 7, because a function can tell them apart.
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '{"factor": 7.0, "enterprise": null}');
SELECT counts('revenue_cached');

-- Errors.
SELECT warm_cache('revenue(integer, numeric)', '{}');
SELECT warm_cache('now()', '{}');
SELECT warm_cache(0, '{}');
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '{"nobody": 1}');
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '{"cache_duration": "1 hour"}');
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '[1, 2, 3]');
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '7');
SELECT warm_cache('revenue_cached(integer, numeric, interval)', 'null');
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '{"enterprise": "x"}');
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '{"enterprise": 1e400}');
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '{"enterprise": {"a": [1]}}');
SELECT warm_cache(NULL, '{}'), warm_cache('revenue_cached(integer, numeric, interval)', NULL);

-- Types: rows, arrays, domains, enums, ranges, jsonb, text with everything in it; without names; VARIADIC.
CREATE TYPE pair AS (a integer, b text[]);
CREATE TYPE mood AS ENUM ('fine', 'so so');
CREATE DOMAIN positive AS integer NOT NULL CHECK (VALUE > 0);
CREATE FUNCTION shapes(p pair, l integer[], "Mood x" mood, r int4range, d jsonb, t text, n positive, at timestamptz) RETURNS SETOF text LANGUAGE sql STABLE AS
    $$SELECT concat_ws('|', p, l, "Mood x", r, d, t, n, at)$$;
SELECT cache_function('shapes(pair, integer[], mood, int4range, jsonb, text, positive, timestamptz)');
SELECT warm_cache(p.oid, jsonb_build_object('p', '{"a": 1, "b": ["x", null]}'::jsonb, 'l', '[1, 2, null]'::jsonb, 'Mood x', 'so so', 'r', '[1,5)',
    'd', '{"k": [1, {"z": null}]}'::jsonb, 't', E'it''s "a" \\ back\nslash $1 ü', 'n', 4, 'at', '2026-01-02T03:04:05Z'))
FROM pg_proc AS p WHERE p.proname = 'shapes_cached';
SELECT * FROM shapes_cached(ROW (1, '{x,NULL}'), '{1,2,NULL}', 'so so', '[1,5)', '{"k": [1, {"z": null}]}', E'it''s "a" \\ back\nslash $1 ü', 4, '2026-01-02T03:04:05Z');
SELECT counts('shapes_cached');
SELECT warm_cache('shapes_cached(pair,integer[],mood,int4range,jsonb,text,positive,timestamptz,interval)', '{}');
SELECT warm_cache('shapes_cached(pair,integer[],mood,int4range,jsonb,text,positive,timestamptz,interval)', '[null, "{5,6}", null, null, null, null, 0, null]');
CREATE FUNCTION sum_of(integer, VARIADIC x integer[]) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT $1 + sum(v) FROM unnest(x) AS v';
SELECT cache_function('sum_of(integer, integer[])');
SELECT warm_cache('sum_of_cached(integer, integer[])', '[1, [2, 3]]');
SELECT sum_of_cached(1, 2, 3);
SELECT counts('sum_of_cached');
SELECT warm_cache('sum_of_cached(integer, integer[])', '{"x": [1]}');
CREATE FUNCTION any_of(x anyelement) RETURNS text LANGUAGE sql STABLE AS 'SELECT x::text';
SELECT cache_function('any_of(anyelement)');
SELECT warm_cache('any_of_cached(anyelement, interval)', '[1]');
-- OUT parameters between the others, and defaults that are expressions.
CREATE FUNCTION mixed(a integer, OUT x integer, b text DEFAULT 'it''s ' || upper('b'), OUT y text) LANGUAGE sql STABLE AS 'SELECT a, b';
SELECT cache_function('mixed(integer, text)');
SELECT warm_cache('mixed_cached(integer, text, interval)', '[9]');
SELECT mixed_cached(9);
SELECT warm_cache('mixed_cached(integer, text, interval)', '["9", "b"]');
SELECT mixed_cached(9, 'b');
SELECT counts('mixed_cached');

-- What is not stored, and why.
CREATE TABLE loose (id integer);
CREATE FUNCTION count_loose() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM loose';
CREATE FUNCTION strictly(x integer) RETURNS integer LANGUAGE sql STABLE STRICT AS 'SELECT x';
CREATE FUNCTION setting() RETURNS text LANGUAGE sql STABLE AS $$SELECT current_setting('work_mem')$$;
CREATE FUNCTION fails(x integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$BEGIN RETURN 100 / x; END$$;
SELECT cache_function('count_loose()'), cache_function('strictly(integer)'), cache_function('setting()'), cache_function('fails(integer)');
\set VERBOSITY default
SELECT warm_cache('count_loose_cached(interval)');
\set VERBOSITY terse
SELECT warm_cache('strictly_cached(integer, interval)', '{"x": null}');
-- The first call learns that the function reads settings; the second is stored.
SELECT warm_cache('setting_cached(interval)');
SELECT warm_cache('fails_cached(integer, interval)', '{"x": 0}');
BEGIN;
UPDATE orders SET amount = amount WHERE id = 1;
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '{"enterprise": 1}');
ROLLBACK;
BEGIN READ ONLY;
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '{"enterprise": 4}');
COMMIT;
SELECT pg_query_cache_off FROM set_config('pg_query_cache.enabled', 'off', false) AS pg_query_cache_off;
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '{"enterprise": 1}');
RESET pg_query_cache.enabled;

-- Many: one statement, and what fails takes nothing along.
SELECT clear_cache() > 0;
SELECT arguments, stored, reason, cost_ms > 0 AS computed
FROM warm_cache_many('fails_cached(integer, interval)', '[{"x": 1}, {"x": 0}, [2], {"y": 1}, {"x": "one"}, {"x": 1}, 7, null]');
SELECT counts('fails_cached');
SELECT count(*), bool_and(w.stored)
FROM warm_cache_many('revenue_cached(integer, numeric, interval)',
                     (SELECT jsonb_agg(jsonb_build_object('enterprise', o.enterprise)) FROM (SELECT DISTINCT enterprise FROM orders) AS o)) AS w;
SELECT * FROM warm_cache_many('fails_cached(integer, interval)', '[]');
SELECT * FROM warm_cache_many('fails_cached(integer, interval)', '{"x": 1}');
SELECT * FROM warm_cache_many('fails(integer)', '[]');
SELECT count(*) FROM cache_progress;

-- Rights: as the caller, and for the caller's own key.
CREATE ROLE regress_warm;
GRANT USAGE ON SCHEMA warming TO regress_warm;
GRANT EXECUTE ON FUNCTION warm_cache(regprocedure, jsonb), warm_cache_many(regprocedure, jsonb) TO regress_warm;
REVOKE EXECUTE ON FUNCTION strictly_cached(integer, interval) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION fails(integer) FROM PUBLIC;
SET ROLE regress_warm;
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '{"enterprise": 1}');
SELECT warm_cache('strictly_cached(integer, interval)', '{"x": 1}');
SELECT arguments, stored, reason FROM warm_cache_many('fails_cached(integer, interval)', '[{"x": 5}]');
-- A hostile search path changes nothing about what is called.
RESET ROLE;
GRANT SELECT ON orders TO regress_warm;
GRANT CREATE ON SCHEMA warming TO regress_warm;
SET ROLE regress_warm;
CREATE FUNCTION warming.jsonb_each(jsonb, OUT key text, OUT value jsonb) RETURNS SETOF record LANGUAGE plpgsql AS $$BEGIN RAISE 'called'; END$$;
CREATE FUNCTION warming.count("any") RETURNS bigint LANGUAGE internal AS 'int8inc';
CREATE FUNCTION warming.quote_literal(text) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'called'; END$$;
RESET ROLE;
SET search_path = warming, pg_catalog, public;
SET ROLE regress_warm;
SELECT warm_cache('revenue_cached(integer, numeric, interval)', '{"enterprise": 1}');
RESET ROLE;

\set ECHO none
SET client_min_messages = warning;
SET search_path = public;
DROP SCHEMA warming CASCADE;
DROP OWNED BY regress_warm;
DROP ROLE regress_warm;
