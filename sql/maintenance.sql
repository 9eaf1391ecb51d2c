-- Maintenance: put the cache in order, and the way out if nothing else helps.

CREATE FUNCTION optimize_cache(OUT action text, OUT detail text, OUT affected bigint, OUT bytes bigint, OUT sql text)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT SECURITY DEFINER ROWS 10 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'optimize_cache_wrapper';
COMMENT ON FUNCTION optimize_cache() IS
    'removes what is worthless, writes what is new, analyzes query_cache; says what it did, one row each, and what else it recommends';

-- Not STRICT: a missing confirmation is refused like a wrong one.
CREATE FUNCTION emergency_clear_cache(confirmation text) RETURNS bigint
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'emergency_clear_cache_wrapper';
COMMENT ON FUNCTION emergency_clear_cache(text) IS
    'invalidates and removes everything of this database from memory and query_cache; returns how many entries; needs a confirmation';
