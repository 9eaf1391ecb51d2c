//! Single flight: of the sessions that miss the same key at the same time one computes, the others wait for it.
//!
//! A session that waits holds no flight of its own (a call that is itself part of a fill never waits), so flights cannot wait for
//! each other in a circle. Through the heavyweight locks they could: the one that computes may need a lock that a waiter holds. A
//! waiter therefore looks, at least every [`SLICE_MS`], whether the one that computes, or a parallel worker of its, is waiting for a
//! lock; then it goes on by itself. It also goes on when the flight ends (stored or not), when the flight is older than
//! `pg_query_cache.fill_wait` (so that a flight that lasts costs all its waiters together no more than that, and who comes later
//! nothing), and it obeys its own timeouts and cancel requests meanwhile.
//!
//! Quotas: a session, a role and a database have so many flights at most ([`OF_SESSION`], [`OF_ROLE`], [`OF_DATABASE`]). Who has used
//! them up computes without one: nobody waits for it, and it costs nobody else a flight.
//!
//! Locks: the flights' lock guards who takes a flight and who ends it; held for one walk over all flights, never while waiting. Whoever
//! only looks takes none: all fields but the condition variable, which has a lock of its own, are atomic.
//! Failure: a flight ends with the (sub)transaction of the one that computes, whatever ended it.

#![allow(unsafe_code)]

use super::locks::{lock_flights, step};
use crate::compat;
use crate::fault::{self, Point};
use crate::server;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many different keys can be in flight at once; more are computed without anybody waiting for them.
const FLIGHTS: usize = 256;
/// Flights of one session: those of a fill and of the fills in it, and of all that its transaction keeps by `cache_remember`.
const OF_SESSION: usize = 16;
/// Flights of the sessions of one role.
const OF_ROLE: usize = FLIGHTS / 4;
/// Flights of the sessions of one database.
const OF_DATABASE: usize = FLIGHTS / 2;
/// Longest time between two looks at the session that computes.
const SLICE_MS: i64 = 10;

#[repr(C)]
struct Flight {
    hash: AtomicU64,
    /// Changes with each use, so that a late waiter does not take another flight for its own.
    serial: AtomicU64,
    /// When it began, microseconds since 2000-01-01.
    began: AtomicI64,
    /// Process id of the session that computes, 0 if the flight is free.
    pid: AtomicI32,
    /// Index of its PGPROC.
    process: AtomicI32,
    /// Oid of the role that has logged in there.
    role: AtomicU32,
    /// Oid of its database.
    database: AtomicU32,
    ended: pg_sys::ConditionVariable,
}

/// Bytes of all flights.
pub const FLIGHTS_BYTES: usize = FLIGHTS * size_of::<Flight>();

/// The flights.
#[derive(Clone, Copy)]
pub struct Flights(*mut Flight);

/// A flight that this session takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    index: usize,
    serial: u64,
}

/// The part of the session that computes. Dropping it ends the flight and wakes those who wait.
pub struct Lead {
    flights: Flights,
    ticket: Ticket,
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.flights.end(self.ticket);
    }
}

/// The part that a session has in a flight.
pub enum Part {
    /// It computes.
    Leads(Lead),
    /// Somebody else computes.
    Waits(Ticket),
    /// No flight is free.
    Alone,
}

impl Flights {
    /// The flights at `base`.
    ///
    /// # Safety
    /// `base` points to [`FLIGHTS_BYTES`] of shared memory.
    pub unsafe fn at(base: *mut u8) -> Self {
        Flights(base.cast())
    }

    /// Makes all flights free.
    pub fn initialise(&self) {
        for index in 0..FLIGHTS {
            // SAFETY: nobody else sees the area yet.
            unsafe { pg_sys::ConditionVariableInit(&raw mut (*self.flight(index)).ended) };
        }
    }

    fn flight(&self, index: usize) -> *mut Flight {
        // SAFETY: `index` is below FLIGHTS wherever it comes from.
        unsafe { self.0.add(index) }
    }

    /// Who has a flight, and which.
    fn who(&self, index: usize) -> (i32, u64) {
        // SAFETY: atomic fields of a flight.
        unsafe {
            let flight = self.flight(index);
            (
                (*flight).pid.load(Ordering::Acquire),
                (*flight).serial.load(Ordering::Relaxed),
            )
        }
    }

    /// Joins the flight of a key, or starts one.
    pub fn join(&self, hash: u64) -> Part {
        // SAFETY: variables of this backend; the clock.
        let (pid, role, now) = unsafe {
            (
                pg_sys::MyProcPid,
                server::GetSessionUserId().to_u32(),
                server::GetCurrentTimestamp(),
            )
        };
        let database = compat::database().to_u32();
        let (mut free, mut of_session, mut of_role, mut of_database) = (None, 0, 0, 0);
        let _guard = lock_flights();
        step(FLIGHTS);
        for index in 0..FLIGHTS {
            // SAFETY: atomic fields; changed under the lock only, which is held.
            let flight = unsafe {
                let flight = self.flight(index);
                let word = |word: &AtomicU32| word.load(Ordering::Relaxed);
                (
                    (*flight).pid.load(Ordering::Relaxed),
                    (*flight).hash.load(Ordering::Relaxed),
                    (*flight).serial.load(Ordering::Relaxed),
                    word(&(*flight).role),
                    word(&(*flight).database),
                )
            };
            match flight {
                (0, ..) => free = free.or(Some(index)),
                (_, same, serial, ..) if same == hash => {
                    return Part::Waits(Ticket { index, serial });
                }
                (its_pid, _, _, its_role, its_database) => {
                    of_session += usize::from(its_pid == pid);
                    of_role += usize::from(its_role == role);
                    of_database += usize::from(its_database == database);
                }
            }
        }
        let used_up = of_session >= OF_SESSION || of_role >= OF_ROLE || of_database >= OF_DATABASE;
        let Some(index) = free.filter(|_| !used_up) else {
            return Part::Alone;
        };
        // SAFETY: as above.
        let serial = unsafe {
            let flight = self.flight(index);
            let serial = (*flight).serial.load(Ordering::Relaxed).wrapping_add(1);
            (*flight).hash.store(hash, Ordering::Relaxed);
            (*flight).serial.store(serial, Ordering::Relaxed);
            (*flight).began.store(now, Ordering::Relaxed);
            (*flight).role.store(role, Ordering::Relaxed);
            (*flight).database.store(database, Ordering::Relaxed);
            (*flight)
                .process
                .store(compat::my_process_number(), Ordering::Relaxed);
            (*flight).pid.store(pid, Ordering::Release);
            serial
        };
        fault::fenced(Point::FlightStarting);
        Part::Leads(Lead {
            flights: *self,
            ticket: Ticket { index, serial },
        })
    }

    /// Whether somebody computes the result of a key right now.
    pub fn has(&self, hash: u64) -> bool {
        (0..FLIGHTS).any(|index| {
            // SAFETY: an atomic field.
            let its_hash = unsafe { (*self.flight(index)).hash.load(Ordering::Relaxed) };
            self.who(index).0 != 0 && its_hash == hash
        })
    }

    /// Ends a flight that this session leads, and wakes those who wait.
    fn end(&self, ticket: Ticket) {
        {
            let _guard = lock_flights();
            if self.who(ticket.index).1 != ticket.serial {
                return;
            }
            // SAFETY: an atomic field.
            unsafe { (*self.flight(ticket.index)).pid.store(0, Ordering::Release) };
        }
        fault::fenced(Point::FlightEnding);
        // SAFETY: a condition variable of the area.
        unsafe { pg_sys::ConditionVariableBroadcast(&raw mut (*self.flight(ticket.index)).ended) };
    }

    /// Waits until the flight has ended, the one that computes is stuck behind a lock, or the flight is `most_ms` old. `false` if it is
    /// already: then nobody waits. Obeys cancel requests and timeouts of this session: it may raise an ERROR.
    pub fn wait(&self, ticket: Ticket, most_ms: i64) -> bool {
        let flight = self.flight(ticket.index);
        // SAFETY: an atomic field; the clock, which may have been set back.
        let age_ms = unsafe {
            let age = server::GetCurrentTimestamp() - (*flight).began.load(Ordering::Relaxed);
            age.max(0) / 1000
        };
        let left_ms = most_ms.saturating_sub(age_ms);
        if left_ms <= 0 {
            return false;
        }
        let deadline = Instant::now() + Duration::from_millis(left_ms as u64);
        // SAFETY: a condition variable of the area; cancelled below, and by the server's own abort after an ERROR.
        unsafe { pg_sys::ConditionVariablePrepareToSleep(&raw mut (*flight).ended) };
        while self.in_progress(ticket) {
            let left = deadline
                .saturating_duration_since(Instant::now())
                .as_millis() as i64;
            if left == 0 {
                break;
            }
            fault::point(Point::Waiting);
            // SAFETY: as above.
            unsafe {
                pg_sys::ConditionVariableTimedSleep(
                    &raw mut (*flight).ended,
                    left.min(SLICE_MS) as _,
                    pg_sys::PG_WAIT_EXTENSION,
                );
            }
        }
        // SAFETY: as above.
        unsafe { pg_sys::ConditionVariableCancelSleep() };
        true
    }

    /// Whether the flight goes on and the one that computes is waiting for nobody itself: for no lock, and not for its client to read what
    /// it is told.
    fn in_progress(&self, ticket: Ticket) -> bool {
        let (pid, serial) = self.who(ticket.index);
        if pid == 0 || serial != ticket.serial {
            return false;
        }
        // SAFETY: an atomic field.
        let process = unsafe { (*self.flight(ticket.index)).process.load(Ordering::Relaxed) };
        !compat::waits_for_others(process, pid)
    }
}
