//! Lists of rights (`aclitem[]`), read.

#![allow(unsafe_code)]

use crate::compat;
use pgrx::pg_sys;
use std::ffi::CStr;

/// Half of an `AclMode`: the lower half has the privileges, the upper one the grant options.
const HALF: u32 = (size_of::<pg_sys::AclMode>() * 4) as u32;

/// Every privilege that an object of ours can have.
const PRIVILEGES: &[(u32, &CStr)] = &[
    (pg_sys::ACL_INSERT, c"insert"),
    (pg_sys::ACL_SELECT, c"select"),
    (pg_sys::ACL_UPDATE, c"update"),
    (pg_sys::ACL_DELETE, c"delete"),
    (pg_sys::ACL_TRUNCATE, c"truncate"),
    (pg_sys::ACL_REFERENCES, c"references"),
    (pg_sys::ACL_TRIGGER, c"trigger"),
    (pg_sys::ACL_EXECUTE, c"execute"),
    (pg_sys::ACL_USAGE, c"usage"),
    (pg_sys::ACL_CREATE, c"create"),
];

/// What one role gave another.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// To whom; PUBLIC is [`pg_sys::InvalidOid`].
    pub grantee: pg_sys::Oid,
    /// Who gave it.
    pub grantor: pg_sys::Oid,
    mode: pg_sys::AclMode,
}

impl Item {
    /// Whether a privilege is given.
    pub fn gives(&self, privilege: u32) -> bool {
        self.mode & privilege as pg_sys::AclMode != 0
    }

    /// The privileges that are given, each with whether it may be given on.
    pub fn privileges(&self) -> impl Iterator<Item = (&'static CStr, bool)> + '_ {
        PRIVILEGES
            .iter()
            .filter(|(bit, _)| self.gives(*bit))
            .map(|(bit, name)| {
                let option = (*bit as pg_sys::AclMode) << HALF;
                (*name, self.mode & option != 0)
            })
    }
}

/// The items of a list.
///
/// # Safety
/// `acl` is an `aclitem[]` that is not NULL.
pub unsafe fn items(acl: pg_sys::Datum) -> Vec<Item> {
    let (length, by_value, align) = compat::type_storage(pg_sys::ACLITEMOID);
    let (mut elements, mut count) = (std::ptr::null_mut(), 0);
    // SAFETY: the caller's; elements of an array by reference are pointers into it, and they are copied.
    unsafe {
        pg_sys::deconstruct_array(
            pg_sys::pg_detoast_datum(acl.cast_mut_ptr()).cast(),
            pg_sys::ACLITEMOID,
            length.into(),
            by_value,
            align,
            &mut elements,
            std::ptr::null_mut(),
            &mut count,
        );
        (0..count as usize)
            .map(|i| &*(*elements.add(i)).cast_mut_ptr::<pg_sys::AclItem>())
            .map(|item| Item {
                grantee: item.ai_grantee,
                grantor: item.ai_grantor,
                mode: item.ai_privs,
            })
            .collect()
    }
}
