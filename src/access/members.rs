//! The objects that belong to the extension. A name alone would not do: only what `pg_depend` lists as a member counts.

#![allow(unsafe_code)]

use super::acl::{self, Item};
use super::grant::Object;
use crate::compat;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

const LANGUAGE: pg_sys::Oid = compat::catalog::LANGUAGE;

/// An object of the extension.
pub struct Member {
    /// Its name.
    pub name: String,
    /// The schema that it is in; of a schema, itself.
    pub schema: pg_sys::Oid,
    /// Its oid in the catalog of its kind.
    pub oid: pg_sys::Oid,
    /// What it is.
    pub object: Object,
    /// Who owns it.
    pub owner: pg_sys::Oid,
}

/// The owner of the extension; `None` without it.
pub fn extension_owner() -> Option<pg_sys::Oid> {
    let mut owner = None;
    // SAFETY: pg_extension and its index by oid.
    unsafe {
        compat::catalog_rows(
            pg_sys::ExtensionRelationId,
            pg_sys::Oid::from_u32(pg_sys::ExtensionOidIndexId),
            pg_sys::Anum_pg_extension_oid,
            compat::extension()?,
            |tuple, _| {
                owner = Some(
                    (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_extension>()).extowner,
                );
            },
        );
    }
    owner
}

/// All of them that rights can be given on, in the order of their oids.
pub fn all() -> Vec<Member> {
    let Some(extension) = compat::extension() else {
        return Vec::new();
    };
    let mut members = Vec::new();
    for class in [
        pg_sys::NamespaceRelationId,
        LANGUAGE,
        pg_sys::RelationRelationId,
        pg_sys::ProcedureRelationId,
    ] {
        let mut oids = compat::dependents(pg_sys::ExtensionRelationId, extension, class);
        // What somebody has made to depend on the extension is no member.
        // SAFETY: a catalog lookup.
        oids.retain(|oid| unsafe { pg_sys::getExtensionOfObject(class, *oid) } == extension);
        oids.sort_unstable_by_key(|oid| oid.to_u32());
        members.extend(oids.into_iter().filter_map(|oid| member(class, oid)));
    }
    members
}

fn member(class: pg_sys::Oid, oid: pg_sys::Oid) -> Option<Member> {
    // SAFETY: the tuple is pinned while it is read, and is one of the cache's catalog.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache(class) as _, pg_sys::Datum::from(oid));
        if tuple.is_null() {
            return None;
        }
        let row = pg_sys::GETSTRUCT(tuple);
        let (object, name, schema, owner) = if class == pg_sys::ProcedureRelationId {
            let row = &*row.cast::<pg_sys::FormData_pg_proc>();
            (
                Some(Object::Function),
                row.proname,
                row.pronamespace,
                row.proowner,
            )
        } else if class == pg_sys::RelationRelationId {
            let row = &*row.cast::<pg_sys::FormData_pg_class>();
            let object = match row.relkind as u8 {
                pg_sys::RELKIND_RELATION | pg_sys::RELKIND_VIEW => Some(Object::Table),
                pg_sys::RELKIND_SEQUENCE => Some(Object::Sequence),
                _ => None,
            };
            (object, row.relname, row.relnamespace, row.relowner)
        } else if class == LANGUAGE {
            let row = &*row.cast::<compat::catalog::Language>();
            (
                Some(Object::Language),
                row.name,
                pg_sys::InvalidOid,
                row.owner,
            )
        } else {
            let row = &*row.cast::<pg_sys::FormData_pg_namespace>();
            (Some(Object::Schema), row.nspname, oid, row.nspowner)
        };
        let name = compat::text(name.data.as_ptr());
        pg_sys::ReleaseSysCache(tuple);
        Some(Member {
            name,
            schema,
            oid,
            object: object?,
            owner,
        })
    }
}

/// The syscache of a catalog by oid.
fn cache(class: pg_sys::Oid) -> pg_sys::SysCacheIdentifier::Type {
    use pg_sys::SysCacheIdentifier as Cache;
    if class == pg_sys::ProcedureRelationId {
        compat::PROC_CACHE as _
    } else if class == pg_sys::RelationRelationId {
        Cache::RELOID as _
    } else if class == LANGUAGE {
        Cache::LANGOID as _
    } else {
        Cache::NAMESPACEOID as _
    }
}

impl Member {
    /// The catalog that it is in.
    pub fn class(&self) -> pg_sys::Oid {
        match self.object {
            Object::Function => pg_sys::ProcedureRelationId,
            Object::Table | Object::Sequence => pg_sys::RelationRelationId,
            Object::Language => LANGUAGE,
            Object::Schema => pg_sys::NamespaceRelationId,
        }
    }
}

/// A right on an object, or on one of its columns.
pub struct Right {
    /// The column.
    pub column: Option<CString>,
    /// Who has what.
    pub item: Item,
}

/// The rights on an object and its columns that somebody has been given, but its owner.
pub fn rights(member: &Member) -> Vec<Right> {
    let column = match member.object {
        Object::Function => pg_sys::Anum_pg_proc_proacl,
        Object::Table | Object::Sequence => pg_sys::Anum_pg_class_relacl,
        Object::Language => compat::catalog::LANGUAGE_ACL,
        Object::Schema => pg_sys::Anum_pg_namespace_nspacl,
    };
    let id = cache(member.class());
    let mut rights = Vec::new();
    // SAFETY: tuples are pinned while they are read; the lists are aclitem[] or NULL; names of columns are C strings.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(id as _, pg_sys::Datum::from(member.oid));
        if tuple.is_null() {
            return rights;
        }
        for item in list(id, tuple, column) {
            rights.push(Right { column: None, item });
        }
        pg_sys::ReleaseSysCache(tuple);
        let columns = match member.object {
            Object::Table => i16::MAX,
            _ => 0,
        };
        for number in 1..=columns {
            let id = pg_sys::SysCacheIdentifier::ATTNUM;
            let tuple = pg_sys::SearchSysCache2(
                id as _,
                pg_sys::Datum::from(member.oid),
                pg_sys::Datum::from(number),
            );
            // Columns that were dropped have rows too, so the first gap is the end.
            if tuple.is_null() {
                break;
            }
            let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_attribute>();
            let name = CStr::from_ptr(row.attname.data.as_ptr()).to_owned();
            for item in list(id, tuple, pg_sys::Anum_pg_attribute_attacl) {
                let column = Some(name.clone());
                rights.push(Right { column, item });
            }
            pg_sys::ReleaseSysCache(tuple);
        }
    }
    rights.retain(|right| right.item.grantee != member.owner);
    rights
}

/// The list of rights in a column of a catalog row.
///
/// # Safety
/// `tuple` is a row of the catalog cache `id`, whose column `column` is an `aclitem[]`.
unsafe fn list(
    id: pg_sys::SysCacheIdentifier::Type,
    tuple: pg_sys::HeapTuple,
    column: u32,
) -> Vec<Item> {
    let mut is_null = false;
    // SAFETY: the caller's.
    unsafe {
        let acl = pg_sys::SysCacheGetAttr(id as _, tuple, column as _, &mut is_null);
        if is_null { Vec::new() } else { acl::items(acl) }
    }
}

/// The roles that have been given something on an object, but its owner and PUBLIC.
pub fn grantees(member: &Member) -> Vec<pg_sys::Oid> {
    let mut roles: Vec<_> = rights(member)
        .iter()
        .map(|right| right.item.grantee)
        .filter(|role| *role != pg_sys::InvalidOid)
        .collect();
    roles.sort_unstable_by_key(|role| role.to_u32());
    roles.dedup();
    roles
}
