//! The row trigger for logical replication, kept from costing anything in statements.
//!
//! It fires for nobody but who applies rows without a statement: a statement is told of by the statement triggers, whatever the session
//! is ([`super::tracker`]). But as long as a table has a row trigger that might fire, the server looks for it at each row, and at an
//! UPDATE or DELETE fetches each old row once more to show it. A statement works with a description of the triggers of its own; if no row
//! trigger but ours is in there, that description need not speak of row triggers.

#![allow(unsafe_code)]

use super::commands;
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

/// A relation whose row trigger was left out of a COPY, and what its description said of row triggers before.
#[derive(Clone, Copy)]
pub struct LeftOut {
    relation: pg_sys::Oid,
    before: [bool; 3],
}

/// Leaves our row trigger out of a COPY that is about to run. COPY copies what this backend keeps with the relation, so it is changed
/// there, and [`copy_ended`] changes it back.
///
/// If an ERROR comes between, row triggers at INSERT are out of sight of this backend until the server describes the relation to it anew.
/// There are none but ours, and nobody applies rows without a statement in a backend that serves a client.
///
/// # Safety
/// `statement` is the parse tree of a command that is about to run in a transaction.
pub unsafe fn copy_begins(statement: *mut pg_sys::Node) -> Option<LeftOut> {
    // SAFETY: the caller's; the name is looked up without a lock, as COPY itself will look it up with one.
    unsafe {
        let copy = statement.cast::<pg_sys::CopyStmt>();
        if (*statement).type_ != pg_sys::NodeTag::T_CopyStmt
            || !(*copy).is_from
            || (*copy).relation.is_null()
            || pg_sys::MyBackendType != pg_sys::BackendType::B_BACKEND
        {
            return None;
        }
        let relation = commands::range_var((*copy).relation)?;
        with_description(relation, |description| {
            let before = after_row(description).map(|says| *says);
            leave_out_of(description);
            LeftOut { relation, before }
        })
    }
}

/// The COPY has ended well.
///
/// # Safety
/// In the transaction of the COPY.
pub unsafe fn copy_ended(left_out: LeftOut) {
    // SAFETY: the caller's.
    unsafe {
        with_description(left_out.relation, |description| {
            for (says, before) in after_row(description).into_iter().zip(left_out.before) {
                *says = before;
            }
        })
    };
}

/// Whether there are triggers after the INSERT, UPDATE and DELETE of a row.
fn after_row(description: &mut pg_sys::TriggerDesc) -> [&mut bool; 3] {
    [
        &mut description.trig_insert_after_row,
        &mut description.trig_update_after_row,
        &mut description.trig_delete_after_row,
    ]
}

/// Shows what this backend keeps of the triggers of a relation, if that is there and has any.
unsafe fn with_description<R>(
    relation: pg_sys::Oid,
    look: impl FnOnce(&mut pg_sys::TriggerDesc) -> R,
) -> Option<R> {
    // SAFETY: the relation is pinned while it is looked at.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(relation);
        if relation.is_null() {
            return None;
        }
        let description = (*relation).trigdesc;
        let found = (!description.is_null()).then(|| look(&mut *description));
        pg_sys::RelationClose(relation);
        found
    }
}

unsafe fn leave_out_of(description: &mut pg_sys::TriggerDesc) {
    let anybody_else = |event: u32| {
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
    let others = [
        anybody_else(pg_sys::TRIGGER_TYPE_INSERT),
        anybody_else(pg_sys::TRIGGER_TYPE_UPDATE),
        anybody_else(pg_sys::TRIGGER_TYPE_DELETE),
    ];
    for (says, others) in after_row(description).into_iter().zip(others) {
        *says &= others;
    }
}

/// # Safety
/// A trigger of a relation's description.
unsafe fn is_ours(trigger: &pg_sys::Trigger) -> bool {
    // SAFETY: the caller's.
    trigger.tgenabled == IN_REPLICA
        && unsafe { CStr::from_ptr(trigger.tgname) }.to_bytes() == REPLICA.as_bytes()
}
