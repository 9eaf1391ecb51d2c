//! Which keys left lately, in bits.
//!
//! Two Bloom filters (Bloom, 1970; a key's bits within one word: Putze, Sanders, Singler 2007) take turns. Keys are noted in one;
//! when it has as many as one turn takes, the other is emptied and its turn begins. A key is known while either has it: for at
//! least one turn, for two at most.

/// The bits of a key.
const BITS: u32 = 4;
/// A filter takes a key for each so many bits at most: then one in thirty strange keys is mistaken for a ghost, else fewer.
const BITS_A_KEY: usize = 8;

/// How far the filters are filled. Plain data, so that it can lie in shared memory; the filters lie elsewhere.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ghosts {
    /// Keys noted in this turn.
    noted: u32,
    /// Number of turns; the last bit says whose it is.
    turn: u32,
}

impl Ghosts {
    pub(crate) const fn new() -> Self {
        Ghosts { noted: 0, turn: 0 }
    }

    /// Notes a key that left. A turn takes `keys` of them, or what the filter can hold.
    pub(crate) fn note(&mut self, filters: &mut [u64], hash: u64, keys: u32) {
        let half = filters.len() / 2;
        let Some((word, bits)) = place(half, hash) else {
            return;
        };
        let most = (half * 64 / BITS_A_KEY).min(keys.max(1) as usize);
        if self.noted as usize >= most {
            self.noted = 0;
            self.turn = self.turn.wrapping_add(1);
            self.filter(filters).fill(0);
        }
        self.noted += 1;
        self.filter(filters)[word] |= bits;
    }

    /// Whether a key left lately. Some that did not are mistaken.
    pub(crate) fn know(&self, filters: &[u64], hash: u64) -> bool {
        let half = filters.len() / 2;
        place(half, hash).is_some_and(|(word, bits)| {
            filters[word] & bits == bits || filters[half + word] & bits == bits
        })
    }

    /// The filter whose turn it is.
    fn filter<'a>(&self, filters: &'a mut [u64]) -> &'a mut [u64] {
        let half = filters.len() / 2;
        let begin = (self.turn & 1) as usize * half;
        &mut filters[begin..begin + half]
    }
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
        let (mut ghosts, mut filters) = (Ghosts::new(), [0; 64]);
        for hash in 0..1000 {
            ghosts.note(&mut filters, hash, 10);
            for back in 0..hash.min(10) {
                assert!(ghosts.know(&filters, hash - back), "{hash} - {back}");
            }
        }
        let known = (0..980).filter(|hash| ghosts.know(&filters, *hash)).count();
        assert!(known < 10, "{known} of long ago");
    }

    #[test]
    fn a_full_filter_mistakes_one_in_thirty_at_most() {
        let (mut ghosts, mut filters) = (Ghosts::new(), vec![0; 2048]);
        // As many as both can hold, whatever is asked for.
        for hash in 0..2 * 1024 * 8 {
            ghosts.note(&mut filters, hash, u32::MAX);
        }
        assert_eq!(ghosts.turn, 1);
        let mistaken = (1 << 40..(1 << 40) + 100_000u64)
            .filter(|hash| ghosts.know(&filters, *hash))
            .count();
        assert!(mistaken < 2 * 100_000 / 30, "{mistaken} of 100,000");
    }

    #[test]
    fn without_memory_nothing_is_known() {
        for words in 0..2 {
            let (mut ghosts, mut filters) = (Ghosts::new(), vec![0; words]);
            ghosts.note(&mut filters, 7, 10);
            assert!(!ghosts.know(&filters, 7));
        }
    }
}
