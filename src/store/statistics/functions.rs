//! The rows of the cached functions in shared memory: their counters, and what was learned and noted of them.
//!
//! Invariants: a row belongs to one function of one database until it is given back (`crate::store::rows`): when the function is found to
//! be gone, or because it was idle and another one needs it. Only a function with a row uses the cache, so what is learned of it is never
//! lost silently. A function in quarantine keeps its row. Functions in the schemas of temporary objects get none.
//!
//! Locks: the counters are atomic. What is written into a row takes the functions' lock shared, so that it cannot become another's
//! meanwhile.

#![allow(unsafe_code)]

use super::counts::{Counts, FIELDS};
use crate::call::outcome::{Reason, Refusal};
use crate::store::payer;
use crate::store::rows::{Account, Holder, Owner, Row, Rows};
use crate::store::traits::{Learned, Trait, Traits};
use crate::store::worth::WorthRow;
use pg_query_cache_worth::Rest;
use pgrx::pg_sys;
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// A function remembers so many relations; the time of writers to others is not charged to it.
const RELATIONS: usize = 10;

/// A row in shared memory. The counters begin in a cache line of their own; what is in the first one is seldom written.
#[repr(C, align(64))]
pub struct FunctionRow {
    holder: Holder,
    traits: Traits,
    /// The owner of the function.
    role: AtomicU32,
    /// Why the last computed result was not stored; see [`Functions::note_refusal`]. 0 if it was.
    refusal: AtomicU64,
    /// Tracked relations that its computations have read, 0 where there is none.
    relations: [AtomicU32; RELATIONS],
    counters: [AtomicU64; FIELDS],
    /// Microseconds of the longest computation.
    longest_us: AtomicU64,
    used_at: AtomicI64,
    /// Who pays for the database.
    payer: AtomicU32,
    /// Whether caching it pays.
    worth: WorthRow,
}

/// Bytes of a row.
pub const FUNCTION_BYTES: usize = size_of::<FunctionRow>();
const _: () = assert!(std::mem::offset_of!(FunctionRow, counters) == 64);

impl Row for FunctionRow {
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
        self.traits.has(Trait::Quarantined)
    }

    fn add_to(&self, rest: &Self) {
        rest.add(&self.read());
    }

    fn clear(&self) {
        self.traits.forget();
        self.refusal.store(0, Ordering::Relaxed);
        for relation in &self.relations {
            relation.store(0, Ordering::Relaxed);
        }
        for counter in self.counters.iter().chain([&self.longest_us]) {
            counter.store(0, Ordering::Relaxed);
        }
        self.worth.forget(&self.traits);
    }
}

/// The row of one function as a session keeps it: found once, and looked for again when it has become another's.
pub struct OwnRow {
    owner: Owner,
    row: Cell<Option<&'static FunctionRow>>,
    /// When to look for one again, if there is none.
    again_at: Cell<i64>,
}

impl std::fmt::Debug for OwnRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnRow")
            .field("owner", &self.owner)
            .field("learned", &self.learned())
            .finish()
    }
}

/// Without a row it is looked for again after so many microseconds.
const AGAIN_US: i64 = 1_000_000;

impl OwnRow {
    /// The row of a function.
    pub fn of(owner: Owner, row: Option<&'static FunctionRow>, now: i64) -> Self {
        OwnRow {
            owner,
            row: Cell::new(row),
            again_at: Cell::new(now.saturating_add(AGAIN_US)),
        }
    }

    /// What has been learned of the function; `None` without a row.
    #[inline(always)]
    pub fn learned(&self) -> Option<Learned> {
        let row = self.row.get()?;
        let learned = row.traits.all();
        // Looked at after that: what is another's is not taken for the function's own.
        row.holder.is(self.owner).then_some(learned)
    }

    /// Looks for a row again if it is time to, by `find`.
    pub fn look_again(
        &self,
        now: i64,
        find: impl FnOnce() -> Option<&'static FunctionRow>,
    ) -> Option<Learned> {
        let waits = 0..AGAIN_US;
        if self.row.get().is_none()
            && waits.contains(&(self.again_at.get().saturating_sub(now) - 1))
        {
            return None;
        }
        self.again_at.set(now.saturating_add(AGAIN_US));
        self.row.set(find());
        self.learned()
    }
}

/// All rows.
#[derive(Clone, Copy)]
pub struct Functions(Rows<FunctionRow>);

impl Functions {
    /// The rows at `base`, whose changes are counted in `changes`.
    ///
    /// # Safety
    /// `base` points to `count` rows in shared memory, zeroed at creation.
    pub unsafe fn at(base: *const FunctionRow, count: u32, changes: &'static AtomicU64) -> Self {
        // SAFETY: the caller's promise; all fields are atomic.
        let rows = unsafe { std::slice::from_raw_parts(base, count as usize) };
        Functions(Rows::new(rows, changes))
    }

    /// The row of a function, a free one, or, unless only a free one is asked for, one that is taken over.
    pub fn find_or_get(
        &self,
        owner: Owner,
        role: pg_sys::Oid,
        now: i64,
        how: Getting,
    ) -> Option<&'static FunctionRow> {
        // What has no row of its own is counted here.
        let rest = Owner::rest_of(owner.database());
        if let (Some(_), Some(row)) = (self.0.find(rest), self.0.find(owner)) {
            return Some(row);
        }
        // Looks at catalogs of the whole cluster, which can take a lock that is not to be had: only for a new row.
        let payer = payer::look();
        let of_rest = Account { role: 0, payer };
        let account = Account {
            role: role.to_u32(),
            payer,
        };
        if how == Getting::Free {
            self.0.find_or_free(rest, of_rest, now);
            return self.0.find_or_free(owner, account, now);
        }
        self.0.find_or_take(rest, of_rest, now, false);
        self.0
            .find_or_take(owner, account, now, how == Getting::InNeed)
    }

    fn owner(database: pg_sys::Oid, function: pg_sys::Oid) -> Owner {
        Owner::new(database.to_u32(), function.to_u32())
    }

    fn row_of(&self, database: pg_sys::Oid, function: pg_sys::Oid) -> Option<&'static FunctionRow> {
        self.0.find(Self::owner(database, function))
    }

    /// Adds what was counted of a function. Returns whether there is a row for that.
    pub(super) fn add(
        &self,
        database: pg_sys::Oid,
        function: u32,
        counts: &Counts,
        now: i64,
    ) -> bool {
        let (own, rest) = (
            Owner::new(database.to_u32(), function),
            Owner::rest_of(database.to_u32()),
        );
        let add = |row: &FunctionRow| {
            row.used_at.store(now, Ordering::Relaxed);
            row.add(counts);
        };
        if self.0.with(own, add).is_some() {
            return true;
        }
        let account = Account {
            role: 0,
            payer: payer::known(),
        };
        self.0.find_or_free(rest, account, now);
        self.0.with(rest, add).is_some()
    }

    /// Judges whether caching a function pays.
    pub(super) fn judge(
        &self,
        database: pg_sys::Oid,
        function: u32,
        adaptive: bool,
        room: u64,
        now: i64,
    ) {
        let owner = Owner::new(database.to_u32(), function);
        self.0.with(owner, |row| {
            row.worth
                .consider(&row.traits, &row.read().worth(), adaptive, room, now);
        });
    }

    /// What has been learned of a function; nothing if it has no row.
    pub fn learned(&self, database: pg_sys::Oid, function: pg_sys::Oid) -> Learned {
        let owner = Self::owner(database, function);
        self.0
            .find(owner)
            .map(|row| (row.traits.all(), row))
            .filter(|(_, row)| row.holder.is(owner))
            .map_or_else(Learned::default, |(learned, _)| learned)
    }

    /// It is so from now on of a function. Returns whether that is new; `None` if it has no row.
    pub fn learn(&self, database: pg_sys::Oid, function: pg_sys::Oid, one: Trait) -> Option<bool> {
        self.0
            .with(Self::owner(database, function), |row| row.traits.set(one))
    }

    /// It is not so any more of a function.
    pub fn unlearn(&self, database: pg_sys::Oid, function: pg_sys::Oid, one: Trait) {
        self.0
            .with(Self::owner(database, function), |row| row.traits.clear(one));
    }

    /// Why a function rests and since when; `None` if its results are stored.
    pub fn rest(&self, database: pg_sys::Oid, function: pg_sys::Oid) -> Option<(Rest, i64)> {
        self.row_of(database, function)?.worth.rest()
    }

    /// The functions of a database that have a trait, with all that was learned of each.
    pub fn with_trait(&self, database: pg_sys::Oid, wanted: Trait) -> Vec<(pg_sys::Oid, Learned)> {
        self.0
            .of_database(database.to_u32())
            .map(|(function, row)| (function.into(), row.traits.all()))
            .filter(|(_, learned)| learned.has(wanted))
            .collect()
    }

    /// Notes why the last computed result of a function was not stored, or that it was.
    pub fn note_refusal(
        &self,
        database: pg_sys::Oid,
        function: pg_sys::Oid,
        refusal: Option<Refusal>,
    ) {
        let Some(row) = self.row_of(database, function) else {
            return;
        };
        let word = refusal.map_or(0, |refusal| {
            u64::from(refusal.relation.to_u32()) << 32 | (refusal.reason as u64 + 1)
        });
        if row.refusal.load(Ordering::Relaxed) != word {
            let owner = Self::owner(database, function);
            self.0
                .with_row(row, owner, |row| row.refusal.store(word, Ordering::Relaxed));
        }
    }

    /// Why the last computed result of a function was not stored; `None` if it was.
    pub fn refusal(&self, database: pg_sys::Oid, function: pg_sys::Oid) -> Option<Refusal> {
        let word = self
            .row_of(database, function)?
            .refusal
            .load(Ordering::Relaxed);
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
        let Some(row) = self.row_of(database, function) else {
            return;
        };
        let relation = relation.to_u32();
        let known = |known: &AtomicU32| known.load(Ordering::Relaxed) == relation;
        if row.relations.iter().any(known) {
            return;
        }
        self.0
            .with_row(row, Self::owner(database, function), |row| {
                for known in &row.relations {
                    let present = known
                        .compare_exchange(0, relation, Ordering::Relaxed, Ordering::Relaxed)
                        .map_or_else(|other| other, |_| relation);
                    if present == relation {
                        return;
                    }
                }
            });
    }

    /// Tracked relations that computations of a function have read since the start.
    pub fn relations_of(
        &self,
        database: pg_sys::Oid,
        function: pg_sys::Oid,
    ) -> impl Iterator<Item = pg_sys::Oid> {
        self.row_of(database, function)
            .into_iter()
            .flat_map(|row| &row.relations)
            .map(|known| known.load(Ordering::Relaxed))
            .take_while(|known| *known != 0)
            .map(pg_sys::Oid::from)
    }

    /// Tracked relations that computations of each function of a database have read since the start.
    pub fn relations(&self, database: pg_sys::Oid) -> Vec<(pg_sys::Oid, Vec<pg_sys::Oid>)> {
        self.0
            .of_database(database.to_u32())
            .map(|(function, row)| {
                let relations = row
                    .relations
                    .iter()
                    .map(|known| known.load(Ordering::Relaxed));
                (
                    function.into(),
                    relations
                        .filter(|known| *known != 0)
                        .map(pg_sys::Oid::from)
                        .collect(),
                )
            })
            .collect()
    }

    /// How many rows there are, how many databases have one for what has no row of its own, how many functions of all databases have one,
    /// and how many of this database.
    pub fn usage(&self, database: pg_sys::Oid) -> Usage {
        let functions = || self.0.taken().filter(|(owner, _)| owner.object() != 0);
        let own = functions().filter(|(owner, _)| owner.database() == database.to_u32());
        Usage {
            rows: self.0.count(),
            taken: self.0.taken().count(),
            functions: functions().count(),
            own: own.count(),
        }
    }

    /// The extension is gone from a database: its functions have done nothing.
    pub fn forget(&self, database: pg_sys::Oid) {
        self.give_back(|owner| owner.database() == database.to_u32());
    }

    /// Gives back the rows of those that are gone. Returns how many.
    pub fn give_back(&self, mut is_gone: impl FnMut(Owner) -> bool) -> usize {
        self.0.give_back(|owner, _| is_gone(owner))
    }

    /// As [`Functions::give_back`], without those in quarantine that the table does not have yet.
    pub fn give_back_saved(&self, mut is_gone: impl FnMut(Owner) -> bool) -> usize {
        self.0.give_back(|owner, row| {
            let learned = row.traits.all();
            let unsaved = learned.has(Trait::Quarantined) && !learned.has(Trait::QuarantineSaved);
            !unsaved && is_gone(owner)
        })
    }

    /// Counts of all functions of a database, by function; that without a number is the rest.
    pub fn read_all(&self, database: pg_sys::Oid) -> Vec<(pg_sys::Oid, Counts)> {
        self.0.read(|| {
            self.0
                .taken()
                .filter(|(owner, _)| owner.database() == database.to_u32())
                .map(|(owner, row)| (owner.object().into(), row.read()))
                .collect()
        })
    }
}

/// How the rows are used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// All rows.
    pub rows: usize,
    /// Those that somebody has.
    pub taken: usize,
    /// Of these, those of functions; the others are each one of a database, for what has no row of its own.
    pub functions: usize,
    /// Of these, those of the database that is asked about.
    pub own: usize,
}

/// Whose row a function may get if it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Getting {
    /// Nobody's.
    Free,
    /// One that is idle, or is beyond somebody's share.
    Idle,
    /// Any that can be taken over.
    InNeed,
}

impl FunctionRow {
    fn read(&self) -> Counts {
        Counts::from_fields(
            std::array::from_fn(|i| self.counters[i].load(Ordering::Relaxed)),
            self.longest_us.load(Ordering::Relaxed),
        )
    }

    fn add(&self, counts: &Counts) {
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
