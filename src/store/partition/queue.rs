//! What the eviction queue keeps of an entry: links in the entry itself, a credit and the ghosts in arrays of their own.
//!
//! The queue and its rules are in the crate `pg_query_cache_eviction`.
//!
//! Invariants: only live entries are in the queue, and each by its first block. No entry is smaller than two blocks, so a credit for two
//! blocks is one for an entry.
//!
//! Locks: all of it is under the partition's lock, except that a hit gives its entry a credit without it.

use super::Partition;
use super::racing::Field;
use super::room::{FIRST_EXTENT, blocks_for};
use crate::store::locks::step;
use pg_query_cache_eviction::{Entries, Id};
use std::sync::atomic::{AtomicU8, Ordering};

impl Partition {
    /// Marks a hit: the entry is spared by the next eviction. Writes only if it is not marked yet.
    #[inline(always)]
    pub fn touch(&self, block: u32) {
        let credit = self.credit_of(block);
        if credit.load(Ordering::Relaxed) == 0 {
            credit.store(1, Ordering::Relaxed);
        }
    }

    /// Whether an entry would be spared.
    pub fn has_credit(&self, block: u32) -> bool {
        self.credit_of(block).load(Ordering::Relaxed) != 0
    }

    /// One for two blocks: no entry is smaller.
    fn credit_of(&self, block: u32) -> &'static AtomicU8 {
        const { assert!(FIRST_EXTENT == 2) };
        // SAFETY: the layout reserves one byte for two blocks.
        unsafe {
            &*self
                .base
                .add(self.layout.credit_at + block as usize / 2)
                .cast::<AtomicU8>()
        }
    }
}

/// The eviction queue's links, in the entries themselves. Used under the lock.
impl Entries for Partition {
    fn next(&self, id: Id) -> Id {
        // SAFETY: the first block of a live entry.
        unsafe { Field::get(&raw mut (*self.entry(id)).queue_next) }
    }
    fn previous(&self, id: Id) -> Id {
        // SAFETY: as above.
        unsafe { Field::get(&raw mut (*self.entry(id)).queue_previous) }
    }
    fn set_next(&mut self, id: Id, next: Id) {
        // SAFETY: as above.
        unsafe { Field::set(&raw mut (*self.entry(id)).queue_next, next) }
    }
    fn set_previous(&mut self, id: Id, previous: Id) {
        // SAFETY: as above.
        unsafe { Field::set(&raw mut (*self.entry(id)).queue_previous, previous) }
    }
    fn credit(&self, id: Id) -> u8 {
        step(1);
        self.credit_of(id).load(Ordering::Relaxed)
    }
    fn set_credit(&mut self, id: Id, credit: u8) {
        self.credit_of(id).store(credit, Ordering::Relaxed);
    }
    fn established(&self, id: Id) -> bool {
        // SAFETY: as above.
        unsafe { Field::get(&raw mut (*self.entry(id)).established) == 1 }
    }
    fn set_established(&mut self, id: Id, established: bool) {
        // SAFETY: as above.
        unsafe {
            Field::set(
                &raw mut (*self.entry(id)).established,
                u8::from(established),
            )
        }
    }
    fn weight(&self, id: Id) -> u32 {
        blocks_for(self.copy_entry(id).payload())
    }
    fn hash(&self, id: Id) -> u64 {
        self.hash_of(id)
    }
    fn ghosts(&mut self) -> &mut [u64] {
        // SAFETY: the layout reserves the words, which nobody touches without the lock; it is held, and not shared.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.base.add(self.layout.ghosts_at).cast::<u64>(),
                self.layout.ghosts,
            )
        }
    }
}
