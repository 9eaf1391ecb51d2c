//! Which blocks of a fixed area are free: a bit for each block, in words that lie in the caller's memory.
//!
//! Blocks are given out as *runs*: blocks that lie together. Whoever needs more than the longest free run takes several. A search has a
//! range and looks at no word outside of it, over whole words where all blocks are taken; where it begins is the caller's to say, mostly
//! where the last one ended (next-fit: Knuth, The Art of Computer Programming, vol. 1, 2.5).
//!
//! The words are atomic, so that several may look while one changes them, each under whatever lock the caller has for that. No function
//! panics, whatever the words are: bits beyond the last block count as taken, runs are cut at the end of the area.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of a word.
const BITS: u32 = u64::BITS;

/// Words for so many blocks.
pub const fn words_for(blocks: u32) -> usize {
    blocks.div_ceil(BITS) as usize
}

/// The blocks, each with its bit: set is taken.
#[derive(Clone, Copy)]
pub struct Space<'a> {
    words: &'a [AtomicU64],
    blocks: u32,
}

impl<'a> Space<'a> {
    /// The blocks whose bits are in `words`. Blocks without a bit do not exist.
    pub fn new(words: &'a [AtomicU64], blocks: u32) -> Self {
        let most = u32::try_from(words.len())
            .unwrap_or(u32::MAX)
            .saturating_mul(BITS);
        Space {
            words,
            blocks: blocks.min(most),
        }
    }

    /// The first block from `from` on, below `end`, whose bit is `taken`; `end` if there is none.
    fn seek(&self, from: u32, end: u32, taken: bool) -> u32 {
        let mut at = from;
        while at < end {
            let word = self.words.get((at / BITS) as usize);
            let word = word.map_or(u64::MAX, |word| word.load(Ordering::Relaxed));
            let wanted = if taken { word } else { !word } >> (at % BITS);
            if wanted != 0 {
                return end.min(at.saturating_add(wanted.trailing_zeros()));
            }
            at = (at / BITS + 1).saturating_mul(BITS);
        }
        end
    }

    /// The first run of free blocks within `range`, not longer than `most`; empty, at the end of the range, if there is none.
    pub fn next_run(&self, range: Range<u32>, most: u32) -> Range<u32> {
        let limit = range.end.min(self.blocks);
        let start = self.seek(range.start, limit, false);
        let end = limit.min(start.saturating_add(most));
        start..self.seek(start, end, true)
    }

    /// The first run of `length` free blocks within `range`.
    pub fn find(&self, range: Range<u32>, length: u32) -> Option<Range<u32>> {
        let mut at = range.start;
        while at < range.end.min(self.blocks) {
            let run = self.next_run(at..range.end, length);
            if run.len() == length as usize {
                return Some(run);
            }
            // Past the block that ends the run.
            at = run.end.saturating_add(1);
        }
        None
    }

    /// The first block within `range` that is taken.
    pub fn next_taken(&self, range: Range<u32>) -> Option<u32> {
        let end = range.end.min(self.blocks);
        Some(self.seek(range.start, end, true)).filter(|at| *at < end)
    }

    /// Marks the blocks of a run as taken.
    pub fn take(&self, run: Range<u32>) {
        self.change(run, |word, mask| word | mask);
    }

    /// Marks the blocks of a run as free.
    pub fn free(&self, run: Range<u32>) {
        self.change(run, |word, mask| word & !mask);
    }

    fn change(&self, run: Range<u32>, changed: impl Fn(u64, u64) -> u64) {
        let (mut at, end) = (run.start, run.end.min(self.blocks));
        while at < end {
            let (first, next) = (at % BITS, (at / BITS + 1).saturating_mul(BITS).min(end));
            let mask = (u64::MAX >> (BITS - (next - at))) << first;
            if let Some(word) = self.words.get((at / BITS) as usize) {
                word.store(
                    changed(word.load(Ordering::Relaxed), mask),
                    Ordering::Relaxed,
                );
            }
            at = next;
        }
    }

    /// Whether a block is taken. One that does not exist is.
    pub fn is_taken(&self, block: u32) -> bool {
        block >= self.blocks || self.seek(block, block + 1, true) == block
    }
}
