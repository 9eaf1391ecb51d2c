-- The cache that everybody writes first, behind the same interface: a table, get or compute, triggers that delete rows.
-- The oracle finds its differences; that shows that the oracle can see.

CREATE TABLE classical_cache (
    function regprocedure, argument int, value text, expires_at timestamptz NOT NULL,
    PRIMARY KEY (function, argument)
);
CREATE TABLE classical_reads (function regprocedure, relation regclass);
CREATE SEQUENCE classical_hits MINVALUE 0 START 0;
GRANT ALL ON classical_cache, classical_hits TO PUBLIC;

CREATE FUNCTION cache_function(function regprocedure, depends_on jsonb DEFAULT NULL) RETURNS regprocedure
LANGUAGE plpgsql AS $$
DECLARE
    base pg_proc;
    result text := pg_get_function_result(function);
BEGIN
    SELECT * INTO base FROM pg_proc WHERE oid = function;
    EXECUTE format($template$
        CREATE FUNCTION %1$I(k int, cache_duration interval DEFAULT '10 minutes') RETURNS %2$s LANGUAGE plpgsql AS $body$
        DECLARE
            answer text;
        BEGIN
            SELECT c.value INTO answer FROM classical_cache c
                WHERE c.function = %3$s AND c.argument = k AND c.expires_at > now();
            IF NOT FOUND THEN
                SELECT %4$s INTO answer;
                IF NOT current_setting('transaction_read_only')::bool THEN
                    INSERT INTO classical_cache VALUES (%3$s, k, answer, now() + cache_duration)
                        ON CONFLICT (function, argument) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at;
                END IF;
            ELSIF NOT current_setting('transaction_read_only')::bool THEN
                PERFORM nextval('classical_hits');
            END IF;
            %5$s;
        END $body$ $template$,
        base.proname || '_cached', result, function::oid,
        format(CASE WHEN base.proretset THEN '(SELECT jsonb_agg(to_jsonb(t)) FROM %I(k) t)::text' ELSE '%I(k)::text' END, base.proname),
        CASE WHEN NOT base.proretset THEN format('RETURN answer::%s', result)
             WHEN result LIKE 'TABLE%' THEN format('RETURN QUERY SELECT * FROM jsonb_to_recordset(answer::jsonb) AS t%s', substring(result FROM 6))
             ELSE format('RETURN QUERY SELECT * FROM jsonb_populate_recordset(NULL::%s, answer::jsonb)', substring(result FROM 7))
        END);
    RETURN format('%I(int,interval)', base.proname || '_cached')::regprocedure;
END $$;

CREATE FUNCTION classical_invalidate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    DELETE FROM classical_cache c USING classical_reads r WHERE r.relation = TG_RELID AND c.function = r.function;
    RETURN NULL;
END $$;

CREATE FUNCTION cache_track_table(tracked regclass, key_columns name[] DEFAULT NULL) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = tracked) IN ('r', 'p') THEN
        EXECUTE format('CREATE TRIGGER classical AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s
                        FOR EACH STATEMENT EXECUTE FUNCTION public.classical_invalidate()', tracked);
    END IF;
END $$;

CREATE FUNCTION cache_stats(OUT hits bigint, OUT misses bigint, OUT bypasses bigint) LANGUAGE sql AS
    'SELECT last_value, 0::bigint, 0::bigint FROM classical_hits';
