//! Commands that we run: given to the server as parse trees, never as text.
//!
//! No setting changes what a tree means, and no name in it can be more than a name. They go the way that all commands go, through
//! `ProcessUtility`, with the rights of the present role: event triggers and other extensions' hooks see them, and the server itself
//! checks who may do it. The `said` of a command is what they are shown in the place of its text.

#![allow(unsafe_code)]

use crate::server;
use pgrx::pg_sys;
use std::ffi::{CStr, c_char};

/// A new node.
///
/// # Safety
/// `tag` is the tag of `T`, a node of the server's.
pub unsafe fn node<T>(tag: pg_sys::NodeTag) -> *mut T {
    // SAFETY: zeroed memory of its size; every node begins with its tag.
    unsafe {
        let node = pg_sys::palloc0(size_of::<T>()).cast::<T>();
        node.cast::<pg_sys::Node>()
            .write(pg_sys::Node { type_: tag });
        node
    }
}

/// A list of names, as parse trees have them.
///
/// # Safety
/// C strings of the server.
pub unsafe fn names(names: &[*const c_char]) -> *mut pg_sys::List {
    // SAFETY: the caller's; the copies live as long as the list.
    unsafe {
        list(
            names
                .iter()
                .map(|name| pg_sys::makeString(pg_sys::pstrdup(*name)).cast()),
        )
    }
}

/// A list of nodes.
///
/// # Safety
/// Nodes of the server's.
pub unsafe fn list(nodes: impl IntoIterator<Item = *mut std::ffi::c_void>) -> *mut pg_sys::List {
    nodes.into_iter().fold(std::ptr::null_mut(), |list, node| {
        // SAFETY: the caller's; an empty list is NULL.
        unsafe { pg_sys::lappend(list, node) }
    })
}

/// Runs a command with the rights of the present role. What it did is visible to what follows.
///
/// # Safety
/// The parse tree of a utility command; inside a transaction.
pub unsafe fn run<T>(statement: *mut T, said: &CStr) {
    // SAFETY: the caller's; the same that SPI does with a utility command.
    unsafe {
        let planned: &mut pg_sys::PlannedStmt = &mut *node(pg_sys::NodeTag::T_PlannedStmt);
        planned.commandType = pg_sys::CmdType::CMD_UTILITY;
        planned.utilityStmt = statement.cast();
        let snapshot = !server::ActiveSnapshotSet();
        if snapshot {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        pg_sys::ProcessUtility(
            planned,
            said.as_ptr(),
            false,
            pg_sys::ProcessUtilityContext::PROCESS_UTILITY_QUERY,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            pg_sys::None_Receiver,
            std::ptr::null_mut(),
        );
        if snapshot {
            pg_sys::PopActiveSnapshot();
        }
        pg_sys::CommandCounterIncrement();
    }
}
