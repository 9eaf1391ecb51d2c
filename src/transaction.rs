//! What happens when a transaction or a backend ends: own writes are forgotten or taken back, fills that an ERROR cut short are
//! cleared, counts are handed over. Behind a closed gate ([`crate::gate`]) nothing of that has happened.

#![allow(unsafe_code)]

use crate::call::frames;
use crate::configuration;
use crate::dependencies::{
    automatic, caught, compiled, executor, grants, planning, session, temporary, touched, tracker,
    utility,
};
use crate::fault::{self, Point};
use crate::gate;
use crate::language::binding;
use crate::server::{fenced, guarded};
use crate::store::area::{Area, area};
use crate::store::{progress, statistics};
use crate::table::write_behind;
use crate::validity::{own, places, view};
use crate::values::remember;
use crate::verification::quarantine;
use crate::worker::hold;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicBool, Ordering};

/// Registers the callbacks. Once, when the library is loaded.
pub fn watch() {
    // SAFETY: functions with the signatures that the server wants.
    unsafe {
        pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction_event), std::ptr::null_mut());
    }
}

/// Once per backend, before it first uses the area.
#[inline(always)]
pub fn prepare(_area: Area) {
    static PREPARED: AtomicBool = AtomicBool::new(false);
    if !PREPARED.load(Ordering::Relaxed) {
        gate::concerns();
        PREPARED.store(true, Ordering::Relaxed);
        // SAFETY: a function with the signature that the server wants; runs while shared memory is still attached.
        unsafe { pg_sys::before_shmem_exit(Some(backend_exit), pg_sys::Datum::from(0)) };
    }
}

unsafe extern "C-unwind" fn backend_exit(_code: i32, _argument: pg_sys::Datum) {
    // SAFETY: no value with a destructor is alive in this frame.
    unsafe {
        fenced("end of a process", || {
            if let Some(area) = area() {
                statistics::hand_over(area);
                progress::process_exits(area);
            }
        })
    }
}

unsafe extern "C-unwind" fn transaction_event(
    event: pg_sys::XactEvent::Type,
    _: *mut std::ffi::c_void,
) {
    if !gate::is_concerned() {
        return;
    }
    let may_raise = matches!(
        event,
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT | pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE
    );
    // SAFETY: no value with a destructor is alive in this frame.
    unsafe {
        match may_raise {
            true => guarded(|| before_end(event)),
            false => fenced("end of a transaction", || on_transaction_event(event)),
        }
    }
}

/// The transaction is about to commit or to be prepared.
fn before_end(event: pg_sys::XactEvent::Type) {
    let Some(area) = area() else { return };
    let preparing = event == pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE;
    if !preparing {
        // Commands, so before what they may owe is looked at.
        automatic::transaction_commits(area);
    }
    let (owed, databases) = gate::before_commit(area, preparing);
    utility::mark_owed(area, owed, &databases);
    own::ends(area);
    if preparing {
        own::keep_registered();
    } else {
        fault::point(Point::Committing);
    }
}

fn on_transaction_event(event: pg_sys::XactEvent::Type) {
    let Some(area) = area() else { return };
    match event {
        pg_sys::XactEvent::XACT_EVENT_COMMIT => {
            fault::fenced(Point::Committed);
            gate::transaction_ended(area);
            configuration::committed(area);
            own::forget();
            frames::transaction_ended();
            executor::transaction_ended();
            planning::transaction_ended();
            tracker::transaction_ended();
            places::transaction_ended(area, true);
            temporary::transaction_ended();
            touched::transaction_ended();
            grants::transaction_ended();
            write_behind::committed(area);
            quarantine::committed(area);
            hold::transaction_ended(area, true);
            binding::transaction_ended(area, true);
            remember::transaction_ended();
            statistics::hand_over_if_due(area);
        }
        pg_sys::XactEvent::XACT_EVENT_PREPARE => {
            gate::transaction_ended(area);
            configuration::forget();
            own::forget();
            frames::transaction_ended();
            automatic::forget();
            tracker::transaction_ended();
            temporary::transaction_ended();
            touched::transaction_ended();
            grants::transaction_ended();
            write_behind::forget();
            quarantine::forget();
            binding::transaction_ended(area, true);
            remember::transaction_ended();
        }
        pg_sys::XactEvent::XACT_EVENT_ABORT => {
            gate::transaction_ended(area);
            // SAFETY: the id of the transaction that just ended is still known here.
            own::withdraw(area, unsafe { view::own_xid() });
            places::transaction_ended(area, false);
            configuration::forget();
            frames::unwind(0);
            executor::transaction_ended();
            planning::transaction_ended();
            session::rolled_back();
            automatic::forget();
            tracker::transaction_ended();
            temporary::transaction_ended();
            touched::transaction_ended();
            grants::transaction_ended();
            write_behind::forget();
            quarantine::forget();
            hold::transaction_ended(area, false);
            binding::transaction_ended(area, false);
            remember::transaction_ended();
            statistics::hand_over_if_due(area);
        }
        _ => (),
    }
}

unsafe extern "C-unwind" fn subtransaction_event(
    event: pg_sys::SubXactEvent::Type,
    _subxact: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _: *mut std::ffi::c_void,
) {
    if !gate::is_concerned() {
        return;
    }
    // SAFETY: no value with a destructor is alive in this frame.
    unsafe {
        fenced("end of a savepoint", || {
            let level = pg_sys::GetCurrentTransactionNestLevel();
            match event {
                pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => {
                    own::subtransaction_ended(level, true);
                    compiled::subtransaction_ended(level, true);
                    quarantine::subtransaction_ended(level, true);
                    write_behind::subtransaction_ended(level, true);
                    remember::subtransaction_ended(level, true);
                    if let Some(area) = area() {
                        hold::subtransaction_ended(area, level, true);
                    }
                }
                pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => {
                    own::subtransaction_ended(level, false);
                    frames::unwind(level);
                    compiled::subtransaction_ended(level, false);
                    caught::subtransaction_rolled_back();
                    planning::subtransaction_rolled_back();
                    session::rolled_back();
                    temporary::subtransaction_ended();
                    write_behind::subtransaction_ended(level, false);
                    quarantine::subtransaction_ended(level, false);
                    remember::subtransaction_ended(level, false);
                    if let Some(area) = area() {
                        hold::subtransaction_ended(area, level, false);
                    }
                }
                _ => (),
            }
        })
    }
}
