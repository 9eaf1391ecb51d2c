//! The rows of the cached functions in shared memory: their counters, and what was learned and noted of them.
//!
//! Invariants: a row belongs to one function (database, function) for good, and row 0 to none: it collects what has no row of its own.
//! A row is looked for from the same place on by everybody, and none is ever freed, so a search ends at the first row without an owner.
//!
//! Locks: a row's counters are atomic; its owner is set once, under the functions' lock, the function last. The relations of a function
//! are set one by one, each once.

#![allow(unsafe_code)]

use super::counts::{Counts, FIELDS};
use crate::call::outcome::{Reason, Refusal};
use crate::store::locks::lock_functions;
use crate::store::traits::{Trait, Traits};
use crate::store::worth::WorthRow;
use pg_query_cache_worth::Rest;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A function remembers so many relations; the time of writers to others is not charged to it.
const RELATIONS: usize = 10;

/// A row in shared memory. The counters begin in a cache line of their own; what is in the first one is seldom written.
#[repr(C, align(64))]
pub struct FunctionRow {
    database: AtomicU32,
    function: AtomicU32,
    traits: Traits,
    /// Why the last computed result was not stored; see [`Functions::note_refusal`]. 0 if it was.
    refusal: AtomicU64,
    /// Tracked relations that its computations have read, 0 where there is none.
    relations: [AtomicU32; RELATIONS],
    counters: [AtomicU64; FIELDS],
    /// Microseconds of the longest computation.
    longest_us: AtomicU64,
    /// Whether caching it pays.
    worth: WorthRow,
}

/// Bytes of a row.
pub const FUNCTION_BYTES: usize = size_of::<FunctionRow>();
const _: () = assert!(std::mem::offset_of!(FunctionRow, counters) == 64);

/// All rows. Row 0 belongs to no function: it collects what has no row of its own.
#[derive(Clone, Copy)]
pub struct Functions {
    base: *const FunctionRow,
    count: u32,
}

impl Functions {
    /// The rows at `base`.
    ///
    /// # Safety
    /// `base` points to `count` rows in shared memory, zeroed at creation.
    pub unsafe fn at(base: *const FunctionRow, count: u32) -> Self {
        Functions { base, count }
    }

    fn rows(&self) -> &'static [FunctionRow] {
        // SAFETY: the constructor's promise; all fields are atomic.
        unsafe { std::slice::from_raw_parts(self.base, self.count as usize) }
    }

    /// The rows in the order in which that of a function is looked for, from where its number points to. Row 0 is not among them.
    fn probe(&self, database: u32, function: u32) -> impl Iterator<Item = &'static FunctionRow> {
        let rows = self.rows();
        let start = 1
            + (function as usize)
                .wrapping_mul(31)
                .wrapping_add(database as usize)
                % (rows.len() - 1);
        rows[start..].iter().chain(&rows[1..start])
    }

    pub(super) fn row_of(&self, database: u32, function: u32) -> Option<&'static FunctionRow> {
        for row in self.probe(database, function) {
            match row.function.load(Ordering::Acquire) {
                0 => return None,
                present
                    if present == function && row.database.load(Ordering::Relaxed) == database =>
                {
                    return Some(row);
                }
                _ => (),
            }
        }
        None
    }

    pub(super) fn row_or_new(&self, database: u32, function: u32) -> &'static FunctionRow {
        if let Some(row) = self.row_of(database, function) {
            return row;
        }
        let _guard = lock_functions();
        for row in self.probe(database, function) {
            let present = row.function.load(Ordering::Relaxed);
            if present == function && row.database.load(Ordering::Relaxed) == database {
                return row;
            }
            if present == 0 {
                row.database.store(database, Ordering::Relaxed);
                row.function.store(function, Ordering::Release);
                return row;
            }
        }
        &self.rows()[0]
    }

    /// What has been learned of a function.
    pub fn traits(&self, database: pg_sys::Oid, function: pg_sys::Oid) -> &'static Traits {
        &self.row_or_new(database.to_u32(), function.to_u32()).traits
    }

    /// Why a function rests and since when; `None` if its results are stored.
    pub fn rest(&self, database: pg_sys::Oid, function: pg_sys::Oid) -> Option<(Rest, i64)> {
        let row = self.row_of(database.to_u32(), function.to_u32())?;
        row.worth.rest()
    }

    /// The functions of a database that have a trait, and all of their traits.
    pub fn with_trait(
        &self,
        database: pg_sys::Oid,
        wanted: Trait,
    ) -> impl Iterator<Item = (pg_sys::Oid, &'static Traits)> {
        self.rows()[1..]
            .iter()
            .filter(move |row| {
                row.traits.has(wanted) && row.database.load(Ordering::Relaxed) == database.to_u32()
            })
            .map(|row| {
                (
                    pg_sys::Oid::from(row.function.load(Ordering::Relaxed)),
                    &row.traits,
                )
            })
    }

    /// Notes why the last computed result of a function was not stored, or that it was.
    pub fn note_refusal(
        &self,
        database: pg_sys::Oid,
        function: pg_sys::Oid,
        refusal: Option<Refusal>,
    ) {
        let (database, function) = (database.to_u32(), function.to_u32());
        let row = match &refusal {
            Some(_) => Some(self.row_or_new(database, function)),
            None => self.row_of(database, function),
        };
        let word = refusal.map_or(0, |refusal| {
            u64::from(refusal.relation.to_u32()) << 32 | (refusal.reason as u64 + 1)
        });
        // Row 0 is nobody's.
        if let Some(row) = row
            && row.function.load(Ordering::Relaxed) == function
            && row.refusal.load(Ordering::Relaxed) != word
        {
            row.refusal.store(word, Ordering::Relaxed);
        }
    }

    /// Why the last computed result of a function was not stored; `None` if it was.
    pub fn refusal(&self, database: pg_sys::Oid, function: pg_sys::Oid) -> Option<Refusal> {
        let row = self.row_of(database.to_u32(), function.to_u32())?;
        let word = row.refusal.load(Ordering::Relaxed);
        Some(Refusal {
            reason: *Reason::ALL.get((word as u32).checked_sub(1)? as usize)?,
            relation: ((word >> 32) as u32).into(),
        })
    }

    /// Notes that computations of a function read a tracked relation.
    pub fn note_relation(
        &self,
        database: pg_sys::Oid,
        function: pg_sys::Oid,
        relation: pg_sys::Oid,
    ) {
        let row = self.row_or_new(database.to_u32(), function.to_u32());
        if row.function.load(Ordering::Relaxed) == 0 {
            return; // Row 0 is nobody's.
        }
        let relation = relation.to_u32();
        for known in &row.relations {
            let mut present = known.load(Ordering::Relaxed);
            if present == 0 {
                present = known
                    .compare_exchange(0, relation, Ordering::Relaxed, Ordering::Relaxed)
                    .map_or_else(|other| other, |_| relation);
            }
            if present == relation {
                return;
            }
        }
    }

    /// Tracked relations that computations of a function have read since the start.
    pub fn relations_of(
        &self,
        database: pg_sys::Oid,
        function: pg_sys::Oid,
    ) -> impl Iterator<Item = pg_sys::Oid> {
        self.row_of(database.to_u32(), function.to_u32())
            .into_iter()
            .flat_map(|row| &row.relations)
            .map(|known| known.load(Ordering::Relaxed))
            .take_while(|known| *known != 0)
            .map(pg_sys::Oid::from)
    }

    /// Tracked relations that computations of each function of a database have read since the start.
    pub fn relations(&self, database: pg_sys::Oid) -> Vec<(pg_sys::Oid, Vec<pg_sys::Oid>)> {
        self.rows_of(database)
            .map(|row| {
                let relations = row
                    .relations
                    .iter()
                    .map(|known| known.load(Ordering::Relaxed));
                (
                    row.function.load(Ordering::Relaxed).into(),
                    relations
                        .filter(|known| *known != 0)
                        .map(pg_sys::Oid::from)
                        .collect(),
                )
            })
            .collect()
    }

    /// Calls of functions of all databases that found no row of their own.
    pub fn without_row(&self) -> u64 {
        self.rows()[0].read().calls()
    }

    /// The extension is gone from a database: its functions have done nothing.
    pub fn forget(&self, database: pg_sys::Oid) {
        for row in self.rows_of(database) {
            for counter in row.counters.iter().chain([&row.longest_us]) {
                counter.store(0, Ordering::Relaxed);
            }
            row.worth.forget(&row.traits);
        }
    }

    fn rows_of(&self, database: pg_sys::Oid) -> impl Iterator<Item = &'static FunctionRow> {
        self.rows()[1..].iter().filter(move |row| {
            row.function.load(Ordering::Acquire) != 0
                && row.database.load(Ordering::Relaxed) == database.to_u32()
        })
    }

    /// Counts of all functions of a database, by function.
    pub fn read_all(&self, database: pg_sys::Oid) -> Vec<(pg_sys::Oid, Counts)> {
        self.rows_of(database)
            .map(|row| (row.function.load(Ordering::Relaxed).into(), row.read()))
            .collect()
    }
}

impl FunctionRow {
    /// Judges whether caching it pays.
    pub(super) fn consider(&self, adaptive: bool, room: u64, now: i64) {
        self.worth
            .consider(&self.traits, &self.read().worth(), adaptive, room, now);
    }

    fn read(&self) -> Counts {
        Counts::from_fields(
            std::array::from_fn(|i| self.counters[i].load(Ordering::Relaxed)),
            self.longest_us.load(Ordering::Relaxed),
        )
    }

    pub(super) fn add(&self, counts: &Counts) {
        for (counter, more) in self.counters.iter().zip(counts.fields()) {
            if more != 0 {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        }
        let longest = counts.fill_times.longest_us;
        if longest > self.longest_us.load(Ordering::Relaxed) {
            self.longest_us.fetch_max(longest, Ordering::Relaxed);
        }
    }
}
