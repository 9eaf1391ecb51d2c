//! Background workers: one launcher for the cluster, a few workers that go round the databases that have the extension.
//!
//! * `launcher`: which database a worker goes to next
//! * `process`: starting processes of ours, never more than there may be
//! * `database`: the visit of a worker to a database; each step a function
//! * `surroundings`: the settings that a worker has, whatever its database and role were given
//! * `tracking`: step: starts to track tables that backends asked for
//! * `cleanup`: step: removes expired and dead entries
//! * `jobs`: step: lets the jobs that were queued for warming run
//! * `refreshing`: step: lets results be computed anew
//! * `hold`: commands that need a database without our processes

#![allow(unsafe_code)]

pub mod cleanup;
mod database;
pub mod hold;
pub mod jobs;
mod launcher;
pub mod process;
mod refreshing;
mod surroundings;
mod tracking;

pub use launcher::register_launcher;

use crate::server;
use crate::store::area::Area;
use pgrx::pg_sys;
use std::sync::atomic::Ordering;

/// Wakes the worker of a database; if it has none, asks the launcher for one.
pub fn wake(area: Area, database: pg_sys::Oid) {
    let Some(state) = area.database_or_new(database) else {
        let header = area.header();
        if header.without_place.swap(1, Ordering::AcqRel) == 0 {
            wake_launcher(area);
        }
        return;
    };
    if state.wanted.load(Ordering::Relaxed) == 0 {
        state.wanted.store(1, Ordering::Release);
    }
    // SAFETY: the clock.
    let now = unsafe { server::GetCurrentTimestamp() };
    let _ = state
        .asked_at
        .compare_exchange(0, now, Ordering::AcqRel, Ordering::Relaxed);
    match area.posts().worker_of(database.to_u32()) {
        Some(worker) => wake_process(worker),
        None => wake_launcher(area),
    }
}

/// Wakes the launcher.
pub fn wake_launcher(area: Area) {
    wake_process(area.header().launcher_pid.load(Ordering::Acquire));
}

/// Sets the latch of a process of this server. One that has ended meanwhile is not there to be hurt.
pub fn wake_process(pid: i32) {
    // SAFETY: BackendPidGetProc finds live processes only; background workers have PGPROCs.
    unsafe {
        let process = if pid == 0 {
            std::ptr::null_mut()
        } else {
            pg_sys::BackendPidGetProc(pid)
        };
        if !process.is_null() {
            pg_sys::SetLatch(&raw mut (*process).procLatch);
        }
    }
}

/// Tells a process of this server to end.
fn kill(pid: i32) {
    const SIGTERM: i32 = pg_sys::SIGTERM as i32;
    unsafe extern "C" {
        #[link_name = "kill"]
        fn send(pid: i32, signal: i32) -> i32;
    }
    // SAFETY: looks through the table of processes; a signal that each of ours obeys.
    unsafe {
        if pid > 0 && !pg_sys::BackendPidGetProc(pid).is_null() {
            send(pid, SIGTERM);
        }
    }
}
