//! SQL functions that track tables, and what `cache_function()` tracks.

#![allow(unsafe_code)]

use super::caching::not_during_recovery;
use crate::attempt::attempt;
use crate::compat;
use crate::dependencies::relations::{self, Tracking, Tree};
use crate::dependencies::tree_locks::Patience;
use crate::dependencies::{automatic, rights, tracking};
use crate::error::OrRaise;
use crate::language::body::Body;
use crate::naming;
use crate::settings;
use crate::store::area::area;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// Starts to track the tables that `depends_on` names, as far as the caller may: the first call then is stored already. A table that
/// others write to is not waited for long, and nobody waits behind.
pub fn declared(body: &Body, cached: pg_sys::Oid) {
    for (name, columns) in &body.depends_on {
        let Some(relation) = crate::dependencies::declared::find_relation(name) else {
            continue;
        };
        if may_track(relation) {
            let columns: Vec<_> = columns.keys().cloned().collect();
            if tracking::track(relation, &columns, Patience::Polls)
                .or_raise()
                .is_none()
            {
                later(relation, &columns, cached);
            }
        }
    }
}

/// A table that `depends_on` names is in use.
fn later(relation: pg_sys::Oid, columns: &[String], cached: pg_sys::Oid) {
    let name = naming::relation_name(relation).unwrap_or_default();
    let message = format!("could not obtain the lock to track relation \"{name}\"");
    match area().filter(|_| settings::auto_track()) {
        Some(area) => {
            automatic::untracked(area, relation, cached, "");
            for column in columns {
                automatic::untracked(area, relation, cached, column);
            }
            ErrorReport::new(
                PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
                message,
                "pg_query_cache",
            )
            .set_detail("Results that rest on it are stored when it is tracked, which is tried again.")
            .report(PgLogLevel::NOTICE);
        }
        None => ErrorReport::new(
            PgSqlErrorCode::ERRCODE_WARNING,
            message,
            "pg_query_cache",
        )
        .set_detail("Results that rest on it are not stored until it is tracked.")
        .set_hint("Call cache_track_table() with it and these key columns when nobody writes to it for long.")
        .report(PgLogLevel::WARNING),
    }
}

/// The same for the tables that the text of the base function names, when the transaction commits. Nobody has asked for these: nothing is
/// waited for, and a transaction block is left without a lock on them.
pub fn found(base: pg_sys::Oid, cached: pg_sys::Oid) {
    let Some(area) = area() else { return };
    if !settings::auto_track() || !automatic::may_do_it_itself() {
        return;
    }
    for relation in attempt(|| crate::dependencies::found::relations(base)).unwrap_or_default() {
        if relations::tracking(relation) == Tracking::Untracked && may_track(relation) {
            automatic::untracked(area, relation, cached, "");
        }
    }
}

/// Whether the caller may track a relation that can be tracked.
fn may_track(relation: pg_sys::Oid) -> bool {
    // SAFETY: a variable of the backend.
    let role = unsafe { pg_sys::GetUserId() };
    relations::can_be_tracked(relation) && rights::may_track(role, &Tree::of(relation))
}

/// The elements of a `name[]` that are not NULL.
///
/// # Safety
/// `array` is one.
unsafe fn names(array: pg_sys::Datum) -> Vec<String> {
    let (mut elements, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
    // SAFETY: the caller's; a name is a C string in 64 bytes.
    unsafe {
        pg_sys::deconstruct_array(
            pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast(),
            pg_sys::NAMEOID,
            pg_sys::NAMEDATALEN as i32,
            false,
            pg_sys::TYPALIGN_CHAR as _,
            &mut elements,
            &mut nulls,
            &mut count,
        );
        (0..count as usize)
            .filter(|i| !*nulls.add(*i))
            .map(|i| compat::text((*elements.add(i)).cast_mut_ptr()))
            .collect()
    }
}

/// Starts to track a table. Returns how many triggers were added or replaced.
#[pg_extern(sql = false)]
fn cache_track_table(relation: pg_sys::Oid, key_columns: pgrx::AnyArray) -> i32 {
    not_during_recovery(c"cache_track_table()");
    // SAFETY: the declared type of the argument is name[].
    let columns = unsafe { names(key_columns.datum()) };
    let added = tracking::track(relation, &columns, Patience::Waits).or_raise();
    added.unwrap_or_default() as i32
}

/// Stops to track a table. Returns how many triggers were dropped.
#[pg_extern(sql = false)]
fn cache_untrack_table(relation: pg_sys::Oid) -> i32 {
    not_during_recovery(c"cache_untrack_table()");
    tracking::untrack(relation).or_raise() as i32
}
