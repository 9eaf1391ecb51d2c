//! pg_query_cache_consistency
