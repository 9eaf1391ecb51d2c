//! The launcher: sends workers round the databases that have something to do.
//!
//! A worker is connected to one database for its life, so a visit is a process. There are at most `pg_query_cache.workers` at the same
//! time; each stays while nobody else waits, and goes after a round of its steps when the launcher asks it to. Who waits for longest goes
//! first, and who has asked for a worker waits as if it had come earlier than one whose turn it only is ([`waits_for`]).
//!
//! After a start each database is visited once, because entries of the last life may be waiting in its table tier; a worker that finds no
//! extension ends at once. Later a database is visited when one of its backends asks, when what was done in it is to be written, and
//! for the clean-up; that ever more seldom while there is nothing to clean. A database in which nothing happens is not visited.
//!
//! The launcher has no state of its own besides the list of databases that have no place in shared memory: after an ERROR it ends and
//! the postmaster starts it again.

#![allow(unsafe_code)]

use super::process::{self, Started};
use super::{cleanup, kill};
use crate::compat;
use crate::fault::{self, Point};
use crate::server;
use crate::settings;
use crate::store::area::{Area, DatabaseState, area};
use crate::store::posts::{Duty, Order, Present};
use crate::table::trends;
use crate::validity::saved;
use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags,
};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the launcher sleeps if nobody wakes it and nothing is due earlier.
const NAP: Duration = Duration::from_secs(10);
/// How long it sleeps while somebody waits; a process that ends wakes it.
const SHORT_NAP: Duration = Duration::from_secs(1);
/// How long it sleeps if a database may be visited a little later.
const SHORTER_NAP: Duration = Duration::from_millis(200);
/// A database is visited again this many microseconds after the last start of a worker in it at the earliest.
const PAUSE_US: i64 = 1_000_000;
/// Who has asked is served as if it had waited for so many microseconds more.
const AHEAD_US: i64 = 10_000_000;
/// A database without a place in shared memory is visited this often, since nobody knows what it does.
const WITHOUT_PLACE_US: i64 = 60_000_000;
/// … and, when one of them has asked, after this time at the earliest.
const LISTED_AGAIN_US: i64 = 5_000_000;
/// A process that calls functions for others is ended by force so many microseconds after its time is over.
const GRACE_US: i64 = 5_000_000;
/// The clean-up of a database in which there is nothing to clean comes at intervals that double up to this many times.
const DOUBLED: u32 = 6;

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
pub extern "C-unwind" fn pg_query_cache_launcher(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    // SAFETY: a launcher without a database sees the shared catalogs.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
    }
    let Some(area) = area() else { return };
    // SAFETY: inside a transaction; it is started after recovery.
    BackgroundWorker::transaction(|| unsafe { saved::known_from_now_on(area) });
    // SAFETY: a variable of the process.
    let pid = unsafe { pg_sys::MyProcPid };
    if area.header().launcher_pid.swap(pid, Ordering::AcqRel) == 0 {
        want_all(area);
    }
    let mut launcher = Launcher {
        area,
        without_place: VecDeque::new(),
        listed_at: 0,
    };
    loop {
        let nap = launcher.turn();
        if !BackgroundWorker::wait_latch(Some(nap)) {
            // With 0 the postmaster would not start it again after a pg_terminate_backend.
            // SAFETY: no value with a destructor that matters is alive.
            unsafe { pg_sys::proc_exit(1) };
        }
        if BackgroundWorker::sighup_received() {
            // SAFETY: the usual reaction to SIGHUP.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
        }
    }
}

fn now() -> i64 {
    // SAFETY: the clock.
    unsafe { server::GetCurrentTimestamp() }
}

/// What it does about a database that waits.
enum Served {
    /// A worker comes.
    Yes,
    /// It may not be visited now.
    NotNow,
    /// There are as many workers as there may be, or as the server allows.
    NoProcess,
}

struct Launcher {
    area: Area,
    /// Databases without a place that are to be visited.
    without_place: VecDeque<pg_sys::Oid>,
    /// When they were last listed.
    listed_at: i64,
}

impl Launcher {
    /// Does what is due. Returns for how long nothing will be.
    fn turn(&mut self) -> Duration {
        let area = self.area;
        for pid in area.posts().inspect(GRACE_US) {
            kill(pid);
        }
        cleanup::forget_unknown_writers(area);
        // Whoever does something tells nobody: it is looked for as often as it is to be written.
        let flush = settings::flush_interval_s();
        let mut nap = if flush > 0 {
            NAP.min(Duration::from_secs(flush as u64))
        } else {
            NAP
        };
        let mut waiting: Vec<(i64, pg_sys::Oid)> = Vec::new();
        let now = now();
        for (oid, state) in std::iter::zip(area.databases().0, area.databases().1) {
            let database = oid.load(Ordering::Acquire);
            if database == 0
                || state.wanted.load(Ordering::Acquire) == 0
                || state.held.load(Ordering::Acquire) != 0
            {
                continue;
            }
            match waits_for(state, now) {
                Some(time) if time >= 0 => waiting.push((time, database.into())),
                Some(time) => nap = nap.min(Duration::from_micros(time.unsigned_abs())),
                None => (),
            }
        }
        waiting.sort_unstable_by_key(|(time, _)| std::cmp::Reverse(*time));
        self.list_without_place(now);
        waiting.extend(self.without_place.iter().map(|database| (0, *database)));

        let mut in_vain = 0;
        for (_, database) in waiting {
            let present = area.posts().present();
            if in_it(&present, database) {
                self.forget(database);
                continue;
            }
            match self.serve(database) {
                Served::Yes => self.forget(database),
                Served::NotNow => nap = nap.min(SHORTER_NAP),
                Served::NoProcess => in_vain += 1,
            }
        }
        self.relieve(in_vain);
        if in_vain > 0 && settings::workers() > 0 {
            nap = nap.min(SHORT_NAP);
        }
        nap.max(Duration::from_millis(10))
    }

    fn forget(&mut self, database: pg_sys::Oid) {
        self.without_place.retain(|known| *known != database);
    }

    /// Lists the databases without a place, if there are any that want a worker.
    fn list_without_place(&mut self, now: i64) {
        let header = self.area.header();
        let again = match header.without_place.load(Ordering::Acquire) {
            0 => return,
            LISTED => WITHOUT_PLACE_US,
            _ => LISTED_AGAIN_US,
        };
        if self.listed_at != 0 && (now - self.listed_at).abs() < again {
            return;
        }
        header.without_place.store(LISTED, Ordering::Release);
        self.listed_at = now;
        self.without_place = all_databases()
            .into_iter()
            .filter(|database| self.area.database(*database).is_none())
            .collect();
        if self.without_place.is_empty() {
            header.without_place.store(0, Ordering::Release);
        }
    }

    /// Starts a worker in a database.
    fn serve(&self, database: pg_sys::Oid) -> Served {
        let area = self.area;
        let state = area.database(database);
        if let Some(state) = state
            && (now() - state.started_at.load(Ordering::Relaxed) as i64).abs() < PAUSE_US
        {
            return Served::NotNow;
        }
        match accepts_connections(database) {
            Some(true) => (),
            Some(false) => {
                if let Some(state) = state {
                    state.wanted.store(0, Ordering::Release);
                    state.asked_at.store(0, Ordering::Release);
                }
                return Served::Yes;
            }
            None => {
                area.forget_database(database);
                return Served::Yes;
            }
        }
        fault::point(Point::Launching);
        let order = Order {
            duty: Duty::Worker,
            database: database.to_u32(),
            role: 0,
            job: 0,
        };
        let most = settings::workers();
        let started = process::start(area, order, |present| {
            count(present) < most && !in_it(present, database)
        });
        if started != Started::Comes {
            return Served::NoProcess;
        }
        if let Some(state) = state {
            state.started_at.store(now() as u64, Ordering::Relaxed);
        }
        Served::Yes
    }

    /// Asks workers to make room for so many databases that wait; those that have been where they are for longest. Also those that are
    /// more than there may be.
    fn relieve(&self, waiting: usize) {
        let posts = self.area.posts();
        let mut workers: Vec<Present> = posts
            .present()
            .into_iter()
            .filter(|one| one.order.duty == Duty::Worker)
            .collect();
        let leaving = workers.iter().filter(|one| one.leaves).count();
        let too_many = workers.len().saturating_sub(settings::workers());
        let wanted = waiting.min(workers.len()).max(too_many);
        workers.retain(|one| !one.leaves && one.pid != 0);
        workers.sort_unstable_by_key(|one| one.since);
        for one in workers.iter().take(wanted.saturating_sub(leaving)) {
            posts.relieve(one.index);
            super::wake_process(one.pid);
        }
    }
}

/// The databases without a place have been listed.
const LISTED: u32 = 2;

fn count(present: &[Present]) -> usize {
    present
        .iter()
        .filter(|one| one.order.duty == Duty::Worker)
        .count()
}

/// Whether a worker is in a database, or on its way.
fn in_it(present: &[Present], database: pg_sys::Oid) -> bool {
    present
        .iter()
        .any(|one| one.order.duty == Duty::Worker && one.order.database == database.to_u32())
}

/// For how many microseconds a database has been waiting for a worker; if that is negative, so long until it will. `None` if it does not
/// need one as things are.
fn waits_for(state: &DatabaseState, now: i64) -> Option<i64> {
    let asked_at = state.asked_at.load(Ordering::Acquire);
    if asked_at != 0 {
        return Some((now - asked_at).max(0) + AHEAD_US);
    }
    if state.visited_at.load(Ordering::Relaxed) == 0 {
        return Some(AHEAD_US);
    }
    due_at(state, now).map(|due| now - due)
}

/// When the next step is due in a database by itself. `None` if none ever is, as things are.
pub fn due_at(state: &DatabaseState, now: i64) -> Option<i64> {
    let seconds = |count: i32| i64::from(count) * 1_000_000;
    let flush = settings::flush_interval_s();
    let flush = (flush > 0 && !state.flushed.is_all(state))
        .then(|| state.flushed.at().min(now) + seconds(flush));
    let trend = (!state.trended.is_all(state)).then(|| {
        let offset = settings::clock_offset_us();
        let last = state.trended.at().min(now + offset);
        (trends::minute(last) + 1) * trends::MINUTE - offset
    });
    let interval = settings::cleanup_interval_s();
    let clean = (interval > 0).then(|| {
        let times = if state.cleaned.is_all(state) {
            1 << state.idle.load(Ordering::Relaxed).min(DOUBLED)
        } else {
            1
        };
        state.cleaned.at().min(now) + seconds(interval) * times
    });
    [flush, trend, clean].into_iter().flatten().min()
}

/// Asks for a worker in every database that allows connections.
fn want_all(area: Area) {
    for database in all_databases() {
        match area.database_or_new(database) {
            Some(state) => state.wanted.store(1, Ordering::Release),
            None => area.header().without_place.store(1, Ordering::Release),
        }
    }
}

/// The databases that accept connections.
fn all_databases() -> Vec<pg_sys::Oid> {
    BackgroundWorker::transaction(|| {
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
    })
}

/// Whether a database accepts connections; `None` if there is none with that oid.
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
