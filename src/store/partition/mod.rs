//! A partition: a part of the area with a lock of its own, and the entries in it.
//!
//! * `entry`: what an entry is; its fixed fields
//! * `buckets`: finding an entry by the hash of its key, without a lock too
//! * `room`: blocks that lie together; taking them and giving them back
//! * `cursor`: reading and writing the bytes of an entry, over all its extents
//! * `queue`: what the eviction queue keeps of an entry
//! * `owners`: the entries of each database
//! * `racing`: memory that others may be changing
//!
//! Here is the partition itself: its head, its blocks and the maps of them. What is guarded by what:
//!
//! | part | written | read |
//! |---|---|---|
//! | head (queue, counts), `used`, `heads`, `ghosts`, `owners` | under the partition's lock | under the lock, which may be shared |
//! | `buckets` | under the lock, atomically | without a lock |
//! | `credit` | by anyone, atomically | under the lock |
//! | blocks of a live entry | never after it went live (its links: under the lock; its hits: under the shared lock) | without a lock |
//! | free or reserved blocks | by whoever reserved them | by nobody on purpose |
//!
//! What is changed on the word of a reader (`credit`), and what says under the lock where entries begin (`heads`), lies in arrays of its
//! own, never among the bytes of users.
//!
//! Nothing here takes the lock: callers do (`super::insert`), and "under the lock" in a comment is their promise.

#![allow(unsafe_code)]

mod buckets;
mod cursor;
mod entry;
mod owners;
mod queue;
mod racing;
mod room;

pub use entry::{EntryHead, Kind, LEFT_OUT, NEVER_PERSISTED};
pub use owners::OWNERS_BYTES;
pub use room::{Claim, blocks_for};

use super::layout::{BLOCK, Layout, PARTITION_HEAD_BYTES};
use pg_query_cache_eviction::{NIL, Queue};
use pg_query_cache_space::{Space, words_for};
use racing::Field;
use room::EXTENT_HEAD;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Head of a partition. Guarded by the partition's lock; the counts may be read without it, for statistics.
#[repr(C)]
pub struct Head {
    /// Entries for eviction.
    queue: UnsafeCell<Queue>,
    /// Where the search for free blocks begins.
    search_from: AtomicU32,
    /// The number that the next entry gets.
    next_serial: AtomicU32,
    /// Number of free blocks.
    free_count: AtomicU32,
    /// Number of entries.
    pub entries: AtomicU32,
    /// Changes of the set of entries; lets a scan notice that it has to look again.
    pub changes: AtomicU64,
}
const _: () = assert!(size_of::<Head>() <= PARTITION_HEAD_BYTES);

/// A partition of the attached area.
#[derive(Clone, Copy)]
pub struct Partition {
    base: *mut u8,
    /// Its number, which is also the number of its lock.
    pub index: u32,
    layout: &'static Layout,
}

impl Partition {
    /// The partition at `base`.
    ///
    /// # Safety
    /// `base` points to `layout.partition_bytes` of the shared area.
    #[inline(always)]
    pub unsafe fn at(base: *mut u8, index: u32, layout: &'static Layout) -> Self {
        Partition {
            base,
            index,
            layout,
        }
    }

    /// Makes an empty partition out of zeroed memory.
    pub fn initialise(&self) {
        let head = self.head();
        // SAFETY: nobody else sees the area yet.
        unsafe { head.queue.get().write(Queue::new()) };
        head.free_count.store(self.layout.blocks, Ordering::Relaxed);
        self.initialise_owners();
        for bucket in 0..self.layout.buckets {
            self.bucket(u64::from(bucket))
                .store(u64::from(NIL), Ordering::Relaxed);
        }
    }

    /// The head; its counts may be read at any time.
    pub fn head(&self) -> &'static Head {
        // SAFETY: the partition begins with it; its fields are atomic, or in a cell that is opened under the lock.
        unsafe { &*self.base.cast::<Head>() }
    }

    /// Works on the eviction queue. Under the lock.
    pub fn with_queue<R>(&self, work: impl FnOnce(&mut Queue, &mut Partition) -> R) -> R {
        let place = self.head().queue.get();
        // SAFETY: the lock is held, and the queue touched by nobody else; `work` has a copy, so that nothing borrows shared memory.
        let mut queue = unsafe { place.read() };
        let result = work(&mut queue, &mut { *self });
        // SAFETY: as above.
        unsafe { place.write(queue) };
        result
    }

    /// Counts of entries and free blocks.
    pub fn counts(&self) -> (u32, u32) {
        let head = self.head();
        (
            head.entries.load(Ordering::Relaxed),
            head.free_count.load(Ordering::Relaxed),
        )
    }

    /// Number of blocks.
    pub fn blocks(&self) -> u32 {
        self.layout.blocks
    }

    /// Whether an entry can begin at a block.
    #[inline(always)]
    pub fn has(&self, block: u32) -> bool {
        block < self.layout.blocks - 1
    }

    #[inline(always)]
    fn block(&self, block: u32) -> *mut u8 {
        // SAFETY: the layout reserves the blocks; callers clamp the number.
        unsafe {
            self.base
                .add(self.layout.blocks_at + block as usize * BLOCK)
        }
    }

    /// Place of the fixed fields of an entry.
    #[inline(always)]
    fn entry(&self, block: u32) -> *mut EntryHead {
        // SAFETY: callers look whether the partition has the block, and with it the one after it.
        unsafe { self.block(block).add(EXTENT_HEAD).cast() }
    }

    /// The hash of an entry's key, without the rest of it: a walk through a bucket needs no more of most. Verified as below.
    #[inline(always)]
    pub fn hash_of(&self, block: u32) -> u64 {
        // SAFETY: inside the partition, any bytes make a number.
        unsafe { Field::get(&raw mut (*self.entry(block)).hash) }
    }

    /// A copy of the fixed fields, which the caller verifies by the bucket afterwards, unless it has the lock.
    #[inline(always)]
    pub fn copy_entry(&self, block: u32) -> EntryHead {
        // SAFETY: inside the partition, any bytes make a valid EntryHead. The copy may be torn; the bucket tells.
        unsafe { entry::load(self.entry(block)) }
    }

    /// Writes the fixed fields of an entry into blocks that the caller has reserved.
    pub fn write_entry(&self, block: u32, entry: &EntryHead) {
        // SAFETY: inside the partition; the blocks are the caller's.
        unsafe { entry::store(self.entry(block), entry) }
    }

    /// Changes the fields of an entry that say so ([`EntryHead::hits_written`], [`EntryHead::persisted`]). Under the lock.
    pub fn amend(&self, block: u32, change: impl FnOnce(&mut EntryHead)) {
        let mut copy = self.copy_entry(block);
        change(&mut copy);
        let entry = self.entry(block);
        // SAFETY: inside the partition; the lock is held.
        unsafe {
            Field::set(&raw mut (*entry).hits_written, copy.hits_written);
            Field::set(&raw mut (*entry).persisted, copy.persisted);
        }
    }

    /// Counts hits of an entry. Under the lock, which may be shared.
    pub fn count_hits(&self, block: u32, more: u32) {
        // SAFETY: inside the partition; an aligned word.
        let hits = unsafe { AtomicU32::from_ptr(&raw mut (*self.entry(block)).hits) };
        let before = hits.fetch_add(more, Ordering::Relaxed);
        if before.checked_add(more).is_none() {
            hits.store(u32::MAX, Ordering::Relaxed);
        }
    }

    /// A map of the blocks. Changed under the lock, read under the lock, which may be shared.
    fn space(&self, at: usize) -> Space<'static> {
        // SAFETY: the layout reserves the words of both maps.
        let words = unsafe {
            std::slice::from_raw_parts(
                self.base.add(at).cast::<AtomicU64>(),
                words_for(self.layout.blocks),
            )
        };
        Space::new(words, self.layout.blocks)
    }

    /// The blocks that are taken. Under the lock.
    fn used(&self) -> Space<'static> {
        self.space(self.layout.used_at)
    }

    /// The blocks at which a live entry begins. Under the lock.
    pub fn heads(&self) -> Space<'static> {
        self.space(self.layout.heads_at)
    }

    /// Whether `block` begins the live entry with this serial number. Under the lock.
    pub fn is_alive(&self, block: u32, serial: u32) -> bool {
        self.has(block)
            && self.heads().is_taken(block)
            // SAFETY: inside the partition.
            && unsafe { Field::get(&raw mut (*self.entry(block)).serial) } == serial
    }

    /// Gives a reserved entry, about to go live, a number of its own. Under the lock.
    pub fn number(&self, block: u32) -> u32 {
        let serial = self.head().next_serial.fetch_add(1, Ordering::Relaxed);
        // SAFETY: inside the partition; the block is the caller's.
        unsafe { Field::set(&raw mut (*self.entry(block)).serial, serial) };
        serial
    }
}
