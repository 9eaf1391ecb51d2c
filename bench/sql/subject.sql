-- What is cached: a report that takes some work, and pages of a given size that take almost none.

CREATE EXTENSION pg_query_cache;

CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount numeric NOT NULL, placed timestamptz NOT NULL);
INSERT INTO orders
    SELECT i, i % 4000, (i * 7919::bigint % 100000) / 100.0, '2024-01-01'::timestamptz + i % 100000 * interval '1 minute'
    FROM generate_series(1, 400000) i;
CREATE INDEX ON orders (customer);

-- 1 KB out of the hundred orders of a customer.
CREATE FUNCTION report(k int) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('key', k, 'orders', count(*), 'total', sum(amount), 'mean', round(avg(amount), 2),
                              'latest', max(placed), 'note', repeat('x', 880))
    FROM orders WHERE customer = k % 4000
$$;

CREATE TABLE pages (id int PRIMARY KEY, title text NOT NULL);
INSERT INTO pages SELECT i, 'page ' || i FROM generate_series(1, 100) i;

CREATE FUNCTION page(k int, size int) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    found text;
BEGIN
    SELECT title INTO found FROM pages WHERE id = k % 100 + 1;
    RETURN jsonb_build_object('title', found, 'text', repeat('x', size - 40));
END $$;

SELECT cache_function('report(int)', ttl => '1 day'), cache_function('page(int, int)', ttl => '1 day');
SELECT cache_track_table('orders'), cache_track_table('pages');

-- The same answer as a row of a table.
CREATE TABLE answers (id int PRIMARY KEY, answer jsonb NOT NULL);
INSERT INTO answers SELECT k, report(k) FROM generate_series(1, 100) k;

-- And of a materialized view.
CREATE MATERIALIZED VIEW answers_view AS SELECT id, answer FROM answers;
CREATE UNIQUE INDEX ON answers_view (id);

VACUUM ANALYZE;
