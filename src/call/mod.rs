//! One cached call, from top to bottom.
//!
//! ```text
//! cached_call ── admit ──────────── bypass ─▶ the function itself
//!                  │
//!                  ├─ key ─ look up ─ valid? ─ hit ─▶ a copy of the value
//!                  │                            ├ soon too old? ─ a request to compute it anew, which nobody waits for (`refresh`)
//!                  │                            └ sampled? ─ the function itself, compared with it (`crate::verification`)
//!                  ├─ rests? ─ the function itself (`adaptive`)
//!                  │
//!                  └─ miss ─ somebody computing it? ─ wait, look up again
//!                            │
//!                            └─ fill: run the function, record what it reads ─ publish ─▶ its result
//! ```
//!
//! * `explain`: a question what a call would do, and the answer; `advice`, `blame`: its words, and who wrote last
//! * `outcome`: what can become of a call, with the stable codes of reasons
//! * `key`, `scope`, `watched`: which call it is, and whose; what of the session's settings tells
//! * `period`: the minute, hour or day that is part of a key
//! * `names`, `indifferent`: which settings there are, and which of them cannot change a result
//! * `frames`: fills in progress, and what they have read so far
//! * `base`: running the base function; `series`: row by row
//! * `value`: results as bytes, and bytes as results
//! * `publish`: from a computed result to an entry
//! * `adaptive`: functions that are not worth caching, and what is measured to know it
//! * `refresh`: results that are computed anew before they are too old; `carried`: what a session takes along for that

#![allow(unsafe_code)]

pub mod adaptive;
pub mod advice;
pub mod base;
mod blame;
pub mod carried;
pub mod explain;
pub mod frames;
mod indifferent;
pub mod key;
pub mod names;
pub mod outcome;
pub mod period;
mod publish;
pub mod refresh;
pub mod scope;
mod series;
pub mod value;
pub mod watched;

use crate::backend::Backend;
use crate::compat;
use crate::dependencies::{caught, definitions, temporary};
use crate::fault::{self, Point};
use crate::gate;
use crate::language::body::{Consistency, Scope};
use crate::language::function::{self, CachedFunction};
use crate::moments::interval_us;
use crate::server::{self, guarded};
use crate::store::area::{Area, area};
use crate::store::flights::{Lead, Part};
use crate::store::lookup::{self, Found, MAX_DEPENDENCIES};
use crate::store::partition::EntryHead;
use crate::store::statistics::{self, count, count_hit};
use crate::store::traits::{Learned, Trait};
use crate::table::row::Row;
use crate::table::warm;
use crate::validity::tags::{Tag, slot_of};
use crate::validity::{Dependency, Invalid, imported, saved};
use crate::verification::{self, Suspect};
use crate::{configuration, settings, transaction};
use advice::Finding;
use explain::{Caller, Traveller};
use frames::Call;
use outcome::{Outcome, Reason};
use pgrx::pg_sys;
use refresh::Errand;
use scope::Settings;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::time::Instant;

/// Room for a key, taken out while a call is decided: an ERROR then costs the room, not the next call.
static KEY: Backend<Cell<Vec<u8>>> = Backend::new(Cell::new(Vec::new()));
/// More room than this a session does not keep between calls, in bytes.
pub const KEPT_ROOM: usize = 64 * 1024;

/// By how much, in microseconds, the clocks of two processes may differ.
const CLOCK_JITTER_US: i64 = 10_000_000;

/// What the first part of a call decided.
enum Decision {
    /// The result, ready to be returned.
    Answer { datum: pg_sys::Datum, is_null: bool },
    /// The function itself answers, nothing is recorded.
    Bypass,
    /// The function is run in a frame that records what it reads.
    Fill,
    /// The function itself answers, and its time is taken.
    Run,
    /// The function is run and compared with the stored result in the frame.
    Verify,
    /// It was a question only.
    Told,
}

/// Answers a call of a cached function.
///
/// # Safety
/// `fcinfo` is the server's call of a function in LANGUAGE cached.
pub unsafe fn cached_call(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: no value with a destructor is alive in this frame or in its caller's. The base function runs outside of `guarded`,
    // so its errors reach the user as they are; what a fill leaves behind then is cleared by `transaction`.
    unsafe {
        // A cached function can call itself by way of others, and none of them need be one that the server looks at.
        server::check_stack_depth();
        if series::is_open(fcinfo) {
            return series::next(fcinfo);
        }
        if let Some(node) = explain::question(fcinfo) {
            guarded(|| explain::answer(fcinfo, node));
            return pg_sys::Datum::null();
        }
        match guarded(|| decide(fcinfo, &mut Caller)) {
            Decision::Answer { datum, is_null } => {
                (*fcinfo).isnull = is_null;
                datum
            }
            Decision::Bypass | Decision::Told => base::call(fcinfo, None),
            Decision::Run => {
                let began = Instant::now();
                let result = base::call(fcinfo, None);
                if !series::is_open(fcinfo) {
                    guarded(|| adaptive::ran((*(*fcinfo).flinfo).fn_oid, began));
                }
                result
            }
            Decision::Fill => {
                let result = caught::watched(|| base::call(fcinfo, Some(frames::collect_rows())));
                guarded(|| series::has_run(fcinfo, result));
                result
            }
            Decision::Verify => verification::run(fcinfo),
        }
    }
}

unsafe fn decide<T: Traveller>(fcinfo: pg_sys::FunctionCallInfo, traveller: &mut T) -> Decision {
    loop {
        // SAFETY: the caller's.
        if let Some(decision) = unsafe { try_to_decide(fcinfo, traveller) } {
            return decision;
        }
    }
}

/// `None` if what the backend knew of definitions was too old: the call may be another one than it seemed.
#[inline(always)]
unsafe fn try_to_decide<T: Traveller>(
    fcinfo: pg_sys::FunctionCallInfo,
    traveller: &mut T,
) -> Option<Decision> {
    // SAFETY: the caller's fcinfo, on the backend's main thread, throughout.
    unsafe {
        if let Some(area) = area() {
            configuration::refresh(area);
        }
        // An ERROR that this raises passes by: no value with a destructor is alive yet.
        let format = scope::format();
        let function = function::get((*(*fcinfo).flinfo).fn_oid);
        traveller.calls(&function);
        if is_null_for_strict(&function, fcinfo) {
            if T::ASKS {
                return Some(traveller.finds(Finding::NullArgument));
            }
            let (datum, is_null) = value::empty(&function, fcinfo);
            return Some(Decision::Answer { datum, is_null });
        }
        let learned = function.learned();
        let (area, snapshot, learned) = match admit(&function, learned) {
            Ok(admitted) => admitted,
            Err(reason) => {
                if reason == Reason::NotPreloaded && !T::ASKS {
                    crate::error::warn_not_preloaded();
                }
                if refresh::on_errand() {
                    let (datum, is_null) = value::empty(&function, fcinfo);
                    return Some(Decision::Answer { datum, is_null });
                }
                return Some(bypass(&function, reason, traveller));
            }
        };
        // A shared entry was made with the rights of somebody else.
        if function.scope == Scope::Shared {
            base::check_execute(function.base);
        }
        let max_age = max_age(&function, fcinfo);
        let rests = learned.has(Trait::Resting) && adaptive::rests(&function);
        if rests && !learned.has(Trait::OnTrial) {
            return Some(adaptive::run_by_itself(area, &function, traveller));
        }
        // Each call of a key on trial tells, and is measured.
        let began = match rests {
            _ if T::ASKS => None,
            true => Some(Instant::now()),
            false => statistics::measured(),
        };
        let now = server::GetCurrentTimestamp() + settings::clock_offset_us();
        let settings = Settings::of(&function);
        let mut key = KEY.take();
        let decision = match key::build(&function, format, settings, fcinfo, &mut key) {
            Ok(hash) if rests && !learned.tries(hash) => {
                Some(adaptive::run_by_itself(area, &function, traveller))
            }
            Ok(hash) => decide_by_key(
                area,
                fcinfo,
                &Call {
                    function: &function,
                    hash,
                    key: &key,
                    settings,
                    snapshot,
                    max_age,
                    now,
                    began,
                },
                traveller,
            ),
            Err(reason) => {
                if !T::ASKS && !reason.is_bypass() {
                    count(function.oid, Outcome::Miss);
                }
                Some(bypass(&function, reason, traveller))
            }
        };
        if key.capacity() <= KEPT_ROOM {
            KEY.set(key);
        }
        decision
    }
}

#[inline(always)]
unsafe fn decide_by_key<T: Traveller>(
    area: Area,
    fcinfo: pg_sys::FunctionCallInfo,
    call: &Call<'_>,
    traveller: &mut T,
) -> Option<Decision> {
    let function = call.function;
    traveller.looks_for(call);
    // SAFETY: the caller's fcinfo and snapshot.
    unsafe {
        let (mut tried_table, mut looked_again, mut looked_in_turn) = (false, false, false);
        let mut anew = match refresh::errand(call) {
            Errand::None => false,
            Errand::This => true,
            Errand::Another => {
                let (datum, is_null) = value::empty(function, fcinfo);
                return Some(Decision::Answer { datum, is_null });
            }
        };
        loop {
            let looked = if anew {
                Err(Miss::Counted(Outcome::Refreshed))
            } else {
                look_up(area, call)
            };
            let mut miss = match looked {
                Ok(_) if T::ASKS => return Some(traveller.finds(Finding::Valid)),
                Ok(found) => {
                    if verification::is_due(function)
                        && let Some(suspect) = Suspect::of(&found)
                    {
                        // What this session keeps of definitions may be older than the stored result.
                        match definitions::settle(area, call.snapshot) {
                            Ok(true) => return None,
                            Ok(false) if suspect.rests_on_known_definitions() => {
                                found.touch();
                                count_hit(function.oid, found.id(), 0);
                                frames::begin(call, None, Some(suspect));
                                return Some(Decision::Verify);
                            }
                            _ => (),
                        }
                    }
                    if call.began.is_some() && adaptive::runs_instead(area, function, &found) {
                        found.touch();
                        count_hit(function.oid, found.id(), 0);
                        return Some(Decision::Run);
                    }
                    match value::read(&found, function, fcinfo) {
                        Some((datum, is_null)) => {
                            found.touch();
                            if function.consistency == Consistency::Ttl {
                                frames::rests_on_age();
                            }
                            frames::inherit(&found, call.settings, call.now);
                            count_hit(function.oid, found.id(), found.head.cost_us);
                            if let Some(began) = call.began {
                                adaptive::hit(area, call, began);
                            }
                            if call.now >= function.end_of_life(&found.head) - function.refresh_us()
                            {
                                refresh::hit(area, call, &found);
                            }
                            return Some(Decision::Answer { datum, is_null });
                        }
                        None => Outcome::Miss,
                    }
                }
                Err(Miss::Not(reason)) => return Some(bypass(function, reason, traveller)),
                Err(Miss::Counted(outcome)) => outcome,
            };
            if !tried_table && matches!(miss, Outcome::Miss) {
                tried_table = true;
                if T::ASKS {
                    if let Some(row) = warm::peek(area, call.hash, call.key) {
                        let judged = judge(area, call, &row);
                        traveller.would_load(row);
                        match judged {
                            Ok(()) => return Some(traveller.finds(Finding::Valid)),
                            Err(Miss::Not(reason)) => {
                                return Some(bypass(function, reason, traveller));
                            }
                            Err(Miss::Counted(outcome)) => miss = outcome,
                        }
                    }
                } else if warm::try_load(area, call.hash, call.key) {
                    continue;
                }
            }
            match definitions::settle(area, call.snapshot) {
                Ok(false) => (),
                Ok(true) => return None,
                Err(invalid) => return Some(bypass(function, invalid.into(), traveller)),
            }
            if T::ASKS {
                return Some(traveller.finds(miss.into()));
            }
            let lead = match join(area, call, looked_again) {
                // Who led before may have stored its result between the look and the turn.
                Turn::Mine(Some(_)) if !looked_in_turn && look_up(area, call).is_ok() => {
                    looked_in_turn = true;
                    continue;
                }
                Turn::Mine(lead) => lead,
                Turn::LookAgain => {
                    count(function.oid, Outcome::Waited);
                    (looked_again, anew) = (true, false);
                    continue;
                }
            };
            count(function.oid, miss);
            if function.consistency == Consistency::Ttl {
                frames::rests_on_age();
            }
            frames::begin(call, lead, None);
            fault::point(Point::FillBegins);
            return Some(Decision::Fill);
        }
    }
}

fn bypass<T: Traveller>(function: &CachedFunction, reason: Reason, traveller: &mut T) -> Decision {
    if T::ASKS {
        return traveller.finds(Finding::Not(reason));
    }
    if function.consistency == Consistency::Ttl {
        frames::rests_on_age();
    }
    count(function.oid, Outcome::Not(reason));
    Decision::Bypass
}

/// A strict base function is not run for NULL.
unsafe fn is_null_for_strict(function: &CachedFunction, fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: the caller's fcinfo has at least as many arguments as the base function.
    let is_null = |i: usize| unsafe { (*(*fcinfo).args.as_ptr().add(i)).isnull };
    let any_null = || (0..function.arguments.len()).any(is_null);
    function.base_strict && any_null()
}

/// Whether this call may use the cache at all: the area and the caller's snapshot.
#[inline(always)]
unsafe fn admit(
    function: &CachedFunction,
    learned: Option<Learned>,
) -> Result<(Area, pg_sys::Snapshot, Learned), Reason> {
    if learned.is_some_and(|learned| learned.has(Trait::Quarantined)) {
        return Err(Reason::Quarantined);
    }
    // SAFETY: the caller's.
    let (area, snapshot) = unsafe { usable() }?;
    if !scope::is_ordinary() {
        return Err(Reason::SecurityContext);
    }
    function.disabled.map_or(Ok(()), Err)?;
    Ok((area, snapshot, learned.ok_or(Reason::NoRow)?))
}

/// Whether anything in memory may be used here: the area and the caller's snapshot.
///
/// # Safety
/// In a backend, on its main thread.
#[inline(always)]
pub unsafe fn usable() -> Result<(Area, pg_sys::Snapshot), Reason> {
    let Some(area) = area() else {
        return Err(Reason::NotPreloaded);
    };
    if frames::verifying() {
        return Err(Reason::Verification);
    }
    // SAFETY: reads the backend's state.
    unsafe {
        if !settings::enabled() {
            return Err(Reason::Disabled);
        }
        if server::RecoveryInProgress() {
            return Err(Reason::Recovery);
        }
        if pg_sys::XactIsoLevel as u32 == pg_sys::XACT_SERIALIZABLE {
            return Err(Reason::Serializable);
        }
        if crate::compat::is_parallel_worker() {
            return Err(Reason::ParallelWorker);
        }
        if pg_sys::SessionReplicationRole == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32 {
            return Err(Reason::ReplicaRole);
        }
        if !server::ActiveSnapshotSet() {
            return Err(Reason::NoSnapshot);
        }
        let snapshot = server::GetActiveSnapshot();
        if (*snapshot).snapshot_type != pg_sys::SnapshotType::SNAPSHOT_MVCC {
            return Err(Reason::NoSnapshot);
        }
        if (*snapshot).takenDuringRecovery {
            return Err(Reason::Recovery);
        }
        if imported::present() {
            return Err(Reason::ImportedSnapshot);
        }
        // The planner may call before there is a query.
        definitions::query_begins(snapshot);
        if !gate::admits() {
            return Err(Reason::UnknownWriters);
        }
        if temporary::present() {
            return Err(Reason::TemporaryObjects);
        }
        if !area.bounds().are_passed(area, snapshot) || !saved::knows_all_writers(area, snapshot) {
            return Err(Reason::UnknownWriters);
        }
        transaction::prepare(area);
        Ok((area, snapshot))
    }
}

/// The greatest age of a result that will do, in microseconds: the caller's `cache_duration`, and never more than the function's own
/// time to live and for how long it allows for more.
#[inline(always)]
unsafe fn max_age(function: &CachedFunction, fcinfo: pg_sys::FunctionCallInfo) -> i64 {
    let own = || function.ttl_us + function.stale_us;
    if !function.has_duration {
        return own();
    }
    // SAFETY: the argument after those of the base function is an interval (checked by the validator and at loading).
    let us = unsafe {
        let value = &*(*fcinfo).args.as_ptr().add(function.arguments.len());
        if value.isnull {
            return own();
        }
        interval_us(&*value.value.cast_mut_ptr::<pg_sys::Interval>())
    };
    if us < 0 {
        crate::error::Error::InvalidParameter(
            "cache_duration must not be negative".into(),
            "It is the greatest age of a stored result that the caller accepts.".into(),
        )
        .raise();
    }
    us.min(own())
}

enum Miss {
    Counted(Outcome),
    Not(Reason),
}

/// The entry of a key, if it is right for the snapshot and young enough.
#[inline(always)]
unsafe fn look_up(area: Area, call: &Call<'_>) -> Result<Found, Miss> {
    let Some(found) = lookup::find(area, call.hash, call.key) else {
        return Err(Miss::Counted(Outcome::Miss));
    };
    if is_too_old(call, &found.head) {
        return Err(Miss::Counted(Outcome::Expired));
    }
    let mut buffer = [const { MaybeUninit::uninit() }; MAX_DEPENDENCIES];
    let Some(dependencies) = found.dependencies(&mut buffer) else {
        return Err(Miss::Counted(Outcome::Miss));
    };
    // SAFETY: the active snapshot.
    match unsafe { area.slots().check(dependencies, call.snapshot) } {
        Ok(()) => Ok(found),
        // SAFETY: as above.
        Err(invalid) => Err(unsafe { why(area, call, dependencies, invalid) }),
    }
}

/// Why an entry is not right for the snapshot. It may be dead, and another one no better: if the transaction has written what it depends
/// on, or its snapshot is older than a write of that, nothing that is computed now could be served or stored.
#[cold]
#[inline(never)]
unsafe fn why(area: Area, call: &Call<'_>, dependencies: &[Dependency], invalid: Invalid) -> Miss {
    let doubt = |dependency: &Dependency| {
        // SAFETY: the active snapshot.
        unsafe {
            area.slots()
                .generation_for(dependency.slot(), call.snapshot)
        }
        .err()
    };
    match invalid {
        Invalid::Dead => (dependencies.iter().find_map(doubt)).map_or(invalid.into(), Miss::from),
        invalid => invalid.into(),
    }
}

/// Whether an entry is past its time to live or the age that the caller accepts.
#[inline(always)]
fn is_too_old(call: &Call<'_>, head: &EntryHead) -> bool {
    call.now >= head.expires_at
        // The clock was ahead when it was made: nobody knows how old it is.
        || head.created_at > call.now + CLOCK_JITTER_US
        || call.now - head.created_at >= call.max_age
        || head.function != call.function.oid.to_u32()
}

/// What [`look_up`] would say of a row of the table tier if it were in memory.
unsafe fn judge(area: Area, call: &Call<'_>, row: &Row) -> Result<(), Miss> {
    if is_too_old(call, &row.head) {
        return Err(Miss::Counted(Outcome::Expired));
    }
    // SAFETY: the active snapshot.
    unsafe { area.slots().check(&row.dependencies, call.snapshot) }.map_err(Miss::from)
}

impl From<Invalid> for Miss {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Dead => Miss::Counted(Outcome::Invalidated),
            invalid => Miss::Not(invalid.into()),
        }
    }
}

impl From<Invalid> for Reason {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::OwnWrites => Reason::OwnWrites,
            Invalid::OldSnapshot | Invalid::Dead => Reason::OldSnapshot,
            Invalid::Crowded => Reason::Crowded,
        }
    }
}

enum Turn {
    /// Compute; others wait for the flight to end.
    Mine(Option<Lead>),
    /// Somebody else has computed, or given up.
    LookAgain,
}

/// Waits for another session that computes the same, or takes the turn.
///
/// # Safety
/// The call's snapshot is the active one.
unsafe fn join(area: Area, call: &Call<'_>, waited: bool) -> Turn {
    let wait_ms = settings::fill_wait_ms();
    // SAFETY: the caller's.
    if wait_ms == 0 || !unsafe { can_share(area, call) } {
        return Turn::Mine(None);
    }
    let flights = area.flights();
    match flights.join(call.hash) {
        Part::Leads(lead) => Turn::Mine(Some(lead)),
        // One wait is enough: what the other computed may be of no use to this snapshot. And who computes does not wait.
        Part::Waits(ticket) if !waited && !frames::filling() && flights.wait(ticket, wait_ms) => {
            Turn::LookAgain
        }
        Part::Waits(_) | Part::Alone => Turn::Mine(None),
    }
}

/// Whether this call can take what another session computes now, and another one what this call computes: its transaction has not
/// written what the function reads, and its snapshot is as new as the last write of that. Judged by what earlier computations have
/// read, so that nobody waits, with its locks held, for what it could not take.
///
/// # Safety
/// The call's snapshot is the active one.
unsafe fn can_share(area: Area, call: &Call<'_>) -> bool {
    let (database, function) = (compat::database(), call.function);
    // A result that depends on keys is not concerned by other rows.
    let keyed = !function.depends_on.is_empty();
    area.functions()
        .relations_of(database, function.oid)
        .all(|relation| {
            let tag = if keyed {
                Tag::WholeRelation(relation)
            } else {
                Tag::Relation(relation)
            };
            let slot = slot_of(database, tag, area.layout.slots);
            // SAFETY: the caller's.
            unsafe { area.slots().generation_for(slot, call.snapshot) }.is_ok()
        })
}
