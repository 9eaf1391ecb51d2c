//! Executor hooks: record what is read during a fill, at any depth.
//!
//! A parallel worker runs its part of a query that the leader has recorded; queries that functions in it run on their own it only
//! counts, and the leader's fill is not stored then.

#![allow(unsafe_code)]

use super::session::Reads;
use super::{compiled, definitions, planning, plans, rows, session, system_columns, utility};
use crate::backend::Backend;
use crate::call::frames;
use crate::call::outcome::Reason;
use crate::compat;
use crate::gate::{self, Owed};
use crate::server::{self, guarded};
use crate::store::area::area;
use pgrx::pg_sys;
use std::cell::Cell;

static mut PREVIOUS_START: pg_sys::ExecutorStart_hook_type = None;
static mut PREVIOUS_RUN: pg_sys::ExecutorRun_hook_type = None;
static mut PREVIOUS_END: pg_sys::ExecutorEnd_hook_type = None;

/// Runs of queries in progress that the server makes for the owner of a table, whom FORCE ROW LEVEL SECURITY does not bind: those that
/// check a foreign key or act on it. What they fire runs inside of them. One that an ERROR cut short counts until the transaction ends.
static UNFORCED: Backend<Cell<u32>> = Backend::new(Cell::new(0));
static WORKER_QUERIES: Backend<Cell<u32>> = Backend::new(Cell::new(0));

/// Installs the hooks. Once, in the postmaster.
pub fn install() {
    // SAFETY: the postmaster is alone while it loads libraries.
    unsafe {
        PREVIOUS_START = pg_sys::ExecutorStart_hook;
        pg_sys::ExecutorStart_hook = Some(executor_start);
        PREVIOUS_RUN = pg_sys::ExecutorRun_hook;
        pg_sys::ExecutorRun_hook = Some(executor_run);
        PREVIOUS_END = pg_sys::ExecutorEnd_hook;
        pg_sys::ExecutorEnd_hook = Some(executor_end);
    }
}

unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, eflags: i32) {
    // SAFETY: the server's query; no value with a destructor is alive in this frame.
    unsafe {
        if !guarded(gate::is_open) {
            if (*query).operation != pg_sys::CmdType::CMD_SELECT {
                gate::owes(written_catalogs(&*(*query).plannedstmt));
            }
            return start(query, eflags);
        }
        frames::something_begins();
        guarded(|| {
            definitions::query_begins((*query).snapshot);
            plans::query_begins(query);
            if UNFORCED.get() > 0 && server::InNoForceRLSOperation() {
                definitions::distrust_plans();
            }
            if planning::runs() && !(*(*query).plannedstmt).relationOids.is_null() {
                planning::reads();
            }
        });
        if frames::filling() || compat::is_parallel_worker() {
            guarded(|| record(query, eflags));
        }
        if (*query).operation != pg_sys::CmdType::CMD_SELECT
            && written_catalogs(&*(*query).plannedstmt) != Owed::NOTHING
        {
            guarded(utility::catalog_written);
        }
        session::query_starts();
        compiled::query_starts();
        start(query, eflags);
        session::query_started();
        if compiled::any_seen() {
            guarded(|| compiled::query_started(query.addr()));
        }
        if frames::filling() && !compat::is_parallel_worker() {
            guarded(|| {
                if system_columns::are_read(query) {
                    frames::calls(pg_sys::InvalidOid, Reads::OUTSIDE);
                }
            });
        }
        if (*query).operation != pg_sys::CmdType::CMD_SELECT {
            guarded(|| rows::leave_out(query));
        }
    }
}

/// Whoever was there before us, or the server.
#[allow(
    ffi_unwind_calls,
    reason = "another library's hook raises ERRORs, as the server does"
)]
#[inline(always)]
unsafe fn start(query: *mut pg_sys::QueryDesc, eflags: i32) {
    // SAFETY: the server's arguments, passed on as they are.
    unsafe {
        match PREVIOUS_START {
            Some(previous) => previous(query, eflags),
            None => server::standard_ExecutorStart(query, eflags),
        }
    }
}

unsafe extern "C-unwind" fn executor_run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    execute_once: bool,
) {
    // SAFETY: the server's query; no value with a destructor is alive in this frame.
    unsafe {
        if frames::filling() {
            guarded(|| frames::query_runs(query.addr()));
        }
        if compiled::any_ready() {
            guarded(|| compiled::query_runs(query.addr()));
        }
        let unforced = server::InNoForceRLSOperation();
        if unforced {
            UNFORCED.set(UNFORCED.get() + 1);
        }
        #[allow(
            ffi_unwind_calls,
            reason = "another library's hook raises ERRORs, as the server does"
        )]
        match PREVIOUS_RUN {
            Some(previous) => previous(query, direction, count, execute_once),
            None => server::standard_ExecutorRun(query, direction, count, execute_once),
        }
        if unforced {
            UNFORCED.set(UNFORCED.get().saturating_sub(1));
        }
    }
}

unsafe extern "C-unwind" fn executor_end(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the server's query; no value with a destructor is alive in this frame.
    unsafe {
        if frames::filling() {
            guarded(|| frames::query_ends(query.addr()));
        }
        if compiled::any_ready() {
            guarded(|| compiled::query_ends(query.addr()));
        }
        #[allow(
            ffi_unwind_calls,
            reason = "another library's hook raises ERRORs, as the server does"
        )]
        match PREVIOUS_END {
            Some(previous) => previous(query),
            None => server::standard_ExecutorEnd(query),
        }
    }
}

/// The transaction ended, and all queries with it.
pub fn transaction_ended() {
    UNFORCED.set(0);
}

/// What the statement changes by writing rows of system catalogs: DDL by hand.
unsafe fn written_catalogs(plan: &pg_sys::PlannedStmt) -> Owed {
    // SAFETY: the plan's list of relations that are written, as numbers of range table entries. IsSharedRelation knows the shared
    // catalogs by their oids and looks nothing up.
    unsafe {
        let entries = compat::cells(plan.rtable);
        compat::cells(plan.resultRelations)
            .iter()
            .filter_map(|number| entries.get((number.int_value as usize).wrapping_sub(1)))
            .map(|cell| (*cell.ptr_value.cast::<pg_sys::RangeTblEntry>()).relid)
            .filter(|relation| relation.to_u32() < pg_sys::FirstNormalObjectId)
            .fold(Owed::NOTHING, |owed, relation| {
                owed.and(match pg_sys::IsSharedRelation(relation) {
                    true => Owed::CLUSTER,
                    false => Owed::DEFINITIONS,
                })
            })
    }
}

/// Records a query of a fill.
unsafe fn record(query: *mut pg_sys::QueryDesc, eflags: i32) {
    // SAFETY: the server's query and its plan.
    unsafe {
        if compat::is_parallel_worker() {
            // The first query of a worker is the part of the leader's query that it was started for.
            if WORKER_QUERIES.get() > 0
                && let Some(area) = area()
            {
                area.note_parallel_read();
            }
            WORKER_QUERIES.set(WORKER_QUERIES.get() + 1);
            return;
        }
        if eflags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 != 0 {
            return;
        }
        let plan = &*(*query).plannedstmt;
        let reads_only = (*query).operation == pg_sys::CmdType::CMD_SELECT
            && !plan.hasModifyingCTE
            && plan.rowMarks.is_null();
        if !reads_only {
            frames::refuse(Reason::Writes);
        }
        let entries = compat::cells(plan.rtable);
        let relation = |number: u32| {
            let entry = entries.get((number as usize).wrapping_sub(1))?;
            let entry = &*entry.ptr_value.cast::<pg_sys::RangeTblEntry>();
            (entry.rtekind == pg_sys::RTEKind::RTE_RELATION).then_some(entry.relid)
        };
        // Partitions and children that the planner has put in the place of a table go with that table: what is written to them is
        // marked under its top, and what `depends_on` says of it holds for them.
        let mut instead = vec![false; entries.len() + 1];
        for cell in compat::cells(plan.appendRelations) {
            let info = &*cell.ptr_value.cast::<pg_sys::AppendRelInfo>();
            if let Some(child) = instead.get_mut(info.child_relid as usize) {
                *child = relation(info.parent_relid).is_some();
            }
        }
        let relations: Vec<pg_sys::Oid> = (1..=entries.len() as u32)
            .filter(|number| !instead[*number as usize])
            .filter_map(relation)
            .collect();
        frames::query_begins(query.addr(), (*query).snapshot, &relations);
    }
}
