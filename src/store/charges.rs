//! What tracking costs those who write: the time spent in the tracking triggers of each relation, in shared memory.
//!
//! Backends collect it and hand it over with their other counts. A relation is the top of a partition or inheritance tree, as in the
//! tags. What has no row of its own is counted in that of the rest of its database, and is shown as no relation's.
//!
//! Locks: as `super::rows` says.

#![allow(unsafe_code)]

use super::payer;
use super::rows::{Account, Holder, Owner, Row, Rows};
use pgrx::pg_sys;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

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
    holder: Holder,
    ns: AtomicU64,
    triggers: AtomicU64,
    used_at: AtomicI64,
    /// Nobody's: writers are not told apart.
    role: AtomicU32,
    payer: AtomicU32,
}

/// Bytes of a row.
pub const CHARGE_BYTES: usize = size_of::<ChargeRow>();

impl ChargeRow {
    fn read(&self) -> Charge {
        Charge {
            ns: self.ns.load(Ordering::Relaxed),
            triggers: self.triggers.load(Ordering::Relaxed),
        }
    }

    fn add(&self, charge: Charge) {
        self.ns.fetch_add(charge.ns, Ordering::Relaxed);
        self.triggers.fetch_add(charge.triggers, Ordering::Relaxed);
    }
}

impl Row for ChargeRow {
    fn holder(&self) -> &Holder {
        &self.holder
    }

    fn role(&self) -> &AtomicU32 {
        &self.role
    }

    fn payer(&self) -> &AtomicU32 {
        &self.payer
    }

    fn used_at(&self) -> &AtomicI64 {
        &self.used_at
    }

    fn is_kept(&self) -> bool {
        false
    }

    fn add_to(&self, rest: &Self) {
        rest.add(self.read());
    }

    fn clear(&self) {
        self.ns.store(0, Ordering::Relaxed);
        self.triggers.store(0, Ordering::Relaxed);
    }
}

/// All rows.
#[derive(Clone, Copy)]
pub struct Charges(Rows<ChargeRow>);

impl Charges {
    /// The rows at `base`, whose changes are counted in `changes`.
    ///
    /// # Safety
    /// `base` points to `count` rows in shared memory, zeroed at creation.
    pub unsafe fn at(base: *const ChargeRow, count: u32, changes: &'static AtomicU64) -> Self {
        // SAFETY: the caller's promise; all fields are atomic.
        let rows = unsafe { std::slice::from_raw_parts(base, count as usize) };
        Charges(Rows::new(rows, changes))
    }

    /// Adds time of writers to a relation.
    pub fn add(&self, database: pg_sys::Oid, relation: pg_sys::Oid, charge: Charge, now: i64) {
        let rest = Owner::rest_of(database.to_u32());
        let own = Owner::new(database.to_u32(), relation.to_u32());
        let add = |row: &ChargeRow| {
            row.used_at.store(now, Ordering::Relaxed);
            row.add(charge);
        };
        if self.0.with(own, add).is_some() {
            return;
        }
        let account = Account {
            role: 0,
            payer: payer::known(),
        };
        self.0.find_or_take(rest, account, now, false);
        self.0.find_or_take(own, account, now, false);
        if self.0.with(own, add).is_none() {
            self.0.with(rest, add);
        }
    }

    /// Time of writers in a database, by relation; that without a number is the rest.
    pub fn read_all(&self, database: pg_sys::Oid) -> Vec<(pg_sys::Oid, Charge)> {
        self.0.read(|| {
            self.0
                .taken()
                .filter(|(owner, _)| owner.database() == database.to_u32())
                .map(|(owner, row)| (owner.object().into(), row.read()))
                .collect()
        })
    }

    /// How many rows there are, and how many of them relations of all databases have.
    pub fn usage(&self) -> (usize, usize) {
        let relations = self.0.taken().filter(|(owner, _)| owner.object() != 0);
        (self.0.count(), relations.count())
    }

    /// The extension is gone from a database.
    pub fn forget(&self, database: pg_sys::Oid) {
        self.give_back(|owner| owner.database() == database.to_u32());
    }

    /// Gives back the rows of those that are gone. Returns how many.
    pub fn give_back(&self, mut is_gone: impl FnMut(Owner) -> bool) -> usize {
        self.0.give_back(|owner, _| is_gone(owner))
    }
}
