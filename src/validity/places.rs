//! Which slot the definitions of a database have.
//!
//! Each database that asks gets a slot of its own, so that what is done in one never concerns another; slot 0 is the cluster's. Entries
//! keep the numbers of their slots, so a database keeps its slot for as long as it exists: it asks before its first result is stored
//! and before its first change of definitions commits, whichever comes first, and loses it when it is dropped. The map is saved
//! with the slots, because rows of the table tier have these numbers too.
//!
//! There are [`DATABASES`] of them. Databases that find none free share the last slot, for as long as the server runs and also if one
//! becomes free meanwhile (else some of their sessions would look where others do not write): a change in one of them then invalidates
//! the results of all of *them*, and of nobody else.
//!
//! Locks: a slot is given and taken back under the requests lock; looked up without one.

#![allow(unsafe_code)]

use super::tags::{OTHER_DATABASES, RESERVED};
use crate::backend::Backend;
use crate::compat;
use crate::store::area::{Area, area};
use crate::store::locks::lock_requests;
use pg_query_cache_validity::owners::{Owners, Place};
use pgrx::pg_sys;
use std::cell::Cell;

/// Databases that can have a slot of their own.
const DATABASES: usize = RESERVED as usize - 2;

/// The map, in the header of the area.
pub type Places = Owners<DATABASES>;

/// The slot of the definitions of the present database, once it is known.
static OWN: Backend<Cell<u32>> = Backend::new(Cell::new(0));

/// The slot of the definitions of the present database (tables, functions, rights, policies …). Without the area it means nothing.
#[inline(always)]
pub fn definitions_slot() -> u32 {
    match OWN.get() {
        0 => ask(),
        slot => slot,
    }
}

#[cold]
#[inline(never)]
fn ask() -> u32 {
    let database = compat::database();
    let Some(area) = area().filter(|_| database != pg_sys::InvalidOid) else {
        return OTHER_DATABASES;
    };
    let slot = slot_given_to(area, database);
    OWN.set(slot);
    slot
}

fn slot_given_to(area: Area, database: pg_sys::Oid) -> u32 {
    let places = area.definitions();
    slot_at(places.find(database.to_u32()).unwrap_or_else(|| {
        let _guard = lock_requests();
        places.give(database.to_u32())
    }))
}

fn slot_at(place: Place) -> u32 {
    match place {
        Place::Own(at) => 1 + at as u32,
        Place::Shared => OTHER_DATABASES,
    }
}

/// The slot of the definitions of any database, for a transaction that changes something of it. Also of one that does not use the cache
/// yet: when it does, it waits for its own transactions only (`crate::gate`).
pub fn slot_to_mark(area: Area, database: pg_sys::Oid) -> u32 {
    slot_given_to(area, database)
}

/// The database that this transaction drops.
static DROPPING: Backend<Cell<pg_sys::Oid>> = Backend::new(Cell::new(pg_sys::InvalidOid));

/// A command is about to drop a database.
///
/// # Safety
/// `drop` is its parse tree.
pub unsafe fn dropping(drop: &pg_sys::DropdbStmt) {
    // SAFETY: a C string of the parse tree; a catalog lookup that allows for its absence.
    DROPPING.set(unsafe { pg_sys::get_database_oid(drop.dbname, true) });
    crate::gate::concerns();
}

/// The transaction ended. The slot of a database that is gone may go to another one.
pub fn transaction_ended(area: Area, committed: bool) {
    let database = DROPPING.replace(pg_sys::InvalidOid);
    if !committed || database == pg_sys::InvalidOid {
        return;
    }
    let _guard = lock_requests();
    area.definitions().take_back(database.to_u32());
}
