//! pg_query_cache_bench
fn main() {}
