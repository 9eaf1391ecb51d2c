//! Functions that are not cached because a stored result of theirs was wrong, until `cache_function_resume()` says so.
//!
//! A bit in the function's row in shared memory stops all sessions at once; such a row is nobody else's until the function is dropped, and
//! a function without a row does not use the cache. The worker writes the bit to the table `cache_quarantine`, under the function's
//! name, and who first uses a function looks there: so it outlives restarts and crashes.
//!
//! Failure: a crash between the two forgets; the next verification finds the difference again if it is still there.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::behalf;
use crate::compat;
use crate::encoding::{self, Text};
use crate::language::function::CachedFunction;
use crate::language::standing;
use crate::naming;
use crate::store::area::Area;
use crate::store::statistics::Getting;
use crate::store::traits::Trait;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;

const TABLE: &std::ffi::CStr = c"cache_quarantine";

/// Functions that leave the quarantine when the transaction commits, and the level of subtransaction that said so.
static LEAVING: Backend<RefCell<Vec<(pg_sys::Oid, i32)>>> = Backend::new(RefCell::new(Vec::new()));

/// From now on no session uses the cache for the function.
pub fn begin(area: Area, function: &CachedFunction) {
    let learned = function.learn(Trait::Quarantined).or_else(|| {
        standing::get(area, function.oid, Getting::InNeed)?;
        function.learn(Trait::Quarantined)
    });
    match learned {
        Some(true) => crate::worker::wake(area, compat::database()),
        Some(false) => (),
        // It does not use the cache without a row; but when it has one again nobody knows any more.
        None => crate::error::log(&format!(
            "function {} has no row to be quarantined in",
            naming::regprocedure_qualified(function.oid)
        )),
    }
}

/// Whether something is not written yet.
pub fn is_to_be_saved(area: Area) -> bool {
    area.functions()
        .with_trait(compat::database(), Trait::Quarantined)
        .into_iter()
        .any(|(_, learned)| !learned.has(Trait::QuarantineSaved))
}

/// Writes what is not written yet to the table. For the worker.
pub fn save(area: Area) {
    let database = compat::database();
    for (function, learned) in area.functions().with_trait(database, Trait::Quarantined) {
        if learned.has(Trait::QuarantineSaved) || !compat::function_exists(function) {
            continue;
        }
        let Some(schema) = compat::extension_schema() else {
            return;
        };
        let written = encoding::run(
            &format!(
                "INSERT INTO {schema}.cache_quarantine (function) VALUES ($1) ON CONFLICT DO NOTHING"
            ),
            &[encoding::parameter(&naming::regprocedure_qualified(
                function,
            ))],
        );
        match written {
            Ok(()) => {
                area.functions()
                    .learn(database, function, Trait::QuarantineSaved);
            }
            Err(problem) => crate::error::log(&format!(
                "could not write table \"cache_quarantine\": {problem}"
            )),
        }
    }
}

/// How long the table keeps a function that is there no more: one that is only made anew keeps its place.
const KEPT: &str = "90 days";

/// Removes functions from the table that have been gone for long. For the clean-up.
pub fn clean_up() {
    let Some(table) = crate::table::qualified("cache_quarantine") else {
        return;
    };
    let gone = format!(
        "FROM {table} AS q WHERE q.since OPERATOR(pg_catalog.<) \
         (pg_catalog.now() OPERATOR(pg_catalog.-) '{KEPT}'::pg_catalog.interval) \
         AND pg_catalog.to_regprocedure(q.function) IS NULL"
    );
    // Idle is idle: a DELETE takes a transaction id even if it finds nothing.
    if !crate::table::is_any(&format!("SELECT 1 {gone}"), &[]) {
        return;
    }
    let removed = encoding::run(&format!("DELETE {gone}"), &[]);
    if let Err(problem) = removed {
        crate::error::log(&format!(
            "could not clean table \"cache_quarantine\": {problem}"
        ));
    }
}

/// Takes a function out of the table, and out of quarantine when the transaction commits. Returns whether it was in quarantine.
pub fn end(area: Area, function: pg_sys::Oid) -> bool {
    let learned = area.functions().learned(compat::database(), function);
    let mut was = learned.has(Trait::Quarantined);
    let table = compat::extension_relation(TABLE);
    let owner = table.and_then(behalf::owner_of);
    if let (Some(schema), Some(owner)) = (compat::extension_schema(), owner) {
        let name = naming::regprocedure_qualified(function);
        let removed = behalf::acting_as(owner, || {
            Spi::connect_mut(|client| {
                client
                    .update(
                        encoding::statement(&format!(
                            "DELETE FROM {schema}.cache_quarantine AS q \
                             WHERE q.function OPERATOR(pg_catalog.=) $1 COLLATE pg_catalog.\"C\""
                        ))
                        .as_c_str(),
                        None,
                        &[encoding::parameter(&name)],
                    )
                    .map(|rows| rows.len())
            })
        });
        was |= crate::table::done("write table \"cache_quarantine\"", removed) > 0;
    }
    // SAFETY: a variable of the backend.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    LEAVING.with_borrow_mut(|leaving| leaving.push((function, level)));
    was
}

/// The transaction committed.
pub fn committed(area: Area) {
    for (function, _) in LEAVING.with_borrow_mut(std::mem::take) {
        for one in [Trait::Quarantined, Trait::QuarantineSaved] {
            area.functions().unlearn(compat::database(), function, one);
        }
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

/// Whether the table names the function; `None` if somebody has it locked against readers. Without SPI, as the caller may have no right
/// on the table.
pub fn is_in_table(function: pg_sys::Oid) -> Option<bool> {
    // SAFETY: catalog lookups that allow for absence; nobody is waited for; tuples are used while the scan is.
    unsafe {
        let Some(table) = compat::extension_relation(TABLE) else {
            return Some(false);
        };
        let name = naming::regprocedure_qualified(function);
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
            found = !is_null && Text::from_datum(value, false).is_some_and(|text| text.0 == name);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::relation_close(relation, lock);
        Some(found)
    }
}
