//! Executor hooks: record what is read during a fill, at any depth.
//!
//! A parallel worker runs its part of a query that the leader has recorded; queries that functions in it run on their own it only
//! counts, and the leader's fill is not stored then.

#![allow(unsafe_code)]

use super::{definitions, plans, rows, session, utility};
use crate::backend::Backend;
use crate::call::frames;
use crate::call::outcome::Reason;
use crate::compat;
use crate::server::{self, guarded};
use crate::store::area::area;
use pgrx::pg_sys;
use std::cell::Cell;

static mut PREVIOUS_START: pg_sys::ExecutorStart_hook_type = None;
static mut PREVIOUS_RUN: pg_sys::ExecutorRun_hook_type = None;

static WORKER_QUERIES: Backend<Cell<u32>> = Backend::new(Cell::new(0));

/// Installs the hooks. Once, in the postmaster.
pub fn install() {
    // SAFETY: the postmaster is alone while it loads libraries.
    unsafe {
        PREVIOUS_START = pg_sys::ExecutorStart_hook;
        pg_sys::ExecutorStart_hook = Some(executor_start);
        PREVIOUS_RUN = pg_sys::ExecutorRun_hook;
        pg_sys::ExecutorRun_hook = Some(executor_run);
    }
}

unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, eflags: i32) {
    // SAFETY: the server's query; no value with a destructor is alive in this frame.
    unsafe {
        guarded(|| {
            definitions::query_begins((*query).snapshot);
            plans::query_begins(query);
        });
        if frames::filling() || compat::is_parallel_worker() {
            guarded(|| record(query, eflags));
        }
        if (*query).operation != pg_sys::CmdType::CMD_SELECT
            && writes_catalog(&*(*query).plannedstmt)
        {
            guarded(utility::catalog_written);
        }
        session::query_starts();
        match PREVIOUS_START {
            Some(previous) => previous(query, eflags),
            None => server::standard_ExecutorStart(query, eflags),
        }
        session::query_started();
        if (*query).operation != pg_sys::CmdType::CMD_SELECT {
            rows::leave_out(query);
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
        match PREVIOUS_RUN {
            Some(previous) => previous(query, direction, count, execute_once),
            None => server::standard_ExecutorRun(query, direction, count, execute_once),
        }
    }
}

/// Whether the statement changes rows of a system catalog: DDL by hand.
unsafe fn writes_catalog(plan: &pg_sys::PlannedStmt) -> bool {
    // SAFETY: the plan's list of relations that are written, as numbers of range table entries.
    unsafe {
        if plan.resultRelations.is_null() || plan.rtable.is_null() {
            return false;
        }
        let written = std::slice::from_raw_parts(
            (*plan.resultRelations).elements,
            (*plan.resultRelations).length as usize,
        );
        let entries =
            std::slice::from_raw_parts((*plan.rtable).elements, (*plan.rtable).length as usize);
        written.iter().any(|number| {
            entries
                .get(number.int_value as usize - 1)
                .is_some_and(|cell| {
                    (*cell.ptr_value.cast::<pg_sys::RangeTblEntry>())
                        .relid
                        .to_u32()
                        < pg_sys::FirstNormalObjectId
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
