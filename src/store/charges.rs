//! What tracking costs those who write: the time spent in the tracking triggers of each relation, in shared memory.
//!
//! Backends collect it and hand it over with their other counts. A relation is the top of a partition or inheritance tree, as in the
//! tags. Row 0 belongs to none: it collects what has no row of its own, and is shown to nobody.
//!
//! Locks: the numbers are atomic; whose row it is is set once, under the functions' lock.

#![allow(unsafe_code)]

use super::locks::lock_functions;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Time of writers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Charge {
    /// Nanoseconds in tracking triggers.
    pub ns: u64,
    /// How often one ran.
    pub triggers: u64,
}

impl Charge {
    /// Adds another one.
    pub fn add(&mut self, other: Charge) {
        self.ns += other.ns;
        self.triggers += other.triggers;
    }
}

/// A row in shared memory.
#[repr(C)]
pub struct ChargeRow {
    database: AtomicU32,
    relation: AtomicU32,
    ns: AtomicU64,
    triggers: AtomicU64,
}

/// Bytes of a row.
pub const CHARGE_BYTES: usize = size_of::<ChargeRow>();

/// All rows.
#[derive(Clone, Copy)]
pub struct Charges {
    base: *const ChargeRow,
    count: u32,
}

impl Charges {
    /// The rows at `base`.
    ///
    /// # Safety
    /// `base` points to `count` rows, at least two, in shared memory, zeroed at creation.
    pub unsafe fn at(base: *const ChargeRow, count: u32) -> Self {
        Charges { base, count }
    }

    fn rows(&self) -> &'static [ChargeRow] {
        // SAFETY: the constructor's promise; all fields are atomic.
        unsafe { std::slice::from_raw_parts(self.base, self.count as usize) }
    }

    /// The row of a relation, or the free one that it would get.
    fn find(&self, database: u32, relation: u32) -> Option<&'static ChargeRow> {
        let rows = self.rows();
        let start = 1
            + (relation as usize)
                .wrapping_mul(31)
                .wrapping_add(database as usize)
                % (rows.len() - 1);
        (start..rows.len())
            .chain(1..start)
            .map(|index| &rows[index])
            .find(|row| match row.relation.load(Ordering::Acquire) {
                0 => true,
                present => present == relation && row.database.load(Ordering::Relaxed) == database,
            })
    }

    /// Adds time of writers to a relation.
    pub fn add(&self, database: pg_sys::Oid, relation: pg_sys::Oid, charge: Charge) {
        let (database, relation) = (database.to_u32(), relation.to_u32());
        let mut row = self.find(database, relation);
        if row.is_some_and(|row| row.relation.load(Ordering::Acquire) == 0) {
            let _guard = lock_functions();
            row = self.find(database, relation);
            if let Some(row) = row.filter(|row| row.relation.load(Ordering::Relaxed) == 0) {
                row.database.store(database, Ordering::Relaxed);
                row.relation.store(relation, Ordering::Release);
            }
        }
        let row = row.unwrap_or(&self.rows()[0]);
        row.ns.fetch_add(charge.ns, Ordering::Relaxed);
        row.triggers.fetch_add(charge.triggers, Ordering::Relaxed);
    }

    /// Time of writers in a database, by relation.
    pub fn read_all(&self, database: pg_sys::Oid) -> Vec<(pg_sys::Oid, Charge)> {
        self.rows_of(database)
            .map(|row| {
                (
                    row.relation.load(Ordering::Relaxed).into(),
                    Charge {
                        ns: row.ns.load(Ordering::Relaxed),
                        triggers: row.triggers.load(Ordering::Relaxed),
                    },
                )
            })
            .collect()
    }

    /// The extension is gone from a database.
    pub fn forget(&self, database: pg_sys::Oid) {
        for row in self.rows_of(database) {
            row.ns.store(0, Ordering::Relaxed);
            row.triggers.store(0, Ordering::Relaxed);
        }
    }

    fn rows_of(&self, database: pg_sys::Oid) -> impl Iterator<Item = &'static ChargeRow> {
        self.rows()[1..].iter().filter(move |row| {
            row.relation.load(Ordering::Acquire) != 0
                && row.database.load(Ordering::Relaxed) == database.to_u32()
        })
    }
}
