//! What the names in a function's declarations mean: looked up as PL/pgSQL looks them up when it compiles the function, under the
//! function's own search path and role if it has these.
//!
//! Asked is more than is needed where that is simpler: `a.b%TYPE` can be a variable of a block too, which always means the same. Nothing here
//! asks for rights or raises an ERROR for what does not exist.

#![allow(unsafe_code)]

use super::declared_types::{Declared, Identifier};
use super::functions::Compiles;
use crate::backend::Backend;
use crate::behalf;
use crate::compat;
use crate::encoding;
use crate::language::signature;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{CStr, CString};

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing, or what this module does not look up.
    Nothing,
    /// A type, by its oid: of that itself nothing can change that a compiled function keeps.
    Type(pg_sys::Oid),
    /// What a column is: its type, modifier and collation.
    Column(pg_sys::Oid, i32, pg_sys::Oid),
    /// A collation, by its oid.
    Collation(pg_sys::Oid),
}

static CHANGES: Backend<Cell<u64>> = Backend::new(Cell::new(0));

/// Notes when a type or a collation changes. Once per backend.
pub fn watch_catalog() {
    // SAFETY: registers a function with the signature that the server wants.
    unsafe {
        for cache in [
            pg_sys::SysCacheIdentifier::TYPEOID,
            pg_sys::SysCacheIdentifier::COLLOID,
        ] {
            pg_sys::CacheRegisterSyscacheCallback(
                cache as i32,
                Some(catalog_changed),
                pg_sys::Datum::from(0),
            );
        }
    }
}

unsafe extern "C-unwind" fn catalog_changed(_: pg_sys::Datum, _: i32, _: u32) {
    // No fence: one store.
    CHANGES.set(CHANGES.get() + 1);
}

/// Changes whenever this backend learns that a type or a collation may have changed.
#[inline(always)]
pub fn changes() -> u64 {
    CHANGES.get()
}

/// What the declared names mean to a function now. Inside a transaction.
pub fn of(function: pg_sys::Oid, compiles: Compiles, declared: &[Declared]) -> Vec<Meaning> {
    let look_up = || declared.iter().map(meaning).collect();
    if declared.is_empty() || !(compiles.has_path || compiles.is_definer) {
        return look_up();
    }
    let path = signature::setting_of(function, "search_path")
        .and_then(|path| encoding::c_string(&path).ok());
    behalf::looking_as(compat::definer(function), path.as_deref(), look_up)
}

fn meaning(declared: &Declared) -> Meaning {
    match declared {
        Declared::Type(name) => as_type(name),
        Declared::Like(name) => match name.as_slice() {
            // A variable, or a type that is no row.
            [_] => as_type(name),
            [relation @ .., column] => as_column(relation, column),
            [] => Meaning::Nothing,
        },
        Declared::Row(name) => match relation(name) {
            pg_sys::InvalidOid => Meaning::Nothing,
            // SAFETY: a syscache lookup.
            relation => Meaning::Type(unsafe { pg_sys::get_rel_type_id(relation) }),
        },
        Declared::Collation(name) => as_collation(name),
    }
}

fn as_type(name: &[Identifier]) -> Meaning {
    // SAFETY: C strings; syscache lookups, which raise nothing for what is not there.
    let found = unsafe {
        match name {
            [name] => pg_sys::TypenameGetTypid(text(name).as_ptr()),
            [schema, name] => pg_sys::GetSysCacheOid(
                pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
                pg_sys::Anum_pg_type_oid as pg_sys::AttrNumber,
                pg_sys::Datum::from(text(name).as_ptr()),
                pg_sys::Datum::from(pg_sys::get_namespace_oid(text(schema).as_ptr(), true)),
                pg_sys::Datum::from(0),
                pg_sys::Datum::from(0),
            ),
            _ => pg_sys::InvalidOid,
        }
    };
    match found {
        pg_sys::InvalidOid => Meaning::Nothing,
        found => Meaning::Type(found),
    }
}

fn relation(name: &[Identifier]) -> pg_sys::Oid {
    // SAFETY: as above.
    unsafe {
        match name {
            [name] => pg_sys::RelnameGetRelid(text(name).as_ptr()),
            [schema, name] => pg_sys::get_relname_relid(
                text(name).as_ptr(),
                pg_sys::get_namespace_oid(text(schema).as_ptr(), true),
            ),
            _ => pg_sys::InvalidOid,
        }
    }
}

fn as_column(of: &[Identifier], column: &Identifier) -> Meaning {
    let relation = relation(of);
    let (mut kind, mut modifier, mut collation) = (pg_sys::InvalidOid, 0, pg_sys::InvalidOid);
    // SAFETY: syscache lookups; the column was found, in the same transaction, without taking messages in between.
    unsafe {
        let number = pg_sys::get_attnum(relation, text(column).as_ptr());
        if relation == pg_sys::InvalidOid || number == pg_sys::InvalidAttrNumber as i16 {
            return Meaning::Nothing;
        }
        pg_sys::get_atttypetypmodcoll(relation, number, &mut kind, &mut modifier, &mut collation);
    }
    Meaning::Column(kind, modifier, collation)
}

fn as_collation(name: &[Identifier]) -> Meaning {
    // SAFETY: as above.
    let found = unsafe {
        match name {
            [name] => pg_sys::CollationGetCollid(text(name).as_ptr()),
            [schema, name] => {
                let name = text(name);
                let schema = pg_sys::get_namespace_oid(text(schema).as_ptr(), true);
                let find = |encoding: i32| {
                    pg_sys::GetSysCacheOid(
                        pg_sys::SysCacheIdentifier::COLLNAMEENCNSP as i32,
                        pg_sys::Anum_pg_collation_oid as pg_sys::AttrNumber,
                        pg_sys::Datum::from(name.as_ptr()),
                        pg_sys::Datum::from(encoding),
                        pg_sys::Datum::from(schema),
                        pg_sys::Datum::from(0),
                    )
                };
                match find(pg_sys::GetDatabaseEncoding()) {
                    pg_sys::InvalidOid => find(-1),
                    found => found,
                }
            }
            _ => pg_sys::InvalidOid,
        }
    };
    match found {
        pg_sys::InvalidOid => Meaning::Nothing,
        found => Meaning::Collation(found),
    }
}

/// A name as the catalogs have it.
fn text(name: &Identifier) -> CString {
    let mut bytes = name.bytes.clone();
    bytes.retain(|byte| *byte != 0);
    let length = bytes.len() as i32;
    bytes.push(0);
    // SAFETY: a C string of this length, cut or copied as the server's own scanner does.
    unsafe {
        if name.is_quoted {
            pg_sys::truncate_identifier(bytes.as_mut_ptr().cast(), length, false);
            return CStr::from_ptr(bytes.as_ptr().cast()).to_owned();
        }
        let folded = pg_sys::downcase_truncate_identifier(bytes.as_ptr().cast(), length, false);
        let text = CStr::from_ptr(folded).to_owned();
        pg_sys::pfree(folded.cast());
        text
    }
}
