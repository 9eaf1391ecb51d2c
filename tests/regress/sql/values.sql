-- Results of every kind: a hit returns what the function itself returns.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA values_test;
SET search_path = values_test, public;
\i :outcomes
\set ECHO all
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE pair AS (a integer, b text);
CREATE TYPE nested AS (p pair, list integer[]);
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN short_text AS text CHECK (length(VALUE) < 10);
CREATE DOMAIN positive_pair AS pair CHECK ((VALUE).a > 0);

-- One function of no arguments for each type, and its cached one.
CREATE TABLE kinds (kind text PRIMARY KEY, type text, value text);
INSERT INTO kinds VALUES
    ('bool', 'boolean', 'true'),
    ('char1', '"char"', $$'x'$$),
    ('int2', 'smallint', '-32768'),
    ('int4', 'integer', '-2147483648'),
    ('int8', 'bigint', '9223372036854775807'),
    ('float4', 'real', '1.1'),
    ('float8', 'double precision', $$'-Infinity'$$),
    ('numeric', 'numeric', '1.10'),
    ('numeric_nan', 'numeric', $$'NaN'$$),
    ('money', 'money', $$'12.34'$$),
    ('text', 'text', $$'Grüße, 世界'$$),
    ('text_empty', 'text', $$''$$),
    ('varchar', 'varchar(10)', $$'abc'$$),
    ('bpchar', 'char(5)', $$'ab'$$),
    ('name', 'name', $$'a_name'$$),
    ('bytea', 'bytea', $$'\x00ff00'$$),
    ('json', 'json', $$'{"b": 1,  "a": [1, 2]}'$$),
    ('jsonb', 'jsonb', $$'{"b": 1,  "a": [1, 2]}'$$),
    ('xml', 'xml', $$'<a>1</a>'$$),
    ('uuid', 'uuid', $$'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'$$),
    ('date', 'date', $$'infinity'$$),
    ('time', 'time', $$'24:00'$$),
    ('timetz', 'timetz', $$'12:00:01.5+03'$$),
    ('timestamp', 'timestamp', $$'2024-02-29 12:00'$$),
    ('timestamptz', 'timestamptz', $$'2024-02-29 12:00+05'$$),
    ('interval', 'interval', $$'1 year 2 days -3 seconds'$$),
    ('inet', 'inet', $$'2001:db8::1/64'$$),
    ('cidr', 'cidr', $$'10.0.0.0/8'$$),
    ('macaddr', 'macaddr', $$'08:00:2b:01:02:03'$$),
    ('bit', 'bit(3)', $$B'101'$$),
    ('varbit', 'bit varying', $$B''$$),
    ('point', 'point', $$'(1,2)'$$),
    ('polygon', 'polygon', $$'((0,0),(1,1),(1,0))'$$),
    ('tsvector', 'tsvector', $$'a:1 b:2'$$),
    ('tsquery', 'tsquery', $$'a & !b'$$),
    ('oid', 'oid', '4294967295'),
    ('regclass', 'regclass', $$'pg_class'$$),
    ('tid', 'tid', $$'(1,2)'$$),
    ('xid8', 'xid8', $$'18446744073709551615'$$),
    ('pg_lsn', 'pg_lsn', $$'16/B374D848'$$),
    ('enum', 'mood', $$'happy'$$),
    ('range', 'int4range', $$'[1,5)'$$),
    ('range_empty', 'numrange', $$'empty'$$),
    ('multirange', 'datemultirange', $$'{[2024-01-01,2024-02-01)}'$$),
    ('array', 'integer[]', $$'{1,NULL,3}'$$),
    ('array_empty', 'text[]', $$'{}'$$),
    ('array_bounds', 'integer[]', $$'[2:3]={1,2}'$$),
    ('array_2d', 'text[]', $$'{{a,"b c"},{NULL,""}}'$$),
    ('array_composite', 'pair[]', $$'{"(1,x)","(,)"}'$$),
    ('composite', 'pair', $$'(1,x)'$$),
    ('composite_nulls', 'pair', $$'(,)'$$),
    ('composite_nested', 'nested', $$'("(1,x)","{1,2}")'$$),
    ('domain', 'positive', '5'),
    ('domain_text', 'short_text', $$'abc'$$),
    ('domain_composite', 'positive_pair', $$'(1,x)'$$),
    ('array_domain', 'positive[]', $$'{1,2}'$$),
    ('null_int', 'integer', 'NULL'),
    ('null_text', 'text', 'NULL'),
    ('null_composite', 'pair', 'NULL'),
    ('large_plain', 'text', $$repeat('a', 100000)$$),
    ('large_random', 'text', $$(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 20000) AS i)$$),
    ('large_array', 'integer[]', $$(SELECT array_agg(i) FROM generate_series(1, 50000) AS i)$$);

DO $$
DECLARE k kinds;
BEGIN
    FOR k IN SELECT * FROM kinds LOOP
        EXECUTE format('CREATE FUNCTION f_%s() RETURNS %s LANGUAGE sql STABLE AS %L', k.kind, k.type,
                       format('SELECT (%s)::%s', k.value, k.type));
        PERFORM cache_function(format('f_%s()', k.kind)::regprocedure);
    END LOOP;
END $$;

-- The value as it prints, and whether the function, the fill and the hit agree in it and in its size.
CREATE FUNCTION compare(kind text, OUT same boolean, OUT value text) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    query text := 'SELECT format(''%%s %%s %%s'', pg_typeof(v), v IS NULL, v) FROM f_%s() AS t (v)';
    plain text;
    filled text;
    hit text;
BEGIN
    IF EXISTS (SELECT FROM pg_proc WHERE proname = 'f_' || kind AND prorettype::regtype::text ~ 'pair|nested') THEN
        query := replace(query, 't (v)', 'v');
    END IF;
    EXECUTE format(query, kind) INTO plain;
    EXECUTE format(query, kind || '_cached') INTO filled;
    EXECUTE format(query, kind || '_cached') INTO hit;
    same := plain = filled AND plain = hit;
    value := CASE WHEN length(hit) > 100 THEN left(hit, 60) || ' … ' || md5(hit) ELSE hit END;
END $$;
\pset format unaligned
\pset tuples_only on
SELECT kind, c.* FROM kinds, compare(kind) AS c ORDER BY kind;
\pset format aligned
\pset tuples_only off
-- Each was computed once, and taken from the cache once.
SELECT regexp_replace(o, '^[^:]*', 'f_…_cached') AS outcome, count(*) FROM outcomes() AS o GROUP BY 1 ORDER BY 1;

-- In the binary protocol, in another session: a hit is more than text that looks the same.
\c -
SET search_path = values_test, public;
SELECT f_numeric_cached() = 1.1 AS numeric, scale(f_numeric_cached()), f_array_bounds_cached() = '[2:3]={1,2}' AS bounds,
       (f_composite_nested_cached()).p.b, f_large_array_cached() = f_large_array() AS large_array,
       pg_column_size(f_large_plain_cached()) = pg_column_size(f_large_plain()) AS size;
SELECT (f_composite_cached()).*, (f_domain_composite_cached()).a;
SELECT * FROM f_composite_cached();
SELECT * FROM f_composite_nested_cached();
SELECT f_null_composite_cached()::text IS NULL AS null_row, f_composite_nulls_cached()::text AS row_of_nulls;

-- Values that lie out of line in a table: what is stored does not point there.
CREATE TABLE documents (id integer PRIMARY KEY, body text, parts text[], couple pair);
ALTER TABLE documents ALTER body SET STORAGE EXTERNAL, ALTER parts SET STORAGE EXTERNAL;
INSERT INTO documents
SELECT 1, long, ARRAY[long, NULL, long], ROW(1, long)::pair
FROM (SELECT string_agg(md5(i::text), '') AS long FROM generate_series(1, 2000) AS i) AS s;
SELECT cache_track_table('documents');
CREATE FUNCTION document(id integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT body FROM documents AS d WHERE d.id = $1';
CREATE FUNCTION document_parts(id integer) RETURNS text[] LANGUAGE sql STABLE AS 'SELECT parts FROM documents AS d WHERE d.id = $1';
CREATE FUNCTION document_row(id integer) RETURNS documents LANGUAGE sql STABLE AS 'SELECT d FROM documents AS d WHERE d.id = $1';
CREATE FUNCTION documents_all() RETURNS SETOF documents LANGUAGE plpgsql STABLE AS 'BEGIN RETURN QUERY SELECT * FROM documents; END';
SELECT cache_function(f) FROM unnest('{document(int),document_parts(int),document_row(int),documents_all()}'::regprocedure[]) AS f;
CREATE FUNCTION digests() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT concat_ws(' ', left(md5(document_cached(1)), 8), left(md5(document_parts_cached(1)::text), 8),
                     left(md5(document_row_cached(1)::text), 8),
                     (SELECT left(md5(string_agg(d::text, '')), 8) FROM documents_all_cached() AS d))
$$;
SELECT digests() AS filled \gset
BEGIN;
SET LOCAL pg_query_cache.enabled = off;
SELECT digests() = :'filled' AS fill_is_right;
COMMIT;
SELECT digests() = :'filled' AS hit_is_right;
SELECT outcomes();
-- The row goes, and with it what lay out of line; the old result is not served.
DELETE FROM documents;
VACUUM documents;
SELECT document_cached(1) IS NULL AS gone, document_parts_cached(1) IS NULL, document_row_cached(1) IS NULL, (SELECT count(*) FROM documents_all_cached());
SELECT outcomes();

-- A composite value depends on its type's definition.
ALTER TYPE pair ADD ATTRIBUTE c boolean;
CREATE OR REPLACE FUNCTION f_composite() RETURNS pair LANGUAGE sql STABLE AS $$SELECT (1, 'x', true)::pair$$;
SELECT * FROM f_composite_cached();
ALTER TYPE pair DROP ATTRIBUTE b;
CREATE OR REPLACE FUNCTION f_composite() RETURNS pair LANGUAGE sql STABLE AS $$SELECT (1, true)::pair$$;
SELECT * FROM f_composite_cached();
SELECT * FROM f_composite_cached();
SELECT outcomes();

-- Results larger than pg_query_cache.max_entry_size are returned, and not stored.
SET pg_query_cache.max_entry_size = '8kB';
CREATE FUNCTION large(bytes integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT repeat('x', bytes)$$;
SELECT cache_function('large(int)');
SELECT length(large_cached(9000)), length(large_cached(9000)), length(large_cached(5000)), length(large_cached(5000));
SELECT outcomes();
RESET pg_query_cache.max_entry_size;

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA values_test CASCADE;
