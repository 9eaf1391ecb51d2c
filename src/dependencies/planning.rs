//! What the planner computes on the way, and keeps in a plan.
//!
//! The planner calls functions that are declared IMMUTABLE and puts their results into the plan, and a session may keep that for good.
//! If one of them is declared wrongly, and reads a table, a later fill would use what it returned then without seeing it read anything.
//! So a plan into which such a result may have come is remembered as one that must not be used again to compute what is stored: what
//! the session keeps is planned anew before the next fill ([`definitions::distrust_plans`]), and the plans of SQL functions, which
//! the server plans but once, are told apart ([`plans::rests_on_results`]).
//!
//! The planner also calls STABLE functions, to estimate how many rows there will be. That changes no result.

#![allow(unsafe_code)]

use super::functions::Known;
use super::session::Reads;
use super::{definitions, plans};
use crate::backend::Backend;
use crate::gate;
use crate::language::function;
use crate::server::{self, guarded};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{c_char, c_int};

static mut PREVIOUS: pg_sys::planner_hook_type = None;

/// What has happened in the innermost run of the planner.
#[derive(Clone, Copy)]
struct State {
    /// The planner runs.
    runs: bool,
    /// It has called a function that is declared IMMUTABLE and not built in.
    folds: bool,
    /// It has called code, which calls other functions by itself.
    calls_code: bool,
    /// After it had, something was read.
    has_read: bool,
}

const IDLE: State = State {
    runs: false,
    folds: false,
    calls_code: false,
    has_read: false,
};

static STATE: Backend<Cell<State>> = Backend::new(Cell::new(IDLE));

/// Installs the hook. Once, in the postmaster.
pub fn install() {
    // SAFETY: the postmaster is alone while it loads libraries.
    unsafe {
        PREVIOUS = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(plan);
    }
}

unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    let around = STATE.replace(State { runs: true, ..IDLE });
    // SAFETY: the server's arguments, passed on as they are; no value with a destructor is alive in this frame.
    unsafe {
        #[allow(
            ffi_unwind_calls,
            reason = "another library's hook raises ERRORs, as the server does"
        )]
        let made = match PREVIOUS {
            Some(previous) => previous(query, text, options, parameters),
            None => server::standard_planner(query, text, options, parameters),
        };
        let inside = STATE.replace(around);
        if inside.has_read {
            reads();
            guarded(|| {
                if gate::is_open() {
                    definitions::distrust_plans();
                    function::forget_call_sites();
                    plans::rests_on_results(made);
                }
            });
        }
        made
    }
}

/// Whether the planner runs.
#[inline(always)]
pub fn runs() -> bool {
    STATE.get().runs
}

/// Whether a function that is called now is called by the planner itself, so that nobody keeps the expression.
pub fn calls_directly() -> bool {
    let state = STATE.get();
    state.runs && !state.calls_code
}

/// Something was read, by a query or otherwise.
pub fn reads() {
    let state = STATE.get();
    if state.runs && state.folds {
        STATE.set(State {
            has_read: true,
            ..state
        });
    }
}

/// A function is called.
pub fn calls(known: Known) {
    let state = STATE.get();
    if !state.runs {
        return;
    }
    STATE.set(State {
        folds: state.folds || known.is_immutable,
        calls_code: state.calls_code || known.is_code,
        ..state
    });
    if known.reads != Reads::NONE || known.is_cached {
        reads();
    }
}

/// A subtransaction was rolled back: the planner may have been left, or an error caught in what it calls.
pub fn subtransaction_rolled_back() {
    let state = STATE.get();
    if state.runs {
        STATE.set(State {
            runs: true,
            folds: true,
            calls_code: true,
            has_read: true,
        });
    }
}

/// Nothing runs any more.
pub fn transaction_ended() {
    STATE.set(IDLE);
}
