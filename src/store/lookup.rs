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

/// An entry found under a key, not yet known to be valid or whole.
pub struct Found {
    partition: Partition,
    block: u32,
    state: u32,
    /// Its fixed fields.
    pub head: EntryHead,
}

/// An entry that was found: which one, for counting its hits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryId {
    /// Number of the partition.
    pub partition: u32,
    /// Number of the head block.
    pub block: u32,
    /// State of the head block while the entry lives.
    pub state: u32,
}

/// Looks for the entry of `key`.
#[inline(always)]
pub fn find(area: Area, hash: u64, key: &[u8]) -> Option<Found> {
    let partition = area.partition_of(hash);
    for _ in 0..MAX_ATTEMPTS {
        let mut block = partition.bucket(hash).load(Ordering::Acquire);
        let mut strayed = false;
        for _ in 0..MAX_STEPS {
            if !partition.has(block) {
                break;
            }
            let state = partition.state(block).load(Ordering::Acquire);
            let head = partition.copy_entry(block);
            if head.hash == hash && head.key_length as usize == key.len() {
                let mut cursor = partition.payload(block);
                cursor.skip(
                    (head.dependencies as usize).min(MAX_DEPENDENCIES) * size_of::<Dependency>(),
                );
                let same = cursor.equals(key);
                if state & 1 == 0 || !partition.unchanged(block, state) {
                    strayed = true;
                    break;
                }
                if same {
                    return Some(Found {
                        partition,
                        block,
                        state,
                        head,
                    });
                }
            }
            let next = partition.bucket_next(block);
            if state & 1 == 0 || !partition.unchanged(block, state) {
                strayed = true;
                break;
            }
            block = next;
        }
        if !strayed {
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
            state: self.state,
        }
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
        self.partition
            .unchanged(self.block, self.state)
            .then_some(copied)
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
        cursor.skip(
            self.head.dependencies as usize * size_of::<Dependency>()
                + self.head.key_length as usize,
        );
        // SAFETY: room for `length` bytes, which are fewer than the most that may be asked for, or NULL: no ERROR is raised here.
        unsafe {
            let value = server::palloc_extended(length.max(1), pg_sys::MCXT_ALLOC_NO_OOM as i32)
                .cast::<u8>();
            if value.is_null() {
                return None;
            }
            if cursor.copy_out(value, length) && self.partition.unchanged(self.block, self.state) {
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
