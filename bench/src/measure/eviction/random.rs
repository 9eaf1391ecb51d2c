//! Random numbers that are the same on every machine, and the law of Zipf.

/// A generator (SplitMix64: Steele, Lea, Flood 2014).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(mixed(seed))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// At least 0, less than 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A number of which each bit depends on every bit of the given one; different ones for different ones.
pub(super) fn mixed(number: u64) -> u64 {
    let mut mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Draws ranks from 0 on; rank `r` is drawn in proportion to `1 / (r + 1)^exponent`.
pub(super) struct Zipf {
    /// The share of the ranks up to each.
    cumulated: Vec<f64>,
}

impl Zipf {
    pub(super) fn new(ranks: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulated: Vec<f64> = (1..=ranks)
            .map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
            .collect();
        cumulated.iter_mut().for_each(|share| *share /= sum);
        Zipf { cumulated }
    }

    pub(super) fn draw(&self, random: &mut Random) -> u64 {
        let share = random.share();
        self.cumulated.partition_point(|up_to| *up_to <= share) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            [random.next(), random.next(), random.next()]
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }

    #[test]
    fn ranks_are_drawn_in_proportion() {
        for exponent in [0.8, 1.0, 1.2] {
            let (zipf, mut random) = (Zipf::new(50, exponent), Random::new(1));
            let mut drawn = [0.0; 50];
            for _ in 0..200_000 {
                drawn[zipf.draw(&mut random) as usize] += 1.0;
            }
            for rank in [1, 3, 9] {
                let expected = f64::from(rank as u32 + 1).powf(exponent);
                let ratio = drawn[0] / drawn[rank] / expected;
                assert!(
                    (0.9..1.1).contains(&ratio),
                    "{exponent}, rank {rank}: {ratio}"
                );
            }
        }
    }
}
