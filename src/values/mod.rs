//! Values that an application keeps under keys of its own.
//!
//! A value is a row of `cache_values`, so transactions, savepoints, rollbacks and row locks are the server's. Memory is a tier in front
//! of it, by the promise that holds for functions: an entry rests on the slots under which the tracking triggers of the table mark
//! writes of its key, so any writer is noticed, also one who changes the table by hand.
//!
//! * `arguments`: raw functions of the server, and what they are given
//! * `read`: memory, then the table, both through the caller's snapshot
//! * `write`: set, remove, prolong, add
//! * `remember`: compute if absent, in one session at a time
//! * `statement`: SQL on the table, as its owner
//! * `pattern`: patterns of keys in the encoding of the database
//! * `cleanup`: what has expired, and what is too much
//!
//! Whose values a caller has to do with is decided in one place, [`namespace`].

#![allow(unsafe_code)]

pub mod arguments;
pub mod cleanup;
pub mod pattern;
pub mod read;
pub mod remember;
pub mod statement;
pub mod write;

use crate::compat;
use crate::error::Error;
use crate::server;
use crate::settings::{self, ValueNamespace};
use pgrx::pg_sys;
use xxhash_rust::xxh3::xxh3_64;

/// Longest key in bytes: with the namespace it fits into an index entry several times over.
pub const MAX_KEY_BYTES: usize = 1024;
/// Highest priority.
pub const MAX_PRIORITY: i32 = 3;

/// Whose values the caller reads and writes: those of everybody (0), or those of its present role.
pub fn namespace() -> pg_sys::Oid {
    match settings::value_namespace() {
        ValueNamespace::Shared => pg_sys::InvalidOid,
        // SAFETY: a variable of the backend.
        ValueNamespace::Role => unsafe { server::GetUserId() },
    }
}

/// The present time by the clock that ages are measured with.
pub fn now() -> i64 {
    // SAFETY: the clock.
    unsafe { server::GetCurrentTimestamp() + settings::clock_offset_us() }
}

/// Where the values of this database are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The extension's schema.
    pub schema: pg_sys::Oid,
    /// The table `cache_values`.
    pub table: pg_sys::Oid,
}

impl Place {
    fn in_schema(schema: pg_sys::Oid) -> Option<Self> {
        let table = compat::own_relation(c"cache_values", schema)?;
        Some(Place { schema, table })
    }

    /// The place that belongs to a function of the extension.
    pub fn of_function(function: pg_sys::Oid) -> Result<Self, Error> {
        // SAFETY: a syscache lookup of a function that is being called.
        let schema = unsafe { pg_sys::get_func_namespace(function) };
        Self::in_schema(schema).ok_or(Error::NoValues)
    }

    /// The place in the present database; `None` if there is none: no extension, or one from before there were values.
    pub fn find() -> Option<Self> {
        Self::in_schema(compat::extension_namespace()?)
    }

    /// `cache_get`, under whose oid memory has the values.
    pub fn reader(&self) -> pg_sys::Oid {
        compat::find_function(self.schema, c"cache_get", &[pg_sys::TEXTOID])
            .unwrap_or(pg_sys::InvalidOid)
    }
}

/// A key as it was given: a text that is not compressed, and its bytes.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    /// The text.
    pub text: pg_sys::Datum,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl Key<'_> {
    /// The key of a text.
    ///
    /// # Safety
    /// `text` is a text that outlives the key; so does the present memory context.
    #[inline(always)]
    pub unsafe fn new(text: pg_sys::Datum) -> Result<Self, Error> {
        // SAFETY: the caller's.
        let key = unsafe { Self::unchecked(text) };
        check_key(key.bytes)?;
        Ok(key)
    }

    /// As [`Key::new`], of any length.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub unsafe fn unchecked(text: pg_sys::Datum) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let packed = pg_sys::pg_detoast_datum_packed(text.cast_mut_ptr());
            Key {
                text: pg_sys::Datum::from(packed),
                bytes: std::slice::from_raw_parts(
                    pgrx::vardata_any(packed).cast::<u8>(),
                    pgrx::varsize_any_exhdr(packed),
                ),
            }
        }
    }
}

/// Refuses what cannot be a key.
#[inline(always)]
pub fn check_key(bytes: &[u8]) -> Result<(), Error> {
    match bytes.len() {
        1..=MAX_KEY_BYTES => Ok(()),
        length => Err(Error::InvalidParameter(
            if length == 0 {
                "key must not be empty".into()
            } else {
                "key is too long".into()
            },
            format!("A key has 1 to {MAX_KEY_BYTES} bytes, this one has {length}."),
        )),
    }
}

/// Writes the key under which memory has a value into `to` and returns its hash. No function's key begins with the oid of `reader`.
#[inline(always)]
pub fn memory_key(
    reader: pg_sys::Oid,
    namespace: pg_sys::Oid,
    key: &[u8],
    to: &mut Vec<u8>,
) -> u64 {
    to.clear();
    for oid in [compat::database(), reader, namespace] {
        to.extend_from_slice(&oid.to_u32().to_le_bytes());
    }
    to.extend_from_slice(key);
    xxh3_64(to)
}
