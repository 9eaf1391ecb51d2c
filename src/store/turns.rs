//! Turns of warming jobs: in which databases a job waits for a process, for whose session, and since when.
//!
//! Only the worker of a database knows its table of jobs. It notes here what waits. So a job that runs, here or elsewhere, knows that
//! somebody waits; and a worker that could start one knows which databases have waited longer and are before it. One that does not come
//! for what it was offered is not waited for: after [`COMES_US`] it does not count until its worker has looked again. A database without a
//! place in shared memory has no turn of its own here: its jobs get what is free.
//!
//! Locks: none, all fields are atomic. What is read too early or too late costs a turn and nothing else; that there are never more
//! processes than there may be is for `posts`.

#![allow(unsafe_code)]

use super::area::{Area, DatabaseState};
use super::posts::{Duty, Order, Present};
use crate::server;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

/// A worker comes for what it was offered within this time, or is not waited for.
const COMES_US: i64 = 30_000_000;

/// A job of a database that waits for a process.
#[repr(C)]
pub struct Waiting {
    /// Since when, microseconds since 2000-01-01; 0 if none waits.
    since: AtomicI64,
    /// When its worker was told that there is room for it; 0 if it has looked since.
    offered_at: AtomicI64,
    /// The role of the session that queued it.
    role: AtomicU32,
    unused: u32,
}

fn now() -> i64 {
    // SAFETY: the clock.
    unsafe { server::GetCurrentTimestamp() }
}

impl Waiting {
    /// A job waits here, queued by a session of this role. For the worker of the database.
    pub fn note(&self, role: u32) {
        self.role.store(role, Ordering::Relaxed);
        self.offered_at.store(0, Ordering::Relaxed);
        let _ = self
            .since
            .compare_exchange(0, now(), Ordering::AcqRel, Ordering::Relaxed);
    }

    /// None waits here any more.
    pub fn forget(&self) {
        self.since.store(0, Ordering::Release);
        self.offered_at.store(0, Ordering::Relaxed);
    }

    /// Whether one waits here.
    pub fn is_any(&self) -> bool {
        self.since.load(Ordering::Relaxed) != 0
    }

    fn offer(&self) {
        let _ = self
            .offered_at
            .compare_exchange(0, now(), Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// What waits in a database.
struct Found {
    database: u32,
    state: &'static DatabaseState,
    since: i64,
    role: u32,
}

fn found(area: Area) -> impl Iterator<Item = Found> {
    let now = now();
    let (oids, states) = area.databases();
    std::iter::zip(oids, states).filter_map(move |(oid, state)| {
        let database = oid.load(Ordering::Acquire);
        let since = state.waiting.since.load(Ordering::Acquire);
        let offered = state.waiting.offered_at.load(Ordering::Relaxed);
        let comes = offered == 0 || (now - offered).abs() < COMES_US;
        let held = state.held.load(Ordering::Acquire) != 0;
        (database != 0 && since != 0 && comes && !held).then(|| Found {
            database,
            state,
            since,
            role: state.waiting.role.load(Ordering::Relaxed),
        })
    })
}

fn jobs(present: &[Present]) -> impl Iterator<Item = &Present> {
    present.iter().filter(|one| one.order.duty == Duty::Warming)
}

fn runs(present: &[Present], role: u32) -> bool {
    jobs(present).any(|one| one.order.role == role)
}

/// Whether a job waits that could run if the one of `own` did not. There may be `most` at the same time.
pub fn somebody_waits(area: Area, own: Order, most: usize) -> bool {
    // Of a role one runs, wherever it is.
    found(area).any(|one| one.role == own.role && one.database != own.database)
        || another_role_waits(area, own, most)
}

/// The same of jobs of other roles. For a signal handler too: nothing is allocated.
pub fn another_role_waits(area: Area, own: Order, most: usize) -> bool {
    let running = || area.posts().jobs();
    running().count() >= most
        && found(area)
            .any(|one| one.role != own.role && !running().any(|present| present.role == one.role))
}

/// Offers room for so many jobs to those that could run and have waited longer than the one of `database`. Returns their databases, whose
/// workers are to be woken.
pub fn offer(area: Area, database: u32, present: &[Present], room: usize) -> Vec<u32> {
    let mut ahead: Vec<Found> = found(area).filter(|one| !runs(present, one.role)).collect();
    ahead.sort_unstable_by_key(|one| (one.since, one.database));
    ahead
        .into_iter()
        .take_while(|one| one.database != database)
        .take(room)
        .map(|one| {
            one.state.waiting.offer();
            one.state.jobs.store(1, Ordering::Release);
            one.database
        })
        .collect()
}
