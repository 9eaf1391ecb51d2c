//! Plans of SQL functions that outlive the role and the search path that they were made for.
//!
//! What a SQL function has planned the server keeps with the expression that calls it, in PL/pgSQL until the transaction ends, and it
//! does not ask again who calls (before PostgreSQL 18). A transaction that changes its role, or in which one function is called both
//! inside and outside of a SECURITY DEFINER function, can so run a query with the policies of somebody else or on the tables of
//! another schema. That is what the function itself does in this session, but the result must not be stored under the present role.
//!
//! A plan runs for the first time right after it was made, so who runs it then is who it was made for. It is known by its address, and
//! for as long as it lives: the memory context that it lies in takes it off the list when it goes, before another plan can come to lie
//! there. Nothing else ever takes one off, so no plan is known for a moment as somebody else's.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::call::frames;
use crate::call::outcome::Reason;
use crate::call::scope::{self, Digest};
use crate::numbers::{NumberMap, number_map};
use crate::server::{self, fenced};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;

/// After so many living plans the others are not told apart any more, and taken for somebody else's.
const MANY: usize = 10_000;

/// For whom a plan is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Maker {
    role: u32,
    /// The server acted for the owner of a table, whom FORCE ROW LEVEL SECURITY did not bind then.
    unforced: bool,
    format: Digest,
}

impl Maker {
    /// The present role and settings.
    pub fn now() -> Self {
        // SAFETY: reads variables of the backend.
        let (role, unforced) = unsafe { (server::GetUserId(), server::InNoForceRLSOperation()) };
        Maker {
            role: role.to_u32(),
            unforced,
            format: scope::format(),
        }
    }
}

static MAKERS: Backend<RefCell<NumberMap<usize, Maker>>> = Backend::new(RefCell::new(number_map()));
/// Plans that hold what a function read when they were made ([`super::planning`]), and the number of the fill in which that was.
static RESULTS: Backend<RefCell<NumberMap<usize, u64>>> = Backend::new(RefCell::new(number_map()));
/// A plan could not be taken off the list: no plan on it can be trusted any more.
static LOST: Backend<Cell<bool>> = Backend::new(Cell::new(false));

/// A query begins. If it is one of a SQL function and its plan was made for somebody else, the innermost fill is not stored.
///
/// # Safety
/// The server's query.
#[inline(always)]
pub unsafe fn query_begins(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the caller's; a query has a plan, and a destination unless nobody wants its rows.
    unsafe {
        let destination = (*query).dest;
        // Of the statements of a SQL function all but the last may have the destination that drops rows.
        if !destination.is_null()
            && matches!(
                (*destination).mydest,
                pg_sys::CommandDest::DestSQLFunction | pg_sys::CommandDest::DestNone
            )
            && (!made_for_us((*query).plannedstmt) || holds_results((*query).plannedstmt))
        {
            frames::refuse(Reason::OthersPlan);
        }
    }
}

/// Whether the present role and settings are those that a plan was made for.
unsafe fn made_for_us(plan: *mut pg_sys::PlannedStmt) -> bool {
    let now = Maker::now();
    if LOST.get() {
        return false;
    }
    let known = MAKERS.with_borrow(|makers| match makers.get(&plan.addr()) {
        Some(maker) => Some(*maker == now),
        None if makers.len() >= MANY => Some(false),
        None => None,
    });
    if let Some(ours) = known {
        return ours;
    }
    watch(plan);
    MAKERS.with_borrow_mut(|makers| makers.insert(plan.addr(), now));
    true
}

/// Whether a plan holds what a function has read, and another fill than the present one saw that.
fn holds_results(plan: *mut pg_sys::PlannedStmt) -> bool {
    RESULTS.with_borrow(|results| {
        !results.is_empty()
            && results
                .get(&plan.addr())
                .is_some_and(|fill| *fill != frames::serial())
    })
}

/// A plan was made that holds what a function has read.
pub fn rests_on_results(plan: *mut pg_sys::PlannedStmt) {
    watch(plan);
    RESULTS.with_borrow_mut(|results| results.insert(plan.addr(), frames::serial()));
}

/// Takes a plan off the lists when its memory goes.
fn watch(plan: *mut pg_sys::PlannedStmt) {
    // SAFETY: a plan is a node, which is a piece of memory of its own in a context; the callback lies in the same context, which
    // calls it before it frees anything.
    unsafe {
        let context = pg_sys::GetMemoryChunkContext(plan.cast());
        let callback =
            pg_sys::MemoryContextAlloc(context, size_of::<pg_sys::MemoryContextCallback>())
                .cast::<pg_sys::MemoryContextCallback>();
        (*callback).func = Some(plan_goes);
        (*callback).arg = plan.cast();
        pg_sys::MemoryContextRegisterResetCallback(context, callback);
    }
}

/// The memory that a plan lies in goes. Nothing is allocated here, and nothing can fail.
unsafe extern "C-unwind" fn plan_goes(plan: *mut c_void) {
    // SAFETY: no value with a destructor is alive in this frame.
    unsafe {
        fenced("plan", || {
            match (MAKERS.try_borrow_mut(), RESULTS.try_borrow_mut()) {
                (Ok(mut makers), Ok(mut results)) => {
                    makers.remove(&plan.addr());
                    results.remove(&plan.addr());
                }
                _ => LOST.set(true),
            }
        });
    }
}
