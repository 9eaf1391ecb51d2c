//! What a snapshot sees, in 64-bit transaction ids.

#![allow(unsafe_code)]

use crate::{compat, server};
use pg_query_cache_validity::wide::{Cut, CutView};
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
    /// `snapshot` is a valid MVCC snapshot of this backend, not taken during recovery, and outlives the view.
    pub unsafe fn new(snapshot: pg_sys::Snapshot) -> Self {
        // SAFETY: plain reads of the server's transaction state, inside a transaction.
        let (next, own) = unsafe { (pg_sys::ReadNextFullTransactionId().value, own_xid()) };
        PgView {
            snapshot,
            next,
            own,
        }
    }

    /// The top-level transactions that ran when the snapshot was taken, but the own one.
    fn running(&self) -> &[pg_sys::TransactionId] {
        // SAFETY: the snapshot is valid for the life of the view (constructor), and lists `xcnt` ids.
        unsafe {
            match (*self.snapshot).xip.is_null() {
                true => &[],
                false => {
                    std::slice::from_raw_parts((*self.snapshot).xip, (*self.snapshot).xcnt as usize)
                }
            }
        }
    }

    /// The top-level transactions that ran when the snapshot was taken, but the own one.
    pub fn all_running(&self) -> impl Iterator<Item = FullXid> {
        self.running().iter().map(|xid| self.widen(*xid))
    }

    /// Those of them before `bound`; `None` if the snapshot does not list all that were not finished.
    pub fn unfinished_before(&self, bound: FullXid) -> Option<impl Iterator<Item = FullXid>> {
        // SAFETY: the snapshot is valid for the life of the view (constructor).
        let next = self.widen(unsafe { (*self.snapshot).xmax });
        (next >= bound).then(|| self.all_running().filter(move |xid| *xid < bound))
    }

    /// The 64-bit id of a 32-bit one that is at most the next one to be assigned.
    fn widen(&self, xid: pg_sys::TransactionId) -> FullXid {
        widen(xid, self.next)
    }
}

/// The 64-bit id of a 32-bit one that is at most `next`.
fn widen(xid: pg_sys::TransactionId, next: FullXid) -> FullXid {
    let xid = u64::from(u32::from(xid));
    let candidate = (next & !0xffff_ffff) | xid;
    if candidate > next && candidate >= 1 << 32 {
        candidate - (1 << 32)
    } else {
        candidate
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
        // SAFETY: the snapshot is valid for the life of the view (constructor).
        let (xmin, xmax) = unsafe { ((*self.snapshot).xmin, (*self.snapshot).xmax) };
        let xid = xid as u32;
        if precedes(xid, u32::from(xmin)) {
            return true;
        }
        // Top-level transactions alone are asked about, and all of those that run are listed: the list of subtransactions and
        // pg_subtrans, whose reading may fail, are not needed.
        precedes(xid, u32::from(xmax)) && !self.running().contains(&xid.into())
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
        all_effective_before(xid + 1)
    }
}

/// Whether the effects of all transactions before `xid` are out: each of them has told everybody what it changed, and freed its locks.
/// Looks at all locks of the cluster, so it is not for what happens often.
pub fn all_effective_before(xid: FullXid) -> bool {
    all_effective_but(&[], xid)
}

/// As [`all_effective_before`], of all but some.
pub fn all_effective_but(some: &[FullXid], xid: FullXid) -> bool {
    all_effective_unless(xid, |xid| some.contains(&xid))
}

/// As [`all_effective_but`], of the transactions of this database.
pub fn all_effective_here_but(some: &[FullXid], xid: FullXid) -> bool {
    all_effective_unless(xid, |xid| some.contains(&xid) || runs_elsewhere(xid))
}

/// Whether a transaction runs in another database now: `false` may be a doubt, `true` never is.
pub fn runs_elsewhere(xid: FullXid) -> bool {
    compat::runs_elsewhere(pg_sys::TransactionId::from(xid as u32))
}

fn all_effective_unless(xid: FullXid, is_no_matter: impl Fn(FullXid) -> bool) -> bool {
    // SAFETY: the server returns a copy of its lock table in our memory context. Each id in it is smaller than the next one, which is
    // read afterwards.
    unsafe {
        let locks = &*pg_sys::GetLockStatusData();
        let locks = std::slice::from_raw_parts(locks.locks, locks.nelements as usize);
        let next = pg_sys::ReadNextFullTransactionId().value;
        !locks.iter().any(|held| {
            let id = || {
                let xid = pg_sys::TransactionId::from(held.locktag.locktag_field1);
                widen(xid, next)
            };
            u32::from(held.locktag.locktag_type) == pg_sys::LockTagType::LOCKTAG_TRANSACTION
                && held.holdMask != 0
                && id() < xid
                && !is_no_matter(id())
        })
    }
}

impl CutView for PgView {
    fn cut(&self) -> Cut {
        // SAFETY: the snapshot is valid for the life of the view (constructor).
        let xmax = unsafe { (*self.snapshot).xmax };
        let next = self.widen(xmax);
        let mut running: Vec<u32> = self.running().iter().map(|xid| u32::from(*xid)).collect();
        if self.own != 0 && self.own < next {
            // Not in a snapshot of its own, but in one that came from another session.
            running.push(self.own as u32);
        }
        // A transaction that is being prepared is listed twice for a moment.
        running.sort_unstable();
        running.dedup();
        Cut {
            next,
            running: running.len() as u32,
        }
    }
}

/// Whether one transaction id is older than another, around the clock of 32 bits.
fn precedes(xid: u32, other: u32) -> bool {
    (xid.wrapping_sub(other) as i32) < 0
}

/// Whether `snapshot` was surely taken at `cut` or after it, without reading shared state: `false` may be a doubt, `true` never is.
///
/// As for [`surely_before`], no snapshot is 2^31 ids behind.
///
/// # Safety
/// `snapshot` is a valid MVCC snapshot.
#[inline(always)]
pub unsafe fn surely_reaches(cut: Cut, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: the caller's; reads a variable of the backend.
    unsafe {
        let ahead = u32::from((*snapshot).xmax).wrapping_sub(cut.next as u32) as i32;
        ahead > 0
            || ahead == 0
                && !(*snapshot).takenDuringRecovery
                && (*snapshot).xcnt + u32::from(own_xid() != 0) <= cut.running
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
