//! Cursors `WITH HOLD`. What they hold was read before, under another snapshot, and a function that fetches from one runs no query
//! that a hook would see. While one is open nothing is stored.

#![allow(unsafe_code)]

use crate::backend::Backend;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::{CStr, CString};

/// Names of those that were declared.
static DECLARED: Backend<RefCell<Vec<CString>>> = Backend::new(RefCell::new(Vec::new()));

/// A command is about to run: notes what it declares.
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn before(statement: *mut pg_sys::Node) {
    // SAFETY: the tag tells the struct; the name of a cursor is a C string.
    unsafe {
        if (*statement).type_ != pg_sys::NodeTag::T_DeclareCursorStmt {
            return;
        }
        let declare = &*statement.cast::<pg_sys::DeclareCursorStmt>();
        if declare.options & pg_sys::CURSOR_OPT_HOLD as i32 != 0 {
            let name = CStr::from_ptr(declare.portalname).to_owned();
            // Nobody may ever ask, so the closed ones are forgotten each time that there are twice as many.
            if DECLARED.with_borrow(|declared| declared.len() == declared.capacity()) {
                any_open();
            }
            DECLARED.with_borrow_mut(|declared| declared.push(name));
        }
    }
}

/// Whether one of them is open.
pub fn any_open() -> bool {
    DECLARED.with_borrow_mut(|declared| {
        // SAFETY: a look at the table of portals; C strings.
        declared.retain(|name| unsafe { !pg_sys::GetPortalByName(name.as_ptr()).is_null() });
        !declared.is_empty()
    })
}
