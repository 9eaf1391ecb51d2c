CREATE FUNCTION cached_call_handler() RETURNS language_handler
    LANGUAGE c AS 'MODULE_PATHNAME', 'cached_call_handler';
COMMENT ON FUNCTION cached_call_handler() IS 'call handler of LANGUAGE cached';

CREATE FUNCTION cached_validator(function oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'cached_validator_wrapper';
COMMENT ON FUNCTION cached_validator(oid) IS 'validator of LANGUAGE cached';

CREATE TRUSTED LANGUAGE cached HANDLER cached_call_handler VALIDATOR cached_validator;
COMMENT ON LANGUAGE cached IS 'functions whose results are cached; the body names the cached function in JSON';

CREATE FUNCTION cache_tracker() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'cache_tracker';
COMMENT ON FUNCTION cache_tracker() IS 'trigger function that tells pg_query_cache of writes; use cache_track_table()';
