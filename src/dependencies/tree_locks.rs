//! Locks on all tables of a tree, for those who add or drop its triggers.
//!
//! Tables are locked in the order of their oids, so commands of ours never wait for each other in a circle, and everything that is
//! decided is read from the catalog only when the locks are held. Who works in the background waits for one table at a time and
//! holds no other lock meanwhile: a lock that is won is never kept from writers for the sake of one that is not.

#![allow(unsafe_code)]

use super::relations::Tree;
use crate::error::Error;
use crate::naming;
use crate::settings;
use pgrx::pg_sys;
use std::time::{Duration, Instant};

/// How often the locks are taken anew because the tree had changed when they were got.
const TRIES: u32 = 10;
/// How long who polls sleeps.
const POLLED_US: i64 = 5000;

/// How long to wait for locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As any command of the user's does.
    Waits,
    /// Each at most `lock_timeout`, with no other lock held.
    Shortly,
    /// Up to `pg_query_cache.tracking_lock_timeout`, but never in the queue: writers come first, and nobody waits behind.
    Polls,
    /// Not at all.
    Never,
}

/// The locked tables of a tree. They stay locked until the transaction ends, unless they are released.
pub struct Locked {
    /// The tree as it is while the locks are held.
    pub tree: Tree,
    mode: pg_sys::LOCKMODE,
}

impl Locked {
    /// Gives the locks back: nothing was done under them.
    pub fn release(self) {
        release(&self.tree.members, self.mode);
    }
}

/// Locks what `find` finds. `admit` says before each try whether the tables may be locked at all. `None` if it says no, or if a lock
/// cannot be got with so much patience.
pub fn lock(
    find: impl Fn() -> Tree,
    mode: u32,
    patience: Patience,
    mut admit: impl FnMut(&Tree) -> Result<bool, Error>,
) -> Result<Option<Locked>, Error> {
    let mode = mode as pg_sys::LOCKMODE;
    let mut tree = find();
    for _ in 0..TRIES {
        if !admit(&tree)? || !lock_all(&tree.members, mode, patience) {
            return Ok(None);
        }
        let now = find();
        if now == tree {
            return Ok(Some(Locked { tree, mode }));
        }
        release(&tree.members, mode);
        tree = now;
    }
    let name = tree.roots.first().copied().and_then(naming::relation_name);
    Err(Error::TreeChanges(name.unwrap_or_default()))
}

fn lock_all(tables: &[pg_sys::Oid], mode: pg_sys::LOCKMODE, patience: Patience) -> bool {
    match patience {
        Patience::Waits => {
            for table in tables {
                // SAFETY: inside a transaction; a table that is gone can be locked too.
                unsafe { pg_sys::LockRelationOid(*table, mode) };
            }
            true
        }
        Patience::Never => try_all(tables, mode, None).is_ok(),
        Patience::Polls => {
            let until =
                Instant::now() + Duration::from_millis(settings::tracking_lock_timeout_ms() as u64);
            while try_all(tables, mode, None).is_err() {
                if Instant::now() >= until {
                    return false;
                }
                pgrx::check_for_interrupts!();
                // SAFETY: sleeps; no lock is held.
                unsafe { pg_sys::pg_usleep(POLLED_US) };
            }
            true
        }
        Patience::Shortly => {
            let Err(busy) = try_all(tables, mode, None) else {
                return true;
            };
            // SAFETY: as above; an ERROR after lock_timeout.
            unsafe { pg_sys::LockRelationOid(busy, mode) };
            let got = try_all(tables, mode, Some(busy)).is_ok();
            if !got {
                release(&[busy], mode);
            }
            got
        }
    }
}

/// Locks all but the one that is `held` without waiting. If one cannot be got it is named, and the others are given back.
fn try_all(
    tables: &[pg_sys::Oid],
    mode: pg_sys::LOCKMODE,
    held: Option<pg_sys::Oid>,
) -> Result<(), pg_sys::Oid> {
    for (number, table) in tables.iter().enumerate() {
        // SAFETY: inside a transaction.
        if Some(*table) != held && !unsafe { pg_sys::ConditionalLockRelationOid(*table, mode) } {
            for got in tables[..number].iter().filter(|got| Some(**got) != held) {
                release(&[*got], mode);
            }
            return Err(*table);
        }
    }
    Ok(())
}

fn release(tables: &[pg_sys::Oid], mode: pg_sys::LOCKMODE) {
    for table in tables {
        // SAFETY: got by `lock_all`, once.
        unsafe { pg_sys::UnlockRelationOid(*table, mode) };
    }
}
