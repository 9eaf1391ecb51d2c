//! A partition: entries in blocks, in buckets and in the eviction queue.
//!
//! ```text
//! extent = blocks that lie together: how many, the next extent, bytes
//! entry  = a chain of extents, mostly one; its bytes: fixed fields, dependencies, rest of the key, value
//! ```
//!
//! What is guarded by what:
//!
//! | part | written | read |
//! |---|---|---|
//! | head (queue, counts), `used`, `heads`, `ghosts` | under the partition's lock | under the lock |
//! | `buckets` | under the lock, atomically | without a lock |
//! | `credit` | by anyone, atomically | under the lock |
//! | blocks of a live entry | never after it went live (its links and hits: under the lock) | without a lock |
//! | free or reserved blocks | by whoever reserved them | by nobody on purpose |
//!
//! A bucket is one word: its first entry, and a version that changes whenever an entry joins or leaves the bucket. A reader without a
//! lock reads the word, follows the bucket, copies what it wants, and reads the word again: if it is the same, no entry has left the
//! bucket meanwhile, so none of their blocks was given to anybody else, and what was copied is the entry. Until it knows, a reader takes
//! nothing for granted: it may be looking at bytes that a user has made. Every number that it follows is checked against the size of the
//! partition, every walk has an end, and nothing that it found leaves before the word was compared. (Sequence lock: Lamport,
//! "Concurrent Reading and Writing", CACM 1977.)
//!
//! What is changed on the word of a reader (`credit`), and what says under the lock where entries begin (`heads`), lies in arrays of its
//! own, never among the bytes of users.

#![allow(unsafe_code)]

use super::layout::{BLOCK, Layout, PARTITION_HEAD_BYTES};
use crate::validity::Dependency;
use pg_query_cache_eviction::{Entries, Id, NIL, Queue};
use pg_query_cache_space::{Space, words_for};
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

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

/// Fixed fields of an entry, at the start of its first extent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EntryHead {
    /// Hash of the key.
    pub hash: u64,
    /// When the value was computed, microseconds since 2000-01-01.
    pub created_at: i64,
    /// When it stops being served.
    pub expires_at: i64,
    /// Oid of the database. With that of the function the first bytes of the key.
    pub database: u32,
    /// Oid of the cached function.
    pub function: u32,
    /// Next entry in the bucket. Written under the lock, atomically.
    bucket_next: u32,
    /// Bytes of the key after database and function.
    key_rest: u32,
    /// Bytes of the value.
    pub value_length: u32,
    /// Number of dependencies.
    pub dependencies: u16,
    /// A [`Kind`].
    pub kind: u8,
    /// Priority of the function, 0 to 3.
    pub priority: u8,
    /// How long the function took, in microseconds.
    pub cost_us: u32,
    /// Tells the entry from those that had its place before, and will have it.
    serial: u32,
    /// Links of the eviction queue. Under the lock.
    queue_next: Id,
    queue_previous: Id,
    /// Hits handed over so far. Under the lock.
    pub hits: u32,
    /// The hits that its row in the table tier has. Under the lock.
    pub hits_written: u32,
    /// 1 once the table tier has it, or [`NEVER_PERSISTED`]. Under the lock.
    pub persisted: u8,
    /// 1 if it was kept for age alone (`consistency: ttl`).
    pub by_age: u8,
    /// 1 if it has one of the places of its database ([`super::area::Places`]).
    pub placed: u8,
    /// 1 if the eviction queue has it among the established ones. Under the lock.
    established: u8,
}
/// Bytes of the fixed fields.
const ENTRY_HEAD: usize = size_of::<EntryHead>();
const _: () = assert!(ENTRY_HEAD == 80 && align_of::<EntryHead>() == 8);

/// Bytes before those of an extent: how many blocks it has, and the first block of the next extent.
const EXTENT_HEAD: usize = 8;
/// The fixed fields of an entry lie together.
const FIRST_EXTENT: u32 = (EXTENT_HEAD + ENTRY_HEAD).div_ceil(BLOCK) as u32;
/// Extents shorter than this are a last resort: an entry is read faster in one piece.
const SHORT_EXTENT: u32 = 8;

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
            database,
            function,
            bucket_next: NIL,
            key_rest: 0,
            value_length: 0,
            dependencies: 0,
            kind: kind as u8,
            priority: 0,
            cost_us: 0,
            serial: 0,
            queue_next: NIL,
            queue_previous: NIL,
            hits: 0,
            hits_written: 0,
            persisted: 0,
            by_age: 0,
            placed: 0,
            established: 0,
        }
    }

    /// What database and function are in a key.
    pub fn key_start(&self) -> [u8; 8] {
        let mut start = [0; 8];
        start[..4].copy_from_slice(&self.database.to_le_bytes());
        start[4..].copy_from_slice(&self.function.to_le_bytes());
        start
    }

    /// What of `key` is kept besides database and function; `None` if it is the key of another database or function.
    pub fn rest_of<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        key.strip_prefix(&self.key_start())
    }

    /// Whether the entry can be the one of `key`: the rest of the key has to be compared with that of the entry.
    #[inline(always)]
    pub fn may_have(&self, hash: u64, key: &[u8]) -> bool {
        self.hash == hash
            && key.len() == self.key_rest as usize + self.key_start().len()
            && key.starts_with(&self.key_start())
    }

    /// Sets the lengths of what follows the fixed fields. `false` if one is more than can be.
    pub fn measure(&mut self, dependencies: usize, key_rest: usize, value: usize) -> bool {
        match (
            dependencies.try_into(),
            key_rest.try_into(),
            value.try_into(),
        ) {
            (Ok(dependencies), Ok(key_rest), Ok(value)) => {
                (self.dependencies, self.key_rest, self.value_length) =
                    (dependencies, key_rest, value);
                true
            }
            _ => false,
        }
    }

    /// Tells the entry from the others that had its place, or will.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Bytes of the dependencies.
    #[inline(always)]
    pub fn dependency_bytes(&self) -> usize {
        self.dependencies as usize * size_of::<Dependency>()
    }

    /// Bytes of the rest of the key.
    #[inline(always)]
    pub fn key_rest(&self) -> usize {
        self.key_rest as usize
    }

    /// Bytes of dependencies, key and value together.
    pub fn payload(&self) -> usize {
        self.dependency_bytes() + self.key_rest() + self.value_length as usize
    }
}

/// Blocks that an entry with so many bytes of payload takes if it lies in one piece.
pub fn blocks_for(payload: usize) -> u32 {
    (EXTENT_HEAD + ENTRY_HEAD + payload).div_ceil(BLOCK) as u32
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

    /// The bucket of `hash`: in the lower half its first entry, in the upper half its version.
    #[inline(always)]
    pub fn bucket(&self, hash: u64) -> &'static AtomicU64 {
        let index = hash as u32 & (self.layout.buckets - 1);
        // SAFETY: the layout reserves `buckets` words, a power of two.
        unsafe {
            &*self
                .base
                .add(self.layout.buckets_at)
                .cast::<AtomicU64>()
                .add(index as usize)
        }
    }

    /// Whether the bucket of `hash` is still what it was. Orders the reads before it.
    #[inline(always)]
    pub fn unchanged(&self, hash: u64, bucket: u64) -> bool {
        fence(Ordering::Acquire);
        self.bucket(hash).load(Ordering::Relaxed) == bucket
    }

    /// Makes `first` the first entry of the bucket of `hash`, which is another bucket from then on. Under the lock. Whoever writes into
    /// blocks that this has freed does so after readers can see it.
    fn change_bucket(&self, hash: u64, first: u32) {
        let bucket = self.bucket(hash);
        let version = (bucket.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        bucket.store(version << 32 | u64::from(first), Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// First entry of the bucket of `hash`.
    fn first_in_bucket(&self, hash: u64) -> u32 {
        self.bucket(hash).load(Ordering::Acquire) as u32
    }

    /// Adds an entry to its bucket. Under the lock.
    pub fn link(&self, block: u32, hash: u64) {
        self.set_bucket_next(block, self.first_in_bucket(hash));
        self.change_bucket(hash, block);
    }

    /// Takes an entry out of its bucket. Under the lock.
    pub fn unlink(&self, block: u32, hash: u64) {
        let next = self.bucket_next(block);
        let first = self.first_in_bucket(hash);
        if first == block {
            return self.change_bucket(hash, next);
        }
        let mut at = first;
        while self.has(at) {
            let after = self.bucket_next(at);
            if after == block {
                self.set_bucket_next(at, next);
                break;
            }
            at = after;
        }
        self.change_bucket(hash, first);
    }

    /// The entry of `key`. Under the lock.
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let mut block = self.first_in_bucket(hash);
        while self.has(block) {
            // SAFETY: the lock is held; the block begins a live entry.
            let entry = unsafe { &*self.entry(block) };
            if let Some(rest) = entry.rest_of(key)
                && entry.may_have(hash, key)
            {
                let mut cursor = self.payload(block);
                cursor.skip(entry.dependency_bytes());
                if cursor.equals(rest) {
                    return Some(block);
                }
            }
            block = self.bucket_next(block);
        }
        None
    }

    /// Marks a hit: the entry is spared by the next eviction. Writes only if it is not marked yet.
    #[inline(always)]
    pub fn touch(&self, block: u32) {
        let credit = self.credit_of(block);
        if credit.load(Ordering::Relaxed) == 0 {
            credit.store(1, Ordering::Relaxed);
        }
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

    /// A copy of the fixed fields, which the caller verifies by the bucket afterwards.
    #[inline(always)]
    pub fn copy_entry(&self, block: u32) -> EntryHead {
        // SAFETY: inside the partition, any bytes make a valid EntryHead. The copy may be torn; the bucket tells.
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

    fn set_bucket_next(&self, block: u32, next: u32) {
        // SAFETY: as above; under the lock.
        unsafe {
            (*(&raw mut (*self.entry(block)).bucket_next).cast::<AtomicU32>())
                .store(next, Ordering::Release)
        }
    }

    /// A cursor at the first byte of an entry's payload.
    #[inline(always)]
    pub fn payload(&self, block: u32) -> Cursor {
        let mut cursor = Cursor {
            partition: *self,
            at: std::ptr::null_mut(),
            left: 0,
            next: block,
        };
        cursor.skip(ENTRY_HEAD);
        cursor
    }

    /// The blocks of an extent and the first block of the next one; `None` if there can be no such extent (a torn read).
    #[inline(always)]
    fn extent(&self, block: u32) -> Option<(Range<u32>, u32)> {
        if block >= self.layout.blocks {
            return None;
        }
        // SAFETY: the two words at the beginning of a block of the partition; read atomically, as they may be changing.
        let (count, next) = unsafe {
            let words = self.block(block).cast::<AtomicU32>();
            (
                (*words).load(Ordering::Relaxed),
                (*words.add(1)).load(Ordering::Relaxed),
            )
        };
        let end = block.checked_add(count)?;
        (count > 0 && end <= self.layout.blocks).then_some((block..end, next))
    }

    /// Makes an extent of blocks that the caller has taken.
    fn set_extent(&self, run: &Range<u32>, next: u32) {
        // SAFETY: the two words at the beginning of a block of the partition that is nobody else's.
        unsafe {
            let words = self.block(run.start).cast::<AtomicU32>();
            (*words).store(run.end - run.start, Ordering::Relaxed);
            (*words.add(1)).store(next, Ordering::Relaxed);
        }
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

    /// Takes room for an entry with so many bytes of payload: one extent if there is one as long, else several. Returns its first block,
    /// `None` if there is not enough. Under the lock.
    pub fn allocate(&self, payload: usize) -> Option<u32> {
        // SAFETY: the lock is held.
        let head = unsafe { &mut *self.head_mut() };
        let (free, wanted) = (head.free_count.load(Ordering::Relaxed), blocks_for(payload));
        if free < wanted {
            return None;
        }
        let mut used = self.used();
        let pieces = match used.find(head.search_from, wanted) {
            Some(run) => vec![run],
            // If much is free and nowhere together, it is taken as it comes.
            None if free / 2 >= wanted => pieces(&used, payload, 1)?,
            None => pieces(&used, payload, SHORT_EXTENT)?,
        };
        for (i, run) in pieces.iter().enumerate() {
            let next = pieces.get(i + 1).map_or(NIL, |next| next.start);
            self.set_extent(run, next);
            used.take(run.clone());
            head.free_count
                .fetch_sub(run.end - run.start, Ordering::Relaxed);
            head.search_from = run.end;
        }
        Some(pieces.first()?.start)
    }

    /// Frees the blocks of an entry that no reader can find any more. Under the lock.
    pub fn release(&self, block: u32) {
        // SAFETY: the lock is held.
        let head = unsafe { &mut *self.head_mut() };
        let mut used = self.used();
        head.search_from = block;
        let mut at = block;
        while let Some((run, next)) = self.extent(at) {
            head.free_count
                .fetch_add(run.end - run.start, Ordering::Relaxed);
            used.free(run);
            at = next;
        }
    }
}

/// Free runs of at least `shortest` blocks that an entry with so many bytes of payload fits into, the fixed fields into the first one.
fn pieces(used: &Space<'_>, payload: usize, shortest: u32) -> Option<Vec<Range<u32>>> {
    let (mut pieces, mut from, mut left) = (Vec::new(), 0, ENTRY_HEAD + payload);
    while left > 0 {
        let most = (EXTENT_HEAD + left).div_ceil(BLOCK) as u32;
        let least = if pieces.is_empty() {
            shortest.max(FIRST_EXTENT)
        } else {
            shortest.min(most)
        };
        let run = used.next_run(from, most);
        if run.is_empty() {
            return None;
        }
        // Past the block that ends the run.
        from = run.end + 1;
        if run.len() >= least as usize {
            left = left.saturating_sub(run.len() * BLOCK - EXTENT_HEAD);
            pieces.push(run);
        }
    }
    Some(pieces)
}

/// A position in the payload of an entry.
#[derive(Clone, Copy)]
pub struct Cursor {
    partition: Partition,
    /// The next byte.
    at: *mut u8,
    /// Bytes from there to the end of the extent.
    left: usize,
    /// The extent after it.
    next: u32,
}

impl Cursor {
    /// The next run of at most `length` bytes, more than none, that lie together; `None` if the chain ends (a torn read).
    #[inline(always)]
    fn run(&mut self, length: usize) -> Option<(*mut u8, usize)> {
        if self.left == 0 {
            let (extent, next) = self.partition.extent(self.next)?;
            // SAFETY: the extent lies inside the partition; its bytes begin after its head.
            self.at = unsafe { self.partition.block(extent.start).add(EXTENT_HEAD) };
            self.left = extent.len() * BLOCK - EXTENT_HEAD;
            self.next = next;
        }
        let (start, run) = (self.at, self.left.min(length));
        // SAFETY: not beyond the end of the extent.
        self.at = unsafe { start.add(run) };
        self.left -= run;
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
            // SAFETY: `run` bytes lie inside the partition. They may change meanwhile; the bucket tells the caller.
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
            // SAFETY: `run` bytes lie inside the partition. They may change meanwhile; the bucket tells the caller.
            if unsafe { std::slice::from_raw_parts(from, run) } != &bytes[..run] {
                return false;
            }
            bytes = &bytes[run..];
        }
        true
    }

    /// Writes `bytes` into extents that the caller has reserved, long enough.
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
    fn next(&self, id: Id) -> Id {
        // SAFETY: the first block of a live entry; the lock is held.
        unsafe { (*self.entry(id)).queue_next }
    }
    fn previous(&self, id: Id) -> Id {
        // SAFETY: as above.
        unsafe { (*self.entry(id)).queue_previous }
    }
    fn set_next(&mut self, id: Id, next: Id) {
        // SAFETY: as above.
        unsafe { (*self.entry(id)).queue_next = next }
    }
    fn set_previous(&mut self, id: Id, previous: Id) {
        // SAFETY: as above.
        unsafe { (*self.entry(id)).queue_previous = previous }
    }
    fn credit(&self, id: Id) -> u8 {
        self.credit_of(id).load(Ordering::Relaxed)
    }
    fn set_credit(&mut self, id: Id, credit: u8) {
        self.credit_of(id).store(credit, Ordering::Relaxed);
    }
    fn established(&self, id: Id) -> bool {
        // SAFETY: as above.
        unsafe { (*self.entry(id)).established == 1 }
    }
    fn set_established(&mut self, id: Id, established: bool) {
        // SAFETY: as above.
        unsafe { (*self.entry(id)).established = u8::from(established) }
    }
    fn weight(&self, id: Id) -> u32 {
        // SAFETY: as above; the lengths do not change while the entry lives.
        blocks_for(unsafe { (*self.entry(id)).payload() })
    }
    fn hash(&self, id: Id) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.entry(id)).hash }
    }
    fn ghosts(&mut self) -> &mut [u64] {
        // SAFETY: the layout reserves the words, which nothing else uses; the lock is held.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.base.add(self.layout.ghosts_at).cast::<u64>(),
                self.layout.ghosts,
            )
        }
    }
}
