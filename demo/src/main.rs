//! pg_query_cache_demo
fn main() {}
