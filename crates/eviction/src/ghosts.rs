//! Which keys left lately, in bits.
//!
//! Three Bloom filters (Bloom, 1970; a key's bits within one word: Putze, Sanders, Singler 2007) take turns. Keys are noted in one;
//! when it has as many as one turn takes, the turn of the next one begins. A key is known while this turn's filter or that of the turn
//! before has it: for at least one turn, for two at most. The third is emptied meanwhile, a few words with each key, so that no key
//! costs more than [`CLEARED`] words, however large the filters are.

/// The bits of a key.
const BITS: u32 = 4;
/// A filter takes a key for each so many bits at most: then one in thirty strange keys is mistaken for a ghost, else fewer.
const BITS_A_KEY: usize = 8;

/// The most words that are emptied with one key: a turn takes so many keys at least that all are.
const CLEARED: usize = 64;
/// The filters.
const FILTERS: usize = 3;

/// How far the filters are filled. Plain data, so that it can lie in shared memory; the filters lie elsewhere.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ghosts {
    /// Keys noted in this turn.
    noted: u32,
    /// Whose turn it is.
    turn: u32,
    /// Words of the next filter that have been emptied in this turn.
    emptied: u32,
}

impl Ghosts {
    pub(crate) const fn new() -> Self {
        Ghosts {
            noted: 0,
            turn: 0,
            emptied: 0,
        }
    }

    /// Notes a key that left. A turn takes `keys` of them, or what the filter can hold.
    pub(crate) fn note(&mut self, filters: &mut [u64], hash: u64, keys: u32) {
        let words = filters.len() / FILTERS;
        let Some((word, bits)) = place(words, hash) else {
            return;
        };
        let fewest = words.div_ceil(CLEARED);
        let most = (words * 64 / BITS_A_KEY)
            .min(keys.max(1) as usize)
            .max(fewest);
        if self.noted as usize >= most {
            self.noted = 0;
            self.emptied = 0;
            self.turn = (self.turn + 1) % FILTERS as u32;
        }
        // With the last key of the turn the last words of the next filter.
        let from = (self.emptied as usize).min(words);
        let left = most - self.noted as usize;
        let until = from + (words - from).div_ceil(left).min(CLEARED);
        filter(filters, self.turn + 1)[from..until].fill(0);
        self.emptied = until as u32;
        self.noted += 1;
        filter(filters, self.turn)[word] |= bits;
    }

    /// Whether a key left lately. Some that did not are mistaken.
    pub(crate) fn know(&self, filters: &mut [u64], hash: u64) -> bool {
        let before = self.turn + FILTERS as u32 - 1;
        place(filters.len() / FILTERS, hash).is_some_and(|(word, bits)| {
            [self.turn, before]
                .iter()
                .any(|turn| filter(filters, *turn)[word] & bits == bits)
        })
    }
}

/// The filter of a turn.
fn filter(filters: &mut [u64], turn: u32) -> &mut [u64] {
    let words = filters.len() / FILTERS;
    let begin = turn as usize % FILTERS * words;
    &mut filters[begin..begin + words]
}

/// The word of a key in a filter of so many, and its bits there; `None` if there is no filter.
fn place(words: usize, hash: u64) -> Option<(usize, u64)> {
    // Callers use parts of the hash for other choices, so that it is not evenly spread here: mixed anew (MurmurHash3's finaliser).
    let mut mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^= mixed >> 33;
    let word = ((mixed >> 32) * words as u64) >> 32;
    let bits = (0..BITS).fold(0, |bits, n| bits | 1 << (mixed >> (6 * n) & 63));
    (words > 0).then_some((word as usize, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_for_one_turn_and_for_two_at_most() {
        let (mut ghosts, mut filters) = (Ghosts::new(), [0; 96]);
        for hash in 0..1000 {
            ghosts.note(&mut filters, hash, 10);
            for back in 0..hash.min(10) {
                assert!(ghosts.know(&mut filters, hash - back), "{hash} - {back}");
            }
        }
        let known = (0..980)
            .filter(|hash| ghosts.know(&mut filters, *hash))
            .count();
        assert!(known < 10, "{known} of long ago");
    }

    #[test]
    fn a_full_filter_mistakes_one_in_thirty_at_most() {
        let (mut ghosts, mut filters) = (Ghosts::new(), vec![0; 3072]);
        // As many as all can hold, whatever is asked for.
        for hash in 0..3 * 1024 * 8 {
            ghosts.note(&mut filters, hash, u32::MAX);
        }
        assert_eq!(ghosts.turn, 2);
        let mistaken = (1 << 40..(1 << 40) + 100_000u64)
            .filter(|hash| ghosts.know(&mut filters, *hash))
            .count();
        assert!(mistaken < 2 * 100_000 / 30, "{mistaken} of 100,000");
    }

    /// However many words and however few keys: one key empties few words, and a filter is empty when its turn begins.
    #[test]
    fn a_key_empties_few_words_and_all_in_time() {
        for (words, keys) in [(1, 1), (7, 3), (64, 1), (1000, 1), (5000, 20), (5000, 5000)] {
            let (mut ghosts, mut filters) = (Ghosts::new(), vec![u64::MAX; FILTERS * words]);
            filter(&mut filters, 0).fill(0);
            let mut turn = 0;
            for hash in 0..40_000 {
                let before: u32 = filters.iter().map(|word| word.count_ones()).sum();
                ghosts.note(&mut filters, hash, keys);
                let after: u32 = filters.iter().map(|word| word.count_ones()).sum();
                assert!(before.saturating_sub(after) as usize <= CLEARED * 64);
                if std::mem::replace(&mut turn, ghosts.turn) != ghosts.turn {
                    let ones: u32 = filter(&mut filters, turn)
                        .iter()
                        .map(|word| word.count_ones())
                        .sum();
                    assert!(
                        ones <= BITS,
                        "{words} words, {keys} keys: {ones} bits are left"
                    );
                }
            }
        }
    }

    #[test]
    fn without_memory_nothing_is_known() {
        for words in 0..3 {
            let (mut ghosts, mut filters) = (Ghosts::new(), vec![0; words]);
            ghosts.note(&mut filters, 7, 10);
            assert!(!ghosts.know(&mut filters, 7));
        }
    }
}
