//! Snapshots that are no cut through the order in which transactions end, as far as is known.
//!
//! The rules of validity take a snapshot for a cut through the sequence of ends: what one has seen that is later, all have seen that are later
//! still ([ADR 0002](../../docs/adr/0002-validity-by-snapshot.md)). Snapshots that a session takes are. One that is built with a logical
//! replication slot is a cut through the WAL: it has seen a transaction finished whose commit record is written, though everybody else
//! takes it for running as long as it waits for a synchronous standby, and it may not have seen one that ended meanwhile. It comes into a
//! session as the transaction's snapshot, by SET TRANSACTION SNAPSHOT or in a walsender, and is passed on like any other.
//!
//! So nothing is served, stored or settled by an imported snapshot, whoever exported it, nor in a walsender.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::{compat, server};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CStr;

/// Local number of the transaction that has imported its snapshot; 0 is none's.
static TRANSACTION: Backend<Cell<u32>> = Backend::new(Cell::new(0));

/// A command is about to run.
///
/// # Safety
/// `statement` is its parse tree.
#[inline(always)]
pub unsafe fn before(statement: *mut pg_sys::Node) {
    // SAFETY: the tag tells the struct; names are C strings.
    unsafe {
        if (*statement).type_ != pg_sys::NodeTag::T_VariableSetStmt {
            return;
        }
        let set = &*statement.cast::<pg_sys::VariableSetStmt>();
        if set.kind == pg_sys::VariableSetKind::VAR_SET_MULTI
            && !set.name.is_null()
            && CStr::from_ptr(set.name) == c"TRANSACTION SNAPSHOT"
        {
            TRANSACTION.set(compat::local_transaction());
        }
    }
}

/// Whether the present transaction's snapshot may be none of a session.
#[inline(always)]
pub fn present() -> bool {
    // SAFETY: a variable of the process.
    TRANSACTION.get() == compat::local_transaction() || unsafe { server::am_walsender }
}
