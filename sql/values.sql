-- Values: what an application keeps under keys of its own. They are rows of an ordinary table, so a transaction that
-- rolls back has kept nothing; memory is in front of it as it is in front of a function.

CREATE UNLOGGED TABLE cache_values (
    namespace  oid                      NOT NULL,
    key        text COLLATE "C"         NOT NULL,
    value      jsonb                    NOT NULL,
    expires_at timestamp with time zone,
    tags       text[]                   NOT NULL,
    priority   smallint                 NOT NULL,
    stored_at  timestamp with time zone NOT NULL,
    CONSTRAINT cache_values_pkey PRIMARY KEY (namespace, key)
) WITH (fillfactor = 80);
-- A value without tags is not in it, and one whose tags stay the same is changed without touching any index.
CREATE INDEX cache_values_tags_idx ON cache_values USING gin (tags) WHERE tags OPERATOR(pg_catalog.<>) '{}'::pg_catalog.text[];
ALTER TABLE cache_values ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE cache_values IS
    'values of the application under keys of its own, written by cache_set() and its like; a crash empties it';
COMMENT ON COLUMN cache_values.namespace IS
    'whose value it is: 0 everybody''s, or the oid of the role (pg_query_cache.value_namespace)';
COMMENT ON COLUMN cache_values.key IS 'the key, 1 to 1024 bytes';
COMMENT ON COLUMN cache_values.value IS 'the value';
COMMENT ON COLUMN cache_values.expires_at IS 'from when on it is not there any more; NULL never';
COMMENT ON COLUMN cache_values.tags IS 'names for invalidate_cache()';
COMMENT ON COLUMN cache_values.priority IS '0 to 3: those with less leave first when there are more than pg_query_cache.max_values';
COMMENT ON COLUMN cache_values.stored_at IS 'when it was last written';

CREATE FUNCTION cache_key(VARIADIC parts text[]) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pgqc_cache_key';
COMMENT ON FUNCTION cache_key(text[]) IS
    'a key made of parts, joined by ":"; different parts never make the same key';

CREATE FUNCTION cache_set(key text, value jsonb, ttl interval DEFAULT NULL, tags text[] DEFAULT '{}', priority integer DEFAULT 0)
RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pgqc_cache_set';
COMMENT ON FUNCTION cache_set(text, jsonb, interval, text[], integer) IS
    'keeps a value under a key, for good or for a time, in place of what was there';

CREATE FUNCTION cache_set_many(entries jsonb, ttl interval DEFAULT NULL, tags text[] DEFAULT '{}', priority integer DEFAULT 0)
RETURNS integer
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pgqc_cache_set_many';
COMMENT ON FUNCTION cache_set_many(jsonb, interval, text[], integer) IS
    'keeps all values of an object under their keys; returns how many';

CREATE FUNCTION cache_get(key text) RETURNS jsonb
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pgqc_cache_get';
COMMENT ON FUNCTION cache_get(text) IS 'the value under a key as the caller''s snapshot sees it, NULL if there is none';

CREATE FUNCTION cache_get_many(keys text[]) RETURNS TABLE (key text, value jsonb)
    LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED ROWS 10
BEGIN ATOMIC
    SELECT k.key, v.value
    FROM pg_catalog.unnest(keys) WITH ORDINALITY AS k (key, n)
    -- Once for each key, not once more for the condition.
    CROSS JOIN LATERAL (SELECT @extschema@.cache_get(k.key) AS value OFFSET 0) AS v
    WHERE v.value IS NOT NULL
    ORDER BY k.n;
END;
COMMENT ON FUNCTION cache_get_many(text[]) IS 'those of the keys that there are, in their order, with their values';

CREATE FUNCTION cache_exists(key text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pgqc_cache_exists';
COMMENT ON FUNCTION cache_exists(text) IS 'whether there is a value under a key';

CREATE FUNCTION cache_ttl(key text) RETURNS interval
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pgqc_cache_ttl';
COMMENT ON FUNCTION cache_ttl(text) IS 'how long the value under a key has to live; NULL if for good, or if there is none';

CREATE FUNCTION cache_touch(key text, ttl interval) RETURNS boolean
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pgqc_cache_touch';
COMMENT ON FUNCTION cache_touch(text, interval) IS
    'gives the value under a key this long to live from now on, NULL for good; returns whether there is one';

CREATE FUNCTION cache_delete(key text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pgqc_cache_delete';
COMMENT ON FUNCTION cache_delete(text) IS 'removes the value under a key; returns whether there was one';

CREATE FUNCTION cache_delete_many(keys text[]) RETURNS bigint
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pgqc_cache_delete_many';
COMMENT ON FUNCTION cache_delete_many(text[]) IS 'removes the values under keys; returns how many there were';

CREATE FUNCTION cache_delete_pattern(pattern text) RETURNS bigint
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pgqc_cache_delete_pattern';
COMMENT ON FUNCTION cache_delete_pattern(text) IS
    E'removes the values whose keys match a pattern (* ? [a-z] [^a-z] \\); returns how many there were';

CREATE FUNCTION cache_keys(pattern text DEFAULT '*', most integer DEFAULT 1000) RETURNS SETOF text
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED ROWS 1000 AS 'MODULE_PATHNAME', 'pgqc_cache_keys';
COMMENT ON FUNCTION cache_keys(text, integer) IS 'the first keys, in their order, that match a pattern and have a value';

CREATE FUNCTION cache_increment(key text, delta bigint DEFAULT 1, ttl interval DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pgqc_cache_increment';
COMMENT ON FUNCTION cache_increment(text, bigint, interval) IS
    'adds to the integer under a key, which begins with 0 and the ttl; returns the sum';

CREATE FUNCTION cache_remember(key text, query text, ttl interval DEFAULT NULL, tags text[] DEFAULT '{}') RETURNS jsonb
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pgqc_cache_remember';
COMMENT ON FUNCTION cache_remember(text, text, interval, text[]) IS
    'the value under a key; if there is none, that of a query, run with the caller''s rights, which is kept';

CREATE FUNCTION cache_value_stats(
    OUT keys bigint, OUT bytes bigint, OUT expired bigint, OUT hits bigint, OUT misses bigint, OUT bypasses bigint, OUT fills bigint)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 1 AS 'MODULE_PATHNAME', 'pgqc_cache_value_stats';
COMMENT ON FUNCTION cache_value_stats() IS
    'how many values there are, and how cache_get() found them since the server started, one row';

-- What the statements of these functions call.
CREATE FUNCTION query_cache_internal.cache_key_matches(key text, pattern text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pgqc_cache_key_matches';
COMMENT ON FUNCTION query_cache_internal.cache_key_matches(text, text) IS 'whether a key matches a pattern as in cache_delete_pattern()';

CREATE FUNCTION query_cache_internal.cache_value_sum(value jsonb, delta bigint) RETURNS jsonb
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pgqc_cache_value_sum';
COMMENT ON FUNCTION query_cache_internal.cache_value_sum(jsonb, bigint) IS 'an integer value and a number added, as in cache_increment()';

-- Any writer is noticed, this extension's functions or not: what memory has of a key depends on the key's rows.
SELECT @extschema@.cache_track_table('@extschema@.cache_values'::pg_catalog.regclass, '{key}'::pg_catalog.name[]);
