//! The row trigger for logical replication, kept from costing anything in statements.
//!
//! It fires for nobody but who applies rows without a statement: a statement is told of by the statement triggers, whatever the session
//! is ([`super::tracker`]). But as long as a table has a row trigger that might fire, the server looks for it at each row, and at an
//! UPDATE or DELETE fetches each old row once more to show it. A statement works with a description of the triggers of its own; if no row
//! trigger but ours is in there, that description need not speak of row triggers.
//!
//! That description is a copy that the executor has made for the statement (`CopyTriggerDesc` in `InitResultRelInfo`), and it goes with
//! it. What the server keeps with the relation itself is never written: COPY, which shows its own copy to nobody, pays for the trigger.

#![allow(unsafe_code)]

use super::relations;
use crate::backend::Backend;
use crate::compat;
use pgrx::pg_sys;
use std::cell::Cell;

/// `tgenabled` of a trigger that fires in replica sessions only.
const IN_REPLICA: std::ffi::c_char = pg_sys::TRIGGER_FIRES_ON_REPLICA as std::ffi::c_char;

/// Leaves our row trigger out of a statement that is about to run.
///
/// # Safety
/// The server has started `query`.
pub unsafe fn leave_out(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the statement's own state, which lives in its memory context.
    unsafe {
        let estate = (*query).estate;
        if estate.is_null() {
            return;
        }
        for cell in compat::cells((*estate).es_opened_result_relations) {
            let description = (*cell.ptr_value.cast::<pg_sys::ResultRelInfo>()).ri_TrigDesc;
            if !description.is_null() {
                leave_out_of(&mut *description);
            }
        }
    }
}

unsafe fn leave_out_of(description: &mut pg_sys::TriggerDesc) {
    // SAFETY: the description has as many triggers.
    let triggers = unsafe {
        std::slice::from_raw_parts(description.triggers, description.numtriggers as usize)
    };
    if !triggers.iter().any(fires_in_replica) {
        return;
    }
    let Some(tracker) = tracker() else { return };
    let anybody_else = |event: u32| {
        triggers.iter().any(|trigger| {
            let kind = trigger.tgtype as u32;
            let row = kind & pg_sys::TRIGGER_TYPE_ROW != 0
                && kind & (pg_sys::TRIGGER_TYPE_BEFORE | pg_sys::TRIGGER_TYPE_INSTEAD) == 0;
            let ours = fires_in_replica(trigger) && trigger.tgfoid == tracker;
            row && kind & event != 0 && !ours
        })
    };
    let others = [
        anybody_else(pg_sys::TRIGGER_TYPE_INSERT),
        anybody_else(pg_sys::TRIGGER_TYPE_UPDATE),
        anybody_else(pg_sys::TRIGGER_TYPE_DELETE),
    ];
    description.trig_insert_after_row &= others[0];
    description.trig_update_after_row &= others[1];
    description.trig_delete_after_row &= others[2];
}

/// Such a trigger of a row is ours if it calls our function: what a user has given one of our names is his.
fn fires_in_replica(trigger: &pg_sys::Trigger) -> bool {
    trigger.tgenabled == IN_REPLICA && trigger.tgtype as u32 & pg_sys::TRIGGER_TYPE_ROW != 0
}

/// The trigger function that marks writes, looked up again when a definition may have changed.
fn tracker() -> Option<pg_sys::Oid> {
    static KNOWN: Backend<Cell<Option<(u64, pg_sys::Oid)>>> = Backend::new(Cell::new(None));
    let changes = relations::changes();
    match KNOWN.get() {
        Some((then, tracker)) if then == changes => Some(tracker),
        _ => {
            let tracker = relations::tracker_function()?;
            KNOWN.set(Some((changes, tracker)));
            Some(tracker)
        }
    }
}
