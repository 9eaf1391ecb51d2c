//! The worker of one database.
//!
//! Each turn of its loop runs the steps that are due, each in a transaction of its own; an ERROR in one is logged and the step is
//! tried again when it is due next. The worker ends when the extension is gone; if it dies the launcher starts it again.

#![allow(unsafe_code)]

use super::{cleanup, tracking};
use crate::compat;
use crate::settings;
use crate::store::area::{Area, area};
use crate::table::{warm, write_behind};
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, SignalWakeFlags};
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, pg_sys};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the worker sleeps if nobody wakes it and nothing is due.
const NAP: Duration = Duration::from_secs(1);

/// Starts the worker of a database. Without a free worker process nothing happens.
pub fn start(database: pg_sys::Oid) {
    // SAFETY: a variable of the process.
    let launcher = unsafe { pg_sys::MyProcPid };
    let worker = BackgroundWorkerBuilder::new("pg_query_cache worker")
        .set_type("pg_query_cache worker")
        .set_library("pg_query_cache")
        .set_function("pg_query_cache_worker")
        .set_argument(Some(pg_sys::Datum::from(database)))
        .enable_spi_access()
        .set_restart_time(None)
        .set_notify_pid(launcher)
        .load_dynamic();
    if let Ok(worker) = worker {
        let _ = worker.wait_for_startup();
    }
}

/// Clears the worker's number when it ends, however that happens, and wakes the launcher.
unsafe extern "C-unwind" fn worker_exit(_code: i32, database: pg_sys::Datum) {
    let Some(area) = area() else { return };
    if let Some(state) = area.database(pg_sys::Oid::from(database.value() as u32)) {
        // SAFETY: a variable of the process.
        let own = unsafe { pg_sys::MyProcPid };
        let _ = state
            .worker_pid
            .compare_exchange(own, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// Entry point of the worker; the argument is the oid of its database.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_query_cache_worker(argument: pg_sys::Datum) {
    let database = pg_sys::Oid::from(argument.value() as u32);
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    let Some(area) = area() else { return };
    let Some(state) = area.database_or_new(database) else {
        return;
    };
    // SAFETY: a variable of the process.
    let own = unsafe { pg_sys::MyProcPid };
    if state
        .worker_pid
        .compare_exchange(0, own, Ordering::AcqRel, Ordering::Relaxed)
        .is_err()
    {
        return;
    }
    // SAFETY: the start of a background worker.
    unsafe {
        pg_sys::before_shmem_exit(Some(worker_exit), pg_sys::Datum::from(database));
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
        pg_sys::pgstat_report_appname(c"pg_query_cache".as_ptr());
    }
    if !installed() {
        state.warm.store(1, Ordering::Release);
        state.wanted.store(0, Ordering::Release);
        return;
    }
    step("warm start", || warm::load(area));
    state.warm.store(1, Ordering::Release);
    work(area);
    if BackgroundWorker::sigterm_received() {
        step("final flush", || {
            write_behind::flush(area);
        });
    }
}

fn installed() -> bool {
    BackgroundWorker::transaction(|| compat::extension().is_some())
}

/// The loop: until SIGTERM, or until the extension is gone.
fn work(area: Area) {
    let (mut cleaned, mut flushed) = (Instant::now(), Instant::now());
    loop {
        if !BackgroundWorker::wait_latch(Some(NAP)) {
            return;
        }
        if BackgroundWorker::sighup_received() {
            // SAFETY: the usual reaction to SIGHUP.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
        }
        if !installed() {
            if let Some(state) = area.database(unsafe_database()) {
                state.wanted.store(0, Ordering::Release);
            }
            return;
        }
        step("tracking", || tracking::run(area));
        if due(&mut flushed, settings::flush_interval_s()) {
            step("flush", || {
                write_behind::flush(area);
            });
        }
        if due(&mut cleaned, settings::cleanup_interval_s()) {
            step("cleanup", || {
                cleanup::run(area, "worker");
            });
        }
        step("old transactions", || cleanup::forget_unknown_writers(area));
    }
}

fn unsafe_database() -> pg_sys::Oid {
    // SAFETY: a variable of the backend.
    unsafe { pg_sys::MyDatabaseId }
}

/// Whether `seconds` have passed since `last`, which is then set to now. Never, if `seconds` is 0.
fn due(last: &mut Instant, seconds: i32) -> bool {
    let due = seconds > 0 && last.elapsed() >= Duration::from_secs(seconds as u64);
    if due {
        *last = Instant::now();
    }
    due
}

/// Runs a step in a transaction of its own. An ERROR is logged and rolls the step back; the worker goes on.
fn step(name: &str, body: impl FnOnce() + std::panic::UnwindSafe + std::panic::RefUnwindSafe) {
    let activity = std::ffi::CString::new(format!("pg_query_cache: {name}")).unwrap_or_default();
    // SAFETY: the usual frame of a background worker's transaction; after an ERROR the transaction is aborted.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, activity.as_ptr());
        let mut body = Some(body);
        let body = std::panic::AssertUnwindSafe(&mut body);
        PgTryBuilder::new(move || {
            let body = body;
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            if let Some(body) = body.0.take() {
                body();
            }
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        })
        .catch_others(|error| {
            let message = match &error {
                pg_sys::panic::CaughtError::PostgresError(report)
                | pg_sys::panic::CaughtError::ErrorReport(report)
                | pg_sys::panic::CaughtError::RustPanic {
                    ereport: report, ..
                } => report.message().to_owned(),
            };
            pg_sys::AbortCurrentTransaction();
            log!("pg_query_cache: step \"{name}\" failed: {message}");
        })
        .execute();
        pg_sys::pgstat_report_stat(false);
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
    }
}
