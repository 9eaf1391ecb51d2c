//! The locks of the area: one per partition, one for the flights, the statistics and the tracking requests each.
//!
//! All belong to one tranche, which wait events show as `pg_query_cache`. No lock is taken while another one is held, and nothing that
//! can raise an ERROR runs under one, except where running out of backend-local memory ends the process anyway.

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
    }
}

fn lock(index: usize, mode: pg_sys::LWLockMode::Type) -> LockGuard {
    // SAFETY: the tranche was requested with LOCKS locks; `index` is one of ours.
    unsafe {
        let lock = &raw mut (*pg_sys::GetNamedLWLockTranche(NAME.as_ptr()).add(index)).lock;
        pg_sys::LWLockAcquire(lock, mode);
        LockGuard(lock)
    }
}

fn lock_exclusive(index: usize) -> LockGuard {
    lock(index, pg_sys::LWLockMode::LW_EXCLUSIVE)
}

/// The lock of a partition, for changing it.
pub fn lock_partition(index: u32) -> LockGuard {
    lock_exclusive(index as usize)
}

/// The lock of a partition, for walking through it.
pub fn lock_partition_shared(index: u32) -> LockGuard {
    lock(index as usize, pg_sys::LWLockMode::LW_SHARED)
}

/// The lock of the flights.
pub fn lock_flights() -> LockGuard {
    lock_exclusive(FLIGHTS_LOCK)
}

/// The lock that guards the assignment of functions to rows of statistics.
pub fn lock_functions() -> LockGuard {
    lock_exclusive(FUNCTIONS_LOCK)
}

/// The lock of the tracking requests.
pub fn lock_requests() -> LockGuard {
    lock_exclusive(REQUESTS_LOCK)
}
