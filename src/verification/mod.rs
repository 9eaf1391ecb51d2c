//! Self-audit: a share of the hits (`pg_query_cache.verify_sample_rate`) is computed again in the caller's snapshot and compared.
//!
//! ```text
//! hit ── sampled? ─ run the function ── equal ─▶ its result
//!                        │
//!                        └ differs ── run it again ──────────── another result? ─ it does not repeat itself
//!                                     run it under the time of the stored one ─ another result? ─ it depends on the clock
//!                                     run it by other plans ─ another result? ─ it does not repeat itself
//!                                     neither ─ the stored result should not have been served: quarantine
//! ```
//!
//! A set is run to its end wherever it is called, as the hit would have given all of it.
//!
//! The caller gets what the function returned, so a verified call is never wrong. While it runs, cached functions that it calls are
//! computed too. What it reads is recorded as in a fill, and a relation that the stored result does not depend on is named in the log.
//!
//! * `suspect`: the stored result, and comparing it
//! * `clock`: running under the time of a transaction of the past
//! * `plans`: running by other plans, and whether a session chooses its own
//! * `report`: what is said of a difference
//! * `quarantine`: functions that are not cached until somebody says so

#![allow(unsafe_code)]

pub mod clock;
pub mod plans;
pub mod quarantine;
mod report;
mod suspect;

use crate::call::frames::{self, Frame, Rows};
use crate::call::outcome::{Outcome, Verdict};
use crate::call::{base, value};
use crate::dependencies::caught;
use crate::language::body::Consistency;
use crate::language::function::CachedFunction;
use crate::server::guarded;
use crate::settings;
use crate::store::area::area;
use crate::store::statistics::count;
use pgrx::{PgTryBuilder, pg_sys};
use std::panic::AssertUnwindSafe;
pub use suspect::Suspect;

/// Whether this hit is to be verified. Functions that are right by age only are allowed to differ.
#[inline(always)]
pub fn is_due(function: &CachedFunction) -> bool {
    let rate = settings::verify_sample_rate();
    rate > 0.0 && function.consistency == Consistency::Strict && drawn(rate)
}

#[cold]
fn drawn(rate: f64) -> bool {
    // SAFETY: a variable of the backend, and its own generator. A parallel query allows no subtransaction, which a difference needs.
    unsafe {
        !pg_sys::IsInParallelMode()
            && pg_sys::pg_prng_double(&raw mut pg_sys::pg_global_prng_state) < rate
    }
}

/// Runs the function whose stored result is in the innermost frame, and compares. Returns the function's own result.
///
/// # Safety
/// As [`base::call_to_its_end`].
pub unsafe fn run(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the caller's; only plain data lives in this frame. The frame on the stack of fills ends here or, after an ERROR, with the
    // transaction.
    unsafe {
        let result =
            caught::watched(|| base::call_to_its_end(fcinfo, Some(frames::collect_rows())));
        if guarded(|| is_same(fcinfo, result)) {
            return result;
        }
        let kept = Kept::of(fcinfo);
        guarded(|| explain_difference(fcinfo, &kept));
        result
    }
}

/// The second and the third run, and the verdict. They are ours, not the caller's: an ERROR in them is a result like any other.
unsafe fn explain_difference(fcinfo: pg_sys::FunctionCallInfo, kept: &Kept) {
    // SAFETY: the caller's.
    unsafe {
        let repeats = gives_the_same(fcinfo, kept);
        frames::with_suspect(|suspect| clock::set_back(suspect.created_at));
        let timeless = gives_the_same(fcinfo, kept);
        clock::restore();
        judge(fcinfo, repeats && !depends_on_plan(fcinfo, kept), timeless);
    }
}

/// Whether the result depends on the plan, as far as that can be told.
unsafe fn depends_on_plan(fcinfo: pg_sys::FunctionCallInfo, kept: &Kept) -> bool {
    let own = frames::with_suspect(|suspect| suspect.own_plan) || plans::has_own_settings();
    // SAFETY: the caller's.
    own || unsafe {
        let differs = plans::WAYS
            .iter()
            .any(|way| !gives_the_same_by(fcinfo, kept, Some(*way)));
        plans::make_plans_anew();
        differs
    }
}

/// Whether another run gives what the first gave.
unsafe fn gives_the_same(fcinfo: pg_sys::FunctionCallInfo, kept: &Kept) -> bool {
    // SAFETY: the caller's.
    unsafe { gives_the_same_by(fcinfo, kept, None) }
}

/// The same with plans made in a way of [`plans::WAYS`].
unsafe fn gives_the_same_by(
    fcinfo: pg_sys::FunctionCallInfo,
    kept: &Kept,
    way: Option<&[&std::ffi::CStr]>,
) -> bool {
    // SAFETY: the caller's; what the run leaves in the call is replaced by what the first left there.
    unsafe {
        let run = attempt(|| {
            let call =
                || caught::watched(|| base::call_to_its_end(fcinfo, Some(frames::collect_rows())));
            let result = match way {
                Some(way) => plans::without(way, call),
                None => call(),
            };
            equals_first(fcinfo, result)
        });
        match run {
            Some(_) => kept.discard(fcinfo),
            // What an ERROR left behind is the transaction's to clear away.
            None => drop(frames::take_rows()),
        }
        kept.put_back(fcinfo);
        run.unwrap_or(false)
    }
}

/// Runs `body` in a subtransaction; `None` after an ERROR, which is undone with it. That the caller gave up is an ERROR still.
unsafe fn attempt<R>(body: impl FnOnce() -> R) -> Option<R> {
    // SAFETY: the usual frame of an internal subtransaction. `body` runs the function behind a boundary that turns an ERROR into a
    // panic before it meets a frame with a destructor.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let body = AssertUnwindSafe(body);
        let result = PgTryBuilder::new(move || {
            let body = body;
            let result = pg_sys::submodules::ffi::pg_guard_ffi_boundary(body.0);
            pg_sys::ReleaseCurrentSubTransaction();
            Some(AssertUnwindSafe(result))
        })
        .catch_others(|error| {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            if crate::error::gave_up(&error) {
                error.rethrow();
            }
            None
        })
        .execute();
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        result.map(|result| result.0)
    }
}

/// What a run left in the call, as plain data.
#[derive(Clone, Copy)]
struct Kept {
    is_null: bool,
    set: *mut pg_sys::Tuplestorestate,
    description: pg_sys::TupleDesc,
}

impl Kept {
    unsafe fn of(fcinfo: pg_sys::FunctionCallInfo) -> Kept {
        // SAFETY: the server's fcinfo; a function that returns a set got a ReturnSetInfo.
        unsafe {
            let info = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            let is_set = !info.is_null() && (*info).type_ == pg_sys::NodeTag::T_ReturnSetInfo;
            Kept {
                is_null: (*fcinfo).isnull,
                set: if is_set {
                    (*info).setResult
                } else {
                    std::ptr::null_mut()
                },
                description: if is_set {
                    (*info).setDesc
                } else {
                    std::ptr::null_mut()
                },
            }
        }
    }

    /// Frees the set of a later run.
    unsafe fn discard(&self, fcinfo: pg_sys::FunctionCallInfo) {
        // SAFETY: a tuplestore that `base::call` made for this call and nobody else knows.
        unsafe {
            let later = Kept::of(fcinfo);
            if !later.set.is_null() && later.set != self.set {
                pg_sys::tuplestore_end(later.set);
            }
        }
    }

    /// Makes the first run's result that of the call again.
    unsafe fn put_back(&self, fcinfo: pg_sys::FunctionCallInfo) {
        // SAFETY: as above.
        unsafe {
            (*fcinfo).isnull = self.is_null;
            if !self.set.is_null() {
                let info = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
                (*info).setResult = self.set;
                (*info).setDesc = self.description;
            }
        }
    }
}

/// The result of a run as bytes; the frame's collected rows start over.
unsafe fn taken(
    fcinfo: pg_sys::FunctionCallInfo,
    function: &CachedFunction,
    result: pg_sys::Datum,
    rows: Rows,
) -> suspect::Bytes {
    let (shape, mut bytes) = match rows {
        Rows::TooLarge => return suspect::Bytes::TooLarge,
        Rows::Kept(rows) if function.result.set => return suspect::Bytes::Rows(rows),
        Rows::Kept(_) => (&function.result, Vec::new()),
    };
    // SAFETY: the result of a run of this call.
    unsafe {
        let flinfo = (*fcinfo).flinfo;
        if (*fcinfo).isnull {
            suspect::Bytes::Null
        } else if value::size(shape, flinfo, result) > settings::max_entry_bytes() {
            suspect::Bytes::TooLarge
        } else {
            value::encode(shape, flinfo, result, &mut bytes);
            suspect::Bytes::Scalar(bytes)
        }
    }
}

/// After the first run: whether it gave what is stored. Then the frame ends.
unsafe fn is_same(fcinfo: pg_sys::FunctionCallInfo, result: pg_sys::Datum) -> bool {
    let Some((function, rows)) = frames::take_rows() else {
        return true;
    };
    // SAFETY: the caller's.
    let first = unsafe { taken(fcinfo, &function, result, rows) };
    let same = frames::with_suspect(|suspect| {
        let same = suspect.stored.equals(&first);
        suspect.first = Some(first);
        same
    });
    // What would not be stored now, since it did or read what the caller's snapshot does not show, or caught an error that is nobody's
    // fault, cannot be compared.
    let comparable = !frames::is_refused();
    if !same && comparable {
        return false;
    }
    if frames::end().is_some() && comparable {
        count(function.oid, Outcome::Verified(Verdict::Same));
    }
    true
}

/// Whether the result of a later run is that of the first.
unsafe fn equals_first(fcinfo: pg_sys::FunctionCallInfo, result: pg_sys::Datum) -> bool {
    let Some((function, rows)) = frames::take_rows() else {
        return true;
    };
    // SAFETY: the caller's.
    let bytes = unsafe { taken(fcinfo, &function, result, rows) };
    frames::with_suspect(|suspect| {
        suspect
            .first
            .as_ref()
            .is_none_or(|first| first.equals(&bytes))
    })
}

/// The frame ends with the verdict.
unsafe fn judge(fcinfo: pg_sys::FunctionCallInfo, repeats: bool, timeless: bool) {
    let Some(frame) = frames::end() else { return };
    let verdict = match (repeats, timeless) {
        (false, _) => Verdict::Nondeterministic,
        (true, false) => Verdict::TimeDependent,
        (true, true) => Verdict::Different,
    };
    count(frame.function.oid, Outcome::Verified(verdict));
    if verdict == Verdict::Different {
        different(&frame, fcinfo);
    }
}

#[cold]
fn different(frame: &Frame, fcinfo: pg_sys::FunctionCallInfo) {
    let Some(area) = area() else { return };
    quarantine::begin(area, &frame.function);
    // SAFETY: the call that the frame belongs to.
    unsafe { report::difference(area, frame, fcinfo) };
}
