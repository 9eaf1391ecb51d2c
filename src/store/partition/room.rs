//! Room for entries in a partition: blocks, and extents of them.
//!
//! ```text
//! extent = blocks that lie together: how many, the next extent, bytes
//! entry  = a chain of extents, mostly one; its bytes: fixed fields, dependencies, rest of the key, value
//! ```
//!
//! Invariants: each block is free or belongs to one extent, as the map `used` says; `free_count` is the number of free ones. The first
//! extent of an entry has room for its fixed fields. A reader without a lock may meet anything: an extent that does not lie inside the
//! partition is none.
//!
//! Locks: room is taken and given back under the partition's lock. The bytes are written without it, by whoever has reserved them. Which
//! entry has to go if there is no room is for the eviction queue to say (`crate::store::insert`).

use super::Partition;
use super::entry::ENTRY_HEAD;
use crate::store::layout::BLOCK;
use pg_query_cache_eviction::NIL;
use pg_query_cache_space::Space;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes before those of an extent: how many blocks it has, and the first block of the next extent.
pub(super) const EXTENT_HEAD: usize = 8;
/// The fixed fields of an entry lie together.
pub(super) const FIRST_EXTENT: u32 = (EXTENT_HEAD + ENTRY_HEAD).div_ceil(BLOCK) as u32;
/// Extents shorter than this are a last resort: an entry is read faster in one piece.
const SHORT_EXTENT: u32 = 8;

/// Blocks that an entry with so many bytes of payload takes if it lies in one piece.
pub fn blocks_for(payload: usize) -> u32 {
    (EXTENT_HEAD + ENTRY_HEAD + payload).div_ceil(BLOCK) as u32
}

impl Partition {
    /// The blocks of an extent and the first block of the next one; `None` if there can be no such extent (a torn read).
    #[inline(always)]
    pub(super) fn extent(&self, block: u32) -> Option<(Range<u32>, u32)> {
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
