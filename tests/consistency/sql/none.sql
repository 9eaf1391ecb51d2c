-- No cache at all behind the cache's own interface: shows that the oracle itself never finds a difference where none is.

CREATE FUNCTION cache_function(function regprocedure, depends_on jsonb DEFAULT NULL) RETURNS regprocedure
LANGUAGE plpgsql AS $$
DECLARE
    base pg_proc;
BEGIN
    SELECT * INTO base FROM pg_proc WHERE oid = function;
    EXECUTE format(
        'CREATE FUNCTION %I(k int, cache_duration interval DEFAULT ''10 minutes'') RETURNS %s LANGUAGE sql STABLE AS %L',
        base.proname || '_cached', pg_get_function_result(function),
        format(CASE WHEN base.proretset THEN 'SELECT * FROM %I(k)' ELSE 'SELECT %I(k)' END, base.proname));
    RETURN format('%I(int,interval)', base.proname || '_cached')::regprocedure;
END $$;

CREATE FUNCTION cache_track_table(tracked regclass, key_columns name[] DEFAULT NULL) RETURNS void
LANGUAGE sql AS '';

CREATE FUNCTION cache_stats(OUT hits bigint, OUT misses bigint, OUT bypasses bigint) LANGUAGE sql AS
    'SELECT 0::bigint, 0::bigint, 0::bigint';
