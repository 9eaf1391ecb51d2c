-- What sqlsmith finds: the extension, the sample schemas, cached functions that take and return types which random queries have at
-- hand, views that call what a random query cannot call, and values that are bad for the functions of the extension.

\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE EXTENSION pg_query_cache;
\ir ../../sql/samples/marketplace.sql
\ir ../../sql/samples/flights.sql
\ir ../../sql/samples/contacts.sql
SELECT marketplace.generate(0.01) \g /dev/null
SELECT contacts.generate(0.002) \g /dev/null

CREATE SCHEMA smith;
SET search_path = smith, public;

CREATE TABLE t (id integer PRIMARY KEY, parent integer, label text, amount numeric, at timestamptz, done boolean, doc jsonb, tags text[]);
INSERT INTO t
SELECT g, g / 2, 'label ' || g % 7, g * 1.5, '2024-01-01'::timestamptz + g * interval '1 hour', g % 2 = 0, jsonb_build_object('n', g), ARRAY[g::text]
FROM generate_series(1, 500) AS g;
CREATE TABLE parted (id integer, label text) PARTITION BY HASH (id);
CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO parted SELECT g, 'p' || g % 5 FROM generate_series(1, 200) AS g;
CREATE TABLE secret (owner name, id integer);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secret USING (owner = current_user);
INSERT INTO secret SELECT u, g FROM unnest('{postgres,smith}'::name[]) AS u, generate_series(1, 5) AS g;

-- A function per type that a random query is likely to want.
CREATE FUNCTION count_of(parent integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM t WHERE t.parent = count_of.parent';
CREATE FUNCTION parent_of(id integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT parent FROM t WHERE t.id = parent_of.id';
CREATE FUNCTION label_of(id integer) RETURNS text LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT label FROM t WHERE t.id = label_of.id); END';
CREATE FUNCTION id_of(label text) RETURNS integer LANGUAGE sql STABLE STRICT AS 'SELECT min(id) FROM t WHERE t.label = id_of.label';
CREATE FUNCTION known(label text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM t WHERE t.label = known.label)';
CREATE FUNCTION done(id integer) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT done FROM t WHERE t.id = done.id';
CREATE FUNCTION total(since timestamptz) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT sum(amount) FROM t WHERE at >= since';
CREATE FUNCTION last_at(label text) RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT max(at) FROM t WHERE t.label = last_at.label';
CREATE FUNCTION doc_of(id integer, path text) RETURNS jsonb LANGUAGE sql STABLE AS 'SELECT doc -> path FROM t WHERE t.id = doc_of.id';
CREATE FUNCTION tags_of(id integer) RETURNS text[] LANGUAGE sql STABLE AS 'SELECT tags FROM t WHERE t.id = tags_of.id';
CREATE FUNCTION length_of(doc jsonb) RETURNS integer LANGUAGE sql STABLE AS 'SELECT length(doc::text)';
CREATE FUNCTION name_of(relation oid) RETURNS name LANGUAGE sql STABLE AS 'SELECT label::name FROM t WHERE t.id = relation::bigint % 500';
CREATE FUNCTION age_of(id bigint) RETURNS interval LANGUAGE sql STABLE AS 'SELECT max(at) - min(at) FROM t WHERE t.id < age_of.id';
CREATE FUNCTION row_of(id integer) RETURNS t LANGUAGE sql STABLE AS 'SELECT t FROM t WHERE t.id = row_of.id';
CREATE FUNCTION part_count(label text) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM parted WHERE parted.label = part_count.label';
CREATE FUNCTION secrets() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(id) FROM secret';
CREATE FUNCTION fails(id integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1 / (id % 3)';
CREATE FUNCTION children(id integer) RETURNS SETOF t LANGUAGE sql STABLE AS 'SELECT * FROM t WHERE t.parent = children.id';

SELECT cache_function('count_of(int)', depends_on => '{"smith.t": {"parent": "$1"}}'),
       cache_function('parent_of(int)'), cache_function('label_of(int)', tags => '{"label of $1"}'),
       cache_function('id_of(text)'), cache_function('known(text)', scope => 'shared'), cache_function('done(int)', ttl => '1 second'),
       cache_function('total(timestamptz)'), cache_function('last_at(text)', class => 'analytics'),
       cache_function('doc_of(int,text)', priority => 3), cache_function('tags_of(int)'), cache_function('length_of(jsonb)'),
       cache_function('name_of(oid)', consistency => 'ttl'), cache_function('age_of(bigint)'), cache_function('row_of(int)'),
       cache_function('part_count(text)'), cache_function('secrets()'), cache_function('fails(int)'),
       cache_function('marketplace.expert_report(uuid)'), cache_function('marketplace.product_report(uuid)'),
       cache_function('children(int)'), cache_function('flights.airport_day(text,date)') \g /dev/null
CREATE FUNCTION outer_of(id integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count_of_cached(parent_of_cached(id)) + part_count_cached(''p1'')';
SELECT cache_function('outer_of(int)') \g /dev/null
SELECT cache_track_table('parted', '{label}'), cache_track_table('secret') \g /dev/null

-- What returns rows is called by no random query; these views are read by them.
CREATE VIEW children_of AS SELECT t.id AS of, c.* FROM t, children_cached(t.id) AS c WHERE t.id < 50;
CREATE VIEW stats AS SELECT * FROM cache_stats();
CREATE VIEW entries AS SELECT * FROM cache_memory_entries();
CREATE VIEW health AS SELECT * FROM analyze_cache_health();
CREATE VIEW top_entries AS SELECT * FROM get_top_cache_entries(20);
CREATE VIEW cleanups AS SELECT * FROM get_cache_cleanup_stats(3);

-- Values that calls of the extension's own functions are made with.
CREATE TABLE material (function regprocedure, relation regclass, object oid, doc jsonb, age interval, word text, words text[], columns name[], n integer, bytes bytea);
INSERT INTO material (function) SELECT p.oid FROM pg_proc AS p WHERE p.pronamespace = 'smith'::regnamespace OR p.proname ~ '^cache_' OR p.oid::bigint % 50 = 0;
INSERT INTO material (relation, object) SELECT c.oid, c.oid FROM pg_class AS c WHERE c.relnamespace = 'smith'::regnamespace OR c.oid::bigint % 10 = 0;
INSERT INTO material (doc) SELECT x::jsonb
FROM unnest(ARRAY['{}', '[]', 'null', '1e400', '{"smith.t": {"id": "$1"}}', '{"smith.t": {"id": "$9"}}', '{"nosuch": {}}', repeat('[', 200) || repeat(']', 200)]) AS x;
INSERT INTO material (age) VALUES ('0'), ('-1 second'), ('1 hour'), ('178000000 years'), ('-178000000 years');
INSERT INTO material (word) VALUES (''), ('$1'), ('ttl'), ('shared'), ('role'), ('analytics'), ('label 1'), (repeat('ü', 5000));
INSERT INTO material (words, columns) VALUES ('{}', '{}'), ('{NULL}', '{NULL}'), ('{a,b}', '{id}'), ('{{a},{b}}', '{{id},{label}}'), ('{label of 1}', '{nosuch}');
INSERT INTO material (n) VALUES (0), (-1), (3), (2147483647), (-2147483648);
INSERT INTO material (bytes) VALUES (''), ('\x00'), ('\xffffffffffffffff'), (decode(repeat('01', 4096), 'hex'));

-- Of three thousand functions of the server sqlsmith finds ours rarely. Under this schema it sees all of ours and some of the server's.
CREATE SCHEMA lens;
CREATE VIEW lens.pg_proc AS
SELECT *
FROM pg_catalog.pg_proc AS p
WHERE p.pronamespace <> 'pg_catalog'::regnamespace
   -- Most calls with polymorphic types fail in the parser.
   OR p.oid::bigint % 10 = 0 AND NOT EXISTS (SELECT FROM pg_type AS t WHERE t.typtype = 'p' AND t.oid = ANY (p.prorettype || p.proargtypes::oid[]));

-- Somebody who is not the superuser, and may do much.
CREATE ROLE smith LOGIN;
GRANT pg_monitor TO smith;
GRANT ALL ON SCHEMA smith, marketplace, flights, public, lens TO smith;
GRANT ALL ON ALL TABLES IN SCHEMA smith, marketplace, flights, lens TO smith;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO smith;
ANALYZE;
