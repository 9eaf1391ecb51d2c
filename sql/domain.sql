-- The application's own aggregations, cached. They exist from CREATE EXTENSION
-- on; the functions they cache belong to the application and are looked up
-- through the caller's search_path when a call arrives ("binding": "late").
-- Without them a call fails with undefined_function and a hint that names
-- sql/samples/marketplace.sql, which has a pair to try.

CREATE FUNCTION get_expert_sessions_with_stats_cached(expert_id uuid DEFAULT NULL, cache_duration interval DEFAULT '5 minutes')
RETURNS jsonb LANGUAGE cached STABLE PARALLEL RESTRICTED
AS '{"function": "get_expert_sessions_with_stats(uuid)", "class": "sessions", "binding": "late"}';
COMMENT ON FUNCTION get_expert_sessions_with_stats_cached(uuid, interval) IS
    'get_expert_sessions_with_stats(expert_id), cached; cache_duration is the greatest age the caller accepts';

CREATE FUNCTION get_product_performance_cached(product_id uuid DEFAULT NULL, cache_duration interval DEFAULT '15 minutes')
RETURNS jsonb LANGUAGE cached STABLE PARALLEL RESTRICTED
AS '{"function": "get_product_performance(uuid)", "class": "analytics", "binding": "late"}';
COMMENT ON FUNCTION get_product_performance_cached(uuid, interval) IS
    'get_product_performance(product_id), cached; cache_duration is the greatest age the caller accepts';
