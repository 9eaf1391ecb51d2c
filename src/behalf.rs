//! Acting for somebody else for a moment: as the owner of one of our tables, so that a caller needs no right on it.
//!
//! Nothing of the caller's counts meanwhile: operators, functions and tables are found in the catalog only, and what the other role has
//! put on an object of its own (a trigger, a default) cannot outlive the moment, because it runs as a security-restricted operation.
//! An ERROR takes role and search path back with the (sub)transaction, as it does for a SECURITY DEFINER function.

#![allow(unsafe_code)]

use pgrx::pg_sys;

/// Runs `body` as `role`.
pub fn acting_as<R>(role: pg_sys::Oid, body: impl FnOnce() -> R) -> R {
    const RESTRICTED: i32 =
        (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: inside a transaction; what is changed here is set right below, or by the end of the (sub)transaction after an ERROR.
    let level = unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let level = pg_sys::NewGUCNestLevel();
        pg_sys::SetUserIdAndSecContext(role, context | RESTRICTED);
        pg_sys::set_config_option(
            c"search_path".as_ptr(),
            c"pg_catalog, pg_temp".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
        level
    };
    let result = body();
    // SAFETY: as above.
    unsafe {
        pg_sys::AtEOXact_GUC(true, level);
        pg_sys::SetUserIdAndSecContext(user, context);
    }
    result
}

/// Owner of a relation; `None` if there is no such relation.
pub fn owner_of(relation: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a syscache lookup; the tuple is pinned while it is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::RELOID as _,
            pg_sys::Datum::from(relation),
        );
        if tuple.is_null() {
            return None;
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relowner;
        pg_sys::ReleaseSysCache(tuple);
        Some(owner)
    }
}
