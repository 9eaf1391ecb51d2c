//! Who is warming or refreshing right now, and how far: a few places in shared memory, in the manner of the server's own
//! `pg_stat_progress_…`, whose commands are a closed list.
//!
//! A place belongs to the process whose number is in it; only that one writes it. It is given back when the work ends (also by an
//! ERROR), and when the process exits; a place whose process is gone is free. All fields are atomic; a reader looks at the number of
//! the process before and after. With all places taken the work goes on without being shown.
//!
//! Locks: none.

#![allow(unsafe_code)]

use super::area::{Area, area};
use crate::server;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};

/// How many can be shown at the same time.
pub const PLACES: usize = 32;

/// What a process works on.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Place {
    /// Number of the process, 0 if the place is free.
    pid: AtomicI32,
    database: AtomicU32,
    role: AtomicU32,
    function: AtomicU32,
    command: AtomicU32,
    phase: AtomicU32,
    /// Its number in `cache_warm_jobs`, 0 if it is none of these.
    job: AtomicI64,
    started_at: AtomicI64,
    total: AtomicU64,
    done: AtomicU64,
    stored: AtomicU64,
    failed: AtomicU64,
}
const _: () = assert!(size_of::<Place>() == 72);

/// Bytes of all places.
pub const PROGRESS_BYTES: usize = PLACES * size_of::<Place>();

/// What is being done.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// In a session, for its own role.
    Warming = 1,
    /// A job.
    BackgroundWarming = 2,
    /// A result is computed anew before it is too old.
    Refreshing = 3,
}

impl Command {
    /// The words of the view.
    fn words(number: u32) -> &'static str {
        match number {
            1 => "warming",
            2 => "background warming",
            _ => "refreshing",
        }
    }
}

/// How far it is besides the numbers.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Roles and settings are being restored, arguments read.
    Preparing = 1,
    /// Calls are made.
    Computing = 2,
    /// The outcome is being written down.
    Finishing = 3,
}

impl Phase {
    fn words(number: u32) -> &'static str {
        match number {
            1 => "preparing",
            2 => "computing",
            _ => "finishing",
        }
    }
}

/// A copy of a place that is taken.
pub struct Seen {
    /// Number of the process.
    pub pid: i32,
    /// Oid of its database.
    pub database: u32,
    /// For which role.
    pub role: pg_sys::Oid,
    /// Of which cached function.
    pub function: pg_sys::Oid,
    /// What is done.
    pub command: &'static str,
    /// How far it is.
    pub phase: &'static str,
    /// Number of the job, or 0.
    pub job: i64,
    /// When it began, microseconds since 2000-01-01.
    pub started_at: i64,
    /// Calls to be made.
    pub total: u64,
    /// Calls made.
    pub done: u64,
    /// Results that are in the cache now.
    pub stored: u64,
    /// Calls that ended with an ERROR.
    pub failed: u64,
}

/// The places of an area.
#[derive(Clone, Copy)]
pub struct Progress(pub(super) &'static [Place; PLACES]);

/// This process's work while it lasts.
pub struct Running(Option<&'static Place>);

/// Counts of a piece of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls made.
    pub done: u64,
    /// Results that are in the cache now.
    pub stored: u64,
    /// Calls that ended with an ERROR.
    pub failed: u64,
}

fn is_alive(pid: i32) -> bool {
    // SAFETY: looks through the table of processes.
    pid != 0 && unsafe { !pg_sys::BackendPidGetProc(pid).is_null() }
}

impl Progress {
    /// Shows that this process begins to work.
    pub fn begin(self, command: Command, function: pg_sys::Oid, job: i64, total: u64) -> Running {
        // SAFETY: variables of the backend; the clock.
        let (pid, database, role, now) = unsafe {
            (
                pg_sys::MyProcPid,
                pg_sys::MyDatabaseId.to_u32(),
                server::GetUserId().to_u32(),
                server::GetCurrentTimestamp(),
            )
        };
        let taken = self.0.iter().find(|place| {
            let owner = place.pid.load(Ordering::Acquire);
            (owner == 0 || !is_alive(owner.abs()))
                && place
                    .pid
                    .compare_exchange(owner, -pid, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
        });
        if let Some(place) = taken {
            place.database.store(database, Ordering::Relaxed);
            place.role.store(role, Ordering::Relaxed);
            place.function.store(function.to_u32(), Ordering::Relaxed);
            place.command.store(command as u32, Ordering::Relaxed);
            place
                .phase
                .store(Phase::Preparing as u32, Ordering::Relaxed);
            place.job.store(job, Ordering::Relaxed);
            place.started_at.store(now, Ordering::Relaxed);
            place.total.store(total, Ordering::Relaxed);
            for count in [&place.done, &place.stored, &place.failed] {
                count.store(0, Ordering::Relaxed);
            }
            place.pid.store(pid, Ordering::Release);
        }
        Running(taken)
    }

    /// Those who work now.
    pub fn seen(self) -> Vec<Seen> {
        self.0
            .iter()
            .filter_map(|place| {
                let pid = place.pid.load(Ordering::Acquire);
                if pid <= 0 || !is_alive(pid) {
                    return None;
                }
                let seen = Seen {
                    pid,
                    database: place.database.load(Ordering::Relaxed),
                    role: place.role.load(Ordering::Relaxed).into(),
                    function: place.function.load(Ordering::Relaxed).into(),
                    command: Command::words(place.command.load(Ordering::Relaxed)),
                    phase: Phase::words(place.phase.load(Ordering::Relaxed)),
                    job: place.job.load(Ordering::Relaxed),
                    started_at: place.started_at.load(Ordering::Relaxed),
                    total: place.total.load(Ordering::Relaxed),
                    done: place.done.load(Ordering::Relaxed),
                    stored: place.stored.load(Ordering::Relaxed),
                    failed: place.failed.load(Ordering::Relaxed),
                };
                std::sync::atomic::fence(Ordering::Acquire);
                (place.pid.load(Ordering::Relaxed) == pid).then_some(seen)
            })
            .collect()
    }

    /// Gives back what this process has taken.
    fn give_back(self) {
        // SAFETY: a variable of the process.
        let own = unsafe { pg_sys::MyProcPid };
        for place in self.0 {
            for taken in [own, -own] {
                let _ = place
                    .pid
                    .compare_exchange(taken, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }
}

impl Running {
    /// The role for which it is done is the present one.
    pub fn serves(&self) {
        if let Some(place) = self.0 {
            // SAFETY: a variable of the backend.
            let role = unsafe { server::GetUserId() };
            place.role.store(role.to_u32(), Ordering::Relaxed);
        }
    }

    /// The next phase.
    pub fn phase(&self, phase: Phase) {
        if let Some(place) = self.0 {
            place.phase.store(phase as u32, Ordering::Relaxed);
        }
    }

    /// How many calls there are, and how far it is with them.
    pub fn show(&self, total: u64, tally: Tally) {
        if let Some(place) = self.0 {
            place.total.store(total, Ordering::Relaxed);
            place.done.store(tally.done, Ordering::Relaxed);
            place.stored.store(tally.stored, Ordering::Relaxed);
            place.failed.store(tally.failed, Ordering::Relaxed);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            place.pid.store(0, Ordering::Release);
        }
    }
}

/// The process exits: its places are free.
pub fn process_exits(area: Area) {
    area.progress().give_back();
}

/// Those who work now, if the library is preloaded.
pub fn seen() -> Vec<Seen> {
    area().map_or_else(Vec::new, |area| area.progress().seen())
}
