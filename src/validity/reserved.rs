//! The slots of definitions, one of the cluster and one of each database, in shared memory.
//!
//! Every result depends on two of them, so whatever could put one of them in doubt would put everybody in doubt. They are
//! wide slots (`pg_query_cache_validity::wide`): their lists have a place for each transaction that the server can have at once.
//!
//! Layout: the head of a slot lies where an ordinary slot of its number would lie, a cache line with the sequence number first; its list
//! lies apart and is read only if the head says that somebody is pending.
//!
//! Locks: as for ordinary slots, none; head and list change under the head's sequence number.

#![allow(unsafe_code)]

use super::Invalid;
use super::slots::{SharedSlot, pause};
use super::view::{PgView, surely_reaches};
use crate::fault::{self, Point};
use crate::server;
use pg_query_cache_validity::wide::{HEAD_WORDS, LaidOut, pending_in, quiet};
use pg_query_cache_validity::{Doubt, FullXid};
use pgrx::pg_sys;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// The most transactions that a list has places for: at 1,024 all lists together are 1 MB. On a server that can have more, more than
/// these have to be between the moment before their commit and its end, or prepared, all in one database, before one overflows.
const MOST_PLACES: u32 = 1024;

/// How often a writer that finds a list full settles it before it goes to the overflow. Each time all that have ended leave, so only
/// others that register and end meanwhile can take their places.
const ATTEMPTS: usize = 8;

/// Number of places in each list.
pub fn places() -> u32 {
    // SAFETY: settings that are fixed before shared memory is asked for.
    let transactions = unsafe { pg_sys::MaxBackends + server::max_prepared_xacts };
    (transactions.max(1) as u32).min(MOST_PLACES)
}

/// One of these slots.
#[derive(Clone, Copy)]
pub struct Reserved<'a> {
    pub head: &'a SharedSlot,
    pub list: &'a [AtomicU64],
}

impl Reserved<'_> {
    /// A consistent copy of the head, and its sequence number.
    #[inline(always)]
    fn words(&self) -> ([u64; HEAD_WORDS], u64) {
        self.head.words()
    }

    /// A consistent copy, and its sequence number.
    fn read(&self) -> (LaidOut, u64) {
        let mut pending = vec![0; self.list.len()];
        let mut spins = 0;
        loop {
            let (head, sequence) = self.words();
            let count = pending_in(&head).min(pending.len());
            for (copy, place) in pending.iter_mut().zip(&self.list[..count]) {
                *copy = place.load(Ordering::Relaxed);
            }
            fence(Ordering::Acquire);
            if self.head.is_still(sequence) {
                return (LaidOut::from_parts(&head, pending), sequence);
            }
            pause(&mut spins);
        }
    }

    /// Writes `rules` if nobody has written since `sequence` was read.
    fn write(&self, rules: &LaidOut, sequence: u64) -> bool {
        if !self.head.take(sequence) {
            return false;
        }
        fault::fenced(Point::SlotChanging);
        for (place, value) in self.list.iter().zip(rules.pending()) {
            place.store(*value, Ordering::Relaxed);
        }
        self.head.put(rules.head(), sequence);
        true
    }

    /// Applies `change` as one atomic step; `change` says whether it changed anything.
    fn update<R>(&self, mut change: impl FnMut(&mut LaidOut) -> (bool, R)) -> R {
        let mut spins = 0;
        loop {
            let (mut rules, sequence) = self.read();
            let (changed, result) = change(&mut rules);
            if !changed || self.write(&rules, sequence) {
                return result;
            }
            pause(&mut spins);
        }
    }

    /// Registers the transaction `xid`, which is about to end, as a writer.
    pub fn register(&self, xid: FullXid) {
        for _ in 0..ATTEMPTS {
            let made_room = self.update(|rules| match rules.is_full() && !rules.is_pending(xid) {
                true => (false, false),
                false => (rules.register(xid), true),
            });
            if made_room {
                return;
            }
            // SAFETY: a variable of the backend.
            if unsafe { pg_sys::IsInParallelMode() } {
                // No snapshot can be taken now.
                break;
            }
            // SAFETY: inside a transaction. The snapshot is registered, so that it stays valid while it is used.
            unsafe {
                let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
                self.settle(&PgView::new(snapshot));
                pg_sys::UnregisterSnapshot(snapshot);
            }
        }
        self.update(|rules| (rules.register(xid), ()));
    }

    /// Takes a transaction out that rolled back.
    pub fn withdraw(&self, xid: FullXid) {
        self.update(|rules| (rules.withdraw(xid), ()));
    }

    /// Settles with a view.
    pub fn settle(&self, view: &PgView) {
        if quiet(&self.words().0).is_none() {
            self.update(|rules| (rules.settle(view), ()));
        }
    }

    /// The generation that `snapshot` sees.
    ///
    /// # Safety
    /// `snapshot` is the active MVCC snapshot of a transaction.
    #[inline(always)]
    pub unsafe fn generation_for(&self, snapshot: pg_sys::Snapshot) -> Result<u64, Invalid> {
        // SAFETY: the caller's snapshot.
        let reaches = |cut| unsafe { surely_reaches(cut, snapshot) };
        match quiet(&self.words().0) {
            Some((generation, cut)) if generation == 0 || reaches(cut) => Ok(generation),
            // SAFETY: the caller's snapshot.
            _ => unsafe { self.generation_slowly(snapshot) },
        }
    }

    #[cold]
    #[inline(never)]
    unsafe fn generation_slowly(&self, snapshot: pg_sys::Snapshot) -> Result<u64, Invalid> {
        // SAFETY: reads the backend's state; the caller's snapshot and the registered one are valid through this call.
        unsafe {
            if (*snapshot).takenDuringRecovery {
                return Err(Invalid::OldSnapshot);
            }
            let needs_latest = self.read().0.needs_latest();
            if needs_latest && pg_sys::IsInParallelMode() {
                // No snapshot can be taken now.
                return Err(Invalid::Crowded);
            }
            let latest = if needs_latest {
                pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot())
            } else {
                snapshot
            };
            let (view, latest_view) = (PgView::new(snapshot), PgView::new(latest));
            // Somebody may have registered meanwhile. Then the next turn takes the latest snapshot.
            let judgement = self.update(|rules| {
                if rules.needs_latest() && !needs_latest {
                    return (false, None);
                }
                let before = rules.clone();
                let judgement = rules.ask(&view, || &latest_view);
                (*rules != before, Some(judgement))
            });
            if needs_latest {
                pg_sys::UnregisterSnapshot(latest);
            }
            match judgement {
                None => return self.generation_slowly(snapshot),
                Some(judgement) => judgement,
            }
        }
        .map_err(|doubt| match doubt {
            Doubt::Unseen => Invalid::OldSnapshot,
            Doubt::Overflow | Doubt::Unsettled => Invalid::Crowded,
        })
    }

    /// Head and pending writers.
    pub fn copy(&self) -> LaidOut {
        self.read().0
    }

    /// Takes a saved slot over, when nobody uses it yet. Writers that have no place here make it overflow.
    pub fn restore(&self, head: &[u64; HEAD_WORDS], pending: &[FullXid]) {
        let mut rules = LaidOut::from_parts(head, vec![0; self.list.len()]);
        rules.count = 0;
        for xid in pending {
            rules.register(*xid);
        }
        let (_, sequence) = self.words();
        self.write(&rules, sequence);
    }
}
