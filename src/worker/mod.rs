//! Background workers: one launcher for the cluster, one worker for each database that has the extension.
//!
//! * `launcher`: starts the workers of databases, and starts them again
//! * `database`: the loop of one database's worker; each step a function
//! * `tracking`: step: starts to track tables that backends asked for
//! * `cleanup`: step: removes expired and dead entries
//! * `jobs`: step: lets the jobs that were queued for warming run
//! * `refreshing`: step: lets results be computed anew
//! * `hold`: commands that need a database without its worker

#![allow(unsafe_code)]

pub mod cleanup;
mod database;
pub mod hold;
pub mod jobs;
mod launcher;
mod refreshing;
mod tracking;

pub use launcher::register_launcher;

use crate::store::area::Area;
use pgrx::pg_sys;
use std::sync::atomic::Ordering;

/// Wakes the worker of a database; if it has none, asks the launcher for one.
pub fn wake(area: Area, database: pg_sys::Oid) {
    let Some(state) = area.database_or_new(database) else {
        return;
    };
    if state.wanted.load(Ordering::Relaxed) == 0 {
        state.wanted.store(1, Ordering::Release);
    }
    let worker = state.worker_pid.load(Ordering::Acquire);
    let target = if worker != 0 {
        worker
    } else {
        area.header().launcher_pid.load(Ordering::Acquire)
    };
    if target != 0 {
        // SAFETY: SIGUSR1 sets the latch of a process of this server; a process that has ended meanwhile is not there to be hurt,
        // since its number is cleared before it ends.
        unsafe { set_latch(target) };
    }
}

/// Sets the latch of the process `pid`.
unsafe fn set_latch(pid: i32) {
    // SAFETY: BackendPidGetProc finds live processes only; background workers have PGPROCs.
    unsafe {
        let process = pg_sys::BackendPidGetProc(pid);
        if !process.is_null() {
            pg_sys::SetLatch(&raw mut (*process).procLatch);
        }
    }
}
