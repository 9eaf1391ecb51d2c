//! Queries that ask where a row lies, or who wrote or locked it. VACUUM FULL, CLUSTER and FOR UPDATE change that and mark nothing.

#![allow(unsafe_code)]

use crate::compat;
use crate::server::{self, guarded};
use pgrx::pg_sys;
use std::ffi::c_void;

/// Whether a query that has been started reads one of the columns `ctid`, `xmin`, `xmax`, `cmin` and `cmax`, or takes rows by their
/// place: TABLESAMPLE does.
///
/// # Safety
/// `query` has been started.
pub unsafe fn are_read(query: *mut pg_sys::QueryDesc) -> bool {
    // SAFETY: the caller's.
    unsafe {
        let state = (*query).planstate;
        !state.is_null() && read_by(state, std::ptr::null_mut())
    }
}

unsafe extern "C" fn read_by(state: *mut pg_sys::PlanState, _: *mut c_void) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: a node of a plan that runs, and its plan; the tag of that tells the struct. No value with a destructor is alive in this frame.
    unsafe {
        let read = guarded(|| {
            let plan = (*state).plan;
            match (*plan).type_ {
                T_SampleScan | T_TidScan | T_TidRangeScan => true,
                T_SeqScan | T_IndexScan | T_IndexOnlyScan | T_BitmapHeapScan => {
                    let relation = (*plan.cast::<pg_sys::Scan>()).scanrelid;
                    compat::reads_system_columns((*plan).targetlist.cast(), relation)
                        || compat::reads_system_columns((*plan).qual.cast(), relation)
                }
                _ => false,
            }
        });
        read || server::planstate_tree_walker(state, read_by, std::ptr::null_mut())
    }
}
