//! The row trigger for logical replication, kept from costing anything in statements.
//!
//! It fires for nobody but who applies rows without a statement: a statement is told of by the statement triggers, whatever the session
//! is ([`super::tracker`]). But as long as a table has a row trigger that might fire, the server looks for it at each row, and at an
//! UPDATE or DELETE fetches each old row once more to show it. A statement works with a description of the triggers of its own; if no row
//! trigger but ours is in there, that description need not speak of row triggers.

#![allow(unsafe_code)]

use super::tracking::REPLICA;
use crate::compat;
use pgrx::pg_sys;
use std::ffi::CStr;

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
            let relation = cell.ptr_value.cast::<pg_sys::ResultRelInfo>();
            let description = (*relation).ri_TrigDesc;
            if !description.is_null() {
                leave_out_of(&mut *description);
            }
        }
    }
}

unsafe fn leave_out_of(description: &mut pg_sys::TriggerDesc) {
    let after_row = |event: u32| {
        // SAFETY: the description has as many triggers.
        let triggers = unsafe {
            std::slice::from_raw_parts(description.triggers, description.numtriggers as usize)
        };
        triggers.iter().any(|trigger| {
            let kind = trigger.tgtype as u32;
            let row = kind & pg_sys::TRIGGER_TYPE_ROW != 0
                && kind & (pg_sys::TRIGGER_TYPE_BEFORE | pg_sys::TRIGGER_TYPE_INSTEAD) == 0;
            // SAFETY: the name of a trigger is a C string.
            row && kind & event != 0 && !unsafe { is_ours(trigger) }
        })
    };
    let (insert, update, delete) = (
        after_row(pg_sys::TRIGGER_TYPE_INSERT),
        after_row(pg_sys::TRIGGER_TYPE_UPDATE),
        after_row(pg_sys::TRIGGER_TYPE_DELETE),
    );
    description.trig_insert_after_row &= insert;
    description.trig_update_after_row &= update;
    description.trig_delete_after_row &= delete;
}

/// # Safety
/// A trigger of a relation's description.
unsafe fn is_ours(trigger: &pg_sys::Trigger) -> bool {
    // SAFETY: the caller's.
    trigger.tgenabled == IN_REPLICA
        && unsafe { CStr::from_ptr(trigger.tgname) }.to_bytes() == REPLICA.as_bytes()
}
