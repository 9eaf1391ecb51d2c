//! The bits against a list of plain marks.

use pg_query_cache_space::{Space, words_for};
use std::sync::atomic::AtomicU64;

/// The same numbers each time (Marsaglia's xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as u32 % end.max(1)
    }
}

/// The first run of `length` free marks from `from` on.
fn first_run(marks: &[bool], from: usize, length: usize) -> Option<usize> {
    (from..marks.len()).find(|start| {
        marks
            .get(*start..start + length)
            .is_some_and(|run| run.iter().all(|taken| !taken))
    })
}

#[test]
fn it_agrees_with_plain_marks_after_any_changes() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for blocks in [1, 2, 63, 64, 65, 127, 128, 200, 1000] {
        let words: Vec<_> = (0..words_for(blocks)).map(|_| AtomicU64::new(0)).collect();
        let space = Space::new(&words, blocks);
        let mut marks = vec![false; blocks as usize];
        for _ in 0..3000 {
            let start = numbers.below(blocks);
            let longest = (blocks - start).min(1 + numbers.below(150));
            let run = start..start + 1 + numbers.below(longest);
            let run = run.start..run.end.min(blocks);
            let taken = numbers.below(2) == 0;
            if taken {
                space.take(run.clone());
            } else {
                space.free(run.clone());
            }
            marks[run.start as usize..run.end as usize].fill(taken);

            let (from, length) = (numbers.below(blocks), 1 + numbers.below(100));
            let end = from + numbers.below(blocks - from + 1);
            let within = &marks[..end as usize];
            let found = space.find(from..end, length);
            assert_eq!(
                found.as_ref().map(|run| run.start as usize),
                first_run(within, from as usize, length as usize)
            );
            assert!(found.is_none_or(|run| run.len() == length as usize && run.end <= end));
            let next = space.next_run(from..end, length);
            let first = first_run(within, from as usize, 1);
            assert_eq!(
                (!next.is_empty()).then_some(next.start as usize),
                first,
                "blocks {blocks}, from {from} to {end}"
            );
            assert!(next.clone().all(|block| !space.is_taken(block)));
            let whole =
                next.len() == length as usize || next.end == end || space.is_taken(next.end);
            assert!(whole, "{next:?} could be longer");
            let first_taken = (from..end).find(|block| marks[*block as usize]);
            assert_eq!(space.next_taken(from..end), first_taken);
        }
    }
}

#[test]
fn what_is_beyond_the_end_is_taken() {
    let words = [AtomicU64::new(0)];
    let space = Space::new(&words, 100);
    assert_eq!(
        space.next_run(0..u32::MAX, u32::MAX),
        0..64,
        "there are no bits for more"
    );
    assert!(space.is_taken(64) && space.is_taken(u32::MAX));
    assert!(space.next_run(u32::MAX..u32::MAX, u32::MAX).is_empty());
    assert_eq!(space.find(0..u32::MAX, 65), None);
    assert_eq!(space.next_taken(0..u32::MAX), None);
    space.take(60..u32::MAX);
    assert_eq!(space.next_run(0..100, 100), 0..60);
    assert_eq!(space.next_taken(0..u32::MAX), Some(60));
    space.free(0..u32::MAX);
    assert_eq!(space.find(0..100, 64), Some(0..64));
}
