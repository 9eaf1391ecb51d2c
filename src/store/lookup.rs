//! Reading an entry: no lock, no write to shared memory but the credit of an entry that has none.

#![allow(unsafe_code)]

use super::area::Area;
use super::partition::{EntryHead, Kind, Partition};
use crate::server;
use crate::validity::Dependency;
use pgrx::pg_sys;
use std::sync::atomic::Ordering;

/// The most dependencies an entry can have; a result with more is not stored.
pub const MAX_DEPENDENCIES: usize = 64;
/// Longer walks through a bucket are given up: a reader that raced with changes may have strayed.
const MAX_STEPS: usize = 128;
/// How often a reader starts over before it calls the key missing.
const MAX_ATTEMPTS: usize = 4;

/// An entry found under a key, not yet known to be valid.
pub struct Found {
    partition: Partition,
    block: u32,
    /// The bucket in which it was found. While it stays the same the entry does.
    bucket: u64,
    /// Its fixed fields.
    pub head: EntryHead,
}

/// An entry that was found: which one, for counting its hits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryId {
    /// Number of the partition.
    pub partition: u32,
    /// Number of the first block.
    pub block: u32,
    /// Number of the entry among those that begin there.
    pub serial: u32,
}

/// Looks for the entry of `key`.
#[inline(always)]
pub fn find(area: Area, hash: u64, key: &[u8]) -> Option<Found> {
    let partition = area.partition_of(hash);
    'attempts: for _ in 0..MAX_ATTEMPTS {
        let bucket = partition.bucket(hash).load(Ordering::Acquire);
        let mut block = bucket as u32;
        for _ in 0..MAX_STEPS {
            if !partition.has(block) {
                break;
            }
            if partition.hash_of(block) == hash {
                let head = partition.copy_entry(block);
                let same = head.may_have(hash, key) && {
                    let mut cursor = partition.payload(block);
                    cursor.skip(head.dependency_bytes());
                    cursor.equals(&key[key.len() - head.key_rest()..])
                };
                if !partition.unchanged(hash, bucket) {
                    continue 'attempts;
                }
                if same {
                    return Some(Found {
                        partition,
                        block,
                        bucket,
                        head,
                    });
                }
            }
            block = partition.bucket_next(block);
        }
        if partition.unchanged(hash, bucket) {
            return None;
        }
    }
    None
}

impl Found {
    /// Which entry it is.
    pub fn id(&self) -> EntryId {
        EntryId {
            partition: self.partition.index,
            block: self.block,
            serial: self.head.serial(),
        }
    }

    /// Whether what was copied until now was this entry.
    #[inline(always)]
    fn is_unchanged(&self) -> bool {
        self.partition.unchanged(self.head.hash, self.bucket)
    }

    /// Copies the dependencies into `buffer`; `None` if the entry went away meanwhile.
    #[inline(always)]
    pub fn dependencies<'a>(
        &self,
        buffer: &'a mut [std::mem::MaybeUninit<Dependency>; MAX_DEPENDENCIES],
    ) -> Option<&'a [Dependency]> {
        let count = self.head.dependencies as usize;
        if count > MAX_DEPENDENCIES {
            return None;
        }
        let mut cursor = self.partition.payload(self.block);
        // SAFETY: the buffer has room; `count` dependencies are initialised by the copy; any bytes make a Dependency.
        let copied = unsafe {
            if !cursor.copy_out(buffer.as_mut_ptr().cast(), count * size_of::<Dependency>()) {
                return None;
            }
            std::slice::from_raw_parts(buffer.as_ptr().cast::<Dependency>(), count)
        };
        self.is_unchanged().then_some(copied)
    }

    /// Copies the value into memory of the current memory context; `None` if the entry went away meanwhile,
    /// or if there is no memory to be had.
    ///
    /// # Safety
    /// On the backend's main thread.
    #[inline(always)]
    pub unsafe fn value(&self) -> Option<*mut u8> {
        let length = self.head.value_length as usize;
        let mut cursor = self.partition.payload(self.block);
        cursor.skip(self.head.dependency_bytes() + self.head.key_rest());
        // SAFETY: room for `length` bytes, which are fewer than the most that may be asked for, or NULL: no ERROR is raised here.
        unsafe {
            let value = server::palloc_extended(length.max(1), pg_sys::MCXT_ALLOC_NO_OOM as i32)
                .cast::<u8>();
            if value.is_null() {
                return None;
            }
            if cursor.copy_out(value, length) && self.is_unchanged() {
                return Some(value);
            }
            server::pfree(value.cast());
        }
        None
    }

    /// The value's kind; `None` if it is none that we know, which must not be.
    #[inline(always)]
    pub fn kind(&self) -> Option<Kind> {
        match self.head.kind {
            0 => Some(Kind::Null),
            1 => Some(Kind::Scalar),
            2 => Some(Kind::Rows),
            _ => None,
        }
    }

    /// Marks the hit for the eviction.
    #[inline(always)]
    pub fn touch(&self) {
        self.partition.touch(self.block);
    }
}
