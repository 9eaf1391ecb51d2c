//! pg_query_cache: caches the results of SQL functions inside PostgreSQL, exact by snapshot.
use pgrx::prelude::*;

pg_module_magic!();
