//! Functions that are not cached because a stored result of theirs was wrong, until `cache_function_resume()` says so.
//!
//! A bit in shared memory stops all sessions at once. The worker writes it to the table `cache_quarantine`, under the function's
//! name, and a session that first uses a function looks there: so it outlives restarts and crashes.
//!
//! Failure: a crash between the two forgets; the next verification finds the difference again if it is still there.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::compat;
use crate::language::function::CachedFunction;
use crate::store::area::{Area, area};
use crate::store::traits::{Trait, Traits};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;

const TABLE: &std::ffi::CStr = c"cache_quarantine";

/// Functions that leave the quarantine when the transaction commits, and the level of subtransaction that said so.
static LEAVING: Backend<RefCell<Vec<(pg_sys::Oid, i32)>>> = Backend::new(RefCell::new(Vec::new()));

/// What has been learned of a function, for a session that uses it for the first time, and whether that is all: the table may be locked.
/// Nothing is learned if the library is not preloaded.
pub fn traits_of(function: pg_sys::Oid) -> (Option<&'static Traits>, bool) {
    let Some(area) = area() else {
        return (None, true);
    };
    let traits = area.functions().traits(compat::database(), function);
    if traits.has(Trait::Quarantined) {
        return (Some(traits), true);
    }
    let in_table = is_in_table(&compat::regprocedure_qualified(function));
    if in_table == Some(true) {
        traits.set(Trait::QuarantineSaved);
        traits.set(Trait::Quarantined);
    }
    (Some(traits), in_table.is_some())
}

/// From now on no session uses the cache for the function.
pub fn begin(area: Area, function: &CachedFunction) {
    if function.learn(Trait::Quarantined) {
        crate::worker::wake(area, compat::database());
    }
}

/// Whether something is not written yet.
pub fn is_to_be_saved(area: Area) -> bool {
    area.functions()
        .with_trait(compat::database(), Trait::Quarantined)
        .any(|(_, traits)| !traits.has(Trait::QuarantineSaved))
}

/// Writes what is not written yet to the table. For the worker.
pub fn save(area: Area) {
    let database = compat::database();
    for (function, traits) in area.functions().with_trait(database, Trait::Quarantined) {
        if traits.has(Trait::QuarantineSaved) {
            continue;
        }
        let Some(schema) = compat::extension_schema() else {
            return;
        };
        let written = Spi::run_with_args(
            &format!(
                "INSERT INTO {schema}.cache_quarantine (function) VALUES ($1) ON CONFLICT DO NOTHING"
            ),
            &[compat::regprocedure_qualified(function).into()],
        );
        match written {
            Ok(()) => {
                traits.set(Trait::QuarantineSaved);
            }
            Err(problem) => {
                log!("pg_query_cache: could not write table \"cache_quarantine\": {problem}")
            }
        }
    }
}

/// Takes a function out of the table, and out of quarantine when the transaction commits. Returns whether it was in quarantine.
pub fn end(area: Area, function: pg_sys::Oid) -> bool {
    let traits = area.functions().traits(compat::database(), function);
    let mut was = traits.has(Trait::Quarantined);
    if let Some(schema) = compat::extension_schema() {
        let removed = Spi::connect_mut(|client| {
            client
                .update(
                    format!("DELETE FROM {schema}.cache_quarantine WHERE function OPERATOR(pg_catalog.=) $1").as_str(),
                    None,
                    &[compat::regprocedure_qualified(function).into()],
                )
                .map(|rows| rows.len())
        });
        was |= removed.is_ok_and(|rows| rows > 0);
    }
    // SAFETY: a variable of the backend.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    LEAVING.with_borrow_mut(|leaving| leaving.push((function, level)));
    was
}

/// The transaction committed.
pub fn committed(area: Area) {
    for (function, _) in LEAVING.with_borrow_mut(std::mem::take) {
        let traits = area.functions().traits(compat::database(), function);
        traits.clear(Trait::Quarantined);
        traits.clear(Trait::QuarantineSaved);
    }
}

/// The transaction was rolled back, or prepared: whoever commits it later has to say it again.
pub fn forget() {
    LEAVING.with_borrow_mut(Vec::clear);
}

/// The subtransaction at `level` ended.
pub fn subtransaction_ended(level: i32, committed: bool) {
    LEAVING.with_borrow_mut(|leaving| {
        if committed {
            leaving
                .iter_mut()
                .for_each(|(_, own)| *own = (*own).min(level - 1));
        } else {
            leaving.retain(|(_, own)| *own < level);
        }
    });
}

/// Whether the table names the function; `None` if that cannot be found out now. Without SPI, as the caller may have no right on the
/// table.
fn is_in_table(name: &str) -> Option<bool> {
    // SAFETY: catalog lookups that allow for absence; nobody is waited for; tuples are used while the scan is.
    unsafe {
        let Some(table) = compat::extension_relation(TABLE) else {
            return Some(false);
        };
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        if !pg_sys::ConditionalLockRelationOid(table, lock) {
            return None;
        }
        let relation = pg_sys::try_relation_open(table, pg_sys::NoLock as pg_sys::LOCKMODE);
        if relation.is_null() {
            pg_sys::UnlockRelationOid(table, lock);
            return None;
        }
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            std::ptr::null_mut(),
            0,
            std::ptr::null_mut(),
        );
        let mut found = false;
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() || found {
                break;
            }
            let mut is_null = false;
            let value = pg_sys::heap_getattr(tuple, 1, (*relation).rd_att, &mut is_null);
            found = !is_null && String::from_datum(value, false).as_deref() == Some(name);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::relation_close(relation, lock);
        Some(found)
    }
}
