//! Functions that do not pay rest: their calls run the function by itself, without a lock, a look or anything stored.
//!
//! Whether a function rests is judged where counts are handed over (`crate::store::worth`). Here is what a call does about it, and what it
//! measures for that:
//!
//! * of the hits a few take their own time, from where a resting function would be run;
//! * every other of these runs the function instead, and takes its time, until that is known to be clearly longer than a hit's;
//! * of the calls of a resting function a few run under the clock too.
//!
//! Inside the computation of another cached function nothing rests: what the inner one depends on, its tags too, has to be handed up. Nor
//! does a call that is made to warm or to refresh: somebody has asked for its result to be stored.

use super::explain::Traveller;
use super::frames::{self, Call};
use super::outcome::{Outcome, Reason};
use super::{Decision, bypass, refresh};
use crate::compat;
use crate::language::function::CachedFunction;
use crate::settings;
use crate::store::area::{Area, area};
use crate::store::lookup::Found;
use crate::store::statistics::{count, hand_over, judge};
use crate::store::traits::Trait;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

/// Of the calls of a resting function one in so many is measured.
const MEASURED_RUNS: u32 = 16;
/// What took longer than this many microseconds to compute is not run to be measured: caching it pays, or it was the first call of a
/// session, and others will tell.
const WORTH_A_RUN_US: u32 = 1000;

/// Somebody asks for results to be stored.
static ASKED_FOR: AtomicBool = AtomicBool::new(false);

/// As long as it lives the calls of this session store their results, whatever has been found about the function.
pub struct AskedFor(bool);

impl AskedFor {
    /// From now on.
    pub fn begin() -> Self {
        AskedFor(ASKED_FOR.swap(true, Ordering::Relaxed))
    }
}

impl Drop for AskedFor {
    fn drop(&mut self) {
        ASKED_FOR.store(self.0, Ordering::Relaxed);
    }
}

/// Whether this call's result is to be stored because somebody asks for that.
pub fn is_asked_for() -> bool {
    ASKED_FOR.load(Ordering::Relaxed) || refresh::is_refresher()
}

/// Whether a function that rests does so in this call.
#[cold]
#[inline(never)]
pub(super) fn rests(function: &CachedFunction) -> bool {
    function.adaptive && !frames::filling() && !is_asked_for()
}

/// A call of a resting function.
#[cold]
#[inline(never)]
pub(super) fn run_by_itself<T: Traveller>(
    area: Area,
    function: &CachedFunction,
    traveller: &mut T,
) -> Decision {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let decision = bypass(function, Reason::NotWorthwhile, traveller);
    if T::ASKS {
        return decision;
    }
    judge(area, function.oid, function.adaptive);
    if CALLS
        .fetch_add(1, Ordering::Relaxed)
        .is_multiple_of(MEASURED_RUNS)
    {
        Decision::Run
    } else {
        decision
    }
}

/// Whether the function is to be run instead of a hit that would be measured.
#[cold]
#[inline(never)]
pub(super) fn runs_instead(area: Area, function: &CachedFunction, found: &Found) -> bool {
    static TURN: AtomicBool = AtomicBool::new(false);
    let runs = function.adaptive
        && found.head.cost_us < WORTH_A_RUN_US
        && !function.has(Trait::Dear)
        && !function.has(Trait::Resting)
        && !frames::filling()
        && TURN.fetch_xor(true, Ordering::Relaxed);
    if runs {
        judge(area, function.oid, function.adaptive);
    }
    runs
}

/// A hit whose time is taken.
#[cold]
#[inline(never)]
pub(super) fn hit(area: Area, call: &Call<'_>, began: Instant) {
    let ns = settings::hit_ns(began.elapsed().as_nanos() as u64);
    count(call.function.oid, Outcome::Hit { ns });
    judge(area, call.function.oid, call.function.adaptive);
}

/// A run of the function whose time was taken. Of one that is stored it is judged at once, so that no more are run than are needed.
pub(super) fn ran(function: pg_sys::Oid, began: Instant) {
    let ns = settings::run_ns(began.elapsed().as_nanos() as u64);
    let Some(area) = area() else { return };
    count(function, Outcome::Ran { ns });
    let learned = area.functions().learned(compat::database(), function);
    if !learned.has(Trait::Resting) {
        hand_over(area);
    }
}

/// A result was stored. What somebody asked for says nothing about those who call.
pub(super) fn stored(function: pg_sys::Oid, computing_ns: u64, storing_ns: u64) {
    if !is_asked_for() {
        count(
            function,
            Outcome::Cost {
                computing_ns,
                storing_ns,
            },
        );
    }
}
