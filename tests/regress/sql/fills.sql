-- What may happen while a result is computed that is to be stored: what a function does, asks or catches besides reading tables.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA fills_test;
SET search_path = fills_test, public;
\i :outcomes
\set ECHO all
CREATE TABLE items (id integer PRIMARY KEY, name text);
INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, 10) AS i;
CREATE SEQUENCE numbers;
SELECT cache_track_table('items');
-- Makes a function of an expression, caches it, calls it in a transaction of its own and says what became of its result.
CREATE FUNCTION make(name text, expression text, consistency text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE FUNCTION %I() RETURNS text LANGUAGE sql STABLE AS %L', name, 'SELECT (' || expression || ')::text');
    PERFORM cache_function(format('%I()', name)::regprocedure, consistency => make.consistency);
END$$;
CREATE FUNCTION said(name text) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce((SELECT string_agg(key, ', ' ORDER BY key)
                     FROM cache_function_stats AS s, jsonb_object_keys(s.reasons) AS key WHERE s.function::text ~ ('^' || name || '_cached\(')),
                    'stored')
$$;

-- Errors that the function catches. What a statement that failed would have read is known for those that its data make.
CREATE FUNCTION divided(d integer) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN RETURN (SELECT sum(id / d) FROM items); EXCEPTION WHEN division_by_zero THEN RETURN 'none'; END$$;
CREATE FUNCTION named(n integer) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE found text;
BEGIN
    SELECT name INTO STRICT found FROM items WHERE id = n;
    RETURN found;
EXCEPTION WHEN no_data_found THEN RETURN 'none';
END$$;
CREATE FUNCTION raised() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN RAISE EXCEPTION 'mine'; EXCEPTION WHEN OTHERS THEN RETURN SQLERRM; END$$;
CREATE FUNCTION read_as_number(t text) RETURNS integer LANGUAGE plpgsql STABLE AS $$
BEGIN RETURN t::integer; EXCEPTION WHEN invalid_text_representation THEN RETURN NULL; END$$;
CREATE FUNCTION noticed() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RAISE DEBUG 'seen'; RAISE LOG 'seen'; RETURN 'said'; END$$;
CREATE FUNCTION raised_again() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    BEGIN PERFORM 1 / 0; EXCEPTION WHEN no_data_found THEN NULL; END;
EXCEPTION WHEN OTHERS THEN
    BEGIN RAISE; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END;
END$$;
SELECT cache_function('raised_again()');
SELECT cache_function('divided(int)'), cache_function('named(int)'), cache_function('raised()'),
       cache_function('read_as_number(text)'), cache_function('noticed()');
SELECT divided_cached(0), named_cached(11), raised_cached(), read_as_number_cached('x'), noticed_cached();
SELECT raised_again_cached(), said('raised_again');
SELECT said('divided'), said('named'), said('raised'), said('read_as_number'), said('noticed');
INSERT INTO items VALUES (11, 'item 11');
SELECT named_cached(11), divided_cached(1);
-- Not for those that come from elsewhere: time, memory, locks, files.
CREATE FUNCTION impatient() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN PERFORM pg_sleep(10); RETURN 'in time'; EXCEPTION WHEN query_canceled THEN RETURN 'too late'; END$$;
CREATE FUNCTION sorted() RETURNS text LANGUAGE plpgsql STABLE SET temp_file_limit = '64kB' SET work_mem = '64kB' AS $$
BEGIN
    RETURN (SELECT count(*) FROM (SELECT g FROM generate_series(1, 100000) AS g ORDER BY g::text) AS o);
EXCEPTION WHEN configuration_limit_exceeded THEN RETURN 'no room';
END$$;
CREATE FUNCTION deep(n integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$BEGIN RETURN deep(n + 1); END$$;
CREATE FUNCTION shallow() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN RETURN deep(1); EXCEPTION WHEN statement_too_complex THEN RETURN 'too deep'; END$$;
CREATE FUNCTION state(code text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN RAISE EXCEPTION USING ERRCODE = code; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END$$;
CREATE FUNCTION in_the_middle(code text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE answer text := state_cached(code);
BEGIN RETURN 'middle ' || answer; END$$;
SELECT cache_function('impatient()'), cache_function('sorted()'), cache_function('shallow()'), cache_function('state(text)');
SELECT cache_function('in_the_middle(text)');
SET statement_timeout = '100ms';
SELECT impatient_cached();
RESET statement_timeout;
SELECT sorted_cached(), shallow_cached();
SELECT said('impatient'), said('sorted'), said('shallow');
SELECT code, state_cached(code) FROM unnest('{22012,40001,40P01,42P01,42P03,53200,53400,54001,55P03,58030,P0001,XX000,0A000,34000}'::text[]) AS code;
SELECT outcomes() \g /dev/null
SELECT code, state_cached(code) FROM unnest('{22012,40001,40P01,42P01,42P03,53200,53400,54001,55P03,58030,P0001,XX000,0A000,34000}'::text[]) AS code;
SELECT outcomes();
-- Caught further out than it was raised.
SELECT in_the_middle_cached('55P03'), in_the_middle_cached('22012');
SELECT said('in_the_middle');

-- Functions that do more than give a result, or read what no snapshot shows. Each is called in vain if a stored result answers.
SET client_min_messages = error;
CREATE PUBLICATION everything FOR TABLE items;
RESET client_min_messages;
SELECT make('takes_number', $$nextval('numbers') > 0$$), make('notifies', $$pg_notify('a', 'b') IS NULL$$),
       make('locks_key', 'pg_try_advisory_xact_lock(7)'), make('by_chance', 'random() < 2'), make('makes_id', 'gen_random_uuid() IS NULL'),
       make('looks_at_clock', 'clock_timestamp() > now()'), make('age_of', $$age('3'::xid)$$), make('file_of', $$pg_relation_filepath('items')$$),
       make('node_of', $$pg_relation_filenode('items')$$), make('size_of_value', $$pg_column_size(repeat('x', 10000))$$),
       make('compressed', $$pg_column_compression((SELECT name FROM items LIMIT 1))$$), make('started', 'pg_postmaster_start_time()'),
       make('zones', '(SELECT count(*) FROM pg_timezone_abbrevs)'), make('prepared', '(SELECT count(*) FROM pg_prepared_xact())'),
       make('slots', '(SELECT count(*) FROM pg_get_replication_slots())'), make('published', $$pg_get_publication_tables('everything') IS NULL$$),
       make('control', '(SELECT count(*) FROM pg_control_system())'), make('activity', $$pg_stat_get_live_tuples('items'::regclass) >= 0$$),
       make('ended', $$txid_status(3) IS NULL$$), make('own_counts', '(SELECT count(*) FROM cache_stats())');
SELECT takes_number_cached(), notifies_cached(), locks_key_cached(), by_chance_cached(), makes_id_cached(), looks_at_clock_cached(),
       age_of_cached() IS NOT NULL AS age_of, file_of_cached() IS NOT NULL AS file_of, node_of_cached() IS NOT NULL AS node_of,
       size_of_value_cached() IS NOT NULL AS size_of_value, compressed_cached(), started_cached() IS NOT NULL AS started,
       zones_cached() IS NOT NULL AS zones, prepared_cached(), slots_cached(), published_cached(), control_cached(), activity_cached(), ended_cached(), own_counts_cached();
SELECT name, said(name) FROM unnest('{takes_number,notifies,locks_key,by_chance,makes_id,looks_at_clock,age_of,file_of,node_of,size_of_value,compressed,started,zones,prepared,slots,published,control,activity,ended,own_counts}'::text[]) AS name;
-- Whichever way the function is called.
CREATE DOMAIN numbered_id AS integer CHECK (VALUE > 0 AND nextval('fills_test.numbers') > 0);
CREATE FUNCTION by_variable() RETURNS integer LANGUAGE plpgsql STABLE AS $$DECLARE v numbered_id; BEGIN v := 1; RETURN v; END$$;
CREATE FUNCTION by_text() RETURNS boolean LANGUAGE plpgsql STABLE AS $$DECLARE b boolean; BEGIN EXECUTE 'SELECT random() < 2' INTO b; RETURN b; END$$;
CREATE FUNCTION added(integer, integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$BEGIN RETURN $1 + $2; END$$;
CREATE OPERATOR ### (leftarg = integer, rightarg = integer, function = added);
CREATE AGGREGATE summed(integer) (sfunc = added, stype = integer, initcond = 0);
CREATE AGGREGATE summed_well(integer) (sfunc = int4pl, stype = integer, initcond = 0);
CREATE VIEW by_random AS SELECT id FROM items WHERE random() < 2;
CREATE FUNCTION inlined() RETURNS double precision LANGUAGE sql AS 'SELECT random()';
SELECT cache_function('by_variable()'), cache_function('by_text()'), make('by_domain', '(SELECT max(id) FROM items)::numbered_id'), make('by_operator', '1 ### 2'),
       make('by_aggregate', '(SELECT summed(id) FROM items)'), make('by_good_aggregate', '(SELECT summed_well(id) FROM items)'),
       make('by_view', '(SELECT count(*) FROM by_random)'), make('by_inlined', 'inlined() < 2');
SELECT by_variable_cached(), by_text_cached(), by_domain_cached(), by_operator_cached(), by_aggregate_cached(), by_good_aggregate_cached(),
       by_view_cached(), by_inlined_cached();
SELECT name, said(name) FROM unnest('{by_variable,by_text,by_domain,by_operator,by_aggregate,by_good_aggregate,by_view,by_inlined}'::text[]) AS name;
-- What functions usually do is on the list.
CREATE FUNCTION usual() RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    all_ids CURSOR FOR SELECT id FROM items ORDER BY id;
    ids integer[] := '{}'; r record; answer jsonb;
BEGIN
    FOR r IN all_ids LOOP ids := ids || r.id; END LOOP;
    ASSERT cardinality(ids) > 0;
    SELECT jsonb_agg(to_jsonb(i) || jsonb_build_object('text', format('%s-%I', id, name), 'shown', to_char(1.5, '9.9'), 'day', now()::date - current_date,
               'before', lag, 'words', to_tsvector('english', name), 'digest', md5(name)) ORDER BY id) INTO answer
    FROM (SELECT *, lag(id, 1, 0) OVER (ORDER BY id) AS lag FROM items) AS i, LATERAL generate_series(1, 2) AS g
    WHERE id = ANY (ids) AND name ~ '^item' AND (id, name) > (0, '') AND id BETWEEN 1 AND 2 AND current_user IS NOT NULL AND current_schema() IS NOT NULL;
    RETURN answer;
END$$;
SELECT cache_function('usual()');
SELECT jsonb_array_length(usual_cached());
SELECT said('usual');
-- Where age decides, they may read, and not act.
SELECT make('aged_chance', 'random()', 'ttl'), make('aged_size', $$pg_column_size(repeat('x', 10000))$$, 'ttl'), make('aged_number', $$nextval('numbers')$$, 'ttl');
SELECT aged_chance_cached() = aged_chance_cached() AS same, aged_size_cached() IS NOT NULL AS size, aged_number_cached() <> aged_number_cached() AS goes_on;
-- The administrator can vouch for a function: that nothing is missed if it is not called.
SET pg_query_cache.trusted_functions = 'fills_test.none(integer, text), nextval(regclass),pg_catalog.pg_relation_filepath(pg_catalog.regclass)';
SELECT takes_number_cached(), file_of_cached() IS NOT NULL AS file_of, node_of_cached() IS NOT NULL AS node_of;
SELECT outcomes() \g /dev/null
SELECT takes_number_cached(), file_of_cached() IS NOT NULL AS file_of, node_of_cached() IS NOT NULL AS node_of;
SELECT outcomes();
RESET pg_query_cache.trusted_functions;
-- A helper that is VOLATILE reads under a newer snapshot than its caller; its own word counts, not what it does.
CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT count(*) FROM items';
CREATE FUNCTION idle() RETURNS bigint LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN 1; END';
SELECT make('by_volatile', 'counted()'), make('by_idle', 'idle()');
SELECT by_volatile_cached(), by_idle_cached();
SELECT said('by_volatile'), said('by_idle');
SELECT outcome, reason, detail, hint FROM cache_explain('by_idle_cached()');
-- An expression that the transaction has made ready once, and calls again.
CREATE FUNCTION sets() RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE answer text;
BEGIN answer := set_config('fills_test.a', 'set', true); RETURN answer; END$$;
CREATE FUNCTION sets_for(n integer) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN sets() || n; END$$;
CREATE FUNCTION numbered(n integer) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE answer bigint;
BEGIN answer := nextval('numbers'); RETURN answer > n; END$$;
SELECT cache_function('sets_for(int)'), cache_function('numbered(int)');
SELECT outcomes() \g /dev/null
BEGIN;
SELECT sets_for_cached(1);
SELECT sets_for_cached(2);
COMMIT;
BEGIN;
SELECT numbered_cached(1);
SELECT numbered_cached(2);
COMMIT;
SELECT outcomes();
SELECT sets_for_cached(1), sets_for_cached(2);
SELECT numbered_cached(1), numbered_cached(2);
SELECT outcomes();

-- What the caller calls is nothing to the function.
CREATE FUNCTION plain(n integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$BEGIN RETURN n; END$$;
SELECT cache_function('plain(int)');
-- What they have in common is.
CREATE FUNCTION helper() RETURNS bigint LANGUAGE plpgsql STABLE AS $$DECLARE n bigint; BEGIN n := nextval('numbers'); RETURN n; END$$;
CREATE FUNCTION helped(n integer) RETURNS boolean LANGUAGE plpgsql STABLE AS $$BEGIN RETURN helper() > n; END$$;
SELECT cache_function('helped(int)');
DO $$
DECLARE number bigint;
BEGIN
    number := helper();
    PERFORM helped_cached(1), plain_cached(21);
    PERFORM helped_cached(2), plain_cached(22);
END$$;
SELECT outcomes();
DO $$
DECLARE number bigint; moment timestamptz;
BEGIN
    FOR n IN 1..3 LOOP
        number := nextval('numbers');
        moment := clock_timestamp();
        PERFORM plain_cached(n);
        number := plain_cached(n + 10);
    END LOOP;
END$$;
SELECT outcomes();

-- A plan that is shown rests on statistics.
CREATE FUNCTION estimate() RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE line json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON) SELECT FROM items' INTO line;
    RETURN line -> 0 -> 'Plan' ->> 'Plan Rows';
END$$;
CREATE FUNCTION estimated() RETURNS integer LANGUAGE plpgsql STABLE AS $$BEGIN RETURN estimate(); END$$;
SELECT cache_function('estimated()'), cache_function('estimate()', consistency => 'ttl');
SELECT estimated_cached() = estimated() AS same, estimate_cached() > 0 AS some;
ANALYZE items;
SELECT estimated_cached() = estimated() AS same;
SELECT said('estimated'), said('estimate');

-- The name of a cursor is no result: the cursor is not there at a hit.
CREATE FUNCTION opens() RETURNS refcursor LANGUAGE plpgsql STABLE AS $$DECLARE c refcursor; BEGIN OPEN c FOR SELECT id FROM items; RETURN c; END$$;
CREATE FUNCTION opens_many() RETURNS refcursor[] LANGUAGE sql STABLE AS $$SELECT '{}'::refcursor[]$$;
CREATE TYPE with_cursor AS (n integer, c refcursor);
CREATE DOMAIN cursor_name AS refcursor;
CREATE FUNCTION opens_row() RETURNS with_cursor LANGUAGE sql STABLE AS $$SELECT NULL::with_cursor$$;
CREATE FUNCTION opens_table() RETURNS TABLE (a integer, c cursor_name) LANGUAGE sql STABLE AS $$SELECT 1, NULL::cursor_name$$;
SELECT cache_function('opens()');
SELECT cache_function('opens_many()');
SELECT cache_function('opens_row()');
SELECT cache_function('opens_table()');
CREATE FUNCTION opens_named() RETURNS text LANGUAGE plpgsql STABLE AS $$DECLARE c refcursor := 'left_open'; BEGIN OPEN c FOR SELECT id FROM items; RETURN c; END$$;
CREATE FUNCTION closes() RETURNS integer LANGUAGE plpgsql STABLE AS $$
DECLARE c refcursor; n integer;
BEGIN OPEN c FOR SELECT id FROM items ORDER BY id; FETCH c INTO n; CLOSE c; RETURN n; END$$;
CREATE FUNCTION fails_inside() RETURNS integer LANGUAGE plpgsql STABLE AS $$
BEGIN RETURN (SELECT sum(1 / (id - 5)) FROM items); EXCEPTION WHEN division_by_zero THEN RETURN 0; END$$;
SELECT cache_function('opens_named()'), cache_function('closes()'), cache_function('fails_inside()');
BEGIN; SELECT opens_named_cached(); FETCH 1 FROM left_open; COMMIT;
BEGIN; SELECT opens_named_cached(); FETCH 1 FROM left_open; COMMIT;
CREATE FUNCTION opens_further_in() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN opens_named_cached(); END$$;
SELECT cache_function('opens_further_in()');
BEGIN; SELECT opens_further_in_cached(); FETCH 1 FROM left_open; COMMIT;
BEGIN; SELECT opens_further_in_cached(); FETCH 1 FROM left_open; COMMIT;
SELECT closes_cached(), fails_inside_cached();
SELECT said('opens_named'), said('opens_further_in'), said('closes'), said('fails_inside');

-- The stack of the first caller.
CREATE FUNCTION stack() RETURNS text LANGUAGE plpgsql STABLE AS $$DECLARE s text; BEGIN GET DIAGNOSTICS s = PG_CONTEXT; RETURN s; END$$;
SELECT cache_function('stack()');
SELECT stack_cached() IS NOT NULL AS yes;
SELECT said('stack');

-- Where rows lie, and who wrote them.
SELECT make('place', $$(SELECT string_agg(ctid::text, ' ') FROM items WHERE id < 3)$$), make('writer', '(SELECT count(*) FROM items WHERE xmin IS NULL)'),
       make('locker', '(SELECT max(xmax::text) FROM items)'), make('by_place', $$(SELECT name FROM items WHERE ctid = '(0,1)')$$),
       make('sampled', '(SELECT count(*) FROM items TABLESAMPLE bernoulli (100) REPEATABLE (1))'),
       make('whole_row', '(SELECT max(items::text) FROM items)'), make('whose', '(SELECT min(tableoid)::regclass FROM items)');
SELECT place_cached(), writer_cached(), locker_cached() IS NOT NULL AS locker, by_place_cached(), sampled_cached(), whole_row_cached(), whose_cached();
SELECT name, said(name) FROM unnest('{place,writer,locker,by_place,sampled,whole_row,whose}'::text[]) AS name;

-- Functions in other languages are known one by one, or not at all.
CREATE EXTENSION hstore SCHEMA fills_test;
CREATE EXTENSION pageinspect SCHEMA fills_test;
CREATE FUNCTION my_path(regclass) RETURNS text LANGUAGE internal IMMUTABLE STRICT AS 'pg_relation_filepath';
CREATE FUNCTION my_upper(text) RETURNS text LANGUAGE internal IMMUTABLE STRICT AS 'upper';
CREATE FUNCTION stable_page(text, bigint) RETURNS bytea LANGUAGE c STABLE STRICT AS '$libdir/pageinspect', 'get_raw_page_1_9';
SELECT make('pairs', $$hstore('a', 'b') -> 'a'$$), make('page', $$length(stable_page('items', 0))$$), make('path', $$my_path('items'::regclass) IS NOT NULL$$),
       make('upper_case', $$my_upper('a')$$), make('key_of', $$cache_key('a', 'b')$$), make('value_of', $$cache_get('nothing')$$);
SELECT pairs_cached(), page_cached(), path_cached(), upper_case_cached(), key_of_cached(), value_of_cached();
SELECT name, said(name) FROM unnest('{pairs,page,path,upper_case,key_of,value_of}'::text[]) AS name;
-- So is one that is cached itself. Its owner can vouch for it, and for what a function calls.
CREATE FUNCTION c_page(text, bigint) RETURNS bytea LANGUAGE c STABLE STRICT AS '$libdir/pageinspect', 'get_raw_page_1_9';
SELECT cache_function('c_page(text, bigint)');
CREATE FUNCTION trusting() RETURNS integer LANGUAGE cached STABLE AS '{"function": "trusted()", "trust": ["stable_page(text, bigint)"]}';
CREATE FUNCTION trusted() RETURNS integer LANGUAGE sql STABLE AS $$SELECT length(stable_page('items', 0)) + (nextval('numbers') * 0)::integer$$;
CREATE FUNCTION trusting_cached() RETURNS integer LANGUAGE cached STABLE
    AS '{"function": "trusted()", "trust": ["fills_test.stable_page(text, bigint)", "pg_catalog.nextval(regclass)"]}';
SELECT trusting_cached();
SELECT said('trusting');
-- Never what only the session has.
CREATE FUNCTION pids() RETURNS boolean LANGUAGE sql STABLE AS $$SELECT pg_backend_pid() > 0$$;
CREATE FUNCTION pids_cached() RETURNS boolean LANGUAGE cached STABLE AS '{"function": "pids()", "trust": ["pg_catalog.pg_backend_pid()"]}';
SELECT pids_cached();
SELECT said('pids');
-- One that is wrongly IMMUTABLE: the planner keeps its result. The tables that it reads are dependencies all the same.
CREATE FUNCTION first_name() RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN (SELECT name FROM items WHERE id = 1); END$$;
CREATE FUNCTION greets(n integer) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN 'hello ' || first_name() || n; END$$;
CREATE FUNCTION greets_sql(n integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'hello ' || first_name() || max(1) || n$$;
CREATE FUNCTION greets_through(n integer) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN greets_sql(n); END$$;
SELECT cache_function('greets(int)'), cache_function('greets_sql(int)'), cache_function('greets_through(int)');
SELECT greets(0), greets_sql(0);
SELECT outcomes() \g /dev/null
SELECT greets_cached(1), greets_sql_cached(1), greets_through_cached(1);
SELECT greets_cached(n), greets_sql_cached(n), greets_through_cached(n) FROM generate_series(2, 3) AS n;
SELECT outcomes();
UPDATE items SET name = 'another' WHERE id = 1;
SELECT greets_cached(n), greets_sql_cached(n), greets_through_cached(n) FROM generate_series(1, 3) AS n;
SELECT outcomes();
-- The schemas of the path as they are, that of the session's temporary objects among them; and errors that the encoding of the
-- client and the depth of the stack make.
SELECT make('path_of', 'current_schemas(true)');
SELECT path_of_cached() IS NOT NULL AS answered, state_cached('2201B');
SELECT said('path_of'), said('state');
CREATE FUNCTION escapes() RETURNS text LANGUAGE plpgsql STABLE AS $f$
DECLARE r text; BEGIN EXECUTE $q$SELECT E'it\'s'$q$ INTO r; RETURN r; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END$f$;
SELECT cache_function('escapes()');
SET client_encoding = 'SJIS';
SELECT escapes_cached();
RESET client_encoding;
SELECT said('escapes');
SET client_min_messages = error;
DROP PUBLICATION everything;
DROP SCHEMA fills_test CASCADE;
SELECT clear_cache() \g /dev/null
