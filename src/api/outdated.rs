//! What functions of earlier versions of the extension are bound to, between the start with a new library and ALTER EXTENSION UPDATE.
//!
//! A function whose arguments or columns change gets a new symbol; the old one stays here, and does what it can.

use super::caching::cache;
use crate::encoding::Text;
use crate::error::Error;
use pgrx::prelude::*;
use pgrx::{AnyElement, pg_sys};

/// Up to 0.2.0 it is SECURITY DEFINER, and cannot know on whose word it is called.
#[pg_extern(sql = false)]
fn cache_function_resume() -> bool {
    Error::Outdated("cache_function_resume()").raise()
}

/// 0.1.0 has no arguments about refreshing.
#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn cache_function(
    function: Option<pg_sys::Oid>,
    ttl: Option<pgrx::datum::Interval>,
    depends_on: Option<AnyElement>,
    tags: Option<Vec<Option<Text>>>,
    class: Option<Text>,
    scope: Option<Text>,
    consistency: Option<Text>,
    priority: Option<i32>,
    name: Option<Text>,
) -> pg_sys::Oid {
    cache(
        function,
        ttl,
        depends_on,
        tags,
        class,
        scope,
        consistency,
        priority,
        name,
        None,
        None,
        None,
        None,
    )
}

/// 0.2.0 has no arguments about the clock and trust.
#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn cache_function_v0_2(
    function: Option<pg_sys::Oid>,
    ttl: Option<pgrx::datum::Interval>,
    depends_on: Option<AnyElement>,
    tags: Option<Vec<Option<Text>>>,
    class: Option<Text>,
    scope: Option<Text>,
    consistency: Option<Text>,
    priority: Option<i32>,
    name: Option<Text>,
    refresh_ahead: Option<Text>,
    stale_while_revalidate: Option<pgrx::datum::Interval>,
) -> pg_sys::Oid {
    cache(
        function,
        ttl,
        depends_on,
        tags,
        class,
        scope,
        consistency,
        priority,
        name,
        refresh_ahead,
        stale_while_revalidate,
        None,
        None,
    )
}

/// 0.1.0 has fewer columns.
#[pg_extern(sql = false)]
fn cache_stats() -> bool {
    Error::Outdated("cache_stats()").raise()
}

/// 0.1.0 has fewer columns.
#[pg_extern(sql = false)]
fn cache_function_stats() -> bool {
    Error::Outdated("cache_function_counters()").raise()
}

/// 0.1.0 has fewer columns.
#[pg_extern(sql = false)]
fn analyze_cache_health() -> bool {
    Error::Outdated("analyze_cache_health()").raise()
}
