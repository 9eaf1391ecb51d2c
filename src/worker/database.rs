//! The visit of a worker to a database.
//!
//! Each turn of its loop runs the steps that are due, each in a transaction of its own; an ERROR in one is logged and the step is
//! tried again when it is due next. The worker stays until the launcher asks it to make room for others, a command needs the database
//! without it, or the extension is gone. Before it leaves it writes what is not written yet.
//!
//! SIGTERM cancels the step that runs, wherever it waits; what is left to be written is written then, in a time that is bounded. A server
//! that stops starts no process any more, so what was computed since the last visit to a database that has no worker right then is
//! computed again.

#![allow(unsafe_code)]

use super::jobs::Jobs;
use super::{cleanup, hold, process, refreshing, surroundings, tracking};
use crate::compat;
use crate::configuration;
use crate::language::binding;
use crate::server;
use crate::settings;
use crate::store::area::{Area, DatabaseState, area};
use crate::store::eviction::shrink;
use crate::store::posts::Post;
use crate::store::walk;
use crate::table::write_behind::{self, Extent};
use crate::table::{trends, warm};
use crate::verification::quarantine;
use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the worker sleeps if nobody wakes it and nothing is due.
const NAP: Duration = Duration::from_secs(1);

/// How often it is looked for bodies that name another function than is called although nobody has told of one, in seconds.
const NAMES_S: i32 = 3600;
/// A body that somebody is changing is looked at again after this time.
const RETRY: Duration = Duration::from_secs(5);
/// How long the last flush waits for other sessions to end.
const OTHERS_END: Duration = Duration::from_millis(500);
/// How long the last words may take; what is not written by then is computed again after the start.
const LAST_WORDS: Duration = Duration::from_secs(15);
/// The same of a worker that makes room for others: what is not written by then is written at the next visit.
const PARTING_WORDS: Duration = Duration::from_secs(5);

/// Entry point of the worker; the argument is the number of its ticket.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_query_cache_worker(argument: pg_sys::Datum) {
    // SAFETY: the start of a background worker: a signal handler of the signature that the server wants.
    unsafe { pg_sys::pqsignal(pg_sys::SIGTERM as c_int, Some(told_to_stop)) };
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP);
    let Some(area) = area() else { return };
    let of_server = surroundings::of_server();
    let Some((post, order)) = process::arrive(area, argument) else {
        return;
    };
    let database = pg_sys::Oid::from(order.database);
    let place = area.database_or_new(database);
    let state = place.unwrap_or_else(without_place);
    if state.held.load(Ordering::Acquire) != 0 {
        return;
    }
    // SAFETY: the start of a background worker.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
        pg_sys::pgstat_report_appname(c"pg_query_cache".as_ptr());
    }
    if !surroundings::take_back(&of_server) {
        crate::error::log("the worker of a database could not become what it has to be");
        return;
    }
    crate::transaction::prepare(area);
    let worker = Worker {
        area,
        state,
        post,
        has_place: place.is_some(),
        until: Cell::new(None),
        unwritten: RefCell::default(),
        tried: Cell::new(None),
    };
    state.asked_at.store(0, Ordering::Release);
    if worker.runs_without_extension() {
        worker.give_place_back();
        return;
    }
    if worker.has_place {
        walk::remove_uncounted(area, database.to_u32());
    }
    worker.keep_to_configuration();
    if state.warm.load(Ordering::Acquire) == 0 {
        worker.warm_up();
    }
    match worker.go_round() {
        End::Stopped => {
            worker.finish(LAST_WORDS);
            // If it is not the server that stops, another one is to come.
            state.asked_at.store(now(), Ordering::Release);
        }
        End::MakesRoom => {
            worker.finish(PARTING_WORDS);
            // There may be a job that was left waiting for a database that has waited longer.
            if state.jobs.load(Ordering::Acquire) != 0 {
                let _ =
                    state
                        .asked_at
                        .compare_exchange(0, now(), Ordering::AcqRel, Ordering::Relaxed);
            }
        }
        End::SentAway => hold::empty(area, database),
        End::ExtensionGone => {
            hold::empty(area, database);
            worker.give_place_back();
            return;
        }
    }
    state.visited_at.store(now(), Ordering::Release);
}

/// What this process knows of a database that has no place in shared memory.
fn without_place() -> &'static DatabaseState {
    // SAFETY: atomic words, for which zeros are a value. It lives as long as the process.
    let state: DatabaseState = unsafe { std::mem::zeroed() };
    let state = Box::leak(Box::new(state));
    // Nobody tells that something was done.
    state.is_active();
    state
}

fn now() -> i64 {
    // SAFETY: the clock.
    unsafe { server::GetCurrentTimestamp() }
}

/// SIGTERM has arrived.
static STOP: AtomicBool = AtomicBool::new(false);
/// A step runs, which SIGTERM cancels.
static IN_STEP: AtomicBool = AtomicBool::new(false);

/// The handler of SIGTERM. A step that runs is cancelled, once; so a second signal does not disturb the last words.
unsafe extern "C-unwind" fn told_to_stop(_signal: c_int) {
    // No fence: a signal handler, which stores words and sets a latch.
    // SAFETY: words that signal handlers of the server write in the same way; the latch is the process's own.
    unsafe {
        if !STOP.swap(true, Ordering::Relaxed) && IN_STEP.load(Ordering::Relaxed) {
            (&raw mut pg_sys::QueryCancelPending).write_volatile(1);
            (&raw mut pg_sys::InterruptPending).write_volatile(1);
        }
        pg_sys::SetLatch(pg_sys::MyLatch);
    }
}

/// Why the loop ended.
enum End {
    /// SIGTERM.
    Stopped,
    /// Others wait.
    MakesRoom,
    /// A command needs the database without this worker.
    SentAway,
    /// The extension is not there any more.
    ExtensionGone,
}

/// The worker of the database that this process is connected to.
struct Worker {
    area: Area,
    state: &'static DatabaseState,
    post: &'static Post,
    /// Whether the database has a place in shared memory.
    has_place: bool,
    /// When the last words have to be said.
    until: Cell<Option<Instant>>,
    /// Functions whose bodies could not be written yet, and when that was tried last.
    unwritten: RefCell<Vec<pg_sys::Oid>>,
    tried: Cell<Option<Instant>>,
}

impl std::panic::UnwindSafe for Worker {}
impl std::panic::RefUnwindSafe for Worker {}

impl Worker {
    /// Whether SIGTERM has arrived.
    fn stopping(&self) -> bool {
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
        if self.installed() {
            return false;
        }
        self.state.wanted.store(0, Ordering::Release);
        // It may have come back between the two, with nobody to tell.
        if self.installed() {
            self.state.wanted.store(1, Ordering::Release);
            return false;
        }
        let database = compat::database();
        self.area.functions().forget(database);
        self.area.charges().forget(database);
        self.state.recorded.forget();
        self.state.waiting.forget();
        walk::remove_database(self.area, database.to_u32());
        true
    }

    /// The place of this database among those with a worker is free for another one. Who wants a worker later takes a new place.
    fn give_place_back(&self) {
        self.state.visited_at.store(now(), Ordering::Release);
        if self.state.wanted.load(Ordering::Acquire) == 0 && !self.sent_away() {
            self.area.forget_database(compat::database());
        }
    }

    /// Reads the table tier into memory, once in the life of the server.
    fn warm_up(&self) {
        self.step("warm start", || {
            let began = Instant::now();
            if let Some(loaded) = warm::load(self.area, || self.leaving()) {
                self.state.warm.store(1, Ordering::Release);
                if loaded > 0 {
                    crate::error::log(&format!(
                        "loaded {loaded} entries in {} ms",
                        began.elapsed().as_millis()
                    ));
                }
            }
        });
    }

    /// After a change of the configuration: memory has no more entries than it may have.
    fn keep_to_configuration(&self) {
        if !configuration::is_known(self.area) {
            self.step("configuration", || configuration::refresh(self.area));
        }
        let (limit, taken) = self.state.places.counts();
        if limit != 0 && taken > limit {
            shrink(
                self.area,
                self.state,
                now() + settings::clock_offset_us(),
                || self.leaving(),
            );
        }
    }

    /// The loop: works until the worker has to leave, or the extension is gone.
    fn go_round(&self) -> End {
        let jobs = Jobs::default();
        let state = self.state;
        if state.cleaned.at() == 0 {
            state.cleaned.set(0, now());
        }
        if state.trended.at() == 0 {
            state.trended.set(0, trends::now());
        }
        loop {
            if self.stopping() {
                return End::Stopped;
            }
            if BackgroundWorker::sighup_received() {
                // SAFETY: the usual reaction to SIGHUP.
                unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
            }
            if self.sent_away() {
                return End::SentAway;
            }
            // What is asked for from here on, another turn or another worker sees to.
            state.asked_at.store(0, Ordering::SeqCst);
            if self.runs_without_extension() {
                return End::ExtensionGone;
            }
            self.keep_to_configuration();
            for request in tracking::waiting(self.area) {
                self.step("tracking", || tracking::serve(self.area, &request));
            }
            self.save_quarantine();
            if state.misnamed.swap(0, Ordering::AcqRel) != 0 {
                self.find_misnamed();
            }
            self.write_names();
            refreshing::run(self.area);
            if jobs.due(state) {
                self.step("jobs", || jobs.run(self.area, state));
            }
            if !state.flushed.is_all(state) && due(&state.flushed, settings::flush_interval_s()) {
                self.flush(Extent::Background, || self.leaving());
            }
            if due(&state.cleaned, settings::cleanup_interval_s()) {
                self.clean_up();
            }
            // By the clock, not by what has passed: so it never drifts, and a write that failed is tried again in the next minute.
            if self.has_place
                && !state.trended.is_all(state)
                && trends::minute(state.trended.at()) != trends::minute(trends::now())
            {
                self.record_trends();
            }
            if self.stopping() {
                return End::Stopped;
            }
            if self.post.is_to_leave() && !self.sent_away() {
                return End::MakesRoom;
            }
            if !BackgroundWorker::wait_latch(Some(NAP)) {
                return End::Stopped;
            }
        }
    }

    /// Writes functions in quarantine to their table, if there are any that are not there.
    fn save_quarantine(&self) {
        if quarantine::is_to_be_saved(self.area) {
            self.step("quarantine", || quarantine::save(self.area));
        }
    }

    /// Looks for functions whose bodies name another function than they call.
    fn find_misnamed(&self) {
        let mut found = Vec::new();
        if self.step("names", || found = binding::misnamed_functions()) {
            self.unwritten.replace(found);
            self.tried.set(None);
            self.state.named.set(0, now());
        }
    }

    /// Writes their bodies, each in a transaction of its own, so that nobody who changes one has to wait for the others.
    fn write_names(&self) {
        let rests = self.tried.get().is_some_and(|at| at.elapsed() < RETRY);
        if rests || self.unwritten.borrow().is_empty() {
            return;
        }
        self.tried.set(Some(Instant::now()));
        let mut left = self.unwritten.take();
        left.retain(|function| {
            let mut still = false;
            let step =
                || still = !binding::write_name(*function) && binding::is_misnamed(*function);
            // What failed is found when it is looked for again.
            self.leaving() || self.step("names", step) && still
        });
        self.unwritten.replace(left);
    }

    /// Writes what memory has and the table tier has not.
    fn flush(&self, extent: Extent, stop: impl Fn() -> bool) {
        let activity = self.state.activity.load(Ordering::Acquire);
        let mut complete = false;
        let committed = self.step("flush", || {
            complete = write_behind::flush(self.area, extent, &stop).complete;
        });
        let seen_to = if committed && complete {
            activity
        } else {
            self.state.activity.load(Ordering::Relaxed).wrapping_sub(1)
        };
        self.state.flushed.set(seen_to, now());
    }

    fn clean_up(&self) {
        let state = self.state;
        let activity = state.activity.load(Ordering::Acquire);
        let mut found = true;
        let committed = self.step("cleanup", || {
            let removed = cleanup::run(self.area, cleanup::By::Worker);
            found = removed.expired + removed.dead + removed.rows + removed.values > 0;
        });
        if !committed || found || !state.cleaned.is_all(state) {
            state.idle.store(0, Ordering::Relaxed);
        } else {
            let idle = state.idle.load(Ordering::Relaxed);
            state.idle.store(idle.saturating_add(1), Ordering::Relaxed);
        }
        state.cleaned.set(activity, now());
        if due(&state.named, NAMES_S) {
            self.find_misnamed();
        }
    }

    /// Adds what was counted since the last time to `cache_trends`.
    fn record_trends(&self) {
        let activity = self.state.activity.load(Ordering::Acquire);
        let mut recorded = None;
        let committed = self.step("trends", || {
            recorded = trends::record(self.area, self.state);
        });
        if let Some(recorded) = recorded.filter(|_| committed) {
            recorded.committed(self.state);
        }
        let seen_to = if committed {
            activity
        } else {
            self.state.activity.load(Ordering::Relaxed).wrapping_sub(1)
        };
        self.state.trended.set(seen_to, trends::now());
    }

    /// Before the worker leaves: writes what is not written yet, as far as there is time. If the server stops, sessions that are ending
    /// hand over their last hits first.
    fn finish(&self, most: Duration) {
        let began = Instant::now();
        let until = began + most;
        self.until.set(Some(until));
        // SAFETY: asks the system; counts entries of shared memory; a short sleep.
        unsafe {
            if !server::PostmasterIsAliveInternal() {
                return;
            }
            while self.stopping()
                && pg_sys::CountDBConnections(pg_sys::MyDatabaseId) > 0
                && began.elapsed() < OTHERS_END
            {
                pg_sys::pg_usleep(5_000);
            }
        }
        self.save_quarantine();
        if self.has_place && (self.stopping() || !self.state.trended.is_all(self.state)) {
            self.record_trends();
        }
        if self.stopping() || !self.state.flushed.is_all(self.state) {
            self.flush(Extent::Everything, || {
                self.sent_away() || Instant::now() > until
            });
        }
    }

    /// Whether the extension is there, as far as is known.
    fn installed(&self) -> bool {
        let mut installed = true;
        self.step("look", || installed = compat::extension().is_some());
        installed
    }

    /// Runs a step in a transaction of its own. An ERROR is logged and rolls the step back; the worker goes on. Returns whether it
    /// committed.
    fn step(&self, name: &str, body: impl FnOnce()) -> bool {
        let activity = crate::encoding::statement(&format!("pg_query_cache: {name}"));
        // SAFETY: the usual frame of a background worker's transaction; after an ERROR the transaction is aborted.
        unsafe {
            if let Some(until) = self.until.get() {
                let left = until.saturating_duration_since(Instant::now()).as_millis();
                server::enable_timeout_after(compat::STATEMENT_TIMEOUT, (left as c_int).max(1));
            }
            IN_STEP.store(true, Ordering::Relaxed);
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
                if self.until.get().is_some() || !self.stopping() {
                    crate::error::log(&format!("step \"{name}\" failed: {message}"));
                }
                false
            })
            .execute();
            IN_STEP.store(false, Ordering::Relaxed);
            server::disable_timeout(compat::STATEMENT_TIMEOUT, false);
            // A cancel that came too late is not for the next step.
            (&raw mut pg_sys::QueryCancelPending).write_volatile(0);
            pg_sys::pgstat_report_stat(false);
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
            committed
        }
    }
}

/// Whether so many seconds have passed since a step was last done. Never, if they are 0.
fn due(last: &crate::store::area::Seen, seconds: i32) -> bool {
    seconds > 0 && (now() - last.at()).abs() >= i64::from(seconds) * 1_000_000
}
