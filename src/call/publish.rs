//! From a computed result to an entry.

#![allow(unsafe_code)]

use super::adaptive;
use super::frames::{self, Frame, Rows};
use super::outcome::{Outcome, Reason, Refusal};
use super::scope::Settings;
use super::value;
use crate::configuration;
use crate::dependencies;
use crate::dependencies::held;
use crate::dependencies::session::Reads;
use crate::fault::{self, Point};
use crate::language::body::{Consistency, Scope};
use crate::moments;
use crate::server;
use crate::settings;
use crate::store::area::{Area, area};
use crate::store::insert::{Limits, NewEntry, NotStored, insert};
use crate::store::partition::{EntryHead, Kind, LEFT_OUT};
use crate::store::statistics::{count, judge};
use crate::store::traits::Trait;
use crate::validity::Dependency;
use crate::verification;
use pgrx::pg_sys;
use std::sync::atomic::Ordering;

/// Ends the innermost fill: stores its result if it may be stored, lets those go on who wait for it, and counts.
///
/// # Safety
/// `fcinfo` is the call whose fill ends; `result` and `fcinfo.isnull` are its result.
pub unsafe fn finish(fcinfo: pg_sys::FunctionCallInfo, result: pg_sys::Datum) {
    fault::point(Point::Computed);
    let Some(frame) = frames::end() else { return };
    let (began, computing) = (frame.began, frame.spent + frame.began.elapsed());
    let spent = frame.spent;
    let us = computing.as_micros() as u64;
    let (function, adaptive) = (frame.function.oid, frame.function.adaptive);
    let Some(area) = area() else { return };
    // The frame, and with it the flight, ends in there, whether the result is stored or an ERROR comes between.
    // SAFETY: the caller's.
    let stored = unsafe { store(area, fcinfo, result, frame, us) };
    area.functions()
        .note_refusal(crate::compat::database(), function, stored.err());
    count(function, Outcome::Computed { us });
    count(
        function,
        match stored {
            Ok(()) => Outcome::Stored,
            Err(refusal) => Outcome::Not(refusal.reason),
        },
    );
    if stored.is_ok() {
        let storing = (spent + began.elapsed()).saturating_sub(computing);
        adaptive::stored(
            function,
            computing.as_nanos() as u64,
            storing.as_nanos() as u64,
        );
    }
    judge(area, function, adaptive);
}

/// The function of the innermost fill has returned a row of its set, and will return the next when it is asked: the fill is paused, and
/// whoever waits for its result goes on. Its number; 0 if nothing can be stored.
///
/// # Safety
/// `fcinfo` is the call of the fill.
pub unsafe fn pause(fcinfo: pg_sys::FunctionCallInfo) -> u64 {
    let Some(mut frame) = frames::pause() else {
        return 0;
    };
    if let Some(reason) = frame.cannot_be_stored() {
        give_up(frame, reason);
        return 0;
    }
    // A fill around it goes on with this row, and depends on what a result would depend on.
    if frames::filling()
        && frame.has_read_more()
        && let Some(area) = area()
        // SAFETY: the caller's.
        && let Ok(slots) = unsafe { dependencies::slots_of(area, &frame, fcinfo) }
    {
        frames::inherit_slots(&slots);
    }
    match frames::keep(frame) {
        Ok(number) => number,
        Err(frame) => {
            give_up(*frame, Reason::ReadInParts);
            0
        }
    }
}

/// The caller of `function` wants the next row. Whether the paused fill goes on; if not, nothing is stored.
pub fn resume(function: pg_sys::Oid, fill: u64) -> bool {
    match frames::resume(fill) {
        Ok(()) => return true,
        Err(Some(disturbed)) => give_up(*disturbed, Reason::ReadInParts),
        // A savepoint was rolled back.
        Err(None) => note(function, Reason::ReadInParts.into()),
    }
    false
}

/// Nobody wants another row of a paused fill.
pub fn abandon(fill: u64) {
    if let Some(frame) = frames::take_paused(fill) {
        give_up(frame, Reason::ReadInParts);
    }
}

/// A paused fill ends without a result.
fn give_up(frame: Frame, reason: Reason) {
    let function = frame.function.oid;
    let relation = match reason.blames_function() {
        true => frame.blamed,
        false => pg_sys::InvalidOid,
    };
    frames::leave_queries(frame);
    note(function, Refusal { reason, relation });
}

fn note(function: pg_sys::Oid, refusal: Refusal) {
    let Some(area) = area() else { return };
    area.functions()
        .note_refusal(crate::compat::database(), function, Some(refusal));
    count(function, Outcome::Not(refusal.reason));
}

/// Whether what the function read besides tables is covered by the key. The owner's word on the scope stands against it.
fn refused_for_reads(frame: &Frame) -> Option<Reason> {
    let (function, reads) = (&frame.function, frame.reads);
    if reads.has(Reads::CHANGES_SETTINGS) {
        return Some(Reason::Writes);
    }
    if reads.has(Reads::ACTS)
        || reads.has(Reads::VOLATILE) && function.consistency == Consistency::Strict
    {
        return Some(Reason::VolatileFunction);
    }
    if function.consistency == Consistency::Strict && reads.has(Reads::UNLISTED) {
        return Some(Reason::UnlistedFunction);
    }
    if held::any_open() {
        return Some(Reason::ForeignCursor);
    }
    if function.scope == Scope::Role && reads.has(Reads::SESSION) {
        return Some(Reason::ReadsSession);
    }
    if function.consistency == Consistency::Strict && reads.has(Reads::OUTSIDE) {
        return Some(Reason::ReadsOutside);
    }
    if reads.has(Reads::SETTINGS) && frame.settings == Settings::Custom {
        let _ = function.learn(Trait::ReadsSettings);
        return Some(Reason::SettingsLearned);
    }
    if frame.settings.libraries_came_since(frame.libraries) {
        return Some(Reason::SettingsLearned);
    }
    None
}

unsafe fn store(
    area: Area,
    fcinfo: pg_sys::FunctionCallInfo,
    result: pg_sys::Datum,
    mut frame: Frame,
    us: u64,
) -> Result<(), Refusal> {
    let function = frame.function.clone();
    if let Some(reason) = frame.refused.or_else(|| refused_for_reads(&frame)) {
        return Err(Refusal {
            reason,
            relation: match reason.blames_function() {
                true => frame.blamed,
                false => pg_sys::InvalidOid,
            },
        });
    }
    // SAFETY: the fill's call; the snapshot under which it ran is the active one again.
    unsafe {
        let slots = dependencies::slots_of(area, &frame, fcinfo)?;
        frames::inherit_slots(&slots);
        if frame.max_age <= 0 {
            return Err(Reason::NoAge.into());
        }
        let snapshot = server::GetActiveSnapshot();
        let validity = area.slots();
        let mut resting_on = Vec::with_capacity(slots.len());
        for slot in slots {
            let generation = validity.generation_for(slot, snapshot)?;
            let dependency = Dependency::new(slot, generation);
            if !dependencies::definitions::unchanged(dependency) {
                return Err(Reason::DefinitionsChanged.into());
            }
            resting_on.push(dependency);
        }
        let Rows::Kept(mut bytes) = std::mem::take(&mut frame.rows) else {
            return Err(Reason::TooLarge.into());
        };
        let kind = if function.result.set {
            Kind::Rows
        } else if (*fcinfo).isnull {
            Kind::Null
        } else {
            let (shape, flinfo) = (&function.result, (*fcinfo).flinfo);
            if value::size(shape, flinfo, result) > settings::max_entry_bytes() {
                return Err(Reason::TooLarge.into());
            }
            value::encode(shape, flinfo, result, &mut bytes);
            Kind::Scalar
        };
        let mut head = EntryHead::new(
            frame.hash,
            frame.oldest,
            moments::after(frame.oldest, function.ttl_us + function.stale_us),
            pg_sys::MyDatabaseId.to_u32(),
            function.oid.to_u32(),
            kind,
        );
        if let Some(clock) = function.clock {
            let offset = settings::clock_offset_us();
            let now = server::GetCurrentTimestamp() + offset;
            // What it was made of may be bounded by age: that is not in the key.
            let until = clock.keeps_until(now, offset).min(frame.ends);
            head.expires_at = head.expires_at.min(until);
        }
        head.cost_us = us.min(u64::from(u32::MAX)) as u32;
        head.priority = function.priority;
        if verification::plans::has_own_settings() {
            head.own_plan = 1;
            // The table tier does not keep how it was planned.
            head.persisted = LEFT_OUT;
        }
        head.by_age = u8::from(function.consistency == Consistency::Ttl);
        let new = NewEntry {
            head,
            dependencies: &resting_on,
            key: &frame.key,
            value: &bytes,
        };
        fault::point(Point::Publishing);
        let limits = Limits {
            bytes: settings::max_entry_bytes(),
            entries: configuration::max_entries(),
        };
        match insert(area, new, limits) {
            Ok(_) => Ok(()),
            Err(NotStored::TooLarge) => Err(Reason::TooLarge.into()),
            Err(NotStored::NoRoom) => {
                area.header().no_room.fetch_add(1, Ordering::Relaxed);
                Err(Reason::NoRoom.into())
            }
        }
    }
}
