//! Random numbers that are the same for the same seed, on every machine and in every version.

/// SplitMix64: tiny, and good enough to choose what to do next.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// An independent sequence for each `stream` of one `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self(seed ^ stream.wrapping_mul(0xD605_BBB5_8C8A_BC03));
        rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: i32, high: i32) -> i32 {
        let span = i64::from(high) - i64::from(low) + 1;
        let offset = self.next() % span.unsigned_abs().max(1);
        i32::try_from(i64::from(low) + i64::try_from(offset).unwrap_or(0)).unwrap_or(low)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: i32) -> bool {
        self.between(1, 100) <= percent
    }

    /// One of `choices`, which are not empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let last = i32::try_from(choices.len()).unwrap_or(i32::MAX) - 1;
        &choices[usize::try_from(self.between(0, last)).unwrap_or(0)]
    }

    /// An index into `weights`, each with its weight.
    pub fn weighted(&mut self, weights: impl Iterator<Item = i32> + Clone) -> usize {
        let total: i32 = weights.clone().sum();
        let mut left = self.between(1, total.max(1));
        for (index, weight) in weights.enumerate() {
            left -= weight;
            if left <= 0 {
                return index;
            }
        }
        0
    }

    /// A key in `low..=high`, the low ones far more often than the high ones.
    pub fn hot(&mut self, low: i32, high: i32) -> i32 {
        let first = self.between(low, high);
        if self.chance(50) {
            self.between(low, first)
        } else {
            first
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_stream_determine_everything() {
        let draw = |seed, stream| {
            let mut rng = Rng::new(seed, stream);
            (0..50).map(|_| rng.between(-3, 1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, 1), draw(7, 1));
        assert_ne!(draw(7, 1), draw(7, 2));
        assert_ne!(draw(7, 1), draw(8, 1));
    }

    #[test]
    fn numbers_stay_in_their_range_and_reach_its_ends() {
        let mut rng = Rng::new(1, 1);
        let drawn: Vec<i32> = (0..1000).map(|_| rng.hot(3, 6)).collect();
        assert!(drawn.iter().all(|n| (3..=6).contains(n)));
        assert!((3..=6).all(|n| drawn.contains(&n)));
        assert!((0..1000).all(|_| rng.weighted([1, 0, 2].into_iter()) != 1));
    }
}
