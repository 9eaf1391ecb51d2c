//! The initial privileges of the extension's objects (`pg_init_privs`), and how rights are given beside them.
//!
//! While a script of an extension runs, the server notes the whole list of each object that a GRANT or REVOKE touches as what every
//! installation gives. A dump has only what differs from it: rights of the site's roles that were noted are in no dump, and a role that
//! was noted and has gone makes the dump name a number. So what is noted must be the same everywhere, and what depends on the site is
//! given while nothing is noted.

#![allow(unsafe_code)]

use super::acl::{self, Item};
use super::members::Member;
use crate::compat;
use pgrx::pg_sys;

/// While this is there, rights are given in a script as they are given outside of one. The server itself resets its variable
/// when the script ends, also by an ERROR.
pub struct Unnoted(bool);

impl Unnoted {
    /// Begins.
    pub fn begin() -> Self {
        // SAFETY: a variable of the backend, read by commands that this process runs in turn. GRANT asks it for nothing else.
        unsafe {
            let before = pg_sys::creating_extension;
            pg_sys::creating_extension = false;
            Unnoted(before)
        }
    }
}

impl Drop for Unnoted {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { pg_sys::creating_extension = self.0 };
    }
}

/// Whether what is noted of an object could be so in every installation: it names the owner of the object, PUBLIC and predefined roles.
pub fn is_everywhere(member: &Member) -> bool {
    let everywhere =
        |role: pg_sys::Oid| role == member.owner || role.to_u32() < pg_sys::FirstNormalObjectId;
    noted(member)
        .iter()
        .all(|item| everywhere(item.grantee) && everywhere(item.grantor))
}

/// What is noted of an object and its columns.
fn noted(member: &Member) -> Vec<Item> {
    let mut items = Vec::new();
    // SAFETY: pg_init_privs and its index by object; the first columns are fixed, and the list is never NULL.
    unsafe {
        compat::catalog_rows(
            compat::catalog::INIT_PRIVS,
            compat::catalog::INIT_PRIVS_BY_OBJECT,
            compat::catalog::INIT_PRIVS_OBJECT,
            member.oid,
            |tuple, description| {
                let row = pg_sys::GETSTRUCT(tuple).cast::<compat::catalog::InitPrivs>();
                if (*row).class != member.class() {
                    return;
                }
                let mut is_null = false;
                let list = pg_sys::heap_getattr(
                    tuple,
                    compat::catalog::INIT_PRIVS_LIST as i32,
                    description,
                    &mut is_null,
                );
                if !is_null {
                    items.extend(acl::items(list));
                }
            },
        );
    }
    items
}
