-- Clearing a part of the cache: by the names of functions, by what they are
-- about. Transactional, as all invalidation is.

CREATE FUNCTION invalidate_cache_pattern(pattern text) RETURNS bigint
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'invalidate_cache_pattern_wrapper';
COMMENT ON FUNCTION invalidate_cache_pattern(text) IS
    'invalidates all results of the cached functions whose name matches, * for any characters and ? for one; returns how many entries they have';

-- The tags are those of get_department_contacts_summary_cached (domain.sql); an
-- application's own cached functions that carry them are cleared along with it.
CREATE FUNCTION clear_department_cache(enterprise_id bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT @extschema@.invalidate_cache(
        ARRAY[CASE WHEN enterprise_id IS NULL THEN 'departments'::pg_catalog.text
                   ELSE pg_catalog.concat('enterprise:'::pg_catalog.text, enterprise_id, ':departments'::pg_catalog.text)
              END]::pg_catalog.text[]);
END;
COMMENT ON FUNCTION clear_department_cache(bigint) IS
    'invalidates the summaries of all departments of one enterprise (null: of all); returns how many entries there are';
