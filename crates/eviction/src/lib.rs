//! pg_query_cache_eviction
