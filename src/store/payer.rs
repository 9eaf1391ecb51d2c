//! Who pays for the present database where databases share something that is scarce: its owner, so nobody gets more of it by having more of
//! them. The databases of superusers pay for themselves: whoever is one need not be kept from anything, and they are the ones of a
//! whole company on many a server.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::compat;
use pgrx::pg_sys;
use std::cell::Cell;

/// What this process has seen last.
static KNOWN: Backend<Cell<Option<u32>>> = Backend::new(Cell::new(None));

/// The role that pays, as far as this process knows; 0 if the database pays for itself.
pub fn known() -> u32 {
    KNOWN.get().unwrap_or(0)
}

/// Looks, if this process has not yet. In a transaction that may look at catalogs.
pub fn note() {
    if KNOWN.get().is_none() {
        look();
    }
}

/// The role that pays; 0 if the database pays for itself. In a transaction that may look at catalogs.
pub fn look() -> u32 {
    // SAFETY: a syscache lookup; the tuple is pinned while it is read.
    let owner = unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::DATABASEOID as _,
            pg_sys::Datum::from(compat::database()),
        );
        if tuple.is_null() {
            return known();
        }
        let row = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
        let owner = (*row).datdba;
        pg_sys::ReleaseSysCache(tuple);
        match pg_sys::superuser_arg(owner) {
            true => pg_sys::InvalidOid,
            false => owner,
        }
    };
    KNOWN.set(Some(owner.to_u32()));
    owner.to_u32()
}
