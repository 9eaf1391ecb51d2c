-- Every function of the extension with bad arguments, one and two at a time: it answers or raises a clear error, never XX000.
\set ECHO errors
SET client_min_messages = warning;
CREATE SCHEMA hostile;
SET search_path = hostile, public;
\set ECHO all

-- What there is to be named.
CREATE TABLE t (id integer PRIMARY KEY, parent integer, label text DEFAULT repeat('x', 3000), doc jsonb);
CREATE TABLE parted (id integer, label text) PARTITION BY LIST (id);
CREATE TABLE part PARTITION OF parted DEFAULT;
CREATE TABLE child () INHERITS (t);
CREATE UNLOGGED TABLE "un""logged" ("Id ''" integer);
CREATE VIEW v AS SELECT * FROM t;
CREATE MATERIALIZED VIEW m AS SELECT * FROM t;
CREATE SEQUENCE s;
CREATE TYPE pair AS (a integer, b text);
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE FOREIGN DATA WRAPPER w;
CREATE SERVER w FOREIGN DATA WRAPPER w;
CREATE FOREIGN TABLE far (id integer) SERVER w;
INSERT INTO t (id, parent) SELECT g, g / 2 FROM generate_series(1, 20) AS g;
CREATE FUNCTION f(id integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM t WHERE parent = f.id';
CREATE FUNCTION rows_of(id integer) RETURNS SETOF t LANGUAGE sql STABLE AS 'SELECT * FROM t WHERE parent = rows_of.id';
CREATE FUNCTION table_of(id integer, OUT a integer, OUT b pair) RETURNS SETOF record LANGUAGE sql STABLE AS 'SELECT 1, (2, 3)::pair';
CREATE FUNCTION any_of(x anyelement) RETURNS anyarray LANGUAGE sql STABLE AS 'SELECT ARRAY[x]';
CREATE FUNCTION record_of() RETURNS record LANGUAGE sql STABLE AS 'SELECT 1, 2';
CREATE FUNCTION many(VARIADIC x integer[]) RETURNS integer LANGUAGE sql STABLE AS 'SELECT x[1]';
CREATE FUNCTION in_out(INOUT x integer, OUT y text) LANGUAGE sql STABLE AS 'SELECT x, NULL::text';
CREATE FUNCTION domain_of(x positive) RETURNS positive LANGUAGE sql STABLE AS 'SELECT x';
CREATE FUNCTION nothing() RETURNS void LANGUAGE sql STABLE AS '';
CREATE FUNCTION changes() RETURNS integer LANGUAGE sql VOLATILE AS 'DELETE FROM t RETURNING 1';
CREATE FUNCTION "a ""quoted"" $1 ' name"("b ' $1" integer DEFAULT 1) RETURNS text LANGUAGE sql STABLE AS 'SELECT ''ü''';
CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE PROCEDURE does() LANGUAGE sql AS '';
CREATE FUNCTION keyed(id integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM t WHERE parent = keyed.id';
SELECT cache_function('keyed(int)', depends_on => '{"t": {"parent": "$1"}}'), cache_function('rows_of(int)');
SELECT keyed_cached(1), count(rows_of_cached) FROM rows_of_cached(1);

-- Bad values of each type. The first of a type is a good one.
CREATE TABLE material (type regtype, n serial, value text);
INSERT INTO material (type, value) SELECT 'regprocedure', p.oid
FROM pg_proc AS p WHERE p.pronamespace = 'hostile'::regnamespace ORDER BY p.proname <> 'f', p.proname, p.oid;
INSERT INTO material (type, value) SELECT 'regprocedure', x::regprocedure::oid
FROM unnest('{now(),pg_backend_pid(),random(),row_number(),sum(integer),array_agg(anynonarray),int4in(cstring),pg_sleep(float8),
              "generate_series(integer,integer)",cache_stats(),clear_cache(),cache_tracker(),query_cache_internal.cached_call_handler()}'::text[]) AS x;
INSERT INTO material (type, value) VALUES ('regprocedure', '0'), ('regprocedure', '1'), ('regprocedure', '4294967295');
INSERT INTO material (type, value) SELECT 'oid', value FROM material WHERE type = 'regprocedure'::regtype ORDER BY n;
INSERT INTO material (type, value) SELECT 'regclass', c.oid
FROM pg_class AS c WHERE c.relnamespace = 'hostile'::regnamespace ORDER BY c.relname <> 't', c.relname, c.oid;
INSERT INTO material (type, value) SELECT 'regclass', x
FROM (VALUES ('query_cache'), ('cache_cleanup_log'), ('cached_functions'), ('pg_class'), ('pg_authid'), ('pg_settings'),
             ('information_schema.tables'), ('0'), ('1'), ('4294967295'),
             ((SELECT c.reltoastrelid::regclass::text FROM pg_class AS c WHERE c.oid = 't'::regclass))) AS x (x);
INSERT INTO material (type, value)
SELECT t.type::regtype, v.value
FROM (VALUES
    ('integer', '{7,0,-1,1,3,4,2147483647,-2147483648}'::text[]),
    ('bigint', '{7,0,-1,2147483648,9223372036854775807,-9223372036854775808}'),
    ('boolean', '{true,false}'),
    ('double precision', '{1,0,-1,NaN,Infinity,-Infinity,1e308}'),
    ('interval', '{1 hour,0,-1 second,1 microsecond,1 month,-1 month,1 year -366 days,178000000 years,-178000000 years,
                   "2147483647 days 2562047788 hours","-2147483648 days -2562047788 hours"}'),
    ('timestamp with time zone', '{2020-01-01,infinity,-infinity,294276-12-31,4713-01-01 BC}'),
    ('bytea', '{"\\\\x00","","\\\\xffffffff","\\\\x01000000000000000100000000000000","\\\\x7fffffff7fffffff7fffffff7fffffff"}'),
    ('uuid', '{00000000-0000-0000-0000-000000000000,ffffffff-ffff-ffff-ffff-ffffffffffff}')) AS t (type, pool),
    unnest(t.pool) AS v (value);
INSERT INTO material (type, value)
SELECT t::regtype, v.value
FROM unnest('{text,name,text[],name[],jsonb}'::regtype[]) AS t,
     LATERAL (VALUES ('text', 'x'), ('text', ''), ('text', ' '), ('text', '$1'), ('text', '%s%n$$'), ('text', E'a\nb\t\\"'''), ('text', 'ü€𐍈'),
                     ('text', 'analytics'), ('text', 'shared'), ('text', 'role'), ('text', 'claims'), ('text', 'ttl'), ('text', 'strict'),
                     ('text', 'max_entries'), ('text', 'class.x.ttl'), ('text', 'class.ü.enabled'), ('text', 'function.f(int).enabled'),
                     ('text', 'function.("((.enabled'), ('text', '99999999999999999999'),
                     ('text', 'f'), ('text', 'f(int)'), ('text', 'keyed_cached'), ('text', '1 hour'), ('text', '-1'), ('text', '{}'),
                     ('text', '['), ('text', '*[^a-'), ('text', '?*\'),
                     ('text', 'SELECT 1'), ('text', 'DROP TABLE hostile.t'), ('text', repeat('long ', 20000)), ('text', repeat('ü', 40)),
                     ('name', 'id'), ('name', ''), ('name', '$1'), ('name', 'nosuch'), ('name', repeat('ü', 31)),
                     ('text[]', '{a,b}'), ('text[]', '{}'), ('text[]', '{NULL}'), ('text[]', '{"",NULL,$1,$99,$}'), ('text[]', '{{a,b},{c,d}}'),
                     ('text[]', '[5:6]={a,b}'), ('text[]', '[-2147483648:-2147483647]={a,b}'),
                     ('text[]', (SELECT array_agg(repeat('x', g))::text FROM generate_series(1, 400) AS g)),
                     ('name[]', '{}'), ('name[]', '{id}'), ('name[]', '{id,id}'), ('name[]', '{parent,label,id}'), ('name[]', '{doc}'),
                     ('name[]', '{NULL}'), ('name[]', '{nosuch}'), ('name[]', '{ctid}'), ('name[]', '{""}'), ('name[]', '{{id,parent},{label,doc}}'),
                     ('name[]', '[0:0]={id}'), ('name[]', array_fill('id'::name, ARRAY[300])::text),
                     ('jsonb', '{"t": {"parent": "$1"}}'), ('jsonb', 'null'), ('jsonb', 'true'), ('jsonb', '1e400'), ('jsonb', '""'), ('jsonb', '[]'),
                     ('jsonb', '[[{}]]'), ('jsonb', '{}'), ('jsonb', '{"": {}}'), ('jsonb', '{"t": null}'), ('jsonb', '{"t": []}'), ('jsonb', '{"t": {"id": 1}}'),
                     ('jsonb', '{"t": {"nosuch": "$1"}}'), ('jsonb', '{"t": {"id": "$0"}}'), ('jsonb', '{"t": {"id": "$99999999999999999999"}}'),
                     ('jsonb', '{"t": {"label": "$1"}}'), ('jsonb', '{"v": {"id": "$1"}, "far": {}, "nosuch.x.y.z": {}}'),
                     ('jsonb', '{"a": "x", "b": [1, null, {"c": "''"}], "\"": "$$"}'),
                     ('jsonb', repeat('[', 2000) || repeat(']', 2000)),
                     ('jsonb', (SELECT jsonb_object_agg('t' || g, '{}'::jsonb)::text FROM generate_series(1, 500) AS g))) AS v (type, value)
WHERE v.type::regtype = t;

-- Calls one function with everything and undoes each call. Arguments with a default are NULL unless it is their turn.
CREATE PROCEDURE attack(function regprocedure, INOUT calls bigint, INOUT wrong text[]) LANGUAGE plpgsql AS $$
DECLARE
    types CONSTANT regtype[] := (SELECT p.proargtypes::regtype[] FROM pg_proc AS p WHERE p.oid = function);
    required CONSTANT integer := (SELECT p.pronargs - p.pronargdefaults FROM pg_proc AS p WHERE p.oid = function);
    good CONSTANT text[] := ARRAY(SELECT format('%L::%s', (SELECT m.value FROM material AS m
                                                           WHERE m.type = u.t AND u.i <= required ORDER BY m.n LIMIT 1), u.t)
                                  FROM unnest(types) WITH ORDINALITY AS u (t, i) ORDER BY u.i);
    call record;
    message text;
    state text;
BEGIN
    FOR call IN
        WITH bad AS MATERIALIZED (
            SELECT u.i, format('%L::%s', m.value, u.t) AS value
            FROM unnest(types) WITH ORDINALITY AS u (t, i)
            LEFT JOIN LATERAL (SELECT m.value FROM material AS m WHERE m.type = u.t UNION ALL SELECT NULL) AS m ON true)
        SELECT a.i AS i, a.value AS a, b.i AS j, b.value AS b
        FROM bad AS a LEFT JOIN bad AS b ON b.i > a.i
        -- All that one argument can be; of the pairs a tenth, and always the same.
        WHERE b.i IS NULL OR hashtext(a.value || b.value) % 10 = 0
        UNION ALL SELECT a.i, a.value, NULL, NULL FROM bad AS a
        UNION ALL SELECT NULL, NULL, NULL, NULL
    LOOP
        DECLARE
            arguments text[] := good;
        BEGIN
            IF call.i IS NOT NULL THEN arguments[call.i] := call.a; END IF;
            IF call.j IS NOT NULL THEN arguments[call.j] := call.b; END IF;
            calls := calls + 1;
            EXECUTE format('SELECT count(x) FROM (SELECT %s(%s)) AS x', function::regproc, array_to_string(arguments, ', '));
            RAISE SQLSTATE 'UNDO1';
        EXCEPTION
            WHEN SQLSTATE 'UNDO1' THEN NULL;
            WHEN OTHERS THEN
                GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
                message := format('%s: %s %s', function::regproc, state, message);
                IF state LIKE 'XX%' AND message <> ALL (wrong) THEN
                    wrong := wrong || message;
                    RAISE WARNING '%, for example of (%)', message, left(array_to_string(arguments, ', '), 300);
                END IF;
        END;
    END LOOP;
END
$$;
CREATE PROCEDURE attack_all() LANGUAGE plpgsql AS $$
DECLARE
    function regprocedure;
    calls bigint := 0;
    wrong text[] := '{}';
BEGIN
    FOR function IN
        SELECT p.oid
        FROM pg_proc AS p
        WHERE (p.prolang = (SELECT l.oid FROM pg_language AS l WHERE l.lanname = 'cached')
               OR p.oid IN (SELECT d.objid FROM pg_depend AS d JOIN pg_extension AS e ON d.refobjid = e.oid
                            WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'pg_query_cache'))
          AND p.prorettype NOT IN ('trigger'::regtype, 'language_handler'::regtype)
        ORDER BY p.proname
    LOOP
        CALL attack(function, calls, wrong);
    END LOOP;
    IF calls < 1000 THEN RAISE WARNING 'only % calls', calls; END IF;
END
$$;
CALL attack_all();

-- The same as somebody who may do little, and in a session with a temporary table.
CREATE TEMPORARY TABLE temporary (id integer);
INSERT INTO material (type, value) VALUES ('regclass', 'temporary');
CREATE ROLE regress_hostile;
GRANT ALL ON SCHEMA hostile TO regress_hostile;
GRANT SELECT ON material, t TO regress_hostile;
SET ROLE regress_hostile;
CALL attack_all();
RESET ROLE;

\set ECHO none
DROP SCHEMA hostile CASCADE;
DROP FOREIGN DATA WRAPPER w CASCADE;
DROP OWNED BY regress_hostile;
DROP ROLE regress_hostile;
