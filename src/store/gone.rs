//! Gives back what shared memory holds for functions, relations and databases that are there no more.
//!
//! A DROP gives nothing back by itself: it may be rolled back, and what drops a function is not always a DROP FUNCTION. What is gone is
//! found by the clean-up of each database, and by who finds no row free. A dropped database is noticed by the session that drops it too.

#![allow(unsafe_code)]

use super::area::Area;
use super::rows::Owner;
use crate::compat;
use pgrx::pg_sys;
use std::collections::BTreeMap;

/// Whether an object is in the catalog, as the present transaction sees it.
fn is_in(cache: pg_sys::SysCacheIdentifier::Type, oid: u32) -> bool {
    let (oid, none) = (pg_sys::Datum::from(oid), pg_sys::Datum::from(0));
    // SAFETY: a syscache lookup that allows for absence.
    unsafe { pg_sys::SearchSysCacheExists(cache as _, oid, none, none, none) }
}

/// Tells whether what has a row is gone: an object of this database, or another database as a whole.
fn is_gone(cache: pg_sys::SysCacheIdentifier::Type) -> impl FnMut(Owner) -> bool {
    let own = compat::database().to_u32();
    let mut databases = BTreeMap::new();
    move |owner| {
        if owner.database() == own {
            return owner.object() != 0 && !is_in(cache, owner.object());
        }
        let exists = databases
            .entry(owner.database())
            .or_insert_with(|| is_in(pg_sys::SysCacheIdentifier::DATABASEOID, owner.database()));
        !*exists
    }
}

/// Gives back the rows of functions that are gone. In a transaction. Returns how many.
pub fn functions(area: Area) -> usize {
    area.functions()
        .give_back_saved(is_gone(pg_sys::SysCacheIdentifier::PROCOID))
}

/// Gives back the rows of relations that are gone. In a transaction. Returns how many.
pub fn relations(area: Area) -> usize {
    area.charges()
        .give_back(is_gone(pg_sys::SysCacheIdentifier::RELOID))
}
