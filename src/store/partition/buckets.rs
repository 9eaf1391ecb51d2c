//! The buckets of a partition: the entries by the hash of their keys, for readers without a lock.
//!
//! A bucket is one word: its first entry, and a version that changes whenever an entry joins or leaves the bucket. A reader without a
//! lock reads the word, follows the bucket, copies what it wants, and reads the word again: if it is the same, no entry has left the
//! bucket meanwhile, so none of their blocks was given to anybody else, and what was copied is the entry. Until it knows, a reader takes
//! nothing for granted: it may be looking at bytes that a user has made. Every number that it follows is checked against the size of the
//! partition, every walk has an end, and nothing that it found leaves before the word was compared. (Sequence lock: Lamport,
//! "Concurrent Reading and Writing", CACM 1977.)
//!
//! Locks: buckets change under the partition's lock only, by atomic writes.

use super::Partition;
use crate::store::locks::step;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// A bucket has at most so many entries: one more makes its last one leave. (An area that is full has one to eight in each; who makes keys
/// that meet in one bucket drives out each other's.)
pub const MOST_IN_BUCKET: usize = 64;

impl Partition {
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
            step(1);
            let after = self.bucket_next(at);
            if after == block {
                self.set_bucket_next(at, next);
                break;
            }
            at = after;
        }
        self.change_bucket(hash, first);
    }

    /// Makes an entry the first one of its bucket, where it is found without a look at others. Readers of the bucket start over. Under the
    /// lock. (A list that puts forward what is asked for: McCabe, "On Serial Files with Relocatable Records", 1965.)
    pub fn put_first(&self, block: u32) {
        let hash = self.hash_of(block);
        if self.first_in_bucket(hash) != block {
            self.unlink(block, hash);
            self.link(block, hash);
        }
    }

    /// Whether an entry is the first one of its bucket. Under the lock, which may be shared.
    pub fn is_first(&self, block: u32) -> bool {
        self.first_in_bucket(self.hash_of(block)) == block
    }

    /// The entry of `key`. Under the lock.
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let mut block = self.first_in_bucket(hash);
        while self.has(block) {
            step(1);
            let entry = self.copy_entry(block);
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

    /// The last entry of the bucket of `hash`, if it has as many as it may. Under the lock.
    pub fn last_of_full_bucket(&self, hash: u64) -> Option<u32> {
        let (mut last, mut count) = (None, 0);
        let mut block = self.first_in_bucket(hash);
        while self.has(block) {
            step(1);
            (last, count) = (Some(block), count + 1);
            block = self.bucket_next(block);
        }
        last.filter(|_| count >= MOST_IN_BUCKET)
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
}
