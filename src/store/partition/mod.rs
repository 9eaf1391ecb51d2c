//! A partition: a part of the area with a lock of its own, and the entries in it.
//!
//! * `entry`: what an entry is; its fixed fields
//! * `buckets`: finding an entry by the hash of its key, without a lock too
//! * `room`: blocks that lie together; taking them and giving them back
//! * `cursor`: reading and writing the bytes of an entry, over all its extents
//! * `queue`: what the eviction queue keeps of an entry
//!
//! Here is the partition itself: its head, its blocks and the maps of them. What is guarded by what:
//!
//! | part | written | read |
//! |---|---|---|
//! | head (queue, counts), `used`, `heads`, `ghosts` | under the partition's lock | under the lock |
//! | `buckets` | under the lock, atomically | without a lock |
//! | `credit` | by anyone, atomically | under the lock |
//! | blocks of a live entry | never after it went live (its links and hits: under the lock) | without a lock |
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
mod queue;
mod room;

pub use entry::{EntryHead, Kind, NEVER_PERSISTED};
pub use room::blocks_for;

use super::layout::{BLOCK, Layout, PARTITION_HEAD_BYTES};
use pg_query_cache_eviction::{NIL, Queue};
use pg_query_cache_space::{Space, words_for};
use room::EXTENT_HEAD;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Head of a partition. Guarded by the partition's lock; the counts may be read without it, for statistics.
#[repr(C)]
pub struct Head {
    /// Entries for eviction.
    pub queue: Queue,
    /// Where the search for free blocks begins.
    search_from: u32,
    /// The number that the next entry gets.
    next_serial: u32,
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
        // SAFETY: nobody else sees the area yet.
        unsafe {
            let head = self.head_mut();
            (*head).queue = Queue::new();
            (*head)
                .free_count
                .store(self.layout.blocks, Ordering::Relaxed);
        }
        for bucket in 0..self.layout.buckets {
            self.bucket(u64::from(bucket))
                .store(u64::from(NIL), Ordering::Relaxed);
        }
    }

    /// The head; to be read or written under the lock, its atomic counts at any time.
    pub fn head_mut(&self) -> *mut Head {
        self.base.cast()
    }

    /// Counts of entries and free blocks.
    pub fn counts(&self) -> (u32, u32) {
        // SAFETY: atomic fields of the head.
        unsafe {
            let head = self.head_mut();
            (
                (*head).entries.load(Ordering::Relaxed),
                (*head).free_count.load(Ordering::Relaxed),
            )
        }
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

    /// Fixed fields of an entry. Under the lock, or for a block that the caller has reserved.
    #[inline(always)]
    pub fn entry(&self, block: u32) -> *mut EntryHead {
        // SAFETY: callers look whether the partition has the block, and with it the one after it.
        unsafe { self.block(block).add(EXTENT_HEAD).cast() }
    }

    /// The hash of an entry's key, without the rest of it: a walk through a bucket needs no more of most. Verified as below.
    #[inline(always)]
    pub fn hash_of(&self, block: u32) -> u64 {
        // SAFETY: inside the partition, any bytes make a number.
        unsafe { (&raw const (*self.entry(block)).hash).read_volatile() }
    }

    /// A copy of the fixed fields, which the caller verifies by the bucket afterwards.
    #[inline(always)]
    pub fn copy_entry(&self, block: u32) -> EntryHead {
        // SAFETY: inside the partition, any bytes make a valid EntryHead. The copy may be torn; the bucket tells.
        unsafe { self.entry(block).read_volatile() }
    }

    /// A map of the blocks. Under the lock.
    fn space(&self, at: usize) -> Space<'static> {
        // SAFETY: the layout reserves the words of both maps; the lock is held, and callers keep one of them at a time.
        let words = unsafe {
            std::slice::from_raw_parts_mut(
                self.base.add(at).cast::<u64>(),
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
        // SAFETY: the lock is held; the block begins a live entry.
        self.has(block)
            && self.heads().is_taken(block)
            && unsafe { (*self.entry(block)).serial == serial }
    }

    /// Gives a reserved entry, about to go live, a number of its own. Under the lock.
    pub fn number(&self, block: u32) -> u32 {
        // SAFETY: the lock is held, the block is the caller's.
        unsafe {
            let head = self.head_mut();
            let serial = (*head).next_serial;
            (*head).next_serial = serial.wrapping_add(1);
            (*self.entry(block)).serial = serial;
            serial
        }
    }
}
