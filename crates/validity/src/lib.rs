//! pg_query_cache_validity
