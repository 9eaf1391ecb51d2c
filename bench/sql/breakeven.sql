-- Functions that cost more and more, and loads in which a result is hit more and more often before a write invalidates it.

CREATE EXTENSION pg_query_cache;

CREATE TABLE numbers (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO numbers SELECT i, i FROM generate_series(0, 99) i;
-- Of one row, so that a write costs the same throughout; fillfactor leaves room for its versions.
CREATE TABLE written (n int NOT NULL) WITH (fillfactor = 10);
INSERT INTO written VALUES (0);

-- Nothing but a call, in C.
CREATE FUNCTION negated(k int) RETURNS int LANGUAGE internal STABLE STRICT AS 'int4um';
-- A lookup by primary key.
CREATE FUNCTION looked_up(k int) RETURNS int LANGUAGE sql STABLE AS 'SELECT n FROM numbers WHERE id = k % 100';
-- So many turns of a loop.
CREATE FUNCTION turned(turns int, k int) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    sum bigint := k;
BEGIN
    FOR i IN 1..turns LOOP
        sum := sum + i;
    END LOOP;
    RETURN sum;
END $$;
-- The same over the table that is written.
CREATE FUNCTION over_written(turns int, k int) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    sum bigint := k + (SELECT n FROM written);
BEGIN
    FOR i IN 1..turns LOOP
        sum := sum + i;
    END LOOP;
    RETURN sum;
END $$;

SELECT cache_track_table('numbers'), cache_track_table('written');
SELECT cache_function('negated(int)'), cache_function('looked_up(int)'), cache_function('turned(int, int)'),
       cache_function('over_written(int, int)');

-- Writes, each in a transaction of its own, and after each so many reads that there are `hits` of them for each result stored; a write
-- invalidates the results of all keys. Which function reads is `what`: 0 none, 1 the function itself, 2 the cached one. `took` is the
-- time of the reads alone, in microseconds.
CREATE PROCEDURE mixed(what int, turns int, hits float8, cycles int, INOUT took float8 DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
BEGIN
    FOR cycle IN 1..cycles LOOP
        UPDATE written SET n = n + 1;
        COMMIT;
        began := clock_timestamp();
        FOR read IN 1..1 + floor(cycle * hits)::int - floor((cycle - 1) * hits)::int LOOP
            IF what = 1 THEN
                PERFORM over_written(turns, cycle % 100);
            ELSIF what = 2 THEN
                PERFORM over_written_cached(turns, cycle % 100);
            ELSE
                PERFORM cycle % 100;
            END IF;
        END LOOP;
        took := took + extract(epoch FROM clock_timestamp() - began) * 1e6;
        COMMIT;
    END LOOP;
END $$;
VACUUM ANALYZE;
