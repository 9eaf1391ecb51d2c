//! Whether a fill may trust what this backend knows of definitions: functions, types, rights, names …
//!
//! Definitions are not multi-version: a backend uses what it has planned until an invalidation message reaches it, and some plans until
//! its transaction ends (a SQL function called from a PL/pgSQL expression keeps its plans, with the bodies of functions inlined in
//! them, that long). Of some changes no message tells at all: a plan that a session keeps does not learn of a new function that fits
//! better, a cast, a constant's new text or a membership, nor a domain of a function in its check, nor the search path that a schema
//! in it was opened to the role by a membership. Such a result is what this session would get from the function itself, but nobody
//! else would. Therefore:
//!
//! * before a fill, every change of definitions that the snapshot sees has taken effect in this backend too ([`settle`]): what the
//!   backend keeps of the catalogs, plans included, is thrown away when there was any change since it was last;
//! * before a fill the plans are thrown away that this backend keeps if any was made otherwise than it would be now ([`Planner`]): by
//!   another role, which may have been allowed to run a function that the planner put into it; under other settings by which constants
//!   are read; or by code that a foreign key fired, whom FORCE ROW LEVEL SECURITY does not bind ([`distrust_plans`]);
//! * the same at the first query of a transaction in a session that has called a cached function, so that the function itself, asked
//!   there, says the same ([`query_begins`]);
//! * a result is published only if no change has become visible since the first query of its transaction ([`unchanged`]).

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::call::scope;
use crate::compat;
use crate::gate;
use crate::language::function;
use crate::server;
use crate::store::area::{Area, area};
use crate::validity::places::definitions_slot;
use crate::validity::tags::CLUSTER_SLOT;
use crate::validity::{Dependency, Invalid, imported};
use pgrx::pg_sys;
use std::cell::Cell;

/// Generations of the cluster's and of the database's definitions.
type Generations = [u64; 2];

/// Local number of the transaction that `AT_FIRST` belongs to.
static TRANSACTION: Backend<Cell<u32>> = Backend::new(Cell::new(0));
/// What the first query of the transaction found.
static AT_FIRST: Backend<Cell<Generations>> = Backend::new(Cell::new([0; 2]));
/// The definitions that nothing which this backend keeps is older than; unknown at first.
static FRESH: Backend<Cell<Option<Generations>>> = Backend::new(Cell::new(None));

/// Who plans, and how constants are read: what the server does not ask about again when it takes a plan that it has kept.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Planner {
    role: pg_sys::Oid,
    reading: ([i32; 13], usize, u64),
}

impl Planner {
    #[inline(always)]
    fn now() -> Self {
        Planner {
            // SAFETY: reads a variable of the backend.
            role: unsafe { server::GetUserId() },
            reading: scope::reading(),
        }
    }
}

/// Under whom the last query began.
static PLANNER: Backend<Cell<Option<Planner>>> = Backend::new(Cell::new(None));
/// Some of the plans that this backend keeps may have been made under another.
static DOUBTED: Backend<Cell<bool>> = Backend::new(Cell::new(false));

fn slots() -> [u32; 2] {
    [CLUSTER_SLOT, definitions_slot()]
}

/// A query begins, or a cached function is called before one: if it is the first of its transaction, notes how definitions are now.
///
/// # Safety
/// `snapshot` is the query's snapshot, or NULL; inside a transaction.
#[inline(always)]
pub unsafe fn query_begins(snapshot: pg_sys::Snapshot) {
    if function::any_called() {
        let now = Some(Planner::now());
        if PLANNER.get() != now && PLANNER.replace(now).is_some() {
            distrust_plans();
        }
    }
    let transaction = compat::local_transaction();
    if TRANSACTION.get() != transaction
        && let Some(area) = area()
    {
        TRANSACTION.set(transaction);
        // SAFETY: the caller's snapshot.
        if unsafe { gate::first_query(area, snapshot) } {
            // Changes that nobody has marked are not among the generations.
            FRESH.set(None);
        }
        // SAFETY: the caller's snapshot.
        let seen = unsafe { seen(area, snapshot) };
        // In doubt those that the slots have, which at worst are too old.
        AT_FIRST.set(seen.unwrap_or_else(|| slots().map(|slot| area.slots().generation(slot))));
        if let Some(seen) = seen
            && function::any_called()
        {
            refresh(seen);
        }
    }
}

/// The generations that a snapshot sees, if there is no doubt.
unsafe fn seen(area: Area, snapshot: pg_sys::Snapshot) -> Option<Generations> {
    // SAFETY: the caller's snapshot; reads the backend's state.
    unsafe {
        let usable = !snapshot.is_null()
            && (*snapshot).snapshot_type == pg_sys::SnapshotType::SNAPSHOT_MVCC
            && !pg_sys::IsInParallelMode()
            && !compat::is_parallel_worker()
            && !imported::present()
            && !server::RecoveryInProgress();
        if !usable {
            return None;
        }
        let [cluster, database] = slots().map(|slot| area.slots().generation_for(slot, snapshot));
        Some([cluster.ok()?, database.ok()?])
    }
}

/// Throws away what this backend keeps of the catalogs if it may be older than these generations, as the server itself does when
/// messages were lost. Whether it did.
fn refresh(generations: Generations) -> bool {
    if FRESH.replace(Some(generations)) == Some(generations) {
        return false;
    }
    // SAFETY: inside a transaction; allowed wherever messages may be processed. Callbacks only set marks.
    unsafe { pg_sys::InvalidateSystemCaches() };
    true
}

/// A plan that this backend keeps may not be as another session would make it: plans are thrown away before the next fill.
pub fn distrust_plans() {
    DOUBTED.set(true);
}

/// Before a fill: every change of definitions that the snapshot sees has taken effect in this backend too. Whether that made it forget
/// what it knew, names in the key of the call included.
///
/// A transaction leaves the list of running ones a moment before it sends its invalidation messages. A fill in that moment would see
/// its rows but run the old functions. The same slots are asked again when the result is published.
///
/// # Safety
/// `snapshot` is the active MVCC snapshot.
pub unsafe fn settle(area: Area, snapshot: pg_sys::Snapshot) -> Result<bool, Invalid> {
    // SAFETY: the caller's snapshot; processing messages may run callbacks, which only set marks.
    unsafe {
        query_begins(snapshot);
        let mut found = [0; 2];
        for (generation, slot) in found.iter_mut().zip(slots()) {
            *generation = area.slots().generation_for(slot, snapshot)?;
        }
        pg_sys::AcceptInvalidationMessages();
        let refreshed = refresh(found);
        if DOUBTED.replace(false) {
            pg_sys::ResetPlanCache();
        }
        Ok(refreshed)
    }
}

/// Whether a result computed under `snapshot` may be published, as far as definitions are concerned.
pub fn unchanged_for(area: Area, snapshot: pg_sys::Snapshot) -> bool {
    slots().into_iter().all(|slot| {
        // SAFETY: the caller's snapshot is the active one.
        let generation = unsafe { area.slots().generation_for(slot, snapshot) };
        generation.is_ok_and(|generation| unchanged(Dependency::new(slot, generation)))
    })
}

/// Whether a dependency is what the first query of this transaction found; one that is not on definitions is.
pub fn unchanged(dependency: Dependency) -> bool {
    slots()
        .into_iter()
        .zip(AT_FIRST.get())
        .all(|(definitions, first)| definitions != dependency.slot() || dependency.has(first))
}
