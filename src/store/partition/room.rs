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
//! Locks: room is taken and given back under the partition's lock, in parts: a claim takes what it finds in one part of the map, and
//! comes again; a chain of extents that nobody can find any more is given back a few at a time. The bytes are written without the lock,
//! by whoever has reserved them. Which entry has to go if there is no room is for the eviction queue to say (`crate::store::eviction`).

use super::Partition;
use super::entry::ENTRY_HEAD;
use crate::store::layout::BLOCK;
use crate::store::locks::step;
use pg_query_cache_eviction::NIL;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes before those of an extent: how many blocks it has, and the first block of the next extent.
pub(super) const EXTENT_HEAD: usize = 8;
/// The fixed fields of an entry lie together.
pub(super) const FIRST_EXTENT: u32 = (EXTENT_HEAD + ENTRY_HEAD).div_ceil(BLOCK) as u32;
/// Extents shorter than this are a last resort: an entry is read faster in one piece.
const SHORT_EXTENT: u32 = 8;
/// An entry of no more blocks than this is put together from several extents as a last resort only.
const SHORT_ENTRY: u32 = 64;
/// A claim looks through so many blocks of the map at a time, a thousand words. No extent is longer.
const WINDOW: u32 = 64 * 1024;
/// A claim takes so many pieces at a time.
const PIECES: usize = 64;

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

    /// In how many parts a claim looks through the map.
    pub fn windows(&self) -> u32 {
        self.layout.blocks / WINDOW + 2
    }

    /// Looks for room for the rest of a claim in the next part of the map, and takes it: one extent if there is one as long, else several
    /// that are not short. With `any`, short ones too: if much is free and nowhere together, it is taken as it comes. Under the lock.
    pub fn claim(&self, claim: &mut Claim, any: bool) {
        let (head, used) = (self.head(), self.used());
        let from = match head.search_from.load(Ordering::Relaxed) {
            from if from < self.layout.blocks => from,
            _ => 0,
        };
        let one = claim.blocks().min(WINDOW);
        // Far enough for one that begins in the last block of this part.
        let end = (from + WINDOW + one).min(self.layout.blocks);
        step(((end - from) / u64::BITS) as usize);
        if let Some(run) = used.find(from..end, one) {
            self.take(claim, run);
        }
        let short = if any { 1 } else { SHORT_EXTENT };
        // The next part, unless there is more to be taken in this one. A run may begin here and end there.
        let (mut at, mut next) = (from, end.saturating_sub(one) + 1);
        if end == self.layout.blocks {
            next = 0;
        }
        if any || claim.blocks() > SHORT_ENTRY {
            step(((end - from) / u64::BITS) as usize);
            for piece in 0..PIECES {
                let most = claim.blocks().min(WINDOW);
                let run = used.next_run(at..end, most);
                if claim.is_whole() || run.is_empty() {
                    break;
                }
                step(1);
                // Past the block that ends the run.
                at = run.end + 1;
                if piece == PIECES - 1 {
                    next = at;
                }
                let least = match claim.first {
                    NIL => short.max(FIRST_EXTENT),
                    _ => short.min(most),
                };
                if run.len() >= least as usize {
                    self.take(claim, run);
                }
            }
        }
        if !claim.is_whole() {
            head.search_from.store(next, Ordering::Relaxed);
        }
    }

    /// Adds a run of free blocks to a claim.
    fn take(&self, claim: &mut Claim, run: Range<u32>) {
        let head = self.head();
        self.set_extent(&run, NIL);
        if claim.first == NIL {
            claim.first = run.start;
        } else {
            // SAFETY: the second word of an extent that is the claim's.
            unsafe {
                let words = self.block(claim.last).cast::<AtomicU32>();
                (*words.add(1)).store(run.start, Ordering::Relaxed);
            }
        }
        claim.last = run.start;
        claim.left = claim.left.saturating_sub(run.len() * BLOCK - EXTENT_HEAD);
        step(run.len() / u64::BITS as usize);
        head.free_count
            .fetch_sub(run.end - run.start, Ordering::Relaxed);
        head.search_from.store(run.end, Ordering::Relaxed);
        self.used().take(run);
    }

    /// Frees extents of a chain that no reader can find any more, while `budget` lasts. Returns the rest of the chain. Under the lock.
    pub fn release(&self, chain: u32, budget: &mut usize) -> u32 {
        let (head, used) = (self.head(), self.used());
        let mut at = chain;
        while *budget > 0
            && let Some((run, next)) = self.extent(at)
        {
            let steps = 1 + run.len() / u64::BITS as usize;
            step(steps);
            *budget = budget.saturating_sub(steps);
            head.search_from.store(run.start, Ordering::Relaxed);
            head.free_count
                .fetch_add(run.end - run.start, Ordering::Relaxed);
            used.free(run);
            at = next;
        }
        at
    }
}

/// Room that is being taken for an entry. Its extents are chained, and belong to nobody else.
pub struct Claim {
    first: u32,
    last: u32,
    /// Bytes that have no room yet.
    left: usize,
}

impl Claim {
    /// Of nothing yet, for an entry with so many bytes of payload.
    pub fn new(payload: usize) -> Self {
        Claim {
            first: NIL,
            last: NIL,
            left: ENTRY_HEAD + payload,
        }
    }

    /// Blocks that are missing if they lie in one piece.
    pub fn blocks(&self) -> u32 {
        (EXTENT_HEAD + self.left).div_ceil(BLOCK) as u32
    }

    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.left == 0
    }

    /// The first block, [`NIL`] if there is none.
    pub fn first(&self) -> u32 {
        self.first
    }
}
