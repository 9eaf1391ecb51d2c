//! SQL functions of the family *rights*.

use crate::access::{self, ADMIN, APPLICATION, AUDIENCES, Grantee};
use crate::encoding::Text;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// For whom each object of the extension is.
#[pg_extern(sql = false)]
fn cache_access_list() -> TableIterator<
    'static,
    (
        name!(object_name, &'static str),
        name!(audience, &'static str),
    ),
> {
    TableIterator::new(
        AUDIENCES
            .iter()
            .flat_map(|(audience, names)| names.iter().map(|name| (*name, *audience))),
    )
}

/// Lets a role call cached functions and keep values, and another look at the cache and maintain it; with the rights of the caller, who
/// must own the extension. Returns the number of GRANTs.
#[pg_extern(sql = false)]
fn grant_cache_access(app_role: Option<pg_sys::Oid>, admin_role: Option<pg_sys::Oid>) -> i32 {
    access::require_owner();
    let mut done = 0;
    for (role, audiences) in [(app_role, APPLICATION), (admin_role, ADMIN)] {
        if let Some(role) = role {
            done += access::apply(true, audiences, &[Grantee::Role(role)]);
            done += access::open_schema(role);
        }
    }
    done
}

/// Takes back what [`grant_cache_access`] gave. Returns the number of REVOKEs.
#[pg_extern(sql = false)]
fn revoke_cache_access(role: pg_sys::Oid) -> i32 {
    access::require_owner();
    access::apply(false, ADMIN, &[Grantee::Role(role)])
}

/// Closes and opens the extension's objects, in its scripts: all, or those with one of the names.
#[pg_extern(sql = false)]
fn cache_access_install(names: Vec<Option<Text>>) {
    let names: Vec<String> = names.into_iter().flatten().map(|name| name.0).collect();
    access::install(&names);
}
