//! A partition: blocks in chains, entries in buckets and in the eviction queue.
//!
//! What is guarded by what:
//!
//! | part | written | read |
//! |---|---|---|
//! | head (free list, queue, counts) | under the partition's lock | under the lock |
//! | `buckets`, `next`, `state` | under the lock, atomically | without a lock |
//! | `credit` | by anyone, atomically | under the lock |
//! | block of a live entry | never after it went live (its links and hits: under the lock) | without a lock |
//! | free or reserved block | by whoever reserved it | by nobody on purpose |
//!
//! `state[b]` is odd exactly while block `b` is the head of a live entry, and changes whenever that changes. A reader without a
//! lock reads `state`, copies what it wants, and compares `state` again: if it is the same, the entry was live all the time, so
//! its blocks were not touched and what was copied is the entry. What lies in `state`, `next`, `buckets` and `credit` is never
//! mixed with bytes of users, so no value can be made to look like one of them.

#![allow(unsafe_code)]

use super::layout::{BLOCK, Layout, PARTITION_HEAD_BYTES};
use pg_query_cache_eviction::{Entries, Id, NIL, Sieve};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

/// Head of a partition. Guarded by the partition's lock; the counts may be read without it, for statistics.
#[repr(C)]
pub struct Head {
    /// Entries for eviction.
    pub queue: Sieve,
    /// First free block.
    pub free: u32,
    /// Number of free blocks.
    pub free_count: AtomicU32,
    /// Number of entries.
    pub entries: AtomicU32,
    /// Changes of the set of entries; lets a scan notice that it has to look again.
    pub changes: AtomicU64,
}
const _: () = assert!(size_of::<Head>() <= PARTITION_HEAD_BYTES);

/// How a value is kept.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SQL NULL.
    Null = 0,
    /// The bytes of one Datum.
    Scalar = 1,
    /// Rows, each with its length.
    Rows = 2,
}

/// In [`EntryHead::persisted`]: the table tier does not want it, for it is in a table anyway (a value of the application).
pub const NEVER_PERSISTED: u8 = 2;

/// Fixed fields of an entry, at the start of its head block.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EntryHead {
    /// Hash of the key.
    pub hash: u64,
    /// When the value was computed, microseconds since 2000-01-01.
    pub created_at: i64,
    /// When it stops being served.
    pub expires_at: i64,
    /// Next entry in the bucket. Written under the lock, atomically.
    bucket_next: u32,
    /// Links of the eviction queue. Under the lock.
    newer: Id,
    older: Id,
    /// Hits handed over so far. Under the lock.
    pub hits: u32,
    /// Oid of the database.
    pub database: u32,
    /// Oid of the cached function.
    pub function: u32,
    /// Bytes of the key.
    pub key_length: u32,
    /// Bytes of the value.
    pub value_length: u32,
    /// How long the function took, in microseconds.
    pub cost_us: u32,
    /// Number of dependencies.
    pub dependencies: u16,
    /// Priority of the function, 0 to 3.
    pub priority: u8,
    /// A [`Kind`].
    pub kind: u8,
    /// 1 once the table tier has it, or [`NEVER_PERSISTED`]. Under the lock.
    pub persisted: u8,
    /// 1 if it was kept for age alone (`consistency: ttl`).
    pub by_age: u8,
    /// 1 if it has one of the places of its database ([`super::area::Places`]).
    pub placed: u8,
    reserved: [u8; 1],
    /// The hits that its row in the table tier has. Under the lock.
    pub hits_written: u32,
}
/// Bytes of the fixed fields; what follows in the head block belongs to the chain.
pub const ENTRY_HEAD: usize = size_of::<EntryHead>();
const _: () = assert!(ENTRY_HEAD == 72 && align_of::<EntryHead>() == 8);

impl EntryHead {
    /// Fields of a new entry that is in no list yet.
    pub fn new(
        hash: u64,
        created_at: i64,
        expires_at: i64,
        database: u32,
        function: u32,
        kind: Kind,
    ) -> Self {
        EntryHead {
            hash,
            created_at,
            expires_at,
            bucket_next: NIL,
            newer: NIL,
            older: NIL,
            hits: 0,
            database,
            function,
            key_length: 0,
            value_length: 0,
            cost_us: 0,
            dependencies: 0,
            priority: 0,
            kind: kind as u8,
            persisted: 0,
            by_age: 0,
            placed: 0,
            reserved: [0; 1],
            hits_written: 0,
        }
    }

    /// Bytes of dependencies, key and value together.
    pub fn payload(&self) -> usize {
        self.dependencies as usize * size_of::<crate::validity::Dependency>()
            + self.key_length as usize
            + self.value_length as usize
    }
}

/// Blocks that an entry with so many bytes of payload takes.
pub fn blocks_for(payload: usize) -> u32 {
    (payload + ENTRY_HEAD).div_ceil(BLOCK) as u32
}

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
            (*head).queue = Sieve::new();
            (*head).free = 0;
            (*head)
                .free_count
                .store(self.layout.blocks, Ordering::Relaxed);
        }
        for block in 0..self.layout.blocks {
            self.set_next(
                block,
                if block + 1 < self.layout.blocks {
                    block + 1
                } else {
                    NIL
                },
            );
        }
        for bucket in 0..self.layout.buckets {
            self.bucket(u64::from(bucket)).store(NIL, Ordering::Relaxed);
        }
    }

    fn words(&self, offset: usize, index: u32) -> &'static AtomicU32 {
        // SAFETY: the layout reserves the words; callers clamp the index.
        unsafe {
            &*self
                .base
                .add(offset + index as usize * 4)
                .cast::<AtomicU32>()
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

    /// First entry of the bucket of `hash`.
    #[inline(always)]
    pub fn bucket(&self, hash: u64) -> &'static AtomicU32 {
        self.words(
            self.layout.buckets_at,
            hash as u32 & (self.layout.buckets - 1),
        )
    }

    /// State of a block; see the head of this file.
    #[inline(always)]
    pub fn state(&self, block: u32) -> &'static AtomicU32 {
        self.words(self.layout.state_at, block)
    }

    /// Whether `state` is still what it was. Orders the reads before it.
    #[inline(always)]
    pub fn unchanged(&self, block: u32, state: u32) -> bool {
        fence(Ordering::Acquire);
        self.state(block).load(Ordering::Relaxed) == state
    }

    /// The block after `block` in its chain, or in the free list.
    #[inline(always)]
    pub fn next(&self, block: u32) -> u32 {
        self.words(self.layout.next_at, block)
            .load(Ordering::Relaxed)
    }

    /// Sets what [`Partition::next`] returns.
    pub fn set_next(&self, block: u32, next: u32) {
        self.words(self.layout.next_at, block)
            .store(next, Ordering::Relaxed);
    }

    /// Marks a hit: the entry is spared by the next eviction. Writes only if it is not marked yet.
    #[inline(always)]
    pub fn touch(&self, block: u32) {
        let credit = self.credit_of(block);
        if credit.load(Ordering::Relaxed) == 0 {
            credit.store(1, Ordering::Relaxed);
        }
    }

    fn credit_of(&self, block: u32) -> &'static AtomicU8 {
        // SAFETY: the layout reserves one byte per block.
        unsafe {
            &*self
                .base
                .add(self.layout.credit_at + block as usize)
                .cast::<AtomicU8>()
        }
    }

    /// Whether a block number can be one.
    #[inline(always)]
    pub fn has(&self, block: u32) -> bool {
        block < self.layout.blocks
    }

    fn block(&self, block: u32) -> *mut u8 {
        // SAFETY: the layout reserves the blocks; callers clamp the number.
        unsafe {
            self.base
                .add(self.layout.blocks_at + block as usize * BLOCK)
        }
    }

    /// Fixed fields of an entry. Under the lock, or for a block that the caller has reserved.
    pub fn entry(&self, block: u32) -> *mut EntryHead {
        self.block(block).cast()
    }

    /// A copy of the fixed fields, which the caller verifies by `state` afterwards.
    #[inline(always)]
    pub fn copy_entry(&self, block: u32) -> EntryHead {
        // SAFETY: inside the partition, any bytes make a valid EntryHead. The copy may be torn; `state` tells.
        unsafe { self.entry(block).read_volatile() }
    }

    /// Next entry in the bucket.
    #[inline(always)]
    pub fn bucket_next(&self, block: u32) -> u32 {
        // SAFETY: an aligned word of the block; accessed atomically wherever it can change.
        unsafe {
            (*(&raw mut (*self.entry(block)).bucket_next).cast::<AtomicU32>())
                .load(Ordering::Acquire)
        }
    }

    /// Sets what [`Partition::bucket_next`] returns.
    pub fn set_bucket_next(&self, block: u32, next: u32) {
        // SAFETY: as above; under the lock.
        unsafe {
            (*(&raw mut (*self.entry(block)).bucket_next).cast::<AtomicU32>())
                .store(next, Ordering::Release)
        }
    }

    /// A cursor at the first byte of an entry's payload.
    #[inline(always)]
    pub fn payload(&self, block: u32) -> Cursor {
        Cursor {
            partition: *self,
            block,
            offset: ENTRY_HEAD,
        }
    }
}

/// A position in the payload of an entry.
#[derive(Clone, Copy)]
pub struct Cursor {
    partition: Partition,
    block: u32,
    offset: usize,
}

impl Cursor {
    /// The next run of at most `length` bytes that lie together; `None` if the chain ends (a torn read).
    #[inline(always)]
    fn run(&mut self, length: usize) -> Option<(*mut u8, usize)> {
        if self.offset == BLOCK {
            self.block = self.partition.next(self.block);
            self.offset = 0;
        }
        if !self.partition.has(self.block) {
            return None;
        }
        // SAFETY: the block is one of the partition, the offset below its size.
        let start = unsafe { self.partition.block(self.block).add(self.offset) };
        let mut run = (BLOCK - self.offset).min(length);
        self.offset += run;
        while run < length {
            let next = self.partition.next(self.block);
            if next != self.block + 1 || !self.partition.has(next) {
                break;
            }
            self.block = next;
            self.offset = BLOCK.min(length - run);
            run += self.offset;
        }
        Some((start, run))
    }

    /// Copies the next `length` bytes to `to`. `false` if the chain ends before.
    ///
    /// # Safety
    /// `to` has room for `length` bytes.
    #[inline(always)]
    pub unsafe fn copy_out(&mut self, mut to: *mut u8, mut length: usize) -> bool {
        while length > 0 {
            let Some((from, run)) = self.run(length) else {
                return false;
            };
            // SAFETY: `run` bytes lie inside the partition. They may change meanwhile; `state` tells the caller.
            unsafe {
                std::ptr::copy_nonoverlapping(from, to, run);
                to = to.add(run);
            }
            length -= run;
        }
        true
    }

    /// Passes over `length` bytes.
    #[inline(always)]
    pub fn skip(&mut self, mut length: usize) {
        while length > 0 {
            let Some((_, run)) = self.run(length) else {
                return;
            };
            length -= run;
        }
    }

    /// Whether the next bytes are `bytes`.
    #[inline(always)]
    pub fn equals(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let Some((from, run)) = self.run(bytes.len()) else {
                return false;
            };
            // SAFETY: `run` bytes lie inside the partition. They may change meanwhile; `state` tells the caller.
            if unsafe { std::slice::from_raw_parts(from, run) } != &bytes[..run] {
                return false;
            }
            bytes = &bytes[run..];
        }
        true
    }

    /// Writes `bytes` into a chain that the caller has reserved, long enough.
    pub fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some((to, run)) = self.run(bytes.len()) else {
                return;
            };
            // SAFETY: the blocks are reserved by the caller.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, run) };
            bytes = &bytes[run..];
        }
    }
}

/// The eviction queue's links, in the entries themselves. Used under the lock.
impl Entries for Partition {
    fn newer(&self, id: Id) -> Id {
        // SAFETY: the head block of a live entry; the lock is held.
        unsafe { (*self.entry(id)).newer }
    }
    fn older(&self, id: Id) -> Id {
        // SAFETY: as above.
        unsafe { (*self.entry(id)).older }
    }
    fn set_newer(&mut self, id: Id, newer: Id) {
        // SAFETY: as above.
        unsafe { (*self.entry(id)).newer = newer }
    }
    fn set_older(&mut self, id: Id, older: Id) {
        // SAFETY: as above.
        unsafe { (*self.entry(id)).older = older }
    }
    fn credit(&self, id: Id) -> u8 {
        self.credit_of(id).load(Ordering::Relaxed)
    }
    fn set_credit(&mut self, id: Id, credit: u8) {
        self.credit_of(id).store(credit, Ordering::Relaxed);
    }
}
