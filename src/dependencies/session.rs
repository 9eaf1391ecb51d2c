//! What a fill reads besides tables: settings of the session, facts of its own, things outside of every transaction; and what it does.
//!
//! The server tells of each function that an expression calls when the expression is made ready (`OAT_FUNCTION_EXECUTE`). What each may
//! read is known ([`functions`]):
//!
//! * [`Reads::SETTINGS`] `current_setting()`, `SHOW`: any setting at all. The settings with a dot and those that change formats are
//!   part of every key; a function that was seen asking gets the rest into its keys too ([`crate::call::scope`]).
//! * [`Reads::SESSION`] `pg_backend_pid()`, `lastval()`, the stack of PL/pgSQL's callers and the like: nobody else's answer. The result is
//!   not stored.
//! * [`Reads::OUTSIDE`] files, large objects, sizes, statistics, rights on what all databases share: nobody marks when they change. Not
//!   stored either, unless age is enough.
//! * [`Reads::VOLATILE`], [`Reads::UNLISTED`]: nobody knows when the answer changes; as before.
//! * [`Reads::ACTS`], [`Reads::CHANGES_SETTINGS`]: a hit would not do what the function does. Never stored.
//!
//! An expression of PL/pgSQL is made ready once in a transaction and called many times, inside of fills and outside. So if one that calls
//! such a function was made ready outside of the start of a query, and a fill runs a function that has run before in the transaction, plans
//! are thrown away: PL/pgSQL makes its expressions ready anew then ([`runs`]).
//!
//! Not seen: functions of types, of operator classes and of casts that the server calls without an expression, and `CURRENT_TIMESTAMP` and
//! its kin. A result that depends on the clock is right by age only.

#![allow(unsafe_code)]

use super::compiled;
use super::functions::{self, Known};
use super::planning;
use crate::backend::Backend;
use crate::call::frames;
use crate::call::outcome::Reason;
use crate::compat;
use crate::gate;
use crate::server::guarded;
use crate::store::area::area;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};

/// What was read, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads(u8);

impl Reads {
    /// Nothing.
    pub const NONE: Reads = Reads(0);
    /// Any setting of the session.
    pub const SETTINGS: Reads = Reads(1);
    /// Something that only this session has.
    pub const SESSION: Reads = Reads(2);
    /// Something outside of every transaction.
    pub const OUTSIDE: Reads = Reads(4);
    /// Nothing; a setting is changed.
    pub const CHANGES_SETTINGS: Reads = Reads(8);
    /// Whatever a function may read that is declared VOLATILE.
    pub const VOLATILE: Reads = Reads(16);
    /// Whatever a function may read that nobody knows.
    pub const UNLISTED: Reads = Reads(32);
    /// Something is done that a hit would not do.
    pub const ACTS: Reads = Reads(64);
    /// What somebody can vouch for: that it changes no result, and is not missed.
    const VOUCHED: Reads = Reads(4 | 16 | 32 | 64);

    /// Both sets.
    pub const fn and(self, other: Reads) -> Reads {
        Reads(self.0 | other.0)
    }

    /// What is left of a function that somebody vouches for.
    pub fn vouched(self) -> Reads {
        Reads(self.0 & !Reads::VOUCHED.0)
    }

    /// As a number.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Of a number.
    pub const fn of_bits(bits: u8) -> Self {
        Reads(bits)
    }

    /// Whether `other` is part of it.
    pub fn has(self, other: Reads) -> bool {
        self.0 & other.0 != 0
    }
}

static mut PREVIOUS: pg_sys::object_access_hook_type = None;

/// Queries that are being started, one inside the other.
static STARTING: Backend<Cell<u32>> = Backend::new(Cell::new(0));
/// Local number of the transaction that has made such an expression ready and keeps it.
static KEPT_IN: Backend<Cell<u32>> = Backend::new(Cell::new(0));
/// The same of what it had made ready before the innermost fill began.
static KEPT_BEFORE: Backend<Cell<u32>> = Backend::new(Cell::new(0));
/// The functions that have run in a transaction, or may have.
static RAN: Backend<RefCell<Ran>> = Backend::new(RefCell::new(Ran {
    transaction: 0,
    count: 0,
    functions: [0; MANY],
}));

/// So many functions are told apart; if there are more, each may have run.
const MANY: usize = 32;

struct Ran {
    /// Its local number.
    transaction: u32,
    /// How many there are, or more than there is room for.
    count: usize,
    functions: [u32; MANY],
}

/// Installs the hook. Once, in the postmaster.
pub fn install() {
    // SAFETY: the postmaster is alone while it loads libraries.
    unsafe {
        PREVIOUS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(object_accessed);
    }
}

unsafe extern "C-unwind" fn object_accessed(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    part: i32,
    argument: *mut std::ffi::c_void,
) {
    // SAFETY: the server's arguments, passed on as they are.
    unsafe {
        #[allow(
            ffi_unwind_calls,
            reason = "another library's hook raises ERRORs, as the server does"
        )]
        if let Some(previous) = PREVIOUS {
            previous(access, class, object, part, argument);
        }
        if access == pg_sys::ObjectAccessType::OAT_FUNCTION_EXECUTE {
            if is_of_concern(object) {
                frames::something_begins();
                guarded(|| {
                    if gate::is_open() {
                        called(object);
                    }
                });
            } else if object.to_u32() >= functions::FIRST_UNFIXED {
                frames::something_begins();
                has_run(object);
                if !compiled::is_plain(object) {
                    guarded(|| {
                        if gate::is_open() {
                            compiled::differs(object);
                        }
                    });
                }
            }
        }
    }
}

/// Most functions are built in and on the list; most queries are nobody's fill.
#[inline(always)]
fn is_of_concern(function: pg_sys::Oid) -> bool {
    match function.to_u32() {
        fixed if fixed < functions::FIRST_UNFIXED => functions::built_in(fixed) != Reads::NONE,
        _ => frames::filling() || STARTING.get() == 0 || planning::runs(),
    }
}

/// Whether a function has run before in this transaction, or may have; from now on it has.
#[inline]
fn has_run(function: pg_sys::Oid) -> bool {
    let (function, transaction) = (function.to_u32(), compat::local_transaction());
    let Ok(mut ran) = RAN.try_borrow_mut() else {
        return true;
    };
    if ran.transaction != transaction {
        (ran.transaction, ran.count) = (transaction, 0);
    }
    let count = ran.count;
    let known = ran.functions.get(..count);
    if known.is_none_or(|known| known.contains(&function)) {
        return true;
    }
    if let Some(free) = ran.functions.get_mut(count) {
        *free = function;
    }
    ran.count += 1;
    count >= MANY
}

/// A fill begins.
pub fn fill_begins() {
    let transaction = compat::local_transaction();
    if KEPT_IN.replace(0) == transaction {
        KEPT_BEFORE.set(transaction);
    }
}

/// A function runs by itself, in a fill or not: the base function of a cached one. If a fill runs it, and PL/pgSQL may keep expressions of
/// it, they are made ready anew.
/// Whether what the session has compiled of it may be other than what another would: then the fill is refused.
pub fn runs(function: pg_sys::Oid) -> bool {
    if function.to_u32() >= functions::FIRST_UNFIXED
        && has_run(function)
        && frames::filling()
        && KEPT_BEFORE.get() == compat::local_transaction()
    {
        KEPT_BEFORE.set(0);
        // SAFETY: sets marks; allowed wherever messages may be processed.
        unsafe { pg_sys::ResetPlanCache() };
    }
    let differs = function.to_u32() >= functions::FIRST_UNFIXED
        && !compiled::is_plain(function)
        && compiled::differs(function);
    if differs && frames::filling() {
        frames::refuse(Reason::OthersPlan);
    }
    differs
}

/// A function is called, now or whenever the expression is used that is made ready.
fn called(function: pg_sys::Oid) {
    let known = match function.to_u32() {
        fixed if fixed < functions::FIRST_UNFIXED => Known {
            reads: functions::built_in(fixed),
            is_code: false,
            is_immutable: false,
            is_cached: false,
            compiles: None,
        },
        _ => functions::of(function),
    };
    let differs = runs(function);
    // Before anything is noted: who is called directly is so no more once code runs.
    let is_kept = STARTING.get() == 0 && !planning::calls_directly();
    planning::calls(known);
    let reads = match known.reads {
        Reads::NONE if !differs => return,
        reads if functions::is_trusted(function) => reads.vouched(),
        reads => reads,
    };
    if frames::filling() {
        frames::calls(function, reads);
    }
    if is_kept {
        KEPT_IN.set(compat::local_transaction());
        // The leader knows what its part of the query calls, not what the functions in that do.
        if compat::is_parallel_worker()
            && let Some(area) = area()
        {
            area.note_parallel_read();
        }
    }
}

/// Whether a query is being started.
#[inline(always)]
pub fn is_starting() -> bool {
    STARTING.get() > 0
}

/// A query is being started: expressions that are made ready now are its own.
#[inline(always)]
pub fn query_starts() {
    STARTING.set(STARTING.get() + 1);
}

/// The query has been started.
#[inline(always)]
pub fn query_started() {
    STARTING.set(STARTING.get().saturating_sub(1));
}

/// An ERROR may have cut the start of a query short.
pub fn rolled_back() {
    STARTING.set(0);
}
