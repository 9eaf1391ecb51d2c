//! What functions of earlier versions of the extension are bound to, between the start with a new library and ALTER EXTENSION UPDATE.
//!
//! A function whose arguments or columns change gets a new symbol; the old one stays here, and does what it can.

use super::caching::{How, cache};
use crate::compat;
use crate::encoding::Text;
use crate::error::Error;
use crate::language::binding;
use crate::naming;
use pgrx::prelude::*;
use pgrx::{AnyElement, IntoDatum, pg_sys};
use std::ffi::CStr;

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
    let how = How {
        ttl,
        depends_on,
        tags,
        class,
        scope,
        consistency,
        priority,
        name,
        ..How::default()
    };
    cache(function, how)
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
    let how = How {
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
        ..How::default()
    };
    cache(function, how)
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

/// Names the folder of the library with it in the functions of earlier versions. Without it the server looks for the library along
/// `dynamic_library_path`, and tells what it tries (DEBUG3): a message to the client is a place where a statement can be cancelled, also
/// while LLVM, which knows no ERRORs, looks for a function. For the update script.
#[pg_extern(sql = false)]
#[allow(unsafe_code)]
fn name_library_of_functions() {
    const BARE: &CStr = c"pg_query_cache";
    let mut found = Vec::new();
    // SAFETY: a variable of the backend; all of pg_proc, whose rows are read while they are there.
    unsafe {
        if !pg_sys::superuser() {
            return;
        }
        compat::all_catalog_rows(pg_sys::ProcedureRelationId, |tuple| {
            let mut is_null = false;
            let library = pg_sys::SysCacheGetAttr(
                compat::PROC_CACHE,
                tuple,
                pg_sys::Anum_pg_proc_probin as pg_sys::AttrNumber,
                &mut is_null,
            );
            let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
            if !is_null
                && CStr::from_ptr(pg_sys::text_to_cstring(library.cast_mut_ptr())) == BARE
                && Some(pg_sys::getExtensionOfObject(
                    pg_sys::ProcedureRelationId,
                    row.oid,
                )) == compat::extension()
            {
                found.push(row.oid);
            }
        });
    }
    for function in found {
        let library = Text::from("$libdir/pg_query_cache").into_datum();
        let library = library.unwrap_or(pg_sys::Datum::from(0));
        if !binding::write(function, &[(pg_sys::Anum_pg_proc_probin, library)]) {
            let name = naming::regprocedure(function);
            Error::BeingChanged(name.clone(), name).raise();
        }
    }
}
