//! The worker of one database.
//!
//! Each turn of its loop runs the steps that are due, each in a transaction of its own; an ERROR in one is logged and the step is
//! tried again when it is due next. The worker ends when the extension is gone; if it dies the launcher starts it again.

#![allow(unsafe_code)]

use super::jobs::Jobs;
use super::refreshing::Refreshing;
use super::{cleanup, tracking};
use crate::compat;
use crate::configuration;
use crate::server::fenced;
use crate::settings;
use crate::store::area::{Area, DatabaseState, area};
use crate::store::insert::{Verdict, remove_uncounted, shrink, sweep};
use crate::table::write_behind::{self, Extent};
use crate::table::{trends, warm};
use crate::verification::quarantine;
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, SignalWakeFlags};
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, pg_sys};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the worker sleeps if nobody wakes it and nothing is due.
const NAP: Duration = Duration::from_secs(1);

/// How long the last flush waits for other sessions to end.
const OTHERS_END: Duration = Duration::from_millis(500);
/// How long the last flush may take; what is not written by then is computed again after the start.
const LAST_WORDS: Duration = Duration::from_secs(15);

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

/// Clears the worker's number when it ends, however that happens; the server then wakes the launcher.
unsafe extern "C-unwind" fn worker_exit(_code: i32, database: pg_sys::Datum) {
    // SAFETY: no value with a destructor is alive in this frame; a variable of the process.
    unsafe {
        fenced("end of a worker", || {
            let state =
                area().and_then(|area| area.database(pg_sys::Oid::from(database.value() as u32)));
            if let Some(state) = state {
                let _ = state.worker_pid.compare_exchange(
                    pg_sys::MyProcPid,
                    0,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
            }
        })
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
        if state.held.load(Ordering::Acquire) != 0 {
            return;
        }
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
        pg_sys::pgstat_report_appname(c"pg_query_cache".as_ptr());
        for (name, value) in SETTINGS {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_SESSION,
            );
        }
    }
    let worker = Worker { area, state };
    if worker.runs_without_extension() {
        worker.give_place_back();
        return;
    }
    remove_uncounted(area, database);
    worker.keep_to_configuration();
    if state.warm.load(Ordering::Acquire) == 0 {
        worker.warm_up();
    }
    match worker.work() {
        End::Stopped => worker.finish(),
        End::SentAway => (),
        End::ExtensionGone => worker.give_place_back(),
    }
}

/// Why the loop ended.
enum End {
    /// SIGTERM.
    Stopped,
    /// A command needs the database without this worker.
    SentAway,
    /// The extension is not there any more.
    ExtensionGone,
}

/// Settings of the database or of the server that a worker must not inherit: it runs as a superuser, and it writes.
const SETTINGS: [(&std::ffi::CStr, &std::ffi::CStr); 5] = [
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"session_replication_role", c"origin"),
    // SIGTERM does not end a wait for a lock.
    (c"lock_timeout", c"1s"),
];

/// SIGTERM has arrived, or the postmaster has died. Kept, since asking pgrx takes the signal away.
static STOP: AtomicBool = AtomicBool::new(false);

/// The worker of the database that this process is connected to.
#[derive(Clone, Copy)]
struct Worker {
    area: Area,
    state: &'static DatabaseState,
}

impl std::panic::UnwindSafe for Worker {}
impl std::panic::RefUnwindSafe for Worker {}

impl Worker {
    /// Whether SIGTERM has arrived.
    fn stopping(&self) -> bool {
        if BackgroundWorker::sigterm_received() {
            STOP.store(true, Ordering::Relaxed);
        }
        STOP.load(Ordering::Relaxed)
    }

    /// Whether a command needs the database without this worker.
    fn sent_away(&self) -> bool {
        self.state.held.load(Ordering::Acquire) != 0
    }

    /// Whether to end as soon as possible.
    fn leaving(&self) -> bool {
        self.stopping() || self.sent_away()
    }

    /// Whether the extension is not there. Then nobody wants this worker, and what memory has of the database is worth nothing.
    fn runs_without_extension(&self) -> bool {
        if installed() {
            return false;
        }
        self.state.wanted.store(0, Ordering::Release);
        // It may have come back between the two, with nobody to tell.
        if installed() {
            self.state.wanted.store(1, Ordering::Release);
            return false;
        }
        let database = self.state.database.load(Ordering::Acquire);
        self.area.functions().forget(database.into());
        self.area.charges().forget(database.into());
        self.state.recorded.forget();
        for partition in self.area.partitions() {
            sweep(partition, |head, _| {
                if head.database == database {
                    Verdict::Remove
                } else {
                    Verdict::Keep
                }
            });
        }
        true
    }

    /// The place of this database among those with a worker is free for another one. Who wants a worker later takes a new place.
    fn give_place_back(&self) {
        let database = self.state.database.load(Ordering::Acquire);
        self.state.worker_pid.store(0, Ordering::Release);
        if self.state.wanted.load(Ordering::Acquire) == 0 && !self.sent_away() {
            self.area.forget_database(database.into());
        }
    }

    /// Reads the table tier into memory, once in the life of the server.
    fn warm_up(&self) {
        step("warm start", || {
            let began = Instant::now();
            if let Some(loaded) = warm::load(self.area, || self.leaving()) {
                self.state.warm.store(1, Ordering::Release);
                if loaded > 0 {
                    log!(
                        "pg_query_cache: loaded {loaded} entries in {} ms",
                        began.elapsed().as_millis()
                    );
                }
            }
        });
    }

    /// After a change of the configuration: memory has no more entries than it may have.
    fn keep_to_configuration(&self) {
        if !configuration::is_known(self.area) {
            step("configuration", || configuration::refresh(self.area));
        }
        let (limit, taken) = self.state.places.counts();
        if limit != 0 && taken > limit {
            // SAFETY: the clock.
            let now = unsafe { pg_sys::GetCurrentTimestamp() } + settings::clock_offset_us();
            shrink(self.area, self.state, now, || self.leaving());
        }
    }

    /// Works until the worker has to leave, or the extension is gone.
    fn work(&self) -> End {
        let (jobs, refreshing) = (Jobs::default(), Refreshing::default());
        let end = self.go_round(&jobs, &refreshing);
        jobs.stop();
        refreshing.stop();
        end
    }

    /// The loop.
    fn go_round(&self, jobs: &Jobs, refreshing: &Refreshing) -> End {
        let (mut cleaned, mut flushed) = (Instant::now(), Instant::now());
        let mut minute = trends::minute(trends::now());
        loop {
            if self.stopping() || !BackgroundWorker::wait_latch(Some(NAP)) {
                return End::Stopped;
            }
            if BackgroundWorker::sighup_received() {
                // SAFETY: the usual reaction to SIGHUP.
                unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
            }
            if self.sent_away() {
                return End::SentAway;
            }
            if self.runs_without_extension() {
                return End::ExtensionGone;
            }
            self.keep_to_configuration();
            for request in tracking::waiting(self.area) {
                step("tracking", || tracking::serve(self.area, &request));
            }
            step("quarantine", || quarantine::save(self.area));
            refreshing.run(self.area);
            if jobs.due(self.state) {
                step("jobs", || jobs.run(self.state));
            }
            if due(&mut flushed, settings::flush_interval_s()) {
                step("flush", || {
                    write_behind::flush(self.area, Extent::Background, || self.leaving());
                });
            }
            if due(&mut cleaned, settings::cleanup_interval_s()) {
                step("cleanup", || {
                    cleanup::run(self.area, cleanup::By::Worker);
                });
            }
            // By the clock, not by what has passed: so it never drifts, and a write that failed is tried again in the next minute.
            let present = trends::minute(trends::now());
            if minute != present {
                minute = present;
                self.record_trends(true);
            }
            step("old transactions", || {
                cleanup::forget_unknown_writers(self.area)
            });
        }
    }

    /// Adds what was counted since the last time to `cache_trends`.
    fn record_trends(&self, even_if_idle: bool) {
        let mut recorded = None;
        let committed = step("trends", || {
            recorded = trends::record(self.area, self.state, even_if_idle);
        });
        if let Some(recorded) = recorded.filter(|_| committed) {
            recorded.committed(self.state);
        }
    }

    /// Before the server stops: writes what is not written yet, as far as there is time. Sessions that are ending hand over their
    /// last hits first.
    fn finish(&self) {
        let began = Instant::now();
        // SAFETY: asks the system; counts entries of shared memory; a short sleep.
        unsafe {
            if !crate::server::PostmasterIsAliveInternal() {
                return;
            }
            while pg_sys::CountDBConnections(pg_sys::MyDatabaseId) > 0
                && began.elapsed() < OTHERS_END
            {
                pg_sys::pg_usleep(5_000);
            }
        }
        step("quarantine", || quarantine::save(self.area));
        self.record_trends(false);
        step("final flush", || {
            let stop = || self.sent_away() || began.elapsed() > LAST_WORDS;
            write_behind::flush(self.area, Extent::Everything, stop);
        });
    }
}

fn installed() -> bool {
    BackgroundWorker::transaction(|| compat::extension().is_some())
}

/// Whether `seconds` have passed since `last`, which is then set to now. Never, if `seconds` is 0.
fn due(last: &mut Instant, seconds: i32) -> bool {
    let due = seconds > 0 && last.elapsed() >= Duration::from_secs(seconds as u64);
    if due {
        *last = Instant::now();
    }
    due
}

/// Runs a step in a transaction of its own. An ERROR is logged and rolls the step back; the worker goes on. Returns whether it
/// committed.
fn step(name: &str, body: impl FnOnce()) -> bool {
    let activity = std::ffi::CString::new(format!("pg_query_cache: {name}")).unwrap_or_default();
    // SAFETY: the usual frame of a background worker's transaction; after an ERROR the transaction is aborted.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, activity.as_ptr());
        let mut body = Some(body);
        let body = std::panic::AssertUnwindSafe(&mut body);
        let committed = PgTryBuilder::new(move || {
            let body = body;
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            if let Some(body) = body.0.take() {
                body();
            }
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
            true
        })
        .catch_others(|error| {
            let message = crate::error::message_of(&error);
            pg_sys::AbortCurrentTransaction();
            log!("pg_query_cache: step \"{name}\" failed: {message}");
            false
        })
        .execute();
        pg_sys::pgstat_report_stat(false);
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
        committed
    }
}
