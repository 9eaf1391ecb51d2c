//! What a backend has counted and not handed over yet.
//!
//! A call only adds to backend-local numbers. They are handed over at the end of a transaction if the last time is more than
//! [`BATCH_US`] ago or much has come together, before this backend reads statistics, and when it ends.
//!
//! Invariants: what is handed over is taken out of here first, so nothing is counted twice. A hit counts for its function and, up to
//! [`BATCH_ENTRIES`], for its entry; anything else that becomes of a call for its function only.
//!
//! Locks: none while counting. Handing over takes the functions' lock for each function and relation, shared where it has a row, then
//! the shared lock of each partition with entries that were hit, one at a time.

#![allow(unsafe_code)]

use super::counts::Counts;
use super::samples::Samples;
use crate::backend::Backend;
use crate::call::outcome::{Outcome, Reason, Verdict};
use crate::fault::{self, Point};
use crate::numbers::{NumberMap, number_map};
use crate::settings;
use crate::store::area::Area;
use crate::store::charges::Charge;
use crate::store::hits::add_hits;
use crate::store::lookup::EntryId;
use crate::store::payer;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// So many functions can be between two samples at the same time.
const MEASURED_FUNCTIONS: usize = 1024;

/// What this backend has counted and not handed over yet.
struct Pending {
    /// All calls of this backend.
    calls: u64,
    /// Of which these are handed over.
    handed_over: u64,
    functions: Vec<(u32, Counts)>,
    /// Times of hits and of runs that do not count yet, of functions that were measured in this session.
    times: NumberMap<u32, (Samples, Samples)>,
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
    times: number_map(),
    judged: Vec::new(),
    entries: number_map(),
    charges: number_map(),
    handed_over_at: 0,
}));

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

    /// Times of hits and of runs. If a session measures too many functions all begin anew.
    fn times(&mut self, function: pg_sys::Oid) -> &mut (Samples, Samples) {
        if self.times.len() >= MEASURED_FUNCTIONS {
            self.times.clear();
        }
        self.times.entry(function.to_u32()).or_default()
    }
}

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
                if let Some(said) = pending.times(function).0.take(ns) {
                    let counts = pending.of(function);
                    counts.measured_hits += said.samples;
                    counts.hits_ns += said.ns;
                }
            }
            Outcome::Ran { ns } => {
                if let Some(said) = pending.times(function).1.take(ns) {
                    let counts = pending.of(function);
                    counts.runs += said.samples;
                    counts.runs_ns += said.ns;
                }
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
    payer::note();
    PENDING.with_borrow_mut(|pending| {
        pending.calls += 1;
        pending
            .charges
            .entry(relation.to_u32())
            .or_default()
            .add(Charge { ns, triggers: 1 });
    });
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
    if !(charges.is_empty() && functions.is_empty() && entries.is_empty())
        && let Some(state) = area.database(database)
    {
        state.is_active();
    }
    // SAFETY: the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    for (relation, charge) in charges {
        area.charges().add(database, relation.into(), charge, now);
    }
    for (function, counts) in functions {
        if !area.functions().add(database, function, &counts, now) {
            let calls = counts.reasons[Reason::NoRow as usize];
            area.header().uncounted.fetch_add(calls, Ordering::Relaxed);
        }
    }
    if !judged.is_empty() {
        let now = now.saturating_add(settings::clock_offset_us());
        for (function, adaptive) in judged {
            area.functions()
                .judge(database, function, adaptive, area.layout.room(), now);
        }
    }
    fault::fenced(Point::HandingOver);
    add_hits(area, entries.into_iter().collect());
}
