//! Functions that are open to everybody because they look themselves who asks: the owner of the cached function that is asked about may,
//! and who was given EXECUTE on ours by name. What PUBLIC has does not count for others' functions, nor what the owner of the database
//! has for owning it.

#![allow(unsafe_code)]

use super::acl;
use crate::compat;
use crate::server;
use pgrx::pg_sys;

/// Refuses, in the server's words, whoever may not use our function, which is being called, on a cached one.
///
/// # Safety
/// `fcinfo` is that of a call by the executor.
pub unsafe fn check(fcinfo: pg_sys::FunctionCallInfo, cached: pg_sys::Oid) {
    // SAFETY: the caller's; catalog lookups; raises.
    unsafe {
        let ours = (*(*fcinfo).flinfo).fn_oid;
        if !owns(cached) && !is_given(ours) {
            pg_sys::aclcheck_error(
                pg_sys::AclResult::ACLCHECK_NO_PRIV,
                pg_sys::ObjectType::OBJECT_FUNCTION,
                pg_sys::get_func_name(ours),
            );
        }
    }
}

/// Whether the present role owns a function.
pub fn owns(function: pg_sys::Oid) -> bool {
    // SAFETY: catalog lookups, which allow for its absence.
    unsafe {
        pg_sys::get_func_namespace(function) != pg_sys::InvalidOid
            && pg_sys::pg_proc_ownercheck(function, server::GetUserId())
    }
}

/// Whether the present role was given EXECUTE on a function by name, or owns it.
pub fn is_given(function: pg_sys::Oid) -> bool {
    // SAFETY: catalog lookups; the tuple is pinned while it is read; the list is an aclitem[] or NULL.
    unsafe {
        let role = server::GetUserId();
        let id = compat::PROC_CACHE;
        let tuple = pg_sys::SearchSysCache1(id as _, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return false;
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>()).proowner;
        let mut is_null = false;
        let column = pg_sys::Anum_pg_proc_proacl as _;
        let list = pg_sys::SysCacheGetAttr(id as _, tuple, column, &mut is_null);
        let items = if is_null {
            Vec::new()
        } else {
            acl::items(list)
        };
        pg_sys::ReleaseSysCache(tuple);
        pg_sys::has_privs_of_role(role, owner)
            || items
                .iter()
                .filter(|item| item.gives(pg_sys::ACL_EXECUTE))
                .map(|item| item.grantee)
                .filter(|grantee| ![0, pg_sys::ROLE_PG_DATABASE_OWNER].contains(&grantee.to_u32()))
                .any(|grantee| pg_sys::has_privs_of_role(role, grantee))
    }
}
