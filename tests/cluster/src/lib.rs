//! pg_query_cache_cluster_tests
