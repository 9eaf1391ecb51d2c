-- Self-audit: hits that are computed again and compared.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA verification_test;
SET search_path = verification_test, public;
\i :outcomes
CREATE VIEW verdicts AS SELECT f.function, f.verified, f.differences, f.quarantined FROM cache_function_stats AS f
    JOIN pg_proc AS p ON p.oid = f.function WHERE p.pronamespace = 'verification_test'::regnamespace AND f.verified > 0;
SELECT time_dependent AS by_clock, nondeterministic AS by_chance FROM cache_stats() \gset
\set ECHO all
CREATE TABLE items (id integer, name text);
INSERT INTO items VALUES (1, 'one'), (2, 'two'), (3, NULL);
SELECT cache_track_table('items');
CREATE FUNCTION how_many() RETURNS bigint LANGUAGE sql STABLE AS $$SELECT count(*) FROM items$$;
CREATE FUNCTION name_of(id integer) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT name FROM items AS i WHERE i.id = $1); END$$;
CREATE FUNCTION the_items() RETURNS SETOF items LANGUAGE sql STABLE AS $$SELECT * FROM items$$;
CREATE FUNCTION an_item() RETURNS items LANGUAGE sql STABLE AS $$SELECT * FROM items ORDER BY id LIMIT 1$$;
SELECT cache_function('how_many()'), cache_function('name_of(integer)'), cache_function('the_items()'), cache_function('an_item()');
-- Nothing is verified unless asked for.
SELECT how_many_cached() FROM generate_series(1, 3);
SELECT * FROM verdicts;
-- By whom?
CREATE ROLE verification_user;
SET ROLE verification_user;
SET pg_query_cache.verify_sample_rate = 1;
RESET ROLE;
SET pg_query_cache.verify_sample_rate = 1.5;
SET pg_query_cache.verify_sample_rate = 1;

-- What is right stays right, in every form.
SELECT how_many_cached() FROM generate_series(1, 3);
SELECT i, name_of_cached(i) FROM generate_series(1, 4) AS i;
SELECT i, name_of_cached(i) FROM generate_series(1, 4) AS i;
SELECT * FROM the_items_cached();
SELECT * FROM the_items_cached();
SELECT an_item_cached(), an_item_cached();
INSERT INTO items VALUES (4, 'four');
SELECT how_many_cached(), how_many_cached(), name_of_cached(4), name_of_cached(4);
SELECT * FROM verdicts ORDER BY function::text;
-- Rows in another order are the same rows.
CREATE FUNCTION ordered() RETURNS SETOF integer LANGUAGE plpgsql STABLE AS $$
BEGIN RETURN QUERY EXECUTE format('SELECT id FROM items ORDER BY id %s', current_setting('verification_test.direction')); END$$;
SET verification_test.direction = 'ASC';
SELECT cache_function('ordered()', scope => 'claims');
SELECT * FROM ordered_cached();
SET verification_test.direction = 'DESC';
SELECT * FROM ordered_cached();
SELECT * FROM verdicts WHERE function::text LIKE '%ordered%';

-- The clock, chance: told apart from what should not have been served.
SET pg_query_cache.trusted_functions = 'random(), clock_timestamp(), nextval(regclass)';
CREATE FUNCTION moment() RETURNS timestamptz LANGUAGE sql STABLE AS $$SELECT now()$$;
CREATE FUNCTION chance() RETURNS double precision LANGUAGE sql STABLE AS $$SELECT random()$$;
SELECT cache_function('moment()'), cache_function('chance()');
SELECT moment_cached() = now() AS now;
SELECT moment_cached() = now() AS now;
SELECT now() = statement_timestamp() AS clock_is_right_again;
SELECT chance_cached() BETWEEN 0 AND 1 AS yes, chance_cached() BETWEEN 0 AND 1 AS yes;
SELECT * FROM verdicts WHERE function::text ~ 'moment|chance' ORDER BY function::text;
SELECT time_dependent - :by_clock AS by_clock, nondeterministic - :by_chance AS by_chance FROM cache_stats();
-- The run under the time of the stored result is not the caller's: an ERROR in it, and what it leaves behind, is nobody's.
CREATE SEQUENCE runs;
CREATE FUNCTION fragile() RETURNS SETOF timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN NEXT now();
    IF clock_timestamp() - now() > interval '1 second' THEN RAISE EXCEPTION 'in the past, run %', nextval('runs'); END IF;
END$$;
SELECT cache_function('fragile()');
SELECT f = now() AS now FROM fragile_cached() AS f;
SELECT pg_sleep(1.1);
SELECT f = now() AS now, now() = statement_timestamp() AS clock_is_right_again FROM fragile_cached() AS f;
SELECT * FROM verdicts WHERE function::text LIKE 'fragile%';
SELECT last_value, is_called FROM runs;
-- That the caller gave up is the caller's.
CREATE FUNCTION lasting() RETURNS double precision LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF clock_timestamp() - now() > interval '1 second' THEN PERFORM pg_sleep(10); END IF;
    RETURN random();
END$$;
SELECT cache_function('lasting()');
SELECT lasting_cached() BETWEEN 0 AND 1 AS yes;
SELECT pg_sleep(1.1);
SET statement_timeout = '300ms';
SELECT lasting_cached();
RESET statement_timeout;
SELECT now() = statement_timestamp() AS clock_is_right_again;

RESET pg_query_cache.trusted_functions;

-- What should not have been served: the owner says that the result is everybody's, and it is not.
CREATE FUNCTION mine() RETURNS text LANGUAGE sql STABLE AS $$SELECT current_setting('verification_test.me') || (SELECT count(*) FROM items)$$;
SELECT cache_function('mine()', scope => 'shared');
SET verification_test.me = 'ann';
SELECT mine_cached(), mine_cached();
SET verification_test.me = 'bob';
SELECT mine_cached();
SELECT outcomes() \g /dev/null
SELECT mine_cached(), mine_cached();
SELECT outcomes();
SELECT * FROM verdicts WHERE function::text LIKE 'mine%';
-- A set, NULL.
CREATE FUNCTION my_rows() RETURNS TABLE (a text, b integer) LANGUAGE sql STABLE AS
    $$SELECT nullif(current_setting('verification_test.me'), 'nobody'), id FROM items$$;
SELECT cache_function('my_rows()', scope => 'shared');
SELECT count(*), min(a) FROM my_rows_cached();
SET verification_test.me = 'nobody';
SELECT count(*), min(a) FROM my_rows_cached();
SELECT * FROM verdicts WHERE function::text LIKE 'my_rows%';
-- A function that calls others is computed all the way down, and inside of a fill too.
CREATE FUNCTION outermost() RETURNS text LANGUAGE sql STABLE AS $$SELECT how_many_cached() || name_of_cached(1)$$;
SELECT cache_function('outermost()');
SELECT outermost_cached();
SELECT outermost_cached();
INSERT INTO items VALUES (5, 'five');
SELECT outermost_cached();
SELECT * FROM verdicts WHERE function::text LIKE 'outermost%';
-- Only by age: allowed to differ.
SELECT cache_function('mine()', scope => 'shared', consistency => 'ttl', name => 'mine_by_age');
SELECT mine_by_age();
SET verification_test.me = 'carl';
SELECT mine_by_age();
SELECT count(*) FROM verdicts WHERE function::text LIKE 'mine_by_age%';

-- Out of quarantine: by the owner, at commit.
SELECT cache_function_resume('how_many_cached(interval)');
GRANT USAGE ON SCHEMA verification_test TO verification_user;
SET ROLE verification_user;
SELECT cache_function_resume('mine_cached(interval)');
RESET ROLE;
SELECT cache_function_resume('mine()');
SELECT cache_function_resume(0);
RESET pg_query_cache.verify_sample_rate;
BEGIN;
SELECT cache_function_resume('mine_cached(interval)');
ROLLBACK;
SELECT quarantined FROM verdicts WHERE function::text LIKE 'mine_cached%';
BEGIN;
SAVEPOINT a;
SELECT cache_function_resume('mine_cached(interval)');
ROLLBACK TO a;
COMMIT;
SELECT quarantined FROM verdicts WHERE function::text LIKE 'mine_cached%';
BEGIN;
SAVEPOINT a;
SELECT cache_function_resume('mine_cached(interval)');
RELEASE a;
COMMIT;
SELECT quarantined FROM verdicts WHERE function::text LIKE 'mine_cached%';
SELECT outcomes() \g /dev/null
SELECT mine_cached(), mine_cached();
SELECT outcomes();
SELECT cache_function_resume('my_rows_cached(interval)');
SELECT count(*) FROM cache_quarantine;

SELECT nondeterministic AS by_chance FROM cache_stats() \gset
-- What depends on the plan proves nothing, whoever chooses it: the caller who fills, the caller who looks, or new statistics.
CREATE TABLE fl (id integer PRIMARY KEY, x double precision, y integer) WITH (autovacuum_enabled = off);
INSERT INTO fl SELECT i, CASE WHEN i % 2 = 0 THEN 1e16 ELSE 1.1 END * (1 - (i % 3)), i % 7 FROM generate_series(1, 1000) AS i;
CREATE INDEX ON fl (y, x);
SELECT cache_track_table('fl');
CREATE FUNCTION fsum() RETURNS double precision LANGUAGE sql STABLE AS $$SELECT sum(x) FROM fl WHERE y BETWEEN 1 AND 5$$;
CREATE FUNCTION ids() RETURNS text LANGUAGE sql STABLE AS $$SELECT string_agg(id::text, ',') FROM fl WHERE y = 3$$;
CREATE FUNCTION first_row() RETURNS integer LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT id FROM fl WHERE y >= 2 LIMIT 1); END$$;
SELECT cache_function('fsum()'), cache_function('ids()'), cache_function('first_row()');
CREATE FUNCTION give(value text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN EXECUTE format('ALTER DATABASE %I SET enable_bitmapscan = %s', current_database(), value); END$$;
SELECT give('off');
\c -
SET search_path = verification_test, public;
SET pg_query_cache.verify_sample_rate = 1;
SELECT count(fsum_cached()), count(ids_cached()), count(first_row_cached());
ANALYZE fl;
SELECT fsum_cached() = fsum(), ids_cached() = ids(), first_row_cached() = first_row();
SELECT * FROM verdicts WHERE function::text ~ 'fsum|ids|first_row' ORDER BY function::text;
UPDATE fl SET x = x;
SET enable_seqscan = off;
SELECT count(fsum_cached()), count(ids_cached()), count(first_row_cached());
RESET enable_seqscan;
SELECT fsum_cached() = fsum(), ids_cached() = ids(), first_row_cached() = first_row();
UPDATE fl SET x = x;
SELECT count(fsum_cached()), count(ids_cached()), count(first_row_cached());
SET enable_seqscan = off;
SELECT fsum_cached() = fsum(), ids_cached() = ids(), first_row_cached() = first_row();
RESET enable_seqscan;
SELECT * FROM verdicts WHERE function::text ~ 'fsum|ids|first_row' ORDER BY function::text;
SELECT count(*) FROM cache_quarantine;
SELECT nondeterministic - :by_chance AS by_plan FROM cache_stats();
SELECT give('DEFAULT');

\set ECHO errors
SET client_min_messages = warning;
DROP SCHEMA verification_test CASCADE;
DROP ROLE verification_user;
