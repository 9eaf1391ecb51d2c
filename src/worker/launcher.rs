//! The launcher: starts a worker for every database that wants one.
//!
//! After a start it tries each database once, because entries of the last life may be waiting in its table tier; a worker that finds
//! no extension ends at once. Later a database gets a worker when one of its backends asks.
//! The launcher has no state of its own: after an ERROR it ends and the postmaster starts it again.

use super::database;
use crate::compat;
use crate::fault::{self, Point};
use crate::store::area::{Area, DatabaseState, area};
use crate::validity::saved;
use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags,
};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the launcher sleeps if nobody wakes it.
const NAP: Duration = Duration::from_secs(10);
/// How long it sleeps if a worker is to be started a little later.
const SHORT_NAP: Duration = Duration::from_millis(200);
/// A worker that ended is started again this many microseconds after its last start at the earliest.
const PAUSE_US: u64 = 1_000_000;

/// Registers the launcher. Once, in the postmaster.
pub fn register_launcher() {
    BackgroundWorkerBuilder::new("pg_query_cache launcher")
        .set_type("pg_query_cache launcher")
        .set_library("pg_query_cache")
        .set_function("pg_query_cache_launcher")
        .enable_shmem_access(None)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(1)))
        .load();
}

/// Entry point of the launcher.
#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code)]
pub extern "C-unwind" fn pg_query_cache_launcher(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    // SAFETY: a launcher without a database sees the shared catalogs.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
    }
    let Some(area) = area() else { return };
    saved::known_from_now_on(area);
    // SAFETY: a variable of the process.
    let pid = unsafe { pg_sys::MyProcPid };
    if area.header().launcher_pid.swap(pid, Ordering::AcqRel) == 0 {
        want_all(area);
    }
    loop {
        let mut nap = NAP;
        for state in &area.header().databases {
            if !start_if_wanted(area, state) {
                nap = SHORT_NAP;
            }
        }
        if !BackgroundWorker::wait_latch(Some(nap)) {
            // With 0 the postmaster would not start it again after a pg_terminate_backend.
            // SAFETY: no value with a destructor that matters is alive.
            unsafe { pg_sys::proc_exit(1) };
        }
    }
}

/// Asks for a worker in every database that allows connections.
#[allow(unsafe_code)]
fn want_all(area: Area) {
    let databases = BackgroundWorker::transaction(|| {
        let mut found = Vec::new();
        // SAFETY: a shared catalog, whose rows are that struct.
        unsafe {
            compat::all_catalog_rows(pg_sys::DatabaseRelationId, |tuple| {
                let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
                if row.datallowconn {
                    found.push(row.oid);
                }
            });
        }
        found
    });
    for database in databases {
        if let Some(state) = area.database_or_new(database) {
            state.wanted.store(1, Ordering::Release);
        }
    }
}

/// Starts the worker of a database that wants one and has none. `false` if that is due soon. Without a free worker process it is
/// tried again later.
#[allow(unsafe_code)]
fn start_if_wanted(area: Area, state: &DatabaseState) -> bool {
    let database = state.database.load(Ordering::Acquire);
    if database == 0
        || state.wanted.load(Ordering::Acquire) == 0
        || state.worker_pid.load(Ordering::Acquire) != 0
        || state.held.load(Ordering::Acquire) != 0
    {
        return true;
    }
    // SAFETY: the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() } as u64;
    if now.saturating_sub(state.started_at.load(Ordering::Relaxed)) < PAUSE_US {
        return false;
    }
    state.started_at.store(now, Ordering::Relaxed);
    let database = pg_sys::Oid::from(database);
    fault::point(Point::Launching);
    match accepts_connections(database) {
        Some(true) => database::start(database),
        Some(false) => state.wanted.store(0, Ordering::Release),
        None => area.forget_database(database),
    }
    true
}

/// Whether a database accepts connections; `None` if there is none with that oid.
#[allow(unsafe_code)]
fn accepts_connections(database: pg_sys::Oid) -> Option<bool> {
    // SAFETY: a syscache lookup in a transaction.
    BackgroundWorker::transaction(|| unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::DATABASEOID as _,
            pg_sys::Datum::from(database),
        );
        if tuple.is_null() {
            return None;
        }
        let accepts =
            (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>()).datallowconn;
        pg_sys::ReleaseSysCache(tuple);
        Some(accepts)
    })
}
