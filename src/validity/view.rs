//! What a snapshot sees, in 64-bit transaction ids.

#![allow(unsafe_code)]

use crate::{compat, server};
use pg_query_cache_validity::{FullXid, SnapshotView};
use pgrx::pg_sys;

/// Half of the space of 32-bit transaction ids: nothing older can still be running.
const HALF: u64 = 1 << 31;

/// An MVCC snapshot with what it takes to compare 64-bit ids with it.
///
/// Lives on the stack of a check, while the snapshot is the active one or registered.
pub struct PgView {
    snapshot: pg_sys::Snapshot,
    /// The next id to be assigned; read after the snapshot was taken.
    next: FullXid,
    /// The caller's own top-level id, 0 if it has none.
    own: FullXid,
}

impl PgView {
    /// The view of `snapshot`.
    ///
    /// # Safety
    /// `snapshot` is a valid MVCC snapshot of this backend and outlives the view.
    pub unsafe fn new(snapshot: pg_sys::Snapshot) -> Self {
        // SAFETY: plain reads of the server's transaction state, inside a transaction.
        let (next, own) = unsafe { (pg_sys::ReadNextFullTransactionId().value, own_xid()) };
        PgView {
            snapshot,
            next,
            own,
        }
    }

    /// The 64-bit id of a 32-bit one that is at most the next one to be assigned.
    fn widen(&self, xid: pg_sys::TransactionId) -> FullXid {
        let xid = u64::from(u32::from(xid));
        let candidate = (self.next & !0xffff_ffff) | xid;
        if candidate > self.next && candidate >= 1 << 32 {
            candidate - (1 << 32)
        } else {
            candidate
        }
    }
}

impl SnapshotView for PgView {
    fn finished(&self, xid: FullXid) -> bool {
        if xid == self.own {
            return false;
        }
        if xid + HALF < self.next {
            return true;
        }
        let xid = pg_sys::TransactionId::from(xid as u32);
        // SAFETY: the snapshot is valid for the life of the view (constructor).
        !unsafe {
            if (*self.snapshot).suboverflowed || (*self.snapshot).takenDuringRecovery {
                // The server asks pg_subtrans, which may raise an ERROR. No slot is held: changes are computed on a copy.
                pg_sys::XidInMVCCSnapshot(xid, self.snapshot)
            } else {
                server::XidInMVCCSnapshot(xid, self.snapshot)
            }
        }
    }

    fn xmin(&self) -> FullXid {
        // SAFETY: the snapshot is valid for the life of the view (constructor).
        let xmin = self.widen(unsafe { (*self.snapshot).xmin });
        if self.own != 0 {
            xmin.min(self.own)
        } else {
            xmin
        }
    }

    fn effective(&self, xid: FullXid) -> bool {
        // A transaction holds the lock on its own id until its invalidation messages are out and its other locks free.
        // SAFETY: inside a transaction; nothing is waited for.
        xid + HALF < self.next
            || unsafe { compat::has_freed_its_locks(pg_sys::TransactionId::from(xid as u32)) }
    }

    fn effective_up_to(&self, xid: FullXid) -> bool {
        // SAFETY: inside a transaction; the server returns a copy of its lock table in our memory context.
        unsafe {
            let locks = &*pg_sys::GetLockStatusData();
            let locks = std::slice::from_raw_parts(locks.locks, locks.nelements as usize);
            !locks.iter().any(|held| {
                u32::from(held.locktag.locktag_type) == pg_sys::LockTagType::LOCKTAG_TRANSACTION
                    && held.holdMask != 0
                    && self.widen(pg_sys::TransactionId::from(held.locktag.locktag_field1)) <= xid
            })
        }
    }
}

/// The caller's own top-level transaction id, 0 if it has not got one.
///
/// # Safety
/// In a backend, on its main thread.
#[inline(always)]
pub unsafe fn own_xid() -> FullXid {
    // SAFETY: reads a variable of the backend.
    unsafe { server::GetTopFullTransactionIdIfAny().value }
}

/// Whether `xid` ended before `snapshot` was taken, without reading shared state: `false` may be a doubt, `true` never is.
///
/// Sound because a snapshot is never 2^31 ids behind: had `xid` been taken for older by mistake, it would lie that far ahead.
///
/// # Safety
/// `snapshot` is a valid MVCC snapshot.
#[inline(always)]
pub unsafe fn surely_before(xid: FullXid, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: the caller's.
    let xmin = u32::from(unsafe { (*snapshot).xmin });
    ((xid as u32).wrapping_sub(xmin) as i32) < 0
}

/// Whether `snapshot` sees every transaction before `xid` finished.
///
/// # Safety
/// `snapshot` is a valid MVCC snapshot; `xid` is not 2^31 ids away from it.
#[inline(always)]
pub unsafe fn sees_all_before(xid: FullXid, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: the caller's.
    let xmin = u32::from(unsafe { (*snapshot).xmin });
    (xmin.wrapping_sub(xid as u32) as i32) >= 0
}
