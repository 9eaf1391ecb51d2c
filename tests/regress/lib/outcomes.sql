-- outcomes(): what became of the cached calls since it was asked last, by function.
--
--   hit      answered from the cache
--   fill     computed and stored
--   other words are the reasons (cache_function_stats.reasons) why a result was not taken from, or not put into, the cache
--
-- It notes in a table what it has reported, so it cannot be asked in a READ ONLY transaction, and one that rolls back
-- reports again.
CREATE TABLE outcomes_reported (function oid, outcome text, count bigint, PRIMARY KEY (function, outcome));

CREATE FUNCTION outcomes_counted(OUT function oid, OUT outcome text, OUT count bigint) RETURNS SETOF record
LANGUAGE sql VOLATILE AS $$
    SELECT c.function, o.outcome, o.count
    FROM query_cache_internal.cache_function_counters() AS c,
         LATERAL (VALUES ('hit', c.hits), ('fill', c.fills), ('invalidated', c.invalidations), ('expired', c.expirations)
                  UNION ALL SELECT key, value::bigint FROM jsonb_each_text(c.reasons)) AS o (outcome, count)
$$;

CREATE FUNCTION outcomes() RETURNS SETOF text LANGUAGE sql VOLATILE AS $$
    WITH counted AS MATERIALIZED (SELECT * FROM outcomes_counted()),
    noted AS (
        INSERT INTO outcomes_reported AS r SELECT * FROM counted
        ON CONFLICT (function, outcome) DO UPDATE SET count = EXCLUDED.count
    )
    SELECT p.proname || ': ' || string_agg(
               (c.count - COALESCE(r.count, 0)) || ' ' || c.outcome, ', '
               ORDER BY array_position(ARRAY['hit', 'fill'], c.outcome), c.outcome)
    FROM counted AS c
    JOIN pg_proc AS p ON p.oid = c.function
    LEFT JOIN outcomes_reported AS r USING (function, outcome)
    WHERE c.count > COALESCE(r.count, 0)
    GROUP BY p.oid, p.proname
    ORDER BY p.proname
$$;

-- Of functions that are there already, only what comes from now on.
INSERT INTO outcomes_reported SELECT * FROM outcomes_counted();
