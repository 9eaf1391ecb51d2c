//! Counters: one row per cached function in shared memory, collected per backend and handed over in batches.
//!
//! A call only adds to backend-local numbers. They are handed over at the end of a transaction if the last time is more than
//! [`BATCH_US`] ago or much has come together, before this backend reads statistics, and when it ends.
//!
//! Locks: a row's counters are atomic; its owner (database, function) is set once, under the functions' lock. The relations of a
//! function are set one by one, each once.

#![allow(unsafe_code)]

use super::area::Area;
use super::charges::Charge;
use super::fill_times::{BUCKETS, FillTimes};
use super::insert::add_hits;
use super::locks::lock_functions;
use super::lookup::EntryId;
use super::traits::{Trait, Traits};
use super::worth::WorthRow;
use crate::backend::Backend;
use crate::call::outcome::{Outcome, REASONS, Reason, Refusal, Verdict};
use crate::fault::{self, Point};
use crate::numbers::{NumberMap, number_map};
use crate::settings;
use pg_query_cache_worth::{Counted, Rest};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// Counts are handed over at most this often, in microseconds.
const BATCH_US: i64 = 10_000;
/// … unless so many calls have come together.
const BATCH_CALLS: u64 = 10_000;

/// After a call of this backend whose number this divides, the next one is measured. A power of two.
const MEASURED: u64 = 256;

/// Hits are counted for so many different entries between two times, 1 MB of memory; one statement can hit any number of them.
/// More count for their function only.
const BATCH_ENTRIES: usize = 1 << 15;

/// Counters of a function: plain numbers.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Calls answered from the cache.
    pub hits: u64,
    /// Calls that found nothing, or nothing valid.
    pub misses: u64,
    /// Results stored.
    pub fills: u64,
    /// Microseconds spent in the function by misses.
    pub fill_us: u64,
    /// Misses that found an entry which a write had invalidated.
    pub invalidations: u64,
    /// Misses that found an entry which was too old.
    pub expirations: u64,
    /// Calls that waited for another session's computation.
    pub waits: u64,
    /// Microseconds that hits would have spent in the function, by the cost of the entry.
    pub saved_us: u64,
    /// Results from the cache that were computed again and compared.
    pub verified: u64,
    /// … that differed, and neither chance nor the clock explains it.
    pub differences: u64,
    /// … that differed because the function depends on the clock.
    pub time_dependent: u64,
    /// … that differed because the function does not repeat itself.
    pub nondeterministic: u64,
    /// Results computed anew before they were too old.
    pub refreshes: u64,
    /// Hits of results past their time to live.
    pub stale: u64,
    /// Results stored on account of a call, and not because somebody warms or refreshes.
    pub stored: u64,
    /// Nanoseconds that the function took for these.
    pub computing_ns: u64,
    /// Nanoseconds that storing these took.
    pub storing_ns: u64,
    /// Hits that were measured.
    pub measured_hits: u64,
    /// Nanoseconds that these took.
    pub hits_ns: u64,
    /// Runs of the function with nothing recorded that were measured.
    pub runs: u64,
    /// Nanoseconds that these took.
    pub runs_ns: u64,
    /// Calls answered by the function on purpose, and misses not stored, by reason.
    pub reasons: [u64; REASONS],
    /// How long the function took, computation by computation.
    pub fill_times: FillTimes,
}

/// Counters besides the reasons and the fill times.
const PLAIN: usize = 21;
const FIELDS: usize = PLAIN + REASONS + BUCKETS;

impl Default for Counts {
    fn default() -> Self {
        Self::from_fields([0; FIELDS], 0)
    }
}

impl Counts {
    fn fields(&self) -> [u64; FIELDS] {
        let mut fields = [0; FIELDS];
        fields[..PLAIN].copy_from_slice(&[
            self.hits,
            self.misses,
            self.fills,
            self.fill_us,
            self.invalidations,
            self.expirations,
            self.waits,
            self.saved_us,
            self.verified,
            self.differences,
            self.time_dependent,
            self.nondeterministic,
            self.refreshes,
            self.stale,
            self.stored,
            self.computing_ns,
            self.storing_ns,
            self.measured_hits,
            self.hits_ns,
            self.runs,
            self.runs_ns,
        ]);
        fields[PLAIN..PLAIN + REASONS].copy_from_slice(&self.reasons);
        fields[PLAIN + REASONS..].copy_from_slice(&self.fill_times.buckets);
        fields
    }

    fn from_fields(fields: [u64; FIELDS], longest_us: u64) -> Self {
        let mut reasons = [0; REASONS];
        reasons.copy_from_slice(&fields[PLAIN..PLAIN + REASONS]);
        let mut fill_times = FillTimes::default();
        fill_times
            .buckets
            .copy_from_slice(&fields[PLAIN + REASONS..]);
        fill_times.longest_us = longest_us;
        Counts {
            hits: fields[0],
            misses: fields[1],
            fills: fields[2],
            fill_us: fields[3],
            invalidations: fields[4],
            expirations: fields[5],
            waits: fields[6],
            saved_us: fields[7],
            verified: fields[8],
            differences: fields[9],
            time_dependent: fields[10],
            nondeterministic: fields[11],
            refreshes: fields[12],
            stale: fields[13],
            stored: fields[14],
            computing_ns: fields[15],
            storing_ns: fields[16],
            measured_hits: fields[17],
            hits_ns: fields[18],
            runs: fields[19],
            runs_ns: fields[20],
            reasons,
            fill_times,
        }
    }

    /// Adds the counts of another function.
    pub fn add(&mut self, other: &Counts) {
        let mut fields = self.fields();
        for (field, more) in fields.iter_mut().zip(other.fields()) {
            *field += more;
        }
        let longest = self.fill_times.longest_us.max(other.fill_times.longest_us);
        *self = Self::from_fields(fields, longest);
    }

    /// All calls: each was a hit, a miss or a bypass.
    pub fn calls(&self) -> u64 {
        self.hits + self.misses + self.bypasses()
    }

    /// What of it says whether caching pays.
    pub fn worth(&self) -> Counted {
        Counted {
            hits: self.hits,
            stored: self.stored,
            invalidated: self.invalidations,
            expired: self.expirations,
            computing_ns: self.computing_ns,
            storing_ns: self.storing_ns,
            measured_hits: self.measured_hits,
            hits_ns: self.hits_ns,
            runs: self.runs,
            runs_ns: self.runs_ns,
        }
    }

    /// Hits of the calls that looked, if there were any.
    pub fn hit_rate(&self) -> Option<f64> {
        let looked = self.hits + self.misses;
        (looked > 0).then(|| self.hits as f64 / looked as f64)
    }

    /// Calls answered by the function on purpose: reasons that kept the call from looking at all.
    pub fn bypasses(&self) -> u64 {
        Reason::ALL
            .iter()
            .filter(|reason| reason.is_bypass())
            .map(|reason| self.reasons[*reason as usize])
            .sum()
    }
}

/// A function remembers so many relations; the time of writers to others is not charged to it.
pub const RELATIONS: usize = 10;

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

    fn row_of(&self, database: u32, function: u32) -> Option<&'static FunctionRow> {
        let rows = self.rows();
        let start = 1
            + (function as usize)
                .wrapping_mul(31)
                .wrapping_add(database as usize)
                % (rows.len() - 1);
        let probe = (start..rows.len()).chain(1..start);
        for index in probe {
            let row = &rows[index];
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

    fn row_or_new(&self, database: u32, function: u32) -> &'static FunctionRow {
        if let Some(row) = self.row_of(database, function) {
            return row;
        }
        let _guard = lock_functions();
        let rows = self.rows();
        let start = 1
            + (function as usize)
                .wrapping_mul(31)
                .wrapping_add(database as usize)
                % (rows.len() - 1);
        for index in (start..rows.len()).chain(1..start) {
            let row = &rows[index];
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
        &rows[0]
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
    fn consider(&self, adaptive: bool, room: u64, now: i64) {
        self.worth
            .consider(&self.traits, &self.read().worth(), adaptive, room, now);
    }

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

/// What this backend has counted and not handed over yet.
struct Pending {
    /// All calls of this backend.
    calls: u64,
    /// Of which these are handed over.
    handed_over: u64,
    functions: Vec<(u32, Counts)>,
    /// Functions to be judged, and whether they may rest.
    judged: Vec<(u32, bool)>,
    entries: NumberMap<EntryId, u32>,
    charges: NumberMap<u32, Charge>,
    handed_over_at: i64,
}

static PENDING: Backend<RefCell<Pending>> = Backend::new(RefCell::new(Pending {
    calls: 0,
    handed_over: 0,
    functions: Vec::new(),
    judged: Vec::new(),
    entries: number_map(),
    charges: number_map(),
    handed_over_at: 0,
}));

/// The next call is measured.
static MEASURES: AtomicBool = AtomicBool::new(false);

/// The time at which a call begins, if it is one whose time is taken.
#[inline(always)]
pub fn measured() -> Option<Instant> {
    MEASURES.load(Ordering::Relaxed).then(begin_measuring)
}

#[cold]
#[inline(never)]
fn begin_measuring() -> Instant {
    MEASURES.store(false, Ordering::Relaxed);
    Instant::now()
}

/// Counts a hit of an entry.
#[inline(always)]
pub fn count_hit(function: pg_sys::Oid, entry: EntryId, cost_us: u32) {
    PENDING.with_borrow_mut(|pending| {
        pending.calls += 1;
        if pending.calls.is_multiple_of(MEASURED) {
            MEASURES.store(true, Ordering::Relaxed);
        }
        let counts = pending.of(function);
        counts.hits += 1;
        counts.saved_us += u64::from(cost_us);
        if let Some(hits) = pending.entries.get_mut(&entry) {
            *hits += 1;
        } else if pending.entries.len() < BATCH_ENTRIES {
            pending.entries.insert(entry, 1);
        }
    });
}

/// Counts anything else that became of a call.
pub fn count(function: pg_sys::Oid, outcome: Outcome) {
    PENDING.with_borrow_mut(|pending| {
        pending.calls += 1;
        let counts = pending.of(function);
        match outcome {
            Outcome::Miss => counts.misses += 1,
            Outcome::Invalidated => {
                counts.misses += 1;
                counts.invalidations += 1;
            }
            Outcome::Expired => {
                counts.misses += 1;
                counts.expirations += 1;
            }
            Outcome::Waited => counts.waits += 1,
            Outcome::Stale => counts.stale += 1,
            Outcome::Refreshed => counts.refreshes += 1,
            Outcome::Computed { us } => {
                counts.fill_us += us;
                counts.fill_times.count(us);
            }
            Outcome::Stored => counts.fills += 1,
            Outcome::Cost {
                computing_ns,
                storing_ns,
            } => {
                counts.stored += 1;
                counts.computing_ns += computing_ns;
                counts.storing_ns += storing_ns;
            }
            Outcome::Hit { ns } => {
                counts.measured_hits += 1;
                counts.hits_ns += ns;
            }
            Outcome::Ran { ns } => {
                counts.runs += 1;
                counts.runs_ns += ns;
            }
            Outcome::Verified(verdict) => {
                counts.verified += 1;
                match verdict {
                    Verdict::Same => (),
                    Verdict::Different => counts.differences += 1,
                    Verdict::TimeDependent => counts.time_dependent += 1,
                    Verdict::Nondeterministic => counts.nondeterministic += 1,
                }
            }
            Outcome::Not(reason) => counts.reasons[reason as usize] += 1,
        }
    });
}

/// What was counted of a function is judged when it is handed over; at once if much has come together, in a long statement.
pub fn judge(area: Area, function: pg_sys::Oid, adaptive: bool) {
    let much = PENDING.with_borrow_mut(|pending| {
        let function = function.to_u32();
        if !pending.judged.iter().any(|(known, _)| *known == function) {
            pending.judged.push((function, adaptive));
        }
        pending.calls - pending.handed_over >= BATCH_CALLS
    });
    if much {
        hand_over(area);
    }
}

/// Counts time that a tracking trigger took of a statement that writes to a relation.
pub fn charge(relation: pg_sys::Oid, ns: u64) {
    PENDING.with_borrow_mut(|pending| {
        pending.calls += 1;
        pending
            .charges
            .entry(relation.to_u32())
            .or_default()
            .add(Charge { ns, triggers: 1 });
    });
}

impl Pending {
    #[inline(always)]
    fn of(&mut self, function: pg_sys::Oid) -> &mut Counts {
        let function = function.to_u32();
        let index = match self.functions.iter().position(|(id, _)| *id == function) {
            Some(index) => index,
            None => {
                self.functions.push((function, Counts::default()));
                self.functions.len() - 1
            }
        };
        &mut self.functions[index].1
    }
}

/// Hands the counts over if it is time to.
pub fn hand_over_if_due(area: Area) {
    let due = PENDING.with_borrow(|pending| {
        let calls = pending.calls - pending.handed_over;
        // SAFETY: a variable of the backend, set when the statement arrived.
        calls > 0
            && (calls >= BATCH_CALLS
                || unsafe { pg_sys::GetCurrentStatementStartTimestamp() } - pending.handed_over_at
                    >= BATCH_US)
    });
    if due {
        hand_over(area);
    }
}

/// Hands the counts over now.
pub fn hand_over(area: Area) {
    let (functions, judged, entries, charges) = PENDING.with_borrow_mut(|pending| {
        pending.handed_over = pending.calls;
        // SAFETY: a variable of the backend.
        pending.handed_over_at = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
        (
            std::mem::take(&mut pending.functions),
            std::mem::take(&mut pending.judged),
            std::mem::take(&mut pending.entries),
            std::mem::take(&mut pending.charges),
        )
    });
    let database = crate::compat::database();
    for (relation, charge) in charges {
        area.charges().add(database, relation.into(), charge);
    }
    for (function, counts) in functions {
        area.functions()
            .row_or_new(database.to_u32(), function)
            .add(&counts);
    }
    if !judged.is_empty() {
        // SAFETY: the clock.
        let now = unsafe { pg_sys::GetCurrentTimestamp() } + settings::clock_offset_us();
        for (function, adaptive) in judged {
            if let Some(row) = area.functions().row_of(database.to_u32(), function) {
                row.consider(adaptive, area.layout.room(), now);
            }
        }
    }
    fault::fenced(Point::HandingOver);
    add_hits(area, entries.into_iter().collect());
}
