//! Temporary objects of the session. A name in a function can mean one of them, and no tag tells of them, so while there is one the
//! session's cached calls are bypassed. Looked up in `pg_depend` once, then again only after a command that can have changed it.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::compat::catalog;
use pgrx::pg_sys;
use std::cell::Cell;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    None,
    Some,
}

static KNOWN: Backend<Cell<Known>> = Backend::new(Cell::new(Known::Nothing));
static TOUCHED: Backend<Cell<bool>> = Backend::new(Cell::new(false));

/// Whether the session has temporary objects.
#[inline(always)]
pub fn present() -> bool {
    let (mut schema, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    match KNOWN.get() {
        Known::None => false,
        Known::Some => true,
        Known::Nothing => {
            // SAFETY: out parameters; then an index scan.
            let found = unsafe {
                pg_sys::GetTempNamespaceState(&mut schema, &mut toast);
                schema != pg_sys::InvalidOid && holds_objects(schema)
            };
            KNOWN.set(if found { Known::Some } else { Known::None });
            found
        }
    }
}

unsafe fn holds_objects(schema: pg_sys::Oid) -> bool {
    let mut found = false;
    // SAFETY: a plain systable scan over what depends on the schema.
    unsafe {
        let relation = pg_sys::table_open(catalog::DEPEND, pg_sys::AccessShareLock as _);
        let mut keys = [
            pg_sys::ScanKeyData::default(),
            pg_sys::ScanKeyData::default(),
        ];
        for (key, (column, oid)) in keys.iter_mut().zip([
            (catalog::DEPEND_CLASS, pg_sys::NamespaceRelationId),
            (catalog::DEPEND_OBJECT, schema),
        ]) {
            pg_sys::ScanKeyInit(
                key,
                column as _,
                pg_sys::BTEqualStrategyNumber as _,
                pg_sys::F_OIDEQ.into(),
                pg_sys::Datum::from(oid),
            );
        }
        let scan = pg_sys::systable_beginscan(
            relation,
            catalog::DEPEND_BY_REFERENCE,
            true,
            std::ptr::null_mut(),
            2,
            keys.as_mut_ptr(),
        );
        if !pg_sys::systable_getnext(scan).is_null() {
            found = true;
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as _);
    }
    found
}

/// A command ran that may have made or dropped a temporary object.
pub fn command_ran() {
    KNOWN.set(Known::Nothing);
    TOUCHED.set(true);
}

/// The transaction ended: objects made in it may be gone (ROLLBACK, ON COMMIT DROP).
pub fn transaction_ended() {
    if TOUCHED.replace(false) {
        KNOWN.set(Known::Nothing);
    }
}

/// A savepoint was rolled back.
pub fn subtransaction_ended() {
    if TOUCHED.get() {
        KNOWN.set(Known::Nothing);
    }
}
