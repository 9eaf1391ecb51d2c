-- The cache that everybody writes first: a table, get or compute, a counter of hits, triggers that delete rows.

CREATE TABLE classical_cache (
    key text PRIMARY KEY, value jsonb NOT NULL, expires_at timestamptz NOT NULL, hit_count bigint NOT NULL DEFAULT 0
);

CREATE FUNCTION report_classical(k int) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    name text := 'report:' || k;
    answer jsonb;
BEGIN
    UPDATE classical_cache SET hit_count = hit_count + 1 WHERE key = name AND expires_at > now() RETURNING value INTO answer;
    IF NOT FOUND THEN
        answer := report(k);
        INSERT INTO classical_cache VALUES (name, answer, now() + interval '1 day')
            ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at;
    END IF;
    RETURN answer;
END $$;

CREATE FUNCTION classical_invalidate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM classical_cache WHERE key LIKE 'report:%';
    RETURN NULL;
END $$;
CREATE TRIGGER classical AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON orders
    FOR EACH STATEMENT EXECUTE FUNCTION classical_invalidate();
