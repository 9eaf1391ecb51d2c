//! One row of `query_cache`, one entry of the memory tier.

#![allow(unsafe_code)]

use crate::moments;
use crate::store::lookup::MAX_DEPENDENCIES;
use crate::store::partition::{EntryHead, Kind};
use crate::validity::Dependency;
use pgrx::{FromDatum, pg_sys};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Version of what lies in `key`, `value` and `dependencies`; part of the checksum, so rows of another version are none.
const FORMAT: u64 = 3;

/// Numbers of the columns, as `sql/tables.sql` creates them. Later versions only append.
#[derive(Clone, Copy)]
#[allow(missing_docs, dead_code)]
pub enum Column {
    CacheKey = 1,
    Function,
    HitCount,
    CreatedAt,
    ExpiresAt,
    CostMs,
    SizeBytes,
    Priority,
    Kind,
    ByAge,
    Database,
    Incarnation,
    Key,
    Value,
    Dependencies,
    Checksum,
}

/// Name of an entry in the inventory: its function's name and the hash of its key.
pub fn key_name(function: u32, hash: u64) -> String {
    // SAFETY: a syscache lookup that returns a C string in our memory context, or NULL.
    let name = unsafe {
        let name = pg_sys::get_func_name(function.into());
        if name.is_null() {
            function.to_string()
        } else {
            crate::compat::text(name)
        }
    };
    format!("{name}:{hash:016x}")
}

/// A row, read and verified.
pub struct Row {
    /// Fixed fields; lengths are filled in when it is inserted into memory.
    pub head: EntryHead,
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The dependencies.
    pub dependencies: Vec<Dependency>,
}

/// Why a row is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEntry {
    /// Of another database or of another life of the slots.
    Foreign,
    /// Its checksum does not match, or a field makes no sense.
    Damaged,
}

/// Bytes of dependencies, as they are stored.
pub fn bytes_of(dependencies: &[Dependency]) -> &[u8] {
    // SAFETY: a Dependency is one word without padding.
    unsafe {
        std::slice::from_raw_parts(
            dependencies.as_ptr().cast::<u8>(),
            size_of_val(dependencies),
        )
    }
}

/// Dependencies out of their bytes; `None` if these are no whole number of them.
pub fn dependencies_of(bytes: &[u8]) -> Option<Vec<Dependency>> {
    let count = bytes.len() / size_of::<Dependency>();
    if count * size_of::<Dependency>() != bytes.len() || count > MAX_DEPENDENCIES {
        return None;
    }
    let mut dependencies = Vec::with_capacity(count);
    // SAFETY: room for `count` was reserved; any bytes make a Dependency.
    unsafe {
        std::ptr::copy_nonoverlapping(
            bytes.as_ptr(),
            dependencies.as_mut_ptr() as *mut u8,
            bytes.len(),
        );
        dependencies.set_len(count);
    }
    Some(dependencies)
}

/// The checksum over everything that decides what is served to whom.
pub fn checksum(
    head: &EntryHead,
    incarnation: u64,
    key: &[u8],
    value: &[u8],
    dependencies: &[u8],
) -> i64 {
    let mut sum = Xxh3::new();
    for word in [
        FORMAT,
        incarnation,
        u64::from(head.database) << 32 | u64::from(head.function),
        head.created_at as u64,
        head.expires_at as u64,
        u64::from(head.kind) << 16 | u64::from(head.priority) << 8 | u64::from(head.by_age),
    ] {
        sum.update(&word.to_le_bytes());
    }
    for field in [key, value, dependencies] {
        sum.update(&(field.len() as u64).to_le_bytes());
        sum.update(field);
    }
    sum.digest() as i64
}

impl Row {
    /// The entry that a tuple of `query_cache` holds, if it is one of this database and of the present life of the slots.
    ///
    /// # Safety
    /// `tuple` is a row of `query_cache`, described by `description`.
    pub unsafe fn read(
        tuple: pg_sys::HeapTuple,
        description: pg_sys::TupleDesc,
        incarnation: u64,
    ) -> Result<Row, NoEntry> {
        // SAFETY: the caller's; a variable of the backend.
        unsafe {
            let database = pg_sys::MyDatabaseId;
            let stored: i64 = field(tuple, description, Column::Incarnation)?;
            if stored as u64 != incarnation
                || field::<pg_sys::Oid>(tuple, description, Column::Database)? != database
            {
                return Err(NoEntry::Foreign);
            }
            let kind = match field::<i16>(tuple, description, Column::Kind)? {
                0 => Kind::Null,
                1 => Kind::Scalar,
                2 => Kind::Rows,
                _ => return Err(NoEntry::Damaged),
            };
            let key: Vec<u8> = field(tuple, description, Column::Key)?;
            let value: Vec<u8> = field(tuple, description, Column::Value)?;
            let dependencies: Vec<u8> = field(tuple, description, Column::Dependencies)?;
            let function: pg_sys::Oid = field(tuple, description, Column::Function)?;
            let mut head = EntryHead::new(
                xxh3_64(&key),
                time(tuple, description, Column::CreatedAt)?,
                time(tuple, description, Column::ExpiresAt)?,
                database.to_u32(),
                function.to_u32(),
                kind,
            );
            head.priority = field::<i16>(tuple, description, Column::Priority)? as u8;
            head.by_age = u8::from(field::<bool>(tuple, description, Column::ByAge)?);
            // An earlier version may have written what never ends.
            if !moments::is_moment(head.created_at) || !moments::is_moment(head.expires_at) {
                return Err(NoEntry::Foreign);
            }
            let sum: i64 = field(tuple, description, Column::Checksum)?;
            if sum != checksum(&head, incarnation, &key, &value, &dependencies) {
                return Err(NoEntry::Damaged);
            }
            let cost: f64 = field(tuple, description, Column::CostMs)?;
            let hits: i64 = field(tuple, description, Column::HitCount)?;
            head.cost_us = (cost * 1000.0).round() as u32;
            head.hits = hits.clamp(0, i64::from(u32::MAX)) as u32;
            head.hits_written = head.hits;
            head.persisted = 1;
            Ok(Row {
                head,
                key,
                value,
                dependencies: dependencies_of(&dependencies).ok_or(NoEntry::Damaged)?,
            })
        }
    }
}

/// The Datum of a column that is never NULL.
unsafe fn datum(
    tuple: pg_sys::HeapTuple,
    description: pg_sys::TupleDesc,
    column: Column,
) -> Result<pg_sys::Datum, NoEntry> {
    let mut is_null = false;
    // SAFETY: the caller's.
    let datum = unsafe { pg_sys::heap_getattr(tuple, column as i32, description, &mut is_null) };
    if is_null {
        Err(NoEntry::Damaged)
    } else {
        Ok(datum)
    }
}

unsafe fn field<T: FromDatum>(
    tuple: pg_sys::HeapTuple,
    description: pg_sys::TupleDesc,
    column: Column,
) -> Result<T, NoEntry> {
    // SAFETY: the caller's; the column has the type that the caller asks for.
    unsafe { T::from_datum(datum(tuple, description, column)?, false).ok_or(NoEntry::Damaged) }
}

/// A timestamp in microseconds since 2000-01-01, as it is stored.
unsafe fn time(
    tuple: pg_sys::HeapTuple,
    description: pg_sys::TupleDesc,
    column: Column,
) -> Result<i64, NoEntry> {
    // SAFETY: the caller's.
    Ok(unsafe { datum(tuple, description, column) }?.value() as i64)
}
