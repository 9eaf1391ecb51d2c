//! Who may start and stop to track a table.
//!
//! Starting is creating triggers: it takes the TRIGGER privilege on each table of the tree, given to the role or to one that it is a
//! member of. What everybody has does not count: a table opened to PUBLIC in a hurry is no invitation to slow its writers down.
//! Stopping is dropping triggers: it takes the owner of each table.

#![allow(unsafe_code)]

use super::relations::Tree;
use crate::access::acl;
use crate::compat;
use crate::server;
use pgrx::pg_sys;

/// Whether `role` may create triggers on all tables of the tree.
pub fn may_track(role: pg_sys::Oid, tree: &Tree) -> bool {
    tree.tables().all(|table| may_create_triggers(role, table))
}

/// Refuses in the server's words whoever may not start to track the tree.
pub fn check_may_track(tree: &Tree) {
    // SAFETY: a variable of the backend.
    let role = unsafe { server::GetUserId() };
    if let Some(table) = tree
        .tables()
        .find(|table| !may_create_triggers(role, *table))
    {
        refuse(table, pg_sys::AclResult::ACLCHECK_NO_PRIV);
    }
}

/// Refuses in the server's words whoever may not stop to track the tree.
pub fn check_may_untrack(tree: &Tree) {
    // SAFETY: a variable of the backend; a syscache lookup.
    let other = unsafe {
        let role = server::GetUserId();
        tree.tables()
            .find(|table| !pg_sys::pg_class_ownercheck(*table, role))
    };
    if let Some(table) = other {
        refuse(table, pg_sys::AclResult::ACLCHECK_NOT_OWNER);
    }
}

/// Owner of a function; `None` if it is gone.
pub fn owner_of_function(function: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a syscache lookup; the tuple is pinned while it is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(compat::PROC_CACHE, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return None;
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>()).proowner;
        pg_sys::ReleaseSysCache(tuple);
        Some(owner)
    }
}

fn refuse(table: pg_sys::Oid, result: pg_sys::AclResult::Type) {
    // SAFETY: syscache lookups; raises.
    unsafe {
        let name = pg_sys::get_rel_name(table);
        if !name.is_null() {
            let kind = pg_sys::get_relkind_objtype(pg_sys::get_rel_relkind(table));
            pg_sys::aclcheck_error(result, kind, name);
        }
    }
    crate::error::Error::NoSuchRelation(table).raise();
}

fn may_create_triggers(role: pg_sys::Oid, table: pg_sys::Oid) -> bool {
    // SAFETY: syscache lookups; the tuple is pinned while it is read; relacl is an aclitem[] or NULL.
    unsafe {
        if pg_sys::get_rel_relkind(table) == 0
            || pg_sys::pg_class_aclcheck(table, role, pg_sys::ACL_TRIGGER as pg_sys::AclMode)
                != pg_sys::AclResult::ACLCHECK_OK
        {
            return false;
        }
        if pg_sys::superuser_arg(role) {
            return true;
        }
        let cache = pg_sys::SysCacheIdentifier::RELOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(table));
        if tuple.is_null() {
            return false;
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relowner;
        let mut is_null = false;
        let number = pg_sys::Anum_pg_class_relacl as pg_sys::AttrNumber;
        let acl = pg_sys::SysCacheGetAttr(cache, tuple, number, &mut is_null);
        let items = if is_null { Vec::new() } else { acl::items(acl) };
        pg_sys::ReleaseSysCache(tuple);
        pg_sys::has_privs_of_role(role, owner)
            || items
                .iter()
                .filter(|item| {
                    item.gives(pg_sys::ACL_TRIGGER) && item.grantee != pg_sys::InvalidOid
                })
                .any(|item| pg_sys::has_privs_of_role(role, item.grantee))
    }
}
