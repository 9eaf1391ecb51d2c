//! Which blocks of a fixed area are free: a bit for each block, in words that lie in the caller's memory.
//!
//! Blocks are given out as *runs*: blocks that lie together. Whoever needs more than the longest free run takes several. Searching is
//! next-fit (Knuth, The Art of Computer Programming, vol. 1, 2.5): it goes on where the last search ended, over whole words where all
//! blocks are taken, so that while there is room it seldom looks at more than a word or two.
//!
//! No function panics, whatever the words are: bits beyond the last block count as taken, runs are cut at the end of the area.

#![forbid(unsafe_code)]

use std::ops::Range;

/// Bits of a word.
const BITS: u32 = u64::BITS;

/// Words for so many blocks.
pub const fn words_for(blocks: u32) -> usize {
    blocks.div_ceil(BITS) as usize
}

/// The blocks, each with its bit: set is taken.
pub struct Space<'a> {
    words: &'a mut [u64],
    blocks: u32,
}

impl<'a> Space<'a> {
    /// The blocks whose bits are in `words`. Blocks without a bit do not exist.
    pub fn new(words: &'a mut [u64], blocks: u32) -> Self {
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
            let word = self.words.get((at / BITS) as usize).copied();
            let word = word.unwrap_or(u64::MAX);
            let wanted = if taken { word } else { !word } >> (at % BITS);
            if wanted != 0 {
                return end.min(at.saturating_add(wanted.trailing_zeros()));
            }
            at = (at / BITS + 1).saturating_mul(BITS);
        }
        end
    }

    /// The next run of free blocks from `from` on, not longer than `most`; empty if there is none.
    pub fn next_run(&self, from: u32, most: u32) -> Range<u32> {
        let start = self.seek(from, self.blocks, false);
        let end = self.blocks.min(start.saturating_add(most));
        start..self.seek(start, end, true)
    }

    /// A run of `length` free blocks: the first one from `from` on, else the first one of all.
    pub fn find(&self, from: u32, length: u32) -> Option<Range<u32>> {
        let search = |from: u32, until: u32| {
            let mut at = from;
            while at < until {
                let run = self.next_run(at, length);
                if run.len() == length as usize {
                    return Some(run);
                }
                // Past the block that ends the run.
                at = run.end.saturating_add(1);
            }
            None
        };
        search(from, self.blocks).or_else(|| search(0, from.min(self.blocks)))
    }

    /// Marks the blocks of a run as taken.
    pub fn take(&mut self, run: Range<u32>) {
        self.change(run, |word, mask| *word |= mask);
    }

    /// Marks the blocks of a run as free.
    pub fn free(&mut self, run: Range<u32>) {
        self.change(run, |word, mask| *word &= !mask);
    }

    fn change(&mut self, run: Range<u32>, change: impl Fn(&mut u64, u64)) {
        let (mut at, end) = (run.start, run.end.min(self.blocks));
        while at < end {
            let (first, next) = (at % BITS, (at / BITS + 1).saturating_mul(BITS).min(end));
            let mask = (u64::MAX >> (BITS - (next - at))) << first;
            if let Some(word) = self.words.get_mut((at / BITS) as usize) {
                change(word, mask);
            }
            at = next;
        }
    }

    /// Whether a block is taken.
    pub fn is_taken(&self, block: u32) -> bool {
        self.seek(block, block.saturating_add(1), true) == block
    }

    /// How many blocks are free.
    pub fn count_free(&self) -> u32 {
        let mut free = 0;
        let mut at = 0;
        loop {
            let run = self.next_run(at, u32::MAX);
            if run.is_empty() {
                return free;
            }
            free += run.end - run.start;
            at = run.end;
        }
    }
}
