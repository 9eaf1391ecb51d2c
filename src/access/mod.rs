//! Rights on the extension's objects: for whom each object is, and GRANT and REVOKE by that list.
//!
//! * `list`: the audiences, what each may use, and which roles it is when the extension is created
//! * `members`: the objects that belong to the extension
//! * `grant`: one GRANT or REVOKE
//!
//! The list is code and not SQL, and a GRANT is a parse tree that is handed to the server, never a text: a superuser runs it, so
//! neither a name that somebody chose nor an object that somebody planted may decide what it means.

#![allow(unsafe_code)]

mod grant;
mod list;
mod members;

pub use grant::Grantee;
pub use list::{ADMIN, APPLICATION, AUDIENCES};

use crate::compat;
use grant::{Object, execute};
use members::Member;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Raises unless the present role is the owner of the extension, or may do everything.
pub fn require_owner() {
    let owner = members::extension_owner();
    // SAFETY: catalog lookups.
    let may =
        owner.is_some_and(|owner| unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), owner) });
    if !may {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            "must be owner of extension pg_query_cache"
        );
    }
}

/// Grants to a role, or revokes from it, what audiences have. Returns the number of GRANTs.
pub fn apply(is_grant: bool, audiences: &[&str], grantees: &[Grantee]) -> i32 {
    let mut done = 0;
    for member in members::all() {
        let audience = list::audience_of(&member.name);
        if member.object.has_audience() && audience.is_some_and(|one| audiences.contains(&one)) {
            execute(
                is_grant,
                &member,
                Some(list::columns(&member.name)),
                grantees,
            );
            done += 1;
        }
    }
    done
}

/// Lets a role use the names in the extension's schema. Returns the number of GRANTs.
pub fn open_schema(role: pg_sys::Oid) -> i32 {
    let Some(schema) = compat::extension_namespace() else {
        return 0;
    };
    // SAFETY: a catalog lookup.
    let has = unsafe { pg_sys::pg_namespace_aclcheck(schema, role, pg_sys::ACL_USAGE as _) };
    if has == pg_sys::AclResult::ACLCHECK_OK {
        return 0;
    }
    let member = Member {
        name: String::new(),
        schema,
        oid: schema,
        object: Object::Schema,
        owner: pg_sys::InvalidOid,
    };
    execute(true, &member, Some(&[]), &[Grantee::Role(role)]);
    1
}

/// Closes objects of the extension to everybody but their owner, whatever default privileges have opened, and opens them to those for
/// whom they are: all objects, or those with one of `names`. For the extension's scripts alone.
pub fn install(names: &[String]) {
    // SAFETY: variables of the backend.
    let in_script = unsafe {
        pg_sys::creating_extension && Some(pg_sys::CurrentExtensionObject) == compat::extension()
    };
    if !in_script {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "rights are set up by CREATE EXTENSION and ALTER EXTENSION UPDATE only"
        );
    }
    let members = members::all();
    // Whoever was given maintenance before keeps what belonged to it then.
    let keepers = members
        .iter()
        .find(|member| member.name == list::KEPT_BY_HOLDERS_OF)
        .map(members::grantees)
        .unwrap_or_default();
    for member in &members {
        if !names.is_empty() && !names.contains(&member.name) {
            continue;
        }
        let mut closed = vec![Grantee::Everybody];
        closed.extend(members::grantees(member).into_iter().map(Grantee::Role));
        execute(false, member, None, &closed);
        let Some(audience) =
            list::audience_of(&member.name).filter(|_| member.object.has_audience())
        else {
            continue;
        };
        let mut open = list::roles(audience);
        if !names.is_empty() && list::MAINTAINED.contains(&audience) {
            open.extend(keepers.iter().copied().map(Grantee::Role));
        }
        if !open.is_empty() {
            execute(true, member, Some(list::columns(&member.name)), &open);
        }
    }
}
