//! Whether a fill may trust what this backend knows of definitions: functions, types, rights, names …
//!
//! Definitions are not multi-version: a backend uses what it has planned until an invalidation message reaches it, and some plans until
//! its transaction ends (a SQL function called from a PL/pgSQL expression keeps its plans, with the bodies of functions inlined in
//! them, that long). Such a result is what this session would get from the function itself, but nobody else would. Therefore:
//!
//! * before a fill, every change of definitions that the snapshot sees has taken effect in this backend too ([`settle`]);
//! * a result is published only if no change has become visible since the first query of its transaction ([`unchanged`]).

#![allow(unsafe_code)]

use crate::compat;
use crate::language::function;
use crate::server;
use crate::store::area::{Area, area};
use crate::validity::Invalid;
use crate::validity::tags::{CLUSTER_SLOT, definitions_slot};
use pgrx::pg_sys;
use std::cell::Cell;

/// Generations of the cluster's and of the database's definitions.
type Generations = [u64; 2];

thread_local! {
    /// Local number of the transaction that `AT_FIRST` belongs to.
    static TRANSACTION: Cell<u32> = const { Cell::new(0) };
    /// What the first query of the transaction found.
    static AT_FIRST: Cell<Generations> = const { Cell::new([0; 2]) };
    /// What the last fill found.
    static AT_LAST: Cell<Generations> = const { Cell::new([0; 2]) };
}

fn slots() -> [u32; 2] {
    [CLUSTER_SLOT, definitions_slot(compat::database())]
}

/// A query begins: if it is the first of its transaction, notes how definitions are now.
///
/// # Safety
/// `snapshot` is the query's snapshot, or NULL; inside a transaction.
#[inline(always)]
pub unsafe fn query_begins(snapshot: pg_sys::Snapshot) {
    let transaction = compat::local_transaction();
    if TRANSACTION.get() != transaction
        && let Some(area) = area()
    {
        TRANSACTION.set(transaction);
        // SAFETY: the caller's snapshot.
        AT_FIRST.set(unsafe { now(area, snapshot) });
    }
}

/// The generations that a snapshot sees; where it is in doubt those that the slots have, which at worst are too old.
unsafe fn now(area: Area, snapshot: pg_sys::Snapshot) -> Generations {
    // SAFETY: the caller's snapshot; reads the backend's state.
    unsafe {
        let usable = !snapshot.is_null()
            && (*snapshot).snapshot_type == pg_sys::SnapshotType::SNAPSHOT_MVCC
            && !pg_sys::IsInParallelMode()
            && !compat::is_parallel_worker()
            && !server::RecoveryInProgress();
        slots().map(|slot| {
            usable
                .then(|| area.slots().generation_for(slot, snapshot).ok())
                .flatten()
                .unwrap_or_else(|| area.slots().generation(slot))
        })
    }
}

/// Before a fill: every change of definitions that the snapshot sees has taken effect in this backend too.
///
/// A transaction leaves the list of running ones a moment before it sends its invalidation messages. A fill in that moment would see
/// its rows but run the old functions. The same slots are asked again when the result is published.
///
/// # Safety
/// `snapshot` is the active MVCC snapshot.
pub unsafe fn settle(area: Area, snapshot: pg_sys::Snapshot) -> Result<(), Invalid> {
    // SAFETY: the caller's snapshot; processing messages may run callbacks, which only set marks.
    unsafe {
        query_begins(snapshot);
        let mut found = [0; 2];
        for (generation, slot) in found.iter_mut().zip(slots()) {
            *generation = area.slots().generation_for(slot, snapshot)?;
        }
        if AT_LAST.replace(found) != found {
            function::definitions_changed();
        }
        pg_sys::AcceptInvalidationMessages();
    }
    Ok(())
}

/// Whether `generation` of `slot` is what the first query of this transaction found; of slots that do not stand for definitions yes.
pub fn unchanged(slot: u32, generation: u64) -> bool {
    slots()
        .into_iter()
        .zip(AT_FIRST.get())
        .all(|(definitions, first)| definitions != slot || first == generation)
}
