-- Sets and rows: every way to return them, every place to call them from.
\set ECHO errors
\getenv testdir PG_ABS_SRCDIR
\set outcomes :testdir '/lib/outcomes.sql'
CREATE SCHEMA sets_test;
SET search_path = sets_test, public;
\i :outcomes
\set ECHO all
CREATE TABLE items (id integer PRIMARY KEY, name text, price numeric, tags text[]);
INSERT INTO items SELECT i, 'item ' || i, i * 1.50, ARRAY['t' || i % 3, NULL] FROM generate_series(1, 10) AS i;
SELECT cache_track_table('items');

-- SETOF a scalar, a table's rows, a composite type; RETURNS TABLE; OUT parameters, one row and many; each in SQL and in PL/pgSQL,
-- which return rows in different ways.
CREATE TYPE brief AS (id integer, name text);
CREATE FUNCTION ids(n integer) RETURNS SETOF integer LANGUAGE sql STABLE AS $$SELECT id FROM items WHERE id <= n ORDER BY id$$;
CREATE FUNCTION ids_pl(n integer) RETURNS SETOF integer LANGUAGE plpgsql STABLE AS $$BEGIN RETURN QUERY SELECT id FROM items WHERE id <= n ORDER BY id; END$$;
CREATE FUNCTION rows_of(n integer) RETURNS SETOF items LANGUAGE sql STABLE AS $$SELECT * FROM items WHERE id <= n ORDER BY id$$;
CREATE FUNCTION rows_pl(n integer) RETURNS SETOF items LANGUAGE plpgsql STABLE AS $$DECLARE r items; BEGIN FOR r IN SELECT * FROM items WHERE id <= n ORDER BY id LOOP RETURN NEXT r; END LOOP; END$$;
CREATE FUNCTION briefs(n integer) RETURNS SETOF brief LANGUAGE sql STABLE AS $$SELECT id, name FROM items WHERE id <= n ORDER BY id$$;
CREATE FUNCTION table_of(n integer) RETURNS TABLE (id integer, name text, tags text[]) LANGUAGE sql STABLE AS $$SELECT i.id, i.name, i.tags FROM items AS i WHERE i.id <= n ORDER BY 1$$;
CREATE FUNCTION table_pl(n integer) RETURNS TABLE (id integer, name text, tags text[]) LANGUAGE plpgsql STABLE AS $$BEGIN RETURN QUERY SELECT i.id, i.name, i.tags FROM items AS i WHERE i.id <= n ORDER BY 1; END$$;
CREATE FUNCTION table_of_one(n integer) RETURNS TABLE (id integer) LANGUAGE sql STABLE AS $$SELECT i.id FROM items AS i WHERE i.id <= n ORDER BY 1$$;
CREATE FUNCTION extremes(n integer, OUT lowest numeric, OUT highest numeric) LANGUAGE sql STABLE AS $$SELECT min(price), max(price) FROM items WHERE id <= n$$;
CREATE FUNCTION extremes_pl(INOUT n integer, OUT highest numeric) LANGUAGE plpgsql STABLE AS $$BEGIN SELECT max(price) INTO highest FROM items WHERE id <= n; n := n * 10; END$$;
CREATE FUNCTION outs(n integer, OUT id integer, OUT name text) RETURNS SETOF record LANGUAGE sql STABLE AS $$SELECT i.id, i.name FROM items AS i WHERE i.id <= n ORDER BY 1$$;
CREATE FUNCTION one_out(n integer, OUT id integer) RETURNS SETOF integer LANGUAGE sql STABLE AS $$SELECT i.id FROM items AS i WHERE i.id <= n ORDER BY 1$$;
CREATE FUNCTION item(n integer) RETURNS items LANGUAGE sql STABLE AS $$SELECT * FROM items WHERE id = n$$;
SELECT cache_function(oid) FROM pg_proc
WHERE pronamespace = 'sets_test'::regnamespace AND proname !~ '^outcomes' ORDER BY proname;

-- In FROM: computed, then taken from the cache.
SELECT * FROM ids_cached(3);
SELECT * FROM ids_cached(3);
SELECT * FROM ids_pl_cached(2) UNION ALL SELECT * FROM ids_pl_cached(2);
SELECT * FROM rows_of_cached(2);
SELECT * FROM rows_of_cached(2);
SELECT * FROM rows_pl_cached(2);
SELECT * FROM rows_pl_cached(2);
SELECT * FROM briefs_cached(2) UNION ALL SELECT * FROM briefs_cached(2);
SELECT * FROM table_of_cached(2) UNION ALL SELECT * FROM table_of_cached(2);
SELECT * FROM table_pl_cached(2) UNION ALL SELECT * FROM table_pl_cached(2);
SELECT * FROM table_of_one_cached(2) UNION ALL SELECT * FROM table_of_one_cached(2);
SELECT * FROM extremes_cached(2) UNION ALL SELECT * FROM extremes_cached(2);
SELECT * FROM extremes_pl_cached(2) UNION ALL SELECT * FROM extremes_pl_cached(2);
SELECT * FROM outs_cached(2) UNION ALL SELECT * FROM outs_cached(2);
SELECT * FROM one_out_cached(2) UNION ALL SELECT * FROM one_out_cached(2);
SELECT * FROM item_cached(2) UNION ALL SELECT * FROM item_cached(2);
SELECT outcomes();

-- Nothing found: no rows, a row of NULLs, NULL. That is a result too.
SELECT * FROM rows_of_cached(0);
SELECT * FROM rows_of_cached(0);
SELECT count(*) FROM table_pl_cached(0);
SELECT count(*) FROM table_pl_cached(0);
SELECT * FROM extremes_cached(0);
SELECT * FROM extremes_cached(0);
SELECT item_cached(0) IS NULL AS nothing, item_cached(0) IS NULL AS nothing_again;
SELECT outcomes();

-- In the select list, next to another set, expanded, as a whole row.
SELECT ids_cached(3), ids_pl_cached(2);
SELECT rows_of_cached(1), (rows_of_cached(2)).name;
SELECT (table_pl_cached(2)).*;
SELECT extremes_cached(2), (extremes_cached(2)).highest;
SELECT outs_cached(2);
SELECT r, r.name FROM rows_of_cached(2) AS r;
SELECT i, ids_cached(i) FROM generate_series(1, 3) AS i;
SELECT outcomes();

-- LATERAL, joins, ROWS FROM, ORDINALITY, aliases, sub-selects, EXISTS, aggregates.
SELECT i.id, t.* FROM items AS i, LATERAL table_of_cached(i.id) AS t WHERE i.id <= 3 ORDER BY 1, 2;
SELECT i.id, t.n FROM items AS i LEFT JOIN LATERAL ids_cached(i.id - 1) AS t (n) ON true WHERE i.id <= 2 ORDER BY 1, 2;
SELECT a.name, b.price FROM briefs_cached(5) AS a JOIN rows_of_cached(2) AS b USING (id);
SELECT * FROM ROWS FROM (ids_cached(3), outs_cached(2), generate_series(1, 4)) WITH ORDINALITY;
SELECT * FROM outs_cached(2) WITH ORDINALITY AS o (a, b, c);
SELECT (SELECT count(*) FROM ids_cached(5)), EXISTS (SELECT FROM ids_cached(0)), ARRAY(SELECT ids_cached(3)), 2 IN (SELECT ids_cached(3)) AS in_set;
SELECT sum(price) FROM rows_of_cached(10) WHERE name LIKE 'item %';
SELECT outcomes();

-- LIMIT takes some rows; what is stored has all of them.
SELECT * FROM ids_cached(7) LIMIT 2;
SELECT count(*) FROM ids_cached(7);
SELECT ids_cached(6) LIMIT 2;
SELECT count(*) FROM (SELECT ids_cached(6)) AS s;
SELECT outcomes();

-- A cursor over a set, forth and back.
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT * FROM ids_cached(5);
FETCH 2 FROM c;
FETCH LAST FROM c;
FETCH BACKWARD 2 FROM c;
FETCH ABSOLUTE 1 FROM c;
COMMIT;

-- A write makes all of them new.
INSERT INTO items VALUES (0, 'item 0', NULL, NULL);
SELECT * FROM ids_cached(2);
SELECT * FROM rows_pl_cached(1);
SELECT * FROM extremes_pl_cached(2);
SELECT (SELECT array_agg(id) FROM table_pl(2)) = (SELECT array_agg(id) FROM table_pl_cached(2)) AS same;
SELECT outcomes();

-- A column that is dropped, one that is added: rows of the table's type follow.
ALTER TABLE items DROP COLUMN price, ADD COLUMN colour text DEFAULT 'red';
SELECT * FROM rows_of_cached(1);
SELECT * FROM rows_of_cached(1);
SELECT rows_pl_cached(1);
SELECT rows_pl_cached(1);
SELECT outcomes();

-- A large set, larger than work_mem; one that is too large is returned and not stored.
SET work_mem = '64kB';
CREATE FUNCTION many(n integer) RETURNS TABLE (i integer, t text) LANGUAGE plpgsql STABLE AS $$BEGIN RETURN QUERY SELECT g, md5(g::text) FROM generate_series(1, n) AS g; END$$;
SELECT cache_function('many(int)');
SELECT count(*), sum(i), min(t), max(t) FROM many_cached(10000);
SELECT count(*), sum(i), min(t), max(t) FROM many_cached(10000);
SELECT count(*), sum(i), min(t), max(t) FROM many_cached(20000);
SELECT count(*), sum(i), min(t), max(t) FROM many_cached(20000);
RESET work_mem;
SELECT outcomes();

-- Where no set may be, the message is PostgreSQL's own.
SELECT CASE WHEN true THEN ids_cached(1) END;
SELECT id FROM items WHERE id = ids_cached(1);

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA sets_test CASCADE;
