-- What only the extension itself calls is in a schema of its own, in which nobody may create: whoever may create in the schema of the
-- extension could put functions and operators beside ours that fit a call better. A schema of this name that is there already is not
-- taken: it may hold anything.
CREATE SCHEMA query_cache_internal;
COMMENT ON SCHEMA query_cache_internal IS 'what only pg_query_cache itself calls; nobody may create here';

CREATE FUNCTION query_cache_internal.cached_call_handler() RETURNS language_handler
    LANGUAGE c AS 'MODULE_PATHNAME', 'cached_call_handler';
COMMENT ON FUNCTION query_cache_internal.cached_call_handler() IS 'call handler of LANGUAGE cached';

CREATE FUNCTION query_cache_internal.cached_validator(function oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'cached_validator_wrapper';
COMMENT ON FUNCTION query_cache_internal.cached_validator(oid) IS 'validator of LANGUAGE cached';

CREATE TRUSTED LANGUAGE cached
    HANDLER query_cache_internal.cached_call_handler VALIDATOR query_cache_internal.cached_validator;
COMMENT ON LANGUAGE cached IS 'functions whose results are cached; the body names the cached function in JSON';

CREATE FUNCTION cache_tracker() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'cache_tracker';
COMMENT ON FUNCTION cache_tracker() IS 'trigger function that tells pg_query_cache of writes; use cache_track_table()';

-- A publication of all tables publishes the logged ones of the extension too. What another server's cache has written stays there.
CREATE FUNCTION query_cache_internal.cache_stays_here() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'cache_stays_here';
COMMENT ON FUNCTION query_cache_internal.cache_stays_here() IS
    'trigger function that leaves out changes which logical replication brings';
