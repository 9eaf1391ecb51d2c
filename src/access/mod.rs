//! Rights on the extension's objects: for whom each object is, and GRANT and REVOKE by that list.
//!
//! * `list`: the audiences, what each may use, and which roles it is when the extension is created
//! * `members`: the objects that belong to the extension
//! * `acl`: lists of rights, read
//! * `initial`: what the server takes for the rights of every installation
//! * `grant`: one GRANT or REVOKE
//! * `given`: who was given something by name
//!
//! The list is code and not SQL, and a GRANT is a parse tree that is handed to the server, never a text: a superuser runs it, so
//! neither a name that somebody chose nor an object that somebody planted may decide what it means.

#![allow(unsafe_code)]

pub mod acl;
pub mod given;
mod grant;
mod initial;
mod list;
mod members;

pub use grant::Grantee;
pub use list::{ADMIN, APPLICATION, AUDIENCES};

use crate::compat;
use grant::{Object, What, execute};
use initial::Unnoted;
use members::{Member, Right};
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
                What::Use(list::columns(&member.name)),
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
    execute(true, &member, What::Use(&[]), &[Grantee::Role(role)]);
    1
}

/// Closes objects of the extension to everybody but their owner, whatever default privileges have opened, and opens them to those for
/// whom they are: all objects, or those with one of `names`. For the extension's scripts alone. What the server notes as given by every
/// installation is the same in each; what depends on the roles of the site is given besides, as people give it.
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
    let is_update = !names.is_empty();
    // Whoever was given an audience before keeps what belonged to it then.
    let holders = |name: &str| -> Vec<Grantee> {
        let member = members.iter().find(|member| member.name == name);
        let roles = member
            .filter(|_| is_update)
            .map(members::grantees)
            .unwrap_or_default();
        roles.into_iter().map(Grantee::Role).collect()
    };
    let kept: Vec<(&[&str], Vec<Grantee>)> = list::KEPT_BY_HOLDERS_OF
        .iter()
        .map(|(name, audiences)| (*audiences, holders(name)))
        .collect();
    for member in &members {
        let audience = list::audience_of(&member.name).filter(|_| member.object.has_audience());
        let before = members::rights(member);
        if is_update && !names.contains(&member.name) {
            if !initial::is_everywhere(member) {
                note(member, audience, &before);
                let _unnoted = Unnoted::begin();
                close(member, &members::rights(member));
                for right in &before {
                    give(member, right);
                }
            }
            continue;
        }
        note(member, audience, &before);
        let _unnoted = Unnoted::begin();
        let Some(audience) = audience else { continue };
        let everywhere = list::everywhere(audience);
        let mut here = list::roles(audience);
        for (audiences, holders) in &kept {
            if audiences.contains(&audience) {
                here.extend(holders);
            }
        }
        let only = |these: &[Grantee], those: &[Grantee]| -> Vec<Grantee> {
            let mut these = these.to_vec();
            these.retain(|one| !those.contains(one));
            these
        };
        for (is_grant, grantees) in [
            (false, only(&everywhere, &here)),
            (true, only(&here, &everywhere)),
        ] {
            if !grantees.is_empty() {
                execute(
                    is_grant,
                    member,
                    What::Use(list::columns(&member.name)),
                    &grantees,
                );
            }
        }
        if is_update && list::STAYS_GRANTED.contains(&audience) {
            for right in before.iter().filter(|right| is_of_the_site(right)) {
                give(member, right);
            }
        }
    }
}

/// Gives what every installation gives, and nothing else, so that this is what the server notes.
fn note(member: &Member, audience: Option<&str>, before: &[Right]) {
    close(member, before);
    let everywhere = audience.map(list::everywhere).unwrap_or_default();
    if !everywhere.is_empty() {
        execute(
            true,
            member,
            What::Use(list::columns(&member.name)),
            &everywhere,
        );
    }
}

/// Takes everything on an object and its columns from everybody but its owner.
fn close(member: &Member, rights: &[Right]) {
    let mut closed = vec![Grantee::Everybody];
    for grantee in rights.iter().map(|right| grantee(right.item.grantee)) {
        if !closed.contains(&grantee) {
            closed.push(grantee);
        }
    }
    execute(false, member, What::All, &closed);
}

/// Gives a right that was there before.
fn give(member: &Member, right: &Right) {
    for (privilege, option) in right.item.privileges() {
        execute(
            true,
            member,
            What::One(privilege, right.column.as_deref(), option),
            &[grantee(right.item.grantee)],
        );
    }
}

fn grantee(role: pg_sys::Oid) -> Grantee {
    if role == pg_sys::InvalidOid {
        Grantee::Everybody
    } else {
        Grantee::Role(role)
    }
}

/// Whether a right is one that the people of this site have given: not to PUBLIC, a predefined role, or one of Supabase's.
fn is_of_the_site(right: &Right) -> bool {
    let role = right.item.grantee;
    role.to_u32() >= pg_sys::FirstNormalObjectId && !list::api_roles().contains(&role)
}
