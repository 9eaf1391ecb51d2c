//! The locks of the area: one per partition, one for the flights, the statistics and the tracking requests each.
//!
//! All belong to one tranche, which wait events show as `pg_query_cache`. No lock is taken while another one is held, and nothing that
//! can raise an ERROR runs under one.
//!
//! **Bounds.** Whoever holds a lock makes others wait, so what is done meanwhile has a bound that does not grow with the area, its
//! entries, its users or the size of a result: whatever takes longer lets the lock go in between and goes on from where it was. Memory
//! is asked for before, and freed after. A *step* is a look at one entry, extent, dependency, row or place, or at one word of a map.
//!
//! | what for ([`Hold`]) | steps | why so many |
//! |---|---|---|
//! | `Look` | 8,192 | a part of the map and the entries in it, each with 64 dependencies |
//! | `Entry` | 2,048 | one entry joins a bucket, up to two leave it: 64 entries in a bucket, 64 dependencies each |
//! | `Room` | 16,384 | up to 16 leave; before each, 256 may be spared; then a part of the map is searched |
//! | `Remove` | 8,192 | up to 16 leave |
//! | `Hits` | 4,096 | up to 256 entries are counted, up to 16 are put first |
//! | `Flights` | 512 | all flights |
//! | `Functions` | 16,384 | all rows |
//! | `Requests` | 1,024 | all places |
//!
//! Libraries for tests (`debug_assertions`, the feature `fault_injection`) count, and end the process that did more, or that asked for
//! memory under a lock: the server starts over, and the test that led there fails.

#![allow(unsafe_code)]

use super::layout::MAX_PARTITIONS;
use pgrx::pg_sys;

/// Name of the shared memory segment and of the lock tranche, as `pg_shmem_allocations` and wait events show them.
pub const NAME: &std::ffi::CStr = c"pg_query_cache";

/// Number of locks: one per partition and one for the flights, the statistics and the requests each.
pub const LOCKS: usize = MAX_PARTITIONS + 3;
const FLIGHTS_LOCK: usize = MAX_PARTITIONS;
const FUNCTIONS_LOCK: usize = FLIGHTS_LOCK + 1;
const REQUESTS_LOCK: usize = FLIGHTS_LOCK + 2;

/// What a lock is held for.
#[derive(Clone, Copy, Debug)]
pub enum Hold {
    /// Looking through a part of a partition, shared.
    Look,
    /// Adding, removing or changing one entry.
    Entry,
    /// Making room for an entry.
    Room,
    /// Removing some entries.
    Remove,
    /// Counting the hits of some entries.
    Hits,
    /// Taking or ending a flight.
    Flights,
    /// Looking for a row of statistics.
    Functions,
    /// Leaving, taking or giving back a request.
    Requests,
}

/// A held lock of the tranche; released when dropped. If an ERROR passes by, the server releases it.
pub struct LockGuard(*mut pg_sys::LWLock);

impl Drop for LockGuard {
    fn drop(&mut self) {
        // SAFETY: the lock was acquired by this guard; the server's own abort may have released it since.
        unsafe {
            if pg_sys::LWLockHeldByMe(self.0) {
                pg_sys::LWLockRelease(self.0);
            }
        }
        account::ended();
    }
}

fn lock_at(index: usize) -> *mut pg_sys::LWLock {
    // SAFETY: the tranche was requested with LOCKS locks; `index` is one of ours.
    unsafe { &raw mut (*pg_sys::GetNamedLWLockTranche(NAME.as_ptr()).add(index)).lock }
}

fn lock(index: usize, mode: pg_sys::LWLockMode::Type, hold: Hold) -> LockGuard {
    let lock = lock_at(index);
    // SAFETY: a lock of ours.
    unsafe { pg_sys::LWLockAcquire(lock, mode) };
    account::began(hold);
    LockGuard(lock)
}

/// The lock of a partition, for changing it.
pub fn lock_partition(index: u32, hold: Hold) -> LockGuard {
    lock(index as usize, pg_sys::LWLockMode::LW_EXCLUSIVE, hold)
}

/// The same, if nobody has it: `None` without waiting.
pub fn try_lock_partition(index: u32, hold: Hold) -> Option<LockGuard> {
    let lock = lock_at(index as usize);
    // SAFETY: a lock of ours.
    unsafe { pg_sys::LWLockConditionalAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE) }.then(|| {
        account::began(hold);
        LockGuard(lock)
    })
}

/// The lock of a partition, for looking at it: nothing joins it or leaves it meanwhile.
pub fn lock_partition_shared(index: u32, hold: Hold) -> LockGuard {
    lock(index as usize, pg_sys::LWLockMode::LW_SHARED, hold)
}

/// The lock of the flights.
pub fn lock_flights() -> LockGuard {
    let mode = pg_sys::LWLockMode::LW_EXCLUSIVE;
    lock(FLIGHTS_LOCK, mode, Hold::Flights)
}

/// The lock that guards the assignment of functions to rows of statistics.
pub fn lock_functions() -> LockGuard {
    let mode = pg_sys::LWLockMode::LW_EXCLUSIVE;
    lock(FUNCTIONS_LOCK, mode, Hold::Functions)
}

/// The same, for writing into a row that must stay its owner's meanwhile.
pub fn lock_functions_shared() -> LockGuard {
    let mode = pg_sys::LWLockMode::LW_SHARED;
    lock(FUNCTIONS_LOCK, mode, Hold::Functions)
}

/// The lock of the tracking requests.
pub fn lock_requests() -> LockGuard {
    let mode = pg_sys::LWLockMode::LW_EXCLUSIVE;
    lock(REQUESTS_LOCK, mode, Hold::Requests)
}

/// Counts steps of the lock that this process holds, if it holds one.
#[inline(always)]
pub fn step(count: usize) {
    account::step(count);
}

#[cfg(not(any(debug_assertions, feature = "fault_injection")))]
mod account {
    use super::Hold;

    #[inline(always)]
    pub fn began(_: Hold) {}
    #[inline(always)]
    pub fn step(_: usize) {}
    #[inline(always)]
    pub fn ended() {}
}

#[cfg(any(debug_assertions, feature = "fault_injection"))]
mod account {
    use super::Hold;
    use crate::backend::Backend;
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    /// What is done under the lock that is held.
    #[derive(Clone, Copy)]
    struct Done {
        hold: Hold,
        steps: usize,
        allocations: usize,
    }

    /// The most steps.
    const fn limit(hold: Hold) -> usize {
        match hold {
            Hold::Look | Hold::Remove => 8_192,
            Hold::Entry => 2_048,
            Hold::Room | Hold::Functions => 16_384,
            Hold::Hits => 4_096,
            Hold::Flights => 512,
            Hold::Requests => 1_024,
        }
    }

    static HELD: Backend<Cell<Option<Done>>> = Backend::new(Cell::new(None));

    pub fn began(hold: Hold) {
        let done = Done {
            hold,
            steps: 0,
            allocations: 0,
        };
        if let Some(before) = HELD.replace(Some(done)) {
            end(format_args!("{hold:?} under {:?}", before.hold));
        }
    }

    pub fn step(count: usize) {
        if let Some(done) = HELD.get() {
            let steps = done.steps + count;
            HELD.set(Some(Done { steps, ..done }));
        }
    }

    /// The lock has been let go.
    pub fn ended() {
        let Some(done) = HELD.take() else { return };
        let (hold, steps, allocations) = (done.hold, done.steps, done.allocations);
        let most = limit(hold);
        if steps > most || allocations > 0 {
            end(format_args!(
                "{hold:?}: {steps} steps of {most}, {allocations} allocations"
            ));
        }
    }

    fn end(what: std::fmt::Arguments<'_>) -> ! {
        eprintln!("pg_query_cache: too much was done under a lock: {what}");
        std::process::abort()
    }

    /// The system's allocator, which counts what is asked for under a lock.
    struct Counting;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    // SAFETY: passed on to the system's allocator as it is.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if let Some(done) = HELD.get() {
                let allocations = done.allocations + 1;
                HELD.set(Some(Done {
                    allocations,
                    ..done
                }));
            }
            // SAFETY: the caller's.
            unsafe { System.alloc(layout) }
        }
        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: the caller's.
            unsafe { System.dealloc(pointer, layout) }
        }
    }
}
