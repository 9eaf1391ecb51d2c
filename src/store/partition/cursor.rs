//! A walk through the bytes of an entry: from extent to extent, as if they lay together.
//!
//! Invariants: a cursor never leaves the partition, whatever the bytes say, and a walk ends with the bytes asked for or with the chain.
//!
//! Locks: none. Who reads without the partition's lock may be given torn bytes, and believes them only after the bucket was found
//! unchanged (`super::buckets`). Who writes has reserved the extents.

use super::Partition;
use super::entry::ENTRY_HEAD;
use super::racing;
use super::room::EXTENT_HEAD;
use crate::store::layout::BLOCK;

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

impl Partition {
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
                racing::copy(from, to, run);
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
            if !unsafe { racing::equals(from, &bytes[..run]) } {
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
            // SAFETY: the blocks are reserved by the caller. A reader that came too late may be looking; the bucket tells it.
            unsafe { racing::copy(bytes.as_ptr(), to, run) };
            bytes = &bytes[run..];
        }
    }
}
