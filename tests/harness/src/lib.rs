//! pg_query_cache_harness
