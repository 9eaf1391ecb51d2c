-- Table tier: the inventory of the cache, written by the background worker.

CREATE UNLOGGED TABLE query_cache (
    cache_key    text COLLATE "C"         NOT NULL,
    function     oid                      NOT NULL,
    hit_count    bigint                   NOT NULL,
    created_at   timestamp with time zone NOT NULL,
    expires_at   timestamp with time zone NOT NULL,
    cost_ms      double precision         NOT NULL,
    size_bytes   bigint                   NOT NULL,
    priority     smallint                 NOT NULL,
    kind         smallint                 NOT NULL,
    by_age       boolean                  NOT NULL,
    database     oid                      NOT NULL,
    incarnation  bigint                   NOT NULL,
    key          bytea                    NOT NULL,
    value        bytea                    NOT NULL,
    dependencies bytea                    NOT NULL,
    checksum     bigint                   NOT NULL,
    CONSTRAINT query_cache_pkey PRIMARY KEY (cache_key)
) WITH (fillfactor = 90);
-- Values are read far more often than they are written: no compression.
ALTER TABLE query_cache ALTER COLUMN key SET STORAGE EXTERNAL, ALTER COLUMN value SET STORAGE EXTERNAL;
ALTER TABLE query_cache ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE query_cache IS
    'cached results that memory has had for a while; written by the background worker, read at a warm start and after an eviction';
COMMENT ON COLUMN query_cache.cache_key IS 'name of the cached function and hash of the call';
COMMENT ON COLUMN query_cache.function IS 'oid of the cached function';
COMMENT ON COLUMN query_cache.hit_count IS
    'calls answered from this result; while the server runs, a few per cent behind until flush_cache()';
COMMENT ON COLUMN query_cache.created_at IS 'when the result was computed';
COMMENT ON COLUMN query_cache.expires_at IS 'when it stops being served';
COMMENT ON COLUMN query_cache.cost_ms IS 'how long the function took';
COMMENT ON COLUMN query_cache.size_bytes IS 'bytes of key, value and dependencies';
COMMENT ON COLUMN query_cache.priority IS 'priority of the cached function, 0 to 3';
COMMENT ON COLUMN query_cache.kind IS 'form of the value: 0 NULL, 1 one value, 2 rows';
COMMENT ON COLUMN query_cache.by_age IS 'right by age alone ("consistency": "ttl")';
COMMENT ON COLUMN query_cache.database IS 'oid of the database; rows that came with a template database are worthless';
COMMENT ON COLUMN query_cache.incarnation IS 'life of the validity slots that the row belongs to; rows of another life are worthless';
COMMENT ON COLUMN query_cache.key IS 'database, function, scope and arguments, byte by byte';
COMMENT ON COLUMN query_cache.value IS 'the result in the form that memory keeps it in';
COMMENT ON COLUMN query_cache.dependencies IS 'validity slots that the result depends on, each with its generation';
COMMENT ON COLUMN query_cache.checksum IS 'over everything that decides what is served; a row that does not match is ignored';

CREATE TABLE cache_cleanup_log (
    id              bigint GENERATED ALWAYS AS IDENTITY,
    cleanup_time    timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    removed_by      text                     NOT NULL,
    expired_entries bigint                   NOT NULL,
    dead_entries    bigint                   NOT NULL,
    rows            bigint                   NOT NULL,
    duration_ms     double precision         NOT NULL,
    CONSTRAINT cache_cleanup_log_pkey PRIMARY KEY (id)
);
CREATE INDEX cache_cleanup_log_cleanup_time_idx ON cache_cleanup_log (cleanup_time);
ALTER TABLE cache_cleanup_log ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE cache_cleanup_log IS
    'clean-ups of the cache: each one by hand, and those of the background worker that removed something; kept for 90 days';
COMMENT ON COLUMN cache_cleanup_log.id IS 'number of the clean-up';
COMMENT ON COLUMN cache_cleanup_log.cleanup_time IS 'when it ran';
COMMENT ON COLUMN cache_cleanup_log.removed_by IS '''worker'' or the role that called cleanup_expired_cache()';
COMMENT ON COLUMN cache_cleanup_log.expired_entries IS 'entries removed from memory because of their age';
COMMENT ON COLUMN cache_cleanup_log.dead_entries IS 'entries removed from memory because they had been invalidated';
COMMENT ON COLUMN cache_cleanup_log.rows IS 'rows removed from query_cache and cache_values';
COMMENT ON COLUMN cache_cleanup_log.duration_ms IS 'how long it took';

-- Functions that are not cached because a stored result of theirs was wrong.
CREATE TABLE cache_quarantine (
    function text COLLATE "C"         NOT NULL,
    since    timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT cache_quarantine_pkey PRIMARY KEY (function)
);
ALTER TABLE cache_quarantine ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE cache_quarantine IS
    'cached functions that are bypassed because a verification found a stored result to be wrong; cache_function_resume() ends it';
COMMENT ON COLUMN cache_quarantine.function IS 'the cached function, with its schema';
COMMENT ON COLUMN cache_quarantine.since IS 'since when, give or take a second';

CREATE TRIGGER cache_stays_here BEFORE INSERT OR UPDATE OR DELETE ON cache_cleanup_log
    FOR EACH ROW EXECUTE FUNCTION query_cache_internal.cache_stays_here();
ALTER TABLE cache_cleanup_log ENABLE REPLICA TRIGGER cache_stays_here;
COMMENT ON TRIGGER cache_stays_here ON cache_cleanup_log IS 'what another server''s cache has written stays there';

CREATE TRIGGER cache_stays_here BEFORE INSERT OR UPDATE OR DELETE ON cache_quarantine
    FOR EACH ROW EXECUTE FUNCTION query_cache_internal.cache_stays_here();
ALTER TABLE cache_quarantine ENABLE REPLICA TRIGGER cache_stays_here;
COMMENT ON TRIGGER cache_stays_here ON cache_quarantine IS 'what another server''s cache has written stays there';

CREATE FUNCTION query_cache_internal.cache_row_is_dead(dependencies bytea) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cache_row_is_dead_wrapper';
COMMENT ON FUNCTION query_cache_internal.cache_row_is_dead(bytea) IS 'whether a row of query_cache with these dependencies has been invalidated';
