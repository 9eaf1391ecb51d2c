//! Single flight: of the sessions that miss the same key at the same time one computes, the others wait for it.
//!
//! A session that waits holds no flight of its own (a call that is itself part of a fill never waits), so flights cannot wait for
//! each other in a circle. Through the heavyweight locks they could: the one that computes may need a lock that a waiter holds. A
//! waiter therefore looks, at least every [`SLICE_MS`], whether the one that computes, or a parallel worker of its, is waiting for a
//! lock; then it goes on by itself. It also goes on when the flight ends (stored or not), when `pg_query_cache.fill_wait` is over, and it obeys its own
//! timeouts and cancel requests meanwhile.
//!
//! Locks: the flights' lock guards all fields; held for a few comparisons, never while waiting.
//! Failure: a flight ends with the (sub)transaction of the one that computes, whatever ended it.

#![allow(unsafe_code)]

use super::locks::lock_flights;
use crate::compat;
use crate::fault::{self, Point};
use pgrx::pg_sys;
use std::time::{Duration, Instant};

/// How many different keys can be in flight at once; more are computed without anybody waiting for them.
const FLIGHTS: usize = 128;
/// Longest time between two looks at the session that computes.
const SLICE_MS: i64 = 10;

#[repr(C)]
struct Flight {
    hash: u64,
    /// Changes with each use, so that a late waiter does not take another flight for its own.
    serial: u64,
    /// Process id of the session that computes, 0 if the flight is free.
    pid: i32,
    /// Index of its PGPROC.
    process: i32,
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

    /// Joins the flight of a key, or starts one.
    pub fn join(&self, hash: u64) -> Part {
        let _guard = lock_flights();
        let mut free = None;
        for index in 0..FLIGHTS {
            // SAFETY: the lock is held.
            let flight = unsafe { &*self.flight(index) };
            if flight.pid == 0 {
                free = free.or(Some(index));
            } else if flight.hash == hash {
                return Part::Waits(Ticket {
                    index,
                    serial: flight.serial,
                });
            }
        }
        let Some(index) = free else {
            return Part::Alone;
        };
        // SAFETY: the lock is held.
        let flight = unsafe { &mut *self.flight(index) };
        flight.hash = hash;
        flight.serial += 1;
        // SAFETY: variables of this backend.
        (flight.pid, flight.process) = unsafe { (pg_sys::MyProcPid, compat::my_process_number()) };
        fault::fenced(Point::FlightStarting);
        Part::Leads(Lead {
            flights: *self,
            ticket: Ticket {
                index,
                serial: flight.serial,
            },
        })
    }

    /// Whether somebody computes the result of a key right now.
    pub fn has(&self, hash: u64) -> bool {
        let _guard = lock_flights();
        (0..FLIGHTS).any(|index| {
            // SAFETY: the lock is held.
            let flight = unsafe { &*self.flight(index) };
            flight.pid != 0 && flight.hash == hash
        })
    }

    /// Ends a flight that this session leads, and wakes those who wait.
    fn end(&self, ticket: Ticket) {
        let flight = self.flight(ticket.index);
        {
            let _guard = lock_flights();
            // SAFETY: the lock is held.
            unsafe {
                if (*flight).serial != ticket.serial {
                    return;
                }
                (*flight).pid = 0;
            }
        }
        fault::fenced(Point::FlightEnding);
        // SAFETY: a condition variable of the area.
        unsafe { pg_sys::ConditionVariableBroadcast(&raw mut (*flight).ended) };
    }

    /// Waits until the flight has ended, the one that computes is stuck behind a lock, or `most_ms` are over.
    /// Obeys cancel requests and timeouts of this session: it may raise an ERROR.
    pub fn wait(&self, ticket: Ticket, most_ms: i64) {
        let flight = self.flight(ticket.index);
        let deadline = Instant::now() + Duration::from_millis(most_ms as u64);
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
    }

    /// Whether the flight goes on and the one that computes is not waiting for a lock.
    fn in_progress(&self, ticket: Ticket) -> bool {
        let (process, pid) = {
            let _guard = lock_flights();
            // SAFETY: the lock is held.
            let flight = unsafe { &*self.flight(ticket.index) };
            if flight.serial != ticket.serial || flight.pid == 0 {
                return false;
            }
            (flight.process, flight.pid)
        };
        !compat::waits_for_lock(process, pid)
    }
}
