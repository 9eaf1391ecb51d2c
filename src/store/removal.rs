//! Taking entries out.
//!
//! An entry leaves its bucket, its queue, the ring of its database and the numbers of its slots under one hold of the partition's lock;
//! from then on nobody finds it. Its blocks are freed after that, a part under the same hold, the rest of a long chain under others:
//! meanwhile they belong to whoever took the entry out, and nothing there can raise an ERROR.

#![allow(unsafe_code)]

use super::area::area;
use super::locks::{Hold, lock_partition, step};
use super::lookup::MAX_DEPENDENCIES;
use super::partition::{EntryHead, Partition};
use crate::fault::{self, Point};
use crate::validity::Dependency;
use pg_query_cache_eviction::NIL;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;

/// Steps that freeing takes under one hold: an extent is one, and one for each 64 blocks of it.
pub const RELEASED: usize = 1_024;

/// Room for the dependencies of an entry.
pub type Dependencies = [MaybeUninit<Dependency>; MAX_DEPENDENCIES];
/// Room that nothing has been read into.
pub const NO_DEPENDENCIES: Dependencies = [const { MaybeUninit::uninit() }; MAX_DEPENDENCIES];

/// The dependencies of an entry. Under the lock, which may be shared.
pub fn dependencies<'a>(
    partition: Partition,
    block: u32,
    entry: &EntryHead,
    room: &'a mut Dependencies,
) -> &'a [Dependency] {
    let count = (entry.dependencies as usize).min(MAX_DEPENDENCIES);
    step(count);
    // SAFETY: there is room for `count`; any bytes make a Dependency.
    unsafe {
        if !partition
            .payload(block)
            .copy_out(room.as_mut_ptr().cast(), count * size_of::<Dependency>())
        {
            return &[];
        }
        std::slice::from_raw_parts(room.as_ptr().cast(), count)
    }
}

/// Takes an entry, already out of the queue, out of everything else. Its blocks are the caller's from then on. The lock is held.
pub fn unlink(partition: Partition, block: u32, entry: &EntryHead) {
    let head = partition.head();
    partition.unlink(block, entry.hash);
    partition.heads().free(block..block + 1);
    partition.take_from_owner(block, entry.placed);
    head.entries.fetch_sub(1, Ordering::Relaxed);
    head.changes.fetch_add(1, Ordering::Relaxed);
    let Some(area) = area() else { return };
    let mut room = NO_DEPENDENCIES;
    for dependency in dependencies(partition, block, entry, &mut room) {
        area.tally(dependency.slot())
            .fetch_sub(1, Ordering::Relaxed);
    }
    if let Some(state) = area.with_place(entry.placed) {
        state.places.give_back();
    }
}

/// Takes an entry out of everything and frees what `budget` allows for. Returns the rest of its chain. The lock is held.
pub fn remove(partition: Partition, block: u32, budget: &mut usize) -> u32 {
    let entry = partition.copy_entry(block);
    partition.with_queue(|queue, entries| queue.remove(entries, block));
    unlink(partition, block, &entry);
    fault::fenced(Point::Releasing);
    partition.release(block, budget)
}

/// Frees a chain that nobody else knows. No lock is held.
pub fn discard(partition: Partition, mut chain: u32) {
    while chain != NIL {
        let _guard = lock_partition(partition.index, Hold::Remove);
        let mut budget = RELEASED;
        let rest = partition.release(chain, &mut budget);
        // A chain that leads nowhere ends here.
        chain = if budget == RELEASED { NIL } else { rest };
    }
}
