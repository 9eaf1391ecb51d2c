-- The application's own aggregations, cached. They exist from CREATE EXTENSION
-- on; the functions they cache belong to the application and are looked up
-- through the caller's search_path when a call arrives ("binding": "late").
-- Without them a call fails with undefined_function and a hint that names
-- sql/samples/marketplace.sql or sql/samples/contacts.sql, which have them.
--
-- None of them says which rows its result depends on: that is true or false of
-- the function that is found, so that function says it, in its SET clause
-- (pg_query_cache.depends_on, docs/adr/0016). The sample contacts does.

CREATE FUNCTION get_expert_sessions_with_stats_cached(expert_id uuid DEFAULT NULL, cache_duration interval DEFAULT '5 minutes')
RETURNS jsonb LANGUAGE cached STABLE PARALLEL UNSAFE
AS '{"function": "get_expert_sessions_with_stats(uuid)", "class": "sessions", "binding": "late"}';
COMMENT ON FUNCTION get_expert_sessions_with_stats_cached(uuid, interval) IS
    'get_expert_sessions_with_stats(expert_id), cached; cache_duration is the greatest age the caller accepts';

CREATE FUNCTION get_product_performance_cached(product_id uuid DEFAULT NULL, cache_duration interval DEFAULT '15 minutes')
RETURNS jsonb LANGUAGE cached STABLE PARALLEL UNSAFE
AS '{"function": "get_product_performance(uuid)", "class": "analytics", "binding": "late"}';
COMMENT ON FUNCTION get_product_performance_cached(uuid, interval) IS
    'get_product_performance(product_id), cached; cache_duration is the greatest age the caller accepts';

CREATE FUNCTION get_enterprise_contacts_summary_cached(enterprise_id bigint, cache_duration interval DEFAULT '2 hours')
RETURNS jsonb LANGUAGE cached STABLE PARALLEL UNSAFE
AS '{"function": "get_enterprise_contacts_summary(bigint)", "class": "enterprise", "tags": ["enterprises", "enterprise:$1"], "binding": "late"}';
COMMENT ON FUNCTION get_enterprise_contacts_summary_cached(bigint, interval) IS
    'get_enterprise_contacts_summary(enterprise_id), cached; cache_duration is the greatest age the caller accepts';

CREATE FUNCTION get_department_contacts_summary_cached(enterprise_id bigint, department_id bigint, cache_duration interval DEFAULT '1 hour')
RETURNS jsonb LANGUAGE cached STABLE PARALLEL UNSAFE
AS '{"function": "get_department_contacts_summary(bigint,bigint)", "class": "department", "tags": ["departments", "enterprise:$1:departments"], "binding": "late"}';
COMMENT ON FUNCTION get_department_contacts_summary_cached(bigint, bigint, interval) IS
    'get_department_contacts_summary(enterprise_id, department_id), cached; cache_duration is the greatest age the caller accepts';
